"""Programs: modules of the bm dialect with the avals of their inputs and outputs.

In: a module whose `@main` the frontend imported. Out: its derivatives and batched
forms, which are programs too. Each is made on first use and kept. Next: `_module.py` for
the way down to StableHLO; `_primitive.py` binds programs inside JAX.
"""

import dataclasses
import itertools
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, TypeVar

from bmgrad.runtime import _edits, _kernels, _pipeline, _source
from bmgrad.runtime._batched import Batched, Edited
from bmgrad.runtime._batchers import Batcher
from bmgrad.runtime._collectives import word_of
from bmgrad.runtime._errors import NotLinearError, refuses_reverse
from bmgrad.runtime._jax_internals import (
    ShapedArray,
    axes_of,
    canonical_platform,
    check_effects,
    has_tangent,
    plain_aval,
    real_effects,
    tangent_aval,
    without_axis,
)
from bmgrad.runtime._linearized import Linearized
from bmgrad.runtime._module import Module, on_platform
from bmgrad.runtime._options import Options
from bmgrad.runtime._platform import get_platform
from bmgrad.runtime._put_off import PutOff
from bmgrad.runtime._source import Source
from bmgrad.runtime._types import aval_of, batched_aval, tensor_type

_T = TypeVar("_T")
_P = TypeVar("_P", bound="Program")


