"""References to arrays that change (`jax.new_ref`), and values in their place.

JAX calls it discharging: when all derivatives are taken, a reference becomes the value that it
holds, and what changes it returns the new one.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from jax._src.state import discharge
from jax._src.state import types as state

from bmgrad.runtime._errors import UnsupportedError
from bmgrad.runtime._jax_internals._avals import ShapedArray, is_reference_aval, plain_aval
from bmgrad.runtime._jax_internals._lowering import ordered_effects


def referenced_aval(aval: Any) -> ShapedArray:
    """The aval of the values that references of `aval` hold."""
    return plain_aval(aval.inner_aval)


def keeps_gradients_out(aval: Any) -> bool:
    """Whether what is written to references of `aval` counts as constant."""
    return bool(aval.kind == "no_grad_no_remat")


def keeps_order(effects: Collection[Any]) -> bool:
    """Whether the order of some of the effects counts, as that of reads and writes does."""
    return any(isinstance(e, state.RefEffect) for e in effects) or bool(ordered_effects(effects))


def effects_on(operands: Iterable[int]) -> frozenset[Any]:
    """The effects of an operation that reads and changes the references among its operands."""
    return frozenset(e(i) for i in operands for e in (state.ReadEffect, state.WriteEffect))


def discharge_inner(closed: Any) -> Any:
    """The closed jaxpr with the references that it makes as values; those it is given stay."""
    try:
        return discharge.discharge_state(closed, should_discharge=False)
    except KeyError:
        what = "jax.freeze or jax.free_ref of a reference from outside; read it, as ref[...]"
    except ValueError as error:
        if "Did not ask for inval" not in str(error):
            raise
        what = (
            "a reference (jax.new_ref) that it makes, used in an inner function (jax.jit, "
            "jax.lax.scan, ...) together with one from outside; make both outside"
        )
    raise UnsupportedError(f"the function to compile has {what}")


def register_discharge(
    primitive: Any, run: Callable[..., Sequence[Any]], num_results: Callable[..., int]
) -> None:
    """Lets JAX put values in the place of references among the operands of `primitive`.

    `run(*operands, **params)` takes values for those, and returns their new values after its
    `num_results(**params)` results.
    """

    def finish(
        in_avals: Sequence[Any], chosen: Sequence[bool], operands: Sequence[Any], params: Any
    ) -> tuple[list[Any], list[Any]]:
        results = list(run(*operands, **params))
        count = num_results(**params)
        new = iter(results[count:])
        changed = [is_reference_aval(a) and c for a, c in zip(in_avals, chosen, strict=True)]
        return [next(new) if flag else None for flag in changed], results[:count]

    # One of the two versions passes avals and choice in one object.
    if hasattr(discharge, "DischargeContext"):

        def rule(ctx: Any, *operands: Any, **params: Any) -> Any:
            return finish(ctx.in_avals, ctx.should_discharge, operands, params)

        discharge.register_discharge_rule(primitive)(rule)
    else:

        def partial_rule(chosen: Any, in_avals: Any, _: Any, *operands: Any, **params: Any) -> Any:
            return finish(in_avals, chosen, operands, params)

        discharge.register_partial_discharge_rule(primitive)(partial_rule)
