"""Programs: modules of the bm dialect with the avals of their inputs and outputs.

In: a module whose `@main` the frontend imported. Out: its derivatives and batched
forms, which are programs too, and its text at each stage down to StableHLO. Each
is made on first use and kept. Next: `_primitive.py` binds programs inside JAX.
"""

import dataclasses
import itertools
import re
import threading
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from bmgrad.runtime import _kernels, _pipeline
from bmgrad.runtime._collectives import word_of
from bmgrad.runtime._jax_internals import (
    ShapedArray,
    axes_of,
    has_tangent,
    plain_aval,
    real_effects,
    tangent_aval,
    without_axis,
)
from bmgrad.runtime._options import Options
from bmgrad.runtime._pipeline import Source
from bmgrad.runtime._put_off import PutOff
from bmgrad.runtime._types import aval_of, batched_aval, tensor_type

Stage: TypeAlias = Literal["bm", "adjoint", "optimized", "stablehlo"]
STAGES: tuple[Stage, ...] = ("bm", "adjoint", "optimized", "stablehlo")

# Of input axes, size, output axes and the name of the axis. See `Program`.
Batched: TypeAlias = Callable[
    [tuple[int, ...], int, tuple[int, ...], Hashable], "tuple[Source, Batched | None] | None"
]

_T = TypeVar("_T")
_P = TypeVar("_P", bound="Program")
_dump_numbers = itertools.count(1)