class Program(Module):
    """An immutable function `@main` in the bm dialect; equal only to itself.

    Attributes:
      name: for messages, file names and symbols, such as `loss.grad`.
      in_avals, out_avals: one `ShapedArray` for each input and output.
      in_names: what each input is to the user, such as `x` or `Linear0.w`.
      options: how it is compiled.
      effects: what it does beside computing outputs, as JAX's effects.
      put_off: the calls in it whose derivative rules, or batches, are not there yet.
      references: the names of the references that it reads or changes.
      needs_devices: whether the lowering of a kernel in it asks which devices it is for.
      platform: the only one that it runs on, or None.

    Where functions bring a batching rule, which is Python, `batched` makes the module of the
    program over a batch, given what `batch` is, and what batches that; None if it cannot.

    Where derivative rules are told which inputs a derivative is taken of, `perturbed` makes
    the module for such inputs; None stands for the module as it is.
    """

    def __init__(
        self,
        module: Source,
        in_avals: Sequence[ShapedArray],
        out_avals: Sequence[ShapedArray],
        *,
        name: str,
        in_names: Sequence[str],
        options: Options | None = None,
        effects: frozenset[Any] = frozenset(),
        references: tuple[str, ...] = (),
        needs_devices: bool = False,
        platform: str | None = None,
        perturbed: Callable[[tuple[bool, ...]], Source | None] | None = None,
        batched: Batched | None = None,
        put_off: Sequence[PutOff | Batcher] = (),
    ) -> None:
        if len(in_names) != len(in_avals):
            raise ValueError(f"{name}: {len(in_avals)} inputs but {len(in_names)} names")
        super().__init__(module, name, options or Options())
        self.in_avals = tuple(plain_aval(aval) for aval in in_avals)
        self.out_avals = tuple(plain_aval(aval) for aval in out_avals)
        self.in_names = tuple(in_names)
        self.effects = effects
        self.references = references
        self.needs_devices = needs_devices
        self.platform = platform
        self.put_off = put_off
        self._perturbed = perturbed
        self._batched = batched

    def __repr__(self) -> str:
        ins = ", ".join(aval.str_short() for aval in self.in_avals)
        outs = ", ".join(aval.str_short() for aval in self.out_avals)
        return f"{type(self).__name__}({self.name}: ({ins}) -> ({outs}))"

    # -- Kernels that have no results ----------------------------------------------------------

    def without_checks(self) -> "Program":
        """The program without each `checkify.check` in it."""
        kept = self.effects - check_effects(self.effects)
        return self._without_kernels(_kernels.is_check, kept)

    def with_checks_only(self) -> "Program":
        """The program without what calls back to Python and takes no results from there."""
        kept = self.effects - (real_effects(self.effects) - check_effects(self.effects))
        return self._without_kernels(lambda number: not _kernels.is_check(number), kept)

    def _without_kernels(self, drop: Callable[[int], bool], effects: frozenset[Any]) -> "Program":
        if effects == self.effects:
            return self
        edit = partial(_edits.without_kernels, drop=drop)
        return self.once(("effects", effects), lambda: self._edited(edit, effects))

    def _edited(self, edit: Callable[[Source], Source], effects: frozenset[Any]) -> "Program":
        """The program whose modules `edit` has changed."""
        make = self._rebuild
        if self.asks:
            make = partial(make, perturbed=lambda active: edit(self._source_for(active)))
        if self._batched:
            make = partial(make, batched=Edited(self._batched, edit))
        return self._derived(
            make,
            "",
            edit(self.source()),
            self.in_avals,
            self.out_avals,
            self.in_names,
            effects=effects,
        )

    # -- Derived programs --------------------------------------------------------------------

    @property
    def asks(self) -> bool:
        """Whether a derivative rule in it is told which inputs a derivative is taken of."""
        return self._perturbed is not None

    def perturbed(self, active: Sequence[bool]) -> "Program":
        """The program for derivatives of the `active` inputs only, and of their derivatives."""
        source = self._source_for(tuple(active))
        if source is self.source():
            return self
        return self.once(
            ("perturbed program", tuple(active)),
            lambda: self._derived(
                Program, "", source, self.in_avals, self.out_avals, self.in_names
            ),
        )

    def _source_for(self, active: tuple[bool, ...]) -> Source:
        make = self._perturbed
        if make is None or not any(active):
            return self.source()
        return self.once(("perturbed", active), lambda: make(active) or self.source())

    def jvp(self, active: Sequence[bool]) -> "Program":
        """Value and tangent: `(x..., dx of the active...) -> (y..., dy...)`.

        `active` says for each input whether it has a tangent; results have one where
        they are float or complex.
        """
        active = self._checked_active(active)
        return self.once(("jvp", active), lambda: self._make_jvp(active))

    def _make_jvp(self, active: tuple[bool, ...]) -> "Program":
        in_avals, in_names = self._with_tangents(active)
        out_avals = (*self.out_avals, *self._out_tangents())
        module = _source.Wrapped(
            self._source_for(active),
            "bm.jvp",
            {"wrt": _positions(active)},
            [tensor_type(aval) for aval in in_avals],
            [tensor_type(aval) for aval in out_avals],
            in_names,
        )
        make: Callable[..., Program] = Program
        if self.has_batching_rules:
            pairs = zip(_positions(active), itertools.count(len(active)), strict=False)
            batched = _BatchedJvp(self, active)
            make = partial(JvpProgram, batched=batched, together=tuple(pairs))
        return self._derived(make, "jvp", module, in_avals, out_avals, in_names)

    def vjp(self, wrt: Sequence[int], of: Sequence[int]) -> "Program":
        """Value and gradient: `x... -> (y..., cotangents of the inputs in wrt...)`.

        The cotangents of the outputs in `of` are ones, those of the others zeros.
        """
        key = ("vjp", tuple(wrt), tuple(of))
        return self.once(key, lambda: self._make_vjp(key[1], key[2]))

    def _make_vjp(self, wrt: tuple[int, ...], of: tuple[int, ...]) -> "Program":
        gradients = [tangent_aval(self.in_avals[i]) for i in wrt]
        out_avals = (*self.out_avals, *gradients)
        module = _source.Wrapped(
            self._source_for(tuple(i in wrt for i in range(len(self.in_avals)))),
            "bm.vjp",
            {"wrt": wrt, "of": of},
            [tensor_type(aval) for aval in self.in_avals],
            [tensor_type(aval) for aval in out_avals],
            self.in_names,
            ones=[tensor_type(self.out_avals[i]) for i in of],
        )
        return self._derived(Program, "vjp", module, self.in_avals, out_avals, self.in_names)

    @property
    def has_while(self) -> bool:
        """Whether there is a loop in it that ends where a value says."""
        return self.once("has while", lambda: _edits.has_while(self.source()))

    @property
    def has_open_loop(self) -> bool:
        """Whether its reverse mode is refused for a loop in it, which ends where a value says."""
        return self.once("has open loop", self._has_open_loop)

    def _has_open_loop(self) -> bool:
        return self.has_while and refuses_reverse(self._try_reverse)

    @property
    def lacks_bounds(self) -> bool:
        """Whether a derivative in it is refused for such a loop."""
        return self.has_while and refuses_reverse(self._lowered)

    def _try_reverse(self) -> None:
        self.linearize(tuple(map(has_tangent, self.in_avals))).lin._try_reverse()

    def linearize(self, active: Sequence[bool]) -> Linearized:
        """The program at a point, and its derivative there as a linear program.

        `active` says for each input whether `lin` takes a tangent for it; `lin`
        returns one for each float or complex output.
        """
        active = self._checked_active(active)
        return self.once(("linearize", active), lambda: self._linearized_anywhere(active))

    def transpose_in(self, active: tuple[bool, ...], nonzero: tuple[bool, ...]) -> "LinearProgram":
        """The program, linear in the `active` inputs, turned round.

        It takes the other inputs and a cotangent for each `nonzero` output, and returns those of
        the `active` inputs. Raises TypeError where it is not linear in these.
        """
        linear = self.once(("linear in", active), lambda: self._make_linear(active))
        try:
            return linear.transpose((True,) * sum(active), nonzero)
        except NotLinearError as failure:
            names = ", ".join(itertools.compress(self.in_names, active))
            raise TypeError(
                f"{self.name} is transposed in {names}, in which it is not linear: {failure.reason}"
            ) from None

    def _make_linear(self, active: tuple[bool, ...]) -> "LinearProgram":
        order = sorted(range(len(active)), key=lambda i: active[i])
        in_avals, in_names = [self.in_avals[i] for i in order], [self.in_names[i] for i in order]
        return self._derived(
            partial(LinearProgram, num_residuals=active.count(False)),
            "linear",
            _edits.to_transpose(self.source(), order, in_names),
            in_avals,
            self.out_avals,
            in_names,
        )

    def _linearized_anywhere(self, active: tuple[bool, ...]) -> Linearized:
        try:
            return self._make_linearized(active)
        except Exception:
            if self.platform or not _pipeline.chooses_platform(self.source()):
                raise
        # A branch for another platform may have no derivative.
        return self._only_here().linearize(active)

    def _only_here(self) -> "Program":
        """The program with the branches for the current platform only, which is all it runs on."""
        platform = canonical_platform(get_platform())

        def make() -> Program:
            program = self._edited(partial(on_platform, platform=platform), self.effects)
            program.platform = platform
            return program

        return self.once(("only on", platform), make)

    def _make_linearized(self, active: tuple[bool, ...]) -> Linearized:
        module = _pipeline.run(self._source_for(active), _pipeline.linearize(_positions(active)))
        fwd: Source = _edits.extract(module, _pipeline.FWD)
        lin = _edits.extract(module, _pipeline.LIN)
        count = len(self.out_avals)
        further = _edits.further_results(fwd, count)
        residuals = tuple(aval_of(tensor) for tensor, _ in further)
        sources = tuple(source for _, source in further)
        is_made = [source is None for source in sources]
        fwd = _edits.select_results(fwd, [True] * count + is_made)
        made = tuple(itertools.compress(residuals, is_made))
        in_avals, in_names = self._with_tangents(active)
        tangents, tangent_names = in_avals[len(active) :], in_names[len(active) :]
        names = tuple(f"residual.{i}" for i in range(len(residuals)))
        return Linearized(
            self._derived(
                Program, "fwd", fwd, self.in_avals, (*self.out_avals, *made), self.in_names
            ),
            self._derived(
                partial(LinearProgram, num_residuals=len(residuals)),
                "lin",
                lin,
                (*residuals, *tangents),
                self._out_tangents(),
                (*names, *tangent_names),
            ),
            sources,
        )

    def batch(
        self,
        in_axes: Sequence[int],
        size: int,
        out_axes: Sequence[int] | None = None,
        axis_name: Hashable = None,
    ) -> "Program":
        """The program applied to each of `size` elements.

        `in_axes` has the batch axis of each input, -1 for none. Outputs have the batch at
        axis 0, or where `out_axes` says; at -1 they must not depend on a batched input.
        Collectives over `axis_name` are over this batch.
        """
        outs = tuple(out_axes) if out_axes is not None else (0,) * len(self.out_avals)
        name = axis_name if self.is_over(axis_name) else None
        key = ("batch", tuple(in_axes), size, outs, name)
        return self.once(key, lambda: self._make_batched(tuple(in_axes), size, outs, name))

    def _make_batched(
        self, in_axes: tuple[int, ...], size: int, out_axes: tuple[int, ...], axis_name: Hashable
    ) -> "Program":
        in_avals, out_avals = (
            [batched_aval(aval, axis, size) for aval, axis in zip(avals, axes, strict=True)]
            for avals, axes in ((self.in_avals, in_axes), (self.out_avals, out_axes))
        )
        named = {} if axis_name is None else {"axis_name": word_of(axis_name)}
        module: Source
        module = wrapped = _source.Wrapped(
            self.source(),
            "bm.batch",
            {"in_axes": in_axes, "out_axes": out_axes, "size": size, **named},
            [tensor_type(aval) for aval in in_avals],
            [tensor_type(aval) for aval in out_avals],
            self.in_names,
        )
        make = self._rebuild
        if self.asks:
            make = partial(
                make,
                perturbed=lambda active: dataclasses.replace(
                    wrapped, source=self._source_for(active)
                ),
            )
        elif self._batched and (found := self._batched.module(in_axes, size, out_axes, axis_name)):
            module, batched = found
            make = partial(make, batched=batched)
        effects = without_axis(self.effects, axis_name)
        return self._derived(
            make, "batch", module, in_avals, out_avals, self.in_names, effects=effects
        )

    def mapped(self, *args: Any, **keywords: Any) -> "Program":
        """`batch`, where the elements share the references, so that none is to write to one."""
        if not self.references:
            return self.batch(*args, **keywords)
        edit = _edits.with_shared_references
        shared = self.once("shared", lambda: self._edited(edit, self.effects))
        return shared.batch(*args, **keywords)

    @property
    def has_batching_rules(self) -> bool:
        """Whether a function in it brings a batching rule."""
        return self._batched is not None

    def is_over(self, axis_name: Hashable) -> bool:
        """Whether there are collectives over the axis in it, or in derivative rules of it."""
        return bool(self.effects) and axis_name in axes_of(self.effects)

    def batched_outputs(
        self, in_axes: Sequence[int], size: int, axis_name: Hashable, *, tangents: bool = True
    ) -> list[bool]:
        """Which outputs differ between the elements of a batch, by what leads to them.

        With `tangents` those count whose tangents do, by the derivative rule of a user.
        """
        name = axis_name if self.is_over(axis_name) else None
        key = ("batched", tuple(in_axes), size, name, tangents)
        return self.once(key, lambda: self._batched_outputs(tuple(in_axes), size, name, tangents))

    def _batched_outputs(
        self, in_axes: tuple[int, ...], size: int, axis_name: Hashable, tangents: bool
    ) -> list[bool]:
        if self._batched and (told := self._batched.outputs(in_axes, size, axis_name)) is not None:
            return told
        batched = [i for i, axis in enumerate(in_axes) if axis >= 0]
        word = "" if axis_name is None else word_of(axis_name)
        return _pipeline.batched_results(self.source(), batched, size, word, tangents)

    def pruned(self, used: Sequence[bool]) -> "tuple[Program, tuple[bool, ...]]":
        """The program with the `used` outputs and what they need; which inputs are kept."""
        key = tuple(used)
        return self.once(("pruned", key), lambda: self.selected(key)._without_unused_inputs())

    def selected(self, used: tuple[bool, ...]) -> "Program":
        """The program with the `used` outputs, and all inputs."""
        return self if all(used) else self.once(("selected", used), lambda: self._selected(used))

    def _selected(self, used: tuple[bool, ...]) -> "Program":
        module = _edits.select_results(self.source(), used)
        out_avals = tuple(itertools.compress(self.out_avals, used))
        return self._derived(self._rebuild, "", module, self.in_avals, out_avals, self.in_names)

    def _without_unused_inputs(self) -> "tuple[Program, tuple[bool, ...]]":
        module = self.source()
        # A custom rule may find a derivative where no value goes; a branch for another platform
        # may have none.
        keeps_all = _edits.has_custom_rules(module) or _pipeline.chooses_platform(module)
        unused = [] if keeps_all else self.unused_inputs()
        kept = tuple(i not in unused for i in range(len(self.in_avals)))
        if not unused:
            return self, kept
        in_avals = tuple(itertools.compress(self.in_avals, kept))
        in_names = tuple(itertools.compress(self.in_names, kept))
        without = _source.Wrapped(
            module,
            "func.call",
            {},
            [tensor_type(aval) for aval in in_avals],
            [tensor_type(aval) for aval in self.out_avals],
            in_names,
            zeros={i: tensor_type(self.in_avals[i]) for i in unused},
        )
        program = self._derived(
            self._rebuild_pruned(kept), "", without, in_avals, self.out_avals, in_names
        )
        lowered = _edits.without_arguments(self.stablehlo(), unused)
        program.once("stablehlo", lambda: (lowered, []))
        return program, kept

    @property
    def _rebuild(self) -> "Callable[..., Program]":
        """Makes a program whose inputs have the same roles as this one's."""
        return Program

    def _rebuild_pruned(self, kept: Sequence[bool]) -> "Callable[..., Program]":
        """`_rebuild` for a program that has some of this one's inputs."""
        return self._rebuild

    def _derived(
        self,
        make: Callable[..., _P],
        suffix: str,
        module: Source,
        in_avals: Sequence[ShapedArray],
        out_avals: Sequence[ShapedArray],
        in_names: Sequence[str],
        *,
        effects: frozenset[Any] | None = None,
    ) -> _P:
        name = f"{self.name}.{suffix}" if suffix else self.name
        effects = self.effects if effects is None else effects
        # Of a program's parts, and of rules that a program holds, not all have its effects.
        # The names of axes stay: what is said to be over an axis and is not does no harm.
        if (real := real_effects(effects)) and not _edits.has_side_effects(module):
            effects -= real
        used = _edits.references(module) if self.references else ()
        return make(
            module,
            in_avals,
            out_avals,
            name=name,
            in_names=in_names,
            options=self.options,
            effects=effects,
            put_off=self.put_off,
            references=tuple(r for r in self.references if r in used),
            needs_devices=self.needs_devices,
            platform=self.platform,
        )

    def _checked_active(self, active: Sequence[bool]) -> tuple[bool, ...]:
        for is_active, aval, name in zip(active, self.in_avals, self.in_names, strict=True):
            if is_active and not has_tangent(aval):
                raise TypeError(
                    f"{self.name} cannot be differentiated with respect to {name}, "
                    f"which is {aval.str_short()}"
                )
        return tuple(active)

    def _with_tangents(
        self, active: tuple[bool, ...]
    ) -> tuple[tuple[ShapedArray, ...], tuple[str, ...]]:
        """The inputs followed by the tangents of the active ones: avals and names."""
        chosen = [i for i, is_active in enumerate(active) if is_active]
        tangents = [tangent_aval(self.in_avals[i]) for i in chosen]
        names = [f"d.{self.in_names[i]}" for i in chosen]
        return (*self.in_avals, *tangents), (*self.in_names, *names)

    def _out_tangents(self) -> tuple[ShapedArray, ...]:
        return tuple(tangent_aval(aval) for aval in self.out_avals if has_tangent(aval))


