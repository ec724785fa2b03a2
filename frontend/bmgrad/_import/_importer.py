"""From equations of a jaxpr to ops of the bm dialect.

Each equation becomes ops by the rule of its primitive, found by name in `_registry.py`; a primitive
without a rule becomes a kernel. Next: `_rules_elementwise.py` for the simplest rules, `_module.py`
for how ops are written, `_write.py` for whole modules.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar, cast

import numpy as np
from jax.extend.core import Literal

from bmgrad._import._alone import Alone, Needs
from bmgrad._import._asked import AskedRules
from bmgrad._import._errors import RuleRaised, Unsupported, UnsupportedError
from bmgrad._import._logs import Logs
from bmgrad._import._module import Body, Module
from bmgrad._import._perturbed import is_unperturbed, marked
from bmgrad._import._references import ClosedOver, Operand, close_over, split_references
from bmgrad._import._registry import KEEPS_KEYS, Equation, WithRule, rule_of
from bmgrad._import._rule_scope import RuleScope
from bmgrad._import._rules_kernel import import_kernel
from bmgrad._import._rules_remat import mark_saveable
from bmgrad._import._tangents import Tangents
from bmgrad._import._text import TensorType, Value, i64_array, is_key, type_of_array
from bmgrad.runtime._batchers import Batcher
from bmgrad.runtime._errors import TOO_DEEP, no_values_of, put_off
from bmgrad.runtime._jax_internals import (
    check_effects,
    is_reference_aval,
    named_scope,
    rules_hold_tracers,
    user_location,
)
from bmgrad.runtime._program import Program
from bmgrad.runtime._put_off import PutOff

_T = TypeVar("_T")

# Function bodies of up to this many equations are written in place of a call.
_TINY = 3
# Derivative rules in derivative rules, other than of themselves, which are derivatives of this
# order. A rule may call functions with ever new rules, as the adjoint of an ODE solver solves an
# ODE, or the derivative of `sinc` is another series. The first number is for rules that could wait,
# in programs that equal ones are looked up for, which what waits prevents; with loops in them they
# are not followed at all. The second is for those that hold values of a trace and cannot wait.
_FOLLOWED = 2
_DEEPEST = 5


class Importer:
    """The state of one import: what rules read operands from and write ops to.

    `in_rules` is what derivative rules are traced in. With `lazy` the rules of calls in rules, and
    of calls that no derivative perturbs, are put off. What backward rules log goes to `logs`.
    """

    def __init__(
        self,
        in_rules: RuleScope,
        lazy: bool,
        asked: AskedRules | None = None,
        logs: Logs | None = None,
    ) -> None:
        self.module = Module()
        self._logs = logs
        # Rules that have been traced before the import.
        self.asked = asked or AskedRules()
        self.op = self.module.op
        self.multi_op = self.module.multi_op
        self.constant = self.module.constant
        # Programs that are called by this one, by the symbol of their `@main` here, and what
        # their references are called here.
        self.linked: dict[str, tuple[Program, dict[str, str]]] = {}
        self.put_off: list[PutOff | Batcher] = []
        self.needs = Needs()
        self.tangents = Tangents()
        # What the innermost `jax.checkpoint` around is asked what to keep.
        self.policy: Callable[..., Any] | None = None
        self.has_batching_rules = False
        # The only one that the program runs on, or None.
        self.platform: str | None = None
        self.in_rules, self.is_lazy = in_rules, lazy
        self.alone: Alone | None = None
        # How many rules, each inside the one before, are being written.
        self._rule_depth = 0
        self._env: dict[Any, Operand] = {}
        self._types: dict[tuple[Any, Any], TensorType] = {}
        self._has_keys = False
        self._equation: Equation = None
        # Where the user's code is, and what equations without a location of their own get.
        self._where: tuple[str, int, int] | None = None
        # The names of the `jax.named_scope` around, within the function that is being written.
        self._scope = ""
        self._default_location = "loc(unknown)"
        self._defined: dict[Hashable, tuple[Any, Any]] = {}
        # Functions with derivative rules that are being written, and those of them
        # that were met inside.
        self._in_progress: dict[Hashable, WithRule] = {}
        self._met: set[Hashable] = set()

    # -- Operands --------------------------------------------------------------------------------

    def type(self, aval: Any) -> TensorType:
        """The tensor type of values of `aval`."""
        try:
            return self._types[aval.shape, aval.dtype]
        except (KeyError, AttributeError):
            pass
        try:
            type = type_of_array(aval.shape, aval.dtype)
        except (AttributeError, TypeError):
            raise Unsupported(no_values_of(aval)) from None
        self._has_keys |= is_key(aval)
        self._types[aval.shape, aval.dtype] = type
        return type

    def read(self, atom: Any) -> Value:
        """The value of a variable or literal of the jaxpr."""
        if isinstance(atom, Literal):
            return self._literal(atom, cast(Any, atom.aval).shape)
        value = self._env[atom]
        if isinstance(value, Value):
            return value
        raise Unsupported(
            "it takes a reference (jax.new_ref), as no equation in a program can but reads, "
            "writes, calls, branches, loops that do not scan it, and functions with a custom VJP; "
            "read the reference before, as ref[...]"
        )

    def read_all(self, eqn: Equation) -> list[Value]:
        """The operands of an equation that takes no references."""
        return [self.read(atom) for atom in eqn.invars]

    def read_operands(self, eqn: Equation) -> list[Operand]:
        """The operands of an equation that may take references."""
        return [
            self.read(atom) if isinstance(atom, Literal) else self._env[atom] for atom in eqn.invars
        ]

    def read_spread(self, atom: Any, shape: tuple[int, ...]) -> Value:
        """The value of `atom`, stretched to `shape` as elementwise primitives do."""
        if isinstance(atom, Literal):
            return self._literal(atom, shape)
        value = self.read(atom)
        return value if value.type.shape == shape else self.spread(value, shape)

    def spread(
        self, value: Value, shape: tuple[int, ...], dims: Sequence[int] | None = None
    ) -> Value:
        """`value` repeated to `shape`; its dimensions become `dims`, the first ones by default."""
        type = value.type.with_shape(shape)
        dims = range(len(value.type.shape)) if dims is None else dims
        return self.op(
            "bm.broadcast_in_dim", [value], type, f"broadcast_dimensions = {i64_array(dims)}"
        )

    def _literal(self, literal: Any, shape: tuple[int, ...]) -> Value:
        value, aval = literal.val, literal.aval
        if aval.shape == ():
            self.type(aval)
            return self.constant(np.asarray(value, aval.dtype), shape)
        captured = self.module.capture(value)
        return captured if aval.shape == shape else self.spread(captured, shape)

    def note_checks(self, rule: Any, function: Any = None) -> None:
        """Notes the checks in the jaxpr of a derivative rule that the `function` has not."""
        further = rule.effects - (function.effects if function is not None else set())
        self.needs.rules_check |= bool(check_effects(further))

    # -- Equations -------------------------------------------------------------------------------

    def evaluate(
        self, jaxpr: Any, consts: Sequence[Operand], args: Sequence[Operand]
    ) -> list[Value]:
        """Writes the ops of `jaxpr` here and returns its results."""
        module = self.module
        outer = self._env, self._equation, self._where, self._scope, module.location
        # Versions of JAX differ in which of these a jaxpr calls constants.
        inputs = [*jaxpr.constvars, *jaxpr.invars]
        env: dict[Any, Operand] = dict(zip(inputs, [*consts, *args], strict=True))
        self._env, around = env, self._scope
        module.variables(env)
        for eqn in jaxpr.eqns:
            self._equation = eqn
            where, scope = user_location(eqn), named_scope(eqn)
            self._scope = "/".join(filter(None, (around, scope))) if scope else around
            if where is None:
                module.location = self._default_location
            else:
                self._where = where
                name = f"{self._scope}/{eqn.primitive.name}" if self._scope else ""
                module.location = module.location_of(where, name)
            rule = rule_of(eqn.primitive) or import_kernel
            if self._has_keys and eqn.primitive.name not in KEEPS_KEYS and self._touches_keys(eqn):
                rule = import_kernel
            result = mark_saveable(self, eqn, rule(self, eqn))
            if isinstance(result, Value):
                env[eqn.outvars[0]] = result
            else:
                env.update(zip(eqn.outvars, result, strict=True))
        results = [self.read(atom) for atom in jaxpr.outvars]
        module.end_variables()
        self._env, self._equation, self._where, self._scope, module.location = outer
        return results

    def body(self, closed: Any) -> Body:
        """The block of a closed jaxpr, for a region or a function."""
        outer, self._default_location = self._default_location, self.module.location
        body = self.module.body(
            [self.type(aval) for aval in closed.in_avals],
            lambda args: self.evaluate_closed(closed, args),
        )
        self._default_location = outer
        return body

    def primal_body(self, closed: Any) -> Body:
        """The block of a function that has a derivative rule.

        Rules of calls in it are no more needed than those of calls in the rule.
        """
        self._rule_depth += 1
        try:
            return self.body(closed)
        finally:
            self._rule_depth -= 1

    def evaluate_closed(self, closed: Any, args: Sequence[Operand]) -> list[Value]:
        """`evaluate`, with the arrays that `closed` closes over captured."""
        jaxpr, consts = open_jaxpr(closed)
        return self.evaluate(jaxpr, [*map(self.module.operand, consts)], args)

    def bind(self, closed: Any, operands: Sequence[Operand]) -> tuple[Any, list[Value]]:
        """`closed` as a jaxpr that closes over the references among these, and the others."""
        values, references = split_references(operands)
        if not references:
            return closed, values
        names = tuple((i, reference.name) for i, reference in references.items())
        bound: ClosedOver = self.once(
            (closed,), lambda: close_over(closed, references), ("bound", id(closed), names)
        )
        return bound, values

    @contextmanager
    def within(self, scope: RuleScope) -> Iterator[None]:
        """Writes what is inside `scope`."""
        outer, self.in_rules = self.in_rules, scope
        try:
            with scope():
                yield
        finally:
            self.in_rules = outer

    @property
    def logs_here(self) -> Logs | None:
        """Where what rules log is collected; those of calls in rules are for other derivatives."""
        return None if self._rule_depth else self._logs

    @contextmanager
    def without_logs(self) -> Iterator[None]:
        """For functions that are not differentiated as they are, but by the rule of a call."""
        outer, self._logs = self._logs, None
        try:
            yield
        finally:
            self._logs = outer

    @contextmanager
    def logged(self) -> Iterator[dict[Any, Any]]:
        """What is logged inside, which is kept apart."""
        if self._logs is None:
            yield {}
            return
        with self._logs.inside() as logs:
            yield logs

    def call(self, closed: Any, args: Sequence[Value], name: str) -> list[Value]:
        """Calls a jaxpr: written in place where it is tiny, else a function made once."""
        jaxpr, consts = open_jaxpr(closed)
        if len(jaxpr.eqns) <= _TINY:
            outer, self._default_location = self._default_location, self.module.location
            results = self.evaluate_closed(closed, args)
            self._default_location = outer
            return results

        def define() -> tuple[str, list[Any], list[TensorType]]:
            # Called from several lines, so ops without a line of their own have none.
            outer, self._default_location = self._default_location, "loc(unknown)"
            body = self.module.body(
                [self.type(var.aval) for var in jaxpr.invars],
                lambda args: self.evaluate_closed(closed, args),
                _argument_names(jaxpr),
            )
            self._default_location = outer
            symbol, types = self.module.new_symbol(name), [value.type for value in body.results]
            self.module.function(symbol, body, body.captures())
            return symbol, body.captures(), types

        symbol, captures, types = self.once((jaxpr, *consts), define)
        if self._logs and self._logs.slots_among(captures):
            # Another call would log again.
            self._defined.popitem()
        captured = [self.module.capture(array) for array in captures]
        return self.module.call(symbol, [*captured, *args], types)

    def once(self, objects: tuple[Any, ...], define: Callable[[], _T], key: Hashable = None) -> _T:
        """What `define` returned for these very objects, or for `key`, called once at most."""
        # Functions that are called within a `jax.checkpoint` are marked as its policy says.
        key = key or tuple(map(id, objects)), id(self.policy), self.logs_here is None
        if key not in self._defined:
            # It may be called from other scopes too.
            outer, self._scope = (self._scope, self.module.location), ""
            if outer[0] and self._where:
                self.module.location = self.module.location_of(self._where)
            # The objects are kept, or others could take over their identity.
            self._defined[key] = (*objects, self.policy), define()
            self._scope, self.module.location = outer
        result: _T = self._defined[key][1]
        return result

    def with_rule(
        self,
        key: Hashable,
        names: Sequence[str],
        define: Callable[[list[str]], WithRule],
    ) -> WithRule:
        """The functions of a call with a derivative rule, which `define` writes.

        A rule mostly calls the function that it belongs to, and finds the functions
        being written here. What they capture is known afterwards only; where that
        differs from what was assumed inside, they are written again.
        """
        if key in self._in_progress:
            self._met.add(key)
            return self._in_progress[key]
        assumed = WithRule([], [])
        try:
            while True:
                written = self.module.checkpoint(), len(self._defined)
                symbols = [self.module.new_symbol(name) for name in names]
                self._in_progress[key] = assumed = assumed._replace(symbols=symbols)
                try:
                    made = define(symbols)
                except RuleRaised:
                    self._forget(*written)
                    raise
                same = made[2:] == assumed[2:] and [id(array) for array in made.captures] == [
                    id(array) for array in assumed.captures
                ]
                if same or key not in self._met:
                    return made
                self._forget(*written)
                assumed = made
        finally:
            del self._in_progress[key]

    def rule_body(
        self, types: Sequence[TensorType], write: Callable[[list[Value]], Sequence[Value]]
    ) -> Body:
        """The block of a derivative rule, as `Module.body` makes it."""
        self._rule_depth += 1
        try:
            return self.module.body(types, write)
        finally:
            self._rule_depth -= 1

    def puts_off(self, eqn: Equation, key: Hashable, has_loops: bool = False) -> bool:
        """Whether the derivative rules of a call wait until a derivative needs them."""
        if key in self._in_progress:
            return False
        depth = len(self._in_progress)
        if any(is_reference_aval(atom.aval) for atom in eqn.invars):
            # What is imported later knows no references.
            if depth >= _DEEPEST:
                raise Unsupported("a rule for references (jax.new_ref) lies too deep in others")
            return False
        waits = bool(is_unperturbed(eqn) or (self.alone and self.alone.waits))
        if self.is_lazy:
            waits = waits or self._rule_depth > 0
        else:
            waits = depth >= (1 if has_loops else _FOLLOWED)
        return depth >= _DEEPEST or (waits and not rules_hold_tracers(eqn))

    def import_later(self, eqn: Equation, captures: Sequence[Any]) -> str:
        """What the module says in the place of the rule of `eqn`, which captures these arrays."""
        if rules_hold_tracers(eqn):
            return put_off(UnsupportedError(TOO_DEEP))
        alone = self._alone_later(eqn, captures, self.transposes_of(eqn), waits=False)
        return self._put_off(
            PutOff(lambda active: alone._replace(eqn=marked(eqn, active)).imported(), len(captures))
        )

    def transpose_later(
        self,
        eqn: Equation,
        captures: Sequence[Any],
        transposes: tuple[tuple[int, ...], ...],
        waits: bool,
    ) -> str:
        """The like for a transpose; with `waits` the forward rule of `eqn` is still put off."""
        alone = self._alone_later(eqn, captures, transposes, waits)
        return self._put_off(PutOff(lambda _: alone.imported(), len(captures), is_transpose=True))

    def batcher(
        self,
        eqn: Equation,
        captures: Sequence[Any],
        transposes: tuple[tuple[int, ...], ...],
        waits: bool,
    ) -> Batcher:
        """What imports a batch of `eqn`, which captures these arrays, when passes ask.

        With `waits` its rules, and those of all calls in its batch, are put off.
        """
        batcher = Batcher(self._alone_later(eqn, captures, transposes, waits).over, len(captures))
        self.put_off.append(batcher)
        return batcher

    def _alone_later(
        self,
        eqn: Equation,
        captures: Sequence[Any],
        transposes: tuple[tuple[int, ...], ...],
        waits: bool,
    ) -> Alone:
        declared = self.alone.declared if self.alone else self.needs
        make = partial(Importer, self.in_rules, lazy=True)
        return Alone(eqn, captures, make, self.in_rules, self.policy, declared, transposes, waits)

    def _put_off(self, waiting: PutOff) -> str:
        self.put_off.append(waiting)
        return waiting.reason

    def transposes_of(self, eqn: Equation) -> tuple[tuple[int, ...], ...]:
        """The operands, together, with respect to which `eqn` is known to be transposed."""
        return self.alone.transposes if self.alone and eqn is self.alone.eqn else ()

    def _forget(self, checkpoint: tuple[int, int], num_defined: int) -> None:
        """Takes back what was written since."""
        self.module.rollback(checkpoint)
        for defined in list(self._defined)[num_defined:]:
            del self._defined[defined]

    def call_program(self, program: Program, operands: Sequence[Operand]) -> list[Value]:
        """Calls a program, which is copied into the module under a name of its own."""
        args, references = split_references(operands)
        here = [reference.name for reference in references.values()]
        names = dict(zip(program.references, here, strict=True))

        def declare() -> tuple[str, list[TensorType]]:
            ins, outs = (
                [self.type(aval) for aval in avals]
                for avals in (program.in_avals, program.out_avals)
            )
            symbol = self.module.new_symbol(program.name)
            self.module.declare(symbol, ins, outs)
            self.linked[symbol] = program, names
            self.put_off += program.put_off
            self.needs.effects |= program.effects
            self.has_batching_rules |= program.has_batching_rules
            self.needs.devices |= program.needs_devices
            self.platform = program.platform or self.platform
            return symbol, outs

        symbol, types = self.once((program,), declare, ("program", id(program), *here))
        return self.module.call(symbol, args, types)

    def _touches_keys(self, eqn: Equation) -> bool:
        return any(is_key(atom.aval) for atom in (*eqn.invars, *eqn.outvars))

    # -- Errors ----------------------------------------------------------------------------------

    def error(self, reason: Unsupported) -> UnsupportedError:
        """`reason` with the primitive that it is about and the user's line."""
        primitive = f"`{self._equation.primitive.name}`: " if self._equation else ""
        where = ""
        if self._where:
            file, line, _ = self._where
            where = f"\n  at {file}:{line}"
        return UnsupportedError(f"{primitive}{reason}{where}")


def open_jaxpr(closed: Any) -> tuple[Any, Sequence[Any]]:
    """A jaxpr, closed or not, as jaxpr and constants."""
    return getattr(closed, "jaxpr", closed), getattr(closed, "consts", ())


def _argument_names(jaxpr: Any) -> list[str]:
    names = getattr(jaxpr.debug_info, "arg_names", None) or ()
    return [str(name) for name in names] if len(names) == len(jaxpr.invars) else []