class Linearized(NamedTuple):
    """`fwd(x...) -> (y..., made...)` and `lin(residuals..., dx...) -> dy...`.

    Residuals that are inputs or results are not returned once more, which would copy them:
    `sources` says for each residual which it is, counting inputs first; None for those made.
    """

    fwd: "Program"
    lin: "LinearProgram"
    sources: tuple[int | None, ...]

    def residuals(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> list[Any]:
        """What `lin` takes, from what `fwd` takes and returns."""
        num_made = self.sources.count(None)
        known = [*inputs, *outputs[: len(outputs) - num_made]]
        made = iter(outputs[len(outputs) - num_made :])
        return [next(made) if i is None else known[i] for i in self.sources]


class Program:
    """An immutable function `@main` in the bm dialect; equal only to itself.

    Attributes:
      name: for messages, file names and symbols, such as `loss.grad`.
      in_avals, out_avals: one `ShapedArray` for each input and output.
      in_names: what each input is to the user, such as `x` or `Linear0.w`.
      options: how it is compiled.
      effects: what it does beside computing outputs, as JAX's effects.
      put_off: the calls in it whose derivative rules are not there yet.
      references: the names of the references that it reads or changes.

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
        perturbed: Callable[[tuple[bool, ...]], Source | None] | None = None,
        batched: "Batched | None" = None,
        put_off: Sequence[PutOff] = (),
    ) -> None:
        if len(in_names) != len(in_avals):
            raise ValueError(f"{name}: {len(in_avals)} inputs but {len(in_names)} names")
        self.name = name
        self.in_avals = tuple(plain_aval(aval) for aval in in_avals)
        self.out_avals = tuple(plain_aval(aval) for aval in out_avals)
        self.in_names = tuple(in_names)
        self.options = options or Options()
        self.effects = effects
        self.references = references
        self._stages: dict[Stage, Source] = {"bm": module}
        self._perturbed = perturbed
        self._batched = batched
        self.put_off = put_off
        self._memo: dict[Hashable, object] = {}
        # Derived programs are keys of JAX's caches, so each must be made once only.
        self._lock = threading.RLock()
        self._dump_number: int | None = None

    def __repr__(self) -> str:
        ins = ", ".join(aval.str_short() for aval in self.in_avals)
        outs = ", ".join(aval.str_short() for aval in self.out_avals)
        return f"{type(self).__name__}({self.name}: ({ins}) -> ({outs}))"

    # -- Stages ------------------------------------------------------------------------------

    def as_text(self, stage: Stage) -> str:
        """The program as MLIR text.

        `"bm"`: as imported; `"adjoint"`: transforms expanded; `"optimized"`: what is
        lowered; `"stablehlo"`: in the generic form, which any MLIR parser reads.
        """
        if stage not in STAGES:
            raise ValueError(f"stage must be one of {', '.join(STAGES)}, got {stage!r}")
        return _pipeline.text(self._stage(stage), generic=stage == "stablehlo")

    def stablehlo(self, platform: str | None = None) -> bytes:
        """The program in StableHLO as bytecode, with the user's locations.

        Given the `platform` that it is for, only what belongs there of what depends on it.
        """
        source = self._stages["bm"]
        if platform is None or not _pipeline.chooses_platform(source):
            return self._lowered()[0]
        return self.once(("stablehlo", platform), lambda: self._lowered_for(source, platform))

    def _lowered_for(self, source: Source, platform: str) -> bytes:
        chosen = _pipeline.on_platform(
            source, lambda number: _kernels.branch_of(_kernels.get(number), platform)
        )
        return _pipeline.stablehlo(chosen, self.options)[0]

    def _lowered(self) -> tuple[bytes, list[int]]:
        """StableHLO, and the inputs that it does not read."""
        return self.once("stablehlo", self._make_lowered)

    def _make_lowered(self) -> tuple[bytes, list[int]]:
        if self.options.dump_dir is not None:
            self._stage("stablehlo")
        # All at once: stages that nobody looks at are not written down.
        return _pipeline.stablehlo(self._stages["bm"], self.options)

    def source(self) -> Source:
        """The module as imported, text or bytecode: for programs that call this one."""
        return self._stages["bm"]

    def _stage(self, stage: Stage) -> Source:
        with self._lock:
            if stage not in self._stages:
                before = self._stage(STAGES[STAGES.index(stage) - 1])
                if stage == "adjoint":
                    self._dump("bm", before)
                    pipeline = _pipeline.differentiate()
                elif stage == "optimized":
                    pipeline = _pipeline.optimize(self.options)
                else:
                    pipeline = _pipeline.lower()
                self._stages[stage] = after = _pipeline.run(before, pipeline)
                self._dump(stage, after)
            return self._stages[stage]

    def _dump(self, stage: Stage, source: Source) -> None:
        directory = self.options.dump_dir
        if directory is None:
            return
        if self._dump_number is None:
            self._dump_number = next(_dump_numbers)
        directory.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^\w.]+", "_", self.name)
        path = directory / f"{self._dump_number:04d}-{name}-{STAGES.index(stage) + 1}-{stage}.mlir"
        path.write_text(_pipeline.text(source, locations=True))

    def once(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """What `make` returned for `key` on this program, called once at most."""
        with self._lock:
            if key not in self._memo:
                self._memo[key] = make()
            return self._memo[key]  # type: ignore[return-value]

    # -- Derived programs --------------------------------------------------------------------

    @property
    def asks(self) -> bool:
        """Whether a derivative rule in it is told which inputs a derivative is taken of."""
        return self._perturbed is not None

    def perturbed(self, active: Sequence[bool]) -> "Program":
        """The program for derivatives of the `active` inputs only, and of their derivatives."""
        source = self._source_for(tuple(active))
        if source is self._stages["bm"]:
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
            return self._stages["bm"]
        return self.once(("perturbed", active), lambda: make(active) or self._stages["bm"])

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
        module = _pipeline.Wrapped(
            self._source_for(active),
            "bm.jvp",
            {"wrt": _positions(active)},
            [tensor_type(aval) for aval in in_avals],
            [tensor_type(aval) for aval in out_avals],
            in_names,
        )
        numbers = (len(self.in_avals), len(self.out_avals))
        is_in, is_out = (
            tuple(i >= n for i in range(len(avals)))
            for n, avals in zip(numbers, (in_avals, out_avals), strict=True)
        )
        make = partial(JvpProgram, is_tangent_in=is_in, is_tangent_out=is_out)
        if self.has_batching_rules:
            make = partial(
                make,
                batched=partial(self._batched_jvp, active),
                together=tuple(zip(_positions(active), itertools.count(len(active)), strict=False)),
            )
        return self._derived(make, "jvp", module, in_avals, out_avals, in_names)

    def _batched_jvp(
        self,
        active: tuple[bool, ...],
        in_axes: tuple[int, ...],
        size: int,
        out_axes: tuple[int, ...],
        axis_name: Hashable,
    ) -> "tuple[Source, Batched | None] | None":
        """A batch of derivatives is the derivative of the batch, where each value is in both."""
        primals, tangents = in_axes[: len(active)], in_axes[len(active) :]
        if tangents != tuple(itertools.compress(primals, active)) or any(out_axes):
            return None
        batch = self.batch(primals, size, axis_name=axis_name).jvp(active)
        return batch.source(), batch._batched

    def vjp(self, wrt: Sequence[int], of: Sequence[int]) -> "Program":
        """Value and gradient: `x... -> (y..., cotangents of the inputs in wrt...)`.

        The cotangents of the outputs in `of` are ones, those of the others zeros.
        """
        key = ("vjp", tuple(wrt), tuple(of))
        return self.once(key, lambda: self._make_vjp(key[1], key[2]))

    def _make_vjp(self, wrt: tuple[int, ...], of: tuple[int, ...]) -> "Program":
        gradients = [tangent_aval(self.in_avals[i]) for i in wrt]
        out_avals = (*self.out_avals, *gradients)
        module = _pipeline.Wrapped(
            self._source_for(tuple(i in wrt for i in range(len(self.in_avals)))),
            "bm.vjp",
            {"wrt": wrt, "of": of},
            [tensor_type(aval) for aval in self.in_avals],
            [tensor_type(aval) for aval in out_avals],
            self.in_names,
            ones=[tensor_type(self.out_avals[i]) for i in of],
        )
        return self._derived(Program, "vjp", module, self.in_avals, out_avals, self.in_names)

    def linearize(self, active: Sequence[bool]) -> Linearized:
        """The program at a point, and its derivative there as a linear program.

        `active` says for each input whether `lin` takes a tangent for it; `lin`
        returns one for each float or complex output.
        """
        active = self._checked_active(active)
        return self.once(("linearize", active), lambda: self._make_linearized(active))

    def _make_linearized(self, active: tuple[bool, ...]) -> Linearized:
        module = _pipeline.run(self._source_for(active), _pipeline.linearize(_positions(active)))
        fwd: Source = _pipeline.extract(module, _pipeline.FWD)
        lin = _pipeline.extract(module, _pipeline.LIN)
        count = len(self.out_avals)
        further = _pipeline.further_results(fwd, count)
        residuals = tuple(aval_of(tensor) for tensor, _ in further)
        sources = tuple(source for _, source in further)
        is_made = [source is None for source in sources]
        fwd = _pipeline.select_results(fwd, [True] * count + is_made)
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
        module = wrapped = _pipeline.Wrapped(
            self._stages["bm"],
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
        elif self._batched and (found := self._batched(in_axes, size, out_axes, axis_name)):
            module, batched = found
            make = partial(make, batched=batched)
        effects = without_axis(self.effects, axis_name)
        return self._derived(
            make, "batch", module, in_avals, out_avals, self.in_names, effects=effects
        )

    def mapped(self, *args: Any, **keywords: Any) -> "Program":
        """`batch`, where the elements share the references, so that none is to write to one."""
        batch = self.batch(*args, **keywords)
        if batch.references:
            _pipeline.refuse_writes(batch._stage("adjoint"))
        return batch

    @property
    def has_batching_rules(self) -> bool:
        """Whether a function in it brings a batching rule."""
        return self._batched is not None

    def is_over(self, axis_name: Hashable) -> bool:
        """Whether there are collectives over the axis in it, or in derivative rules of it."""
        return bool(self.effects) and axis_name in axes_of(self.effects)

    def batched_outputs(self, in_axes: Sequence[int], size: int, axis_name: Hashable) -> list[bool]:
        """Which outputs differ between the elements of a batch, by what leads to them."""
        batched = tuple(i for i, axis in enumerate(in_axes) if axis >= 0)
        word = word_of(axis_name) if self.is_over(axis_name) else ""
        return self.once(
            ("batched", batched, size, word),
            lambda: _pipeline.batched_results(self._stages["bm"], batched, size, word),
        )

    def pruned(self, used: Sequence[bool]) -> "tuple[Program, tuple[bool, ...]]":
        """The program with the `used` outputs and what they need; which inputs are kept."""
        key = tuple(used)
        return self.once(("pruned", key), lambda: self._selected(key)._without_unused_inputs())

    def _selected(self, used: tuple[bool, ...]) -> "Program":
        if all(used):
            return self
        module = _pipeline.select_results(self._stages["bm"], used)
        out_avals = tuple(itertools.compress(self.out_avals, used))
        return self._derived(
            self._rebuild_selected(used), "", module, self.in_avals, out_avals, self.in_names
        )

    def _without_unused_inputs(self) -> "tuple[Program, tuple[bool, ...]]":
        module = self._stages["bm"]
        # A custom rule may find a derivative where no value goes; a branch for another platform
        # may have none.
        keeps_all = _pipeline.has_custom_rules(module) or _pipeline.chooses_platform(module)
        unused = [] if keeps_all else self._lowered()[1]
        kept = tuple(i not in unused for i in range(len(self.in_avals)))
        if not unused:
            return self, kept
        in_avals = tuple(itertools.compress(self.in_avals, kept))
        in_names = tuple(itertools.compress(self.in_names, kept))
        without = _pipeline.Wrapped(
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
        lowered = _pipeline.without_arguments(self.stablehlo(), unused)
        program.once("stablehlo", lambda: (lowered, []))
        return program, kept

    def varying(self, inputs: Sequence[bool]) -> list[bool]:
        """Which outputs may depend on the marked inputs, as far as the program's kind tells."""
        return [any(inputs)] * len(self.out_avals)

    @property
    def _rebuild(self) -> "Callable[..., Program]":
        """Makes a program whose inputs have the same roles as this one's."""
        return Program

    def _rebuild_selected(self, used: Sequence[bool]) -> "Callable[..., Program]":
        """`_rebuild` for a program that has some of this one's outputs."""
        return self._rebuild

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
        if (real := real_effects(effects)) and not _pipeline.has_side_effects(module):
            effects -= real
        used = _pipeline.references(module) if self.references else ()
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
    """A program of values and tangents, of which the values do not depend on the tangents.

    So `jax.vmap` of a JVP over directions leaves the values unbatched. Inputs that are named
    `together`, a value and its tangent, are batched together if at all.
    """

    def __init__(
        self,
        *args: Any,
        is_tangent_in: Sequence[bool],
        is_tangent_out: Sequence[bool],
        together: Sequence[tuple[int, int]] = (),
        **keywords: Any,
    ) -> None:
        super().__init__(*args, **keywords)
        self.together = tuple(together)
        self.is_tangent_in = tuple(is_tangent_in)
        self.is_tangent_out = tuple(is_tangent_out)

    def varying(self, inputs: Sequence[bool]) -> list[bool]:
        values = any(i and not t for i, t in zip(inputs, self.is_tangent_in, strict=True))
        return [values or (any(inputs) and is_tangent) for is_tangent in self.is_tangent_out]

    @property
    def _rebuild(self) -> "Callable[..., JvpProgram]":
        return partial(
            JvpProgram, is_tangent_in=self.is_tangent_in, is_tangent_out=self.is_tangent_out
        )

    def _rebuild_selected(self, used: Sequence[bool]) -> "Callable[..., JvpProgram]":
        return partial(
            self._rebuild, is_tangent_out=tuple(itertools.compress(self.is_tangent_out, used))
        )

    def _rebuild_pruned(self, kept: Sequence[bool]) -> "Callable[..., JvpProgram]":
        return partial(
            self._rebuild, is_tangent_in=tuple(itertools.compress(self.is_tangent_in, kept))
        )


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
        module = _pipeline.select_results(self._stages["bm"], nonzero)
        module = _pipeline.run(module, _pipeline.transpose(n))
        module = _pipeline.select_results(module, wanted)
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