class JvpProgram(Program):
    """A JVP whose batches are JVPs of batches that Python makes.

    Inputs that are named `together`, a value and its tangent, are batched together if at all.
    """

    def __init__(self, *args: Any, together: Sequence[tuple[int, int]], **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.together = tuple(together)


@dataclasses.dataclass(frozen=True, eq=False)
class _BatchedJvp:
    """The batches of a `JvpProgram` of `program`; None where a value is in one but not its tangent.

    A result and its tangent differ between the elements together.
    """

    program: Program
    active: tuple[bool, ...]

    def module(
        self, in_axes: tuple[int, ...], size: int, out_axes: tuple[int, ...], axis_name: Hashable
    ) -> tuple[Source, Batched | None] | None:
        values = out_axes[: len(self.program.out_avals)]
        if (primals := self._primals(in_axes)) is None or self._with_tangents(values) != out_axes:
            return None
        batch = self.program.batch(primals, size, values, axis_name).jvp(self.active)
        return batch.source(), batch._batched

    def outputs(
        self, in_axes: tuple[int, ...], size: int, axis_name: Hashable
    ) -> list[bool] | None:
        if (primals := self._primals(in_axes)) is None:
            return None
        return [*self._with_tangents(self.program.batched_outputs(primals, size, axis_name))]

    def _primals(self, in_axes: tuple[int, ...]) -> tuple[int, ...] | None:
        primals, tangents = in_axes[: len(self.active)], in_axes[len(self.active) :]
        return primals if tangents == tuple(itertools.compress(primals, self.active)) else None

    def _with_tangents(self, values: Sequence[_T]) -> tuple[_T, ...]:
        return (*values, *itertools.compress(values, map(has_tangent, self.program.out_avals)))


class LinearProgram(Program):
    """A program that is linear in the inputs after the first `num_residuals`."""

    def __init__(self, *args: Any, num_residuals: int, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.num_residuals = num_residuals

    @property
    def _rebuild(self) -> "Callable[..., LinearProgram]":
        return partial(LinearProgram, num_residuals=self.num_residuals)

    def _rebuild_pruned(self, kept: Sequence[bool]) -> "Callable[..., LinearProgram]":
        return partial(LinearProgram, num_residuals=sum(kept[: self.num_residuals]))

    def _try_reverse(self) -> None:
        linear = len(self.in_avals) - self.num_residuals
        self.transpose((True,) * linear, (True,) * len(self.out_avals))

    def transpose(self, wanted: Sequence[bool], nonzero: Sequence[bool]) -> "LinearProgram":
        """Turned round: `(residuals..., ct...) -> ct of the wanted inputs...`.

        `nonzero` says for each output whether a cotangent for it is given, `wanted`
        for each linear input whether its cotangent is asked for.
        """
        key = ("transpose", tuple(wanted), tuple(nonzero))
        return self.once(key, lambda: self._make_transposed(key[1], key[2]))

    def _make_transposed(
        self, wanted: tuple[bool, ...], nonzero: tuple[bool, ...]
    ) -> "LinearProgram":
        n = self.num_residuals
        module = _edits.select_results(self.source(), nonzero)
        module = _pipeline.run(module, _pipeline.transpose(n))
        module = _edits.select_results(module, wanted)
        cts = tuple(itertools.compress(self.out_avals, nonzero))
        out_avals = tuple(itertools.compress(self.in_avals[n:], wanted))
        names = tuple(f"ct.{i}" for i in range(len(cts)))
        return self._derived(
            self._rebuild,
            "transpose",
            module,
            (*self.in_avals[:n], *cts),
            out_avals,
            (*self.in_names[:n], *names),
        )


def _positions(chosen: Sequence[bool]) -> list[int]:
    return [i for i, is_chosen in enumerate(chosen) if is_chosen]
