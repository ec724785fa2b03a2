"""The module being written: scopes, functions, regions, locations, and ops as text.

In: op names, values, attributes. Out: the text of an MLIR module in the generic
form, which costs a few microseconds an op to write and to parse, a tenth of what
the builders of the Python bindings cost. Next: `_importer.py` walks the jaxpr.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import jax
import numpy as np

from bmgrad._import._errors import Unsupported
from bmgrad._import._references import Operand, Reference
from bmgrad._import._text import TensorType, Value, dense, string, type_of_array
from bmgrad.runtime._errors import no_values_of
from bmgrad.runtime._jax_internals import (
    is_dead,
    is_reference,
    revived,
    variable_of,
    without_literal,
)

# Arrays that inner functions close over become inputs; NumPy arrays up to this many
# elements, which are mostly tables of indices, are constants instead.
_SMALL = 16


@dataclass(slots=True)
class Scope:
    """A block being written. Nothing inside sees a value outside: arrays are captured."""

    lines: list[str] = field(default_factory=list)
    constants: dict[Any, Value] = field(default_factory=dict)
    captured: list[Any] = field(default_factory=list)
    # The values of arrays, keyed by identity: of those captured, and of arguments.
    arrays: dict[int, Value] = field(default_factory=dict)
    # The variables of the jaxprs that are being written here, outermost first.
    environments: list[dict[Any, Operand]] = field(default_factory=list)


@dataclass(slots=True)
class Body:
    """A finished block: the body of a function or a region."""

    scope: Scope
    args: list[Value]
    results: list[Value]
    names: Sequence[str] = ()

    def captures(self) -> list[Any]:
        """The arrays that the block reads beside its arguments."""
        return list(self.scope.captured)


class Module:
    """Writes ops into the innermost open scope."""

    def __init__(self) -> None:
        self.location = "loc(unknown)"
        self._scope = Scope()
        # The scopes that the open one is written in, outermost first.
        self._around: list[Scope] = []
        self._next_value = 0
        self._functions: list[str] = []
        self._symbols: dict[str, None] = {}
        self._locations: dict[tuple[tuple[str, int, int], str], str] = {}
        self._tables: dict[tuple[Any, tuple[int, ...], bytes], Any] = {}
        # By identity, each with what it names in the program.
        self._references: dict[int, tuple[Any, Reference]] = {}

    # -- Ops -------------------------------------------------------------------------------------

    def new_value(self, type: TensorType) -> Value:
        """A name that no value has yet."""
        number = self._next_value
        self._next_value = number + 1
        return Value(f"%{number}", type)

    def op(
        self, name: str, operands: Sequence[Value], type: TensorType, attributes: str = ""
    ) -> Value:
        """Adds an op with one result. `attributes` is text: `a = 1 : i64, b = true`."""
        number = self._next_value
        self._next_value = number + 1
        if attributes:
            attributes = f" <{{{attributes}}}>"
        if len(operands) == 1:
            x = operands[0]
            names, types = x.name, x.type.text
        else:
            names = ", ".join([x.name for x in operands])
            types = ", ".join([x.type.text for x in operands])
        self._scope.lines.append(
            f'%{number} = "{name}"({names}){attributes} : ({types}) -> {type.text} {self.location}'
        )
        return Value(f"%{number}", type)

    def multi_op(
        self,
        name: str,
        operands: Sequence[Value],
        types: Sequence[TensorType],
        attributes: str = "",
        regions: Sequence[str] = (),
    ) -> list[Value]:
        """Adds an op with any number of results, and with regions."""
        number = self._next_value
        self._next_value = number + 1
        count = len(types)
        left = f"%{number}:{count} = " if count else ""
        if attributes:
            attributes = f" <{{{attributes}}}>"
        inside = f" ({', '.join(regions)})" if regions else ""
        operand_names = ", ".join([x.name for x in operands])
        operand_types = ", ".join([x.type.text for x in operands])
        result_types = ", ".join([t.text for t in types])
        self._scope.lines.append(
            f'{left}"{name}"({operand_names}){attributes}{inside} '
            f": ({operand_types}) -> ({result_types}) {self.location}"
        )
        return [Value(f"%{number}#{i}", t) for i, t in enumerate(types)]

    def constant(self, array: Any, shape: tuple[int, ...] | None = None) -> Value:
        """A constant array; a scalar is spread over `shape`. Equal ones of a block are one."""
        array = np.asarray(array)
        if array.dtype == jax.dtypes.float0:
            array = np.zeros(array.shape, np.bool_)
        shape = array.shape if shape is None else shape
        key = (array.tobytes(), array.dtype, array.shape, shape)
        known = self._scope.constants.get(key)
        if known is None:
            type = type_of_array(shape, array.dtype)
            known = self.op("bm.constant", (), type, f"value = {dense(array, type)}")
            self._scope.constants[key] = known
        return known

    def call(
        self, symbol: str, operands: Sequence[Value], types: Sequence[TensorType]
    ) -> list[Value]:
        return self.multi_op("func.call", operands, types, f"callee = @{symbol}")

    # -- Arrays that are closed over -------------------------------------------------------------

    def operand(self, closed_over: Any) -> Operand:
        """What a jaxpr closes over: an array, which is captured, or a reference."""
        if isinstance(closed_over, Reference):
            return closed_over
        if is_reference(closed_over):
            return self._reference(closed_over)
        return self.capture(closed_over)

    def _reference(self, reference: Any) -> Reference:
        # Derivative rules may use those of the function around them.
        variable = variable_of(reference)
        for scope in (self._scope, *reversed(self._around)):
            for environment in reversed(scope.environments):
                if isinstance(known := environment.get(variable), Reference):
                    return known
        named = Reference(f"ref{len(self._references)}", jax.typeof(reference))
        return self._references.setdefault(id(reference), (reference, named))[1]

    @property
    def references(self) -> list[tuple[Any, Reference]]:
        """The references from outside that were found so far, and what they are here."""
        return list(self._references.values())

    def capture(self, array: Any) -> Value:
        """The value of a concrete array: a constant, or an input of every scope on the way."""
        array = without_literal(array)
        if not isinstance(array, (jax.Array, jax.core.Tracer)):
            dtype = np.asarray(array).dtype
            if dtype == np.object_:
                raise Unsupported(no_values_of(type(array).__name__))
            if np.size(array) <= _SMALL or dtype == jax.dtypes.float0:
                return self.constant(np.asarray(array))
            # Functions make their NumPy tables anew at each trace: equal ones are one input.
            plain = np.asarray(array)
            array = self._tables.setdefault((plain.dtype, plain.shape, plain.tobytes()), array)
        scope = self._scope
        known = scope.arrays.get(id(array))
        if known is None and isinstance(array, jax.core.Tracer):
            # Derivative rules may read what the function around them computed.
            variable = variable_of(array)
            for environment in reversed(scope.environments):
                known = known or cast(Any, environment.get(variable))
            if known is None and (kept := revived(array)) is not array:
                return self.capture(kept)
        if known is None:
            aval = self.aval(array)
            known = self.new_value(type_of_array(aval.shape, aval.dtype))
            scope.captured.append(array)
            scope.arrays[id(array)] = known
        return known

    def reaches(self, array: Any) -> bool:
        """Whether a captured `array` has a value: here, around, or in a trace that goes on."""
        variable = variable_of(array)
        return not is_dead(without_literal(array)) or any(
            id(array) in scope.arrays or any(variable in e for e in scope.environments)
            for scope in (*self._around, self._scope)
        )

    def variables(self, environment: dict[Any, Operand]) -> None:
        """Opens a jaxpr in the open scope: the values of its variables."""
        self._scope.environments.append(environment)

    def end_variables(self) -> None:
        """Closes the jaxpr opened last."""
        self._scope.environments.pop()

    @staticmethod
    def aval(array: Any) -> Any:
        """The aval of an array that is closed over."""
        return jax.typeof(array)

    def alias(self, array: Any, value: Value) -> None:
        """Says that `array` is the argument `value` of the open scope."""
        self._scope.arrays[id(array)] = value

    # -- Scopes ----------------------------------------------------------------------------------

    @contextmanager
    def _inside(self, scope: Scope) -> Iterator[None]:
        self._around.append(self._scope)
        self._scope = scope
        try:
            yield
        finally:
            self._scope = self._around.pop()

    def body(
        self,
        types: Sequence[TensorType],
        write: Callable[[list[Value]], Sequence[Value]],
        names: Sequence[str] = (),
    ) -> Body:
        """The block that `write` fills, given its arguments; it returns the results."""
        args = [self.new_value(type) for type in types]
        scope = Scope()
        with self._inside(scope):
            results = list(write(args))
        return Body(scope, args, results, names)

    def extend(self, body: Body, write: Callable[[list[Value]], Sequence[Value]]) -> list[Value]:
        """The values that `write` makes of the results of `body`, at its end."""
        with self._inside(body.scope):
            return list(write(body.results))

    def take_as_arguments(self, body: Body, captures: Sequence[Any]) -> None:
        """Makes `captures` of `body` its last arguments."""
        with self._inside(body.scope):
            body.args += [self.capture(array) for array in captures]

    def region(self, body: Body, captures: Sequence[Any]) -> str:
        """`body` as the text of a region whose first arguments are `captures`."""
        arguments = ", ".join(
            f"{value.name}: {value.type.text}" for value in self._arguments(body, captures)
        )
        lines = [f"{{\n^bb0({arguments}):", *body.scope.lines]
        lines.append(_terminator("bm.yield", body.results))
        return "\n".join(lines) + "\n}"

    def function(
        self, symbol: str, body: Body, captures: Sequence[Any], *, public: bool = False
    ) -> None:
        """Adds `body` as a function whose first arguments are `captures`.

        In a public function they come last: its callers know the others by position.
        """
        values = self._arguments(body, captures)
        captured = len(values) - len(body.args)
        names = [*(f"captured{i}" for i in range(captured)), *body.names] if body.names else []
        if public:
            values = values[captured:] + values[:captured]
            names = names[captured:] + names[:captured]
        arguments = [f"{value.name}: {value.type.text}" for value in values]
        for i, argument_name in enumerate(names):
            arguments[i] += f" loc({string(argument_name)})"
        results = ", ".join(value.type.text for value in body.results)
        visibility = "" if public else " private"
        lines = [
            f"func.func{visibility} @{symbol}({', '.join(arguments)}) -> ({results}) {{",
            *body.scope.lines,
            _terminator("func.return", body.results),
            f"}} {self.location}",
        ]
        # What users look for comes first.
        self._functions.insert(0 if public else len(self._functions), "\n".join(lines))

    def _arguments(self, body: Body, captures: Sequence[Any]) -> list[Value]:
        with self._inside(body.scope):
            return [*(self.capture(array) for array in captures), *body.args]

    def declare(
        self,
        symbol: str,
        in_types: Sequence[TensorType],
        out_types: Sequence[TensorType],
        reason: str = "",
    ) -> None:
        """Adds a function without a body; `reason` says why a derivative rule has none."""
        ins, outs = (", ".join(t.text for t in types) for types in (in_types, out_types))
        attributes = f" attributes {{bm.reason = {string(reason)}}}" if reason else ""
        self._functions.append(f"func.func private @{symbol}({ins}) -> ({outs}){attributes}")

    # -- Names and locations ---------------------------------------------------------------------

    def new_symbol(self, wanted: str) -> str:
        """A free symbol like `wanted`: `f`, `f_1`, `f_2`, ..."""
        wanted = re.sub(r"[^\w.$]+", "_", wanted, flags=re.ASCII).strip("_.$") or "function"
        if wanted[0].isdigit():
            wanted = f"f{wanted}"
        symbol, tried = wanted, 0
        while symbol in self._symbols:
            tried += 1
            symbol = f"{wanted}_{tried}"
        self._symbols[symbol] = None
        return symbol

    def checkpoint(self) -> tuple[int, int]:
        """How far the module has come, for `rollback`."""
        return len(self._functions), len(self._symbols)

    def rollback(self, checkpoint: tuple[int, int]) -> None:
        """Forgets the functions and symbols that were added since."""
        num_functions, num_symbols = checkpoint
        del self._functions[num_functions:]
        for symbol in list(self._symbols)[num_symbols:]:
            del self._symbols[symbol]

    def location_of(self, where: tuple[str, int, int], name: str = "") -> str:
        """The location text of a file, line and column, and of what has a name there."""
        known = self._locations.get((where, name))
        if known is None:
            known = self._locations[where, name] = f"loc(#at{len(self._locations)})"
        return known

    def text(self, name: str) -> str:
        """The module."""
        aliases = []
        for ((file, line, column), of), alias in self._locations.items():
            at = f"{string(file)}:{line}:{column}"
            # A name alone would become the name of the result where the IR is printed.
            location = f"callsite({string(of)}({at}) at {at})" if of else at
            aliases.append(f"{alias[4:-1]} = loc({location})")
        inside = "\n".join(self._functions)
        return f"module @{self.new_symbol(name)} {{\n{inside}\n}}\n" + "\n".join(aliases) + "\n"


def _terminator(name: str, values: Sequence[Value]) -> str:
    names = ", ".join(value.name for value in values)
    types = ", ".join(value.type.text for value in values)
    return f'"{name}"({names}) : ({types}) -> () loc(unknown)'
