"""What equations say: the user's place, parameters that differ between versions, effects."""

import functools
import importlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
from jax._src import core, dispatch, source_info_util, util
from jax._src import effects as jax_effects
from jax._src.interpreters import partial_eval

from bmgrad.runtime._jax_internals._avals import ShapedArray


@functools.lru_cache(maxsize=4096)
def _user_frame(traceback: Any) -> tuple[str, int, int] | None:
    frame = next(source_info_util.user_frames(traceback), None)
    return frame and (frame.file_name, frame.start_line, frame.start_column)


def user_location(eqn: Any) -> tuple[str, int, int] | None:
    """File, line and column of the user's code that made jaxpr equation `eqn`.

    Frames of JAX, of the standard library and of bmgrad are skipped.
    """
    # Equations of one source line mostly have equal tracebacks: 0.2 us each.
    return _user_frame(eqn.source_info.traceback)


def named_scope(eqn: Any) -> str:
    """The names of the `jax.named_scope` that an equation is in, one in the other."""
    stack = eqn.source_info.name_stack
    return str(stack) if stack.stack else ""


def evaluate_jaxpr(jaxpr: Any, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    """Runs or traces a jaxpr with these constants and arguments."""
    results: list[Any] = core.eval_jaxpr(jaxpr, consts, *args)
    return results


def with_equations(jaxpr: Any, eqns: Sequence[Any], effects: Collection[Any]) -> Any:
    """`jaxpr`, closed or not, with these equations and effects."""
    opened = getattr(jaxpr, "jaxpr", jaxpr)
    changed = opened.replace(eqns=list(eqns), effects=effects)
    return changed if opened is jaxpr else jaxpr.replace(jaxpr=changed)


def with_inner_jaxprs(
    params: Mapping[str, Any], change: Callable[[Any], Any]
) -> dict[str, Any] | None:
    """An equation's parameters, of which the jaxprs are changed; None where it has no jaxprs."""
    if not any(map(_holds_jaxpr, params.values())):
        return None
    return {name: _with_jaxprs(value, change) for name, value in params.items()}


def _holds_jaxpr(value: Any) -> bool:
    return any(map(_holds_jaxpr, value)) if isinstance(value, tuple) else hasattr(value, "eqns")


def _with_jaxprs(value: Any, change: Callable[[Any], Any]) -> Any:
    if not _holds_jaxpr(value):
        return value
    if isinstance(value, tuple):
        return tuple(_with_jaxprs(each, change) for each in value)
    return change(value)


def function_of(jaxpr: Any) -> Callable[..., list[Any]]:
    """The function of the inputs of `jaxpr`, then of its constants, none of which it holds.

    Functions in it have no derivative rules, which may hold anything: a trace, a model.
    """
    jaxpr = _without_rules(jaxpr)
    count, opened = len(jaxpr.invars), getattr(jaxpr, "jaxpr", jaxpr)
    if hasattr(opened, "consts"):  # Newer versions attach them to what is opened too.
        opened = opened.replace(consts=[])
    # In some of these they are the first arguments then.
    num_consts = len(opened.constvars)

    def run(*args: Any) -> list[Any]:
        given = [*args[count:], *args[:count]]
        return evaluate_jaxpr(opened, given[:num_consts], given[num_consts:])

    return run


def _without_rules(jaxpr: Any) -> Any:
    opened = getattr(jaxpr, "jaxpr", jaxpr)
    return with_equations(jaxpr, [_without_rule(eqn) for eqn in opened.eqns], opened.effects)


def _without_rule(eqn: Any) -> Any:
    params = with_inner_jaxprs(eqn.params, _without_rules)
    if params is None:
        return eqn
    if eqn.primitive.name in ("custom_jvp_call", "custom_vjp_call"):
        closed = params["call_jaxpr"]
        # What changes the arguments of calls, as `checkify` does, does not change their names.
        debug_info = closed.jaxpr.debug_info._replace(arg_names=None, result_paths=None)
        closed = closed.replace(jaxpr=closed.jaxpr.replace(debug_info=debug_info))
        return eqn.replace(primitive=core.closed_call_p, params={"call_jaxpr": closed})
    return eqn.replace(params=params)


def needed_inputs(jaxpr: Any, result: int) -> list[bool]:
    """Which inputs lead to a result of `jaxpr`, through functions with rules too."""
    plain = _without_rules(jaxpr)
    opened = getattr(plain, "jaxpr", plain)
    wanted = [False] * len(opened.outvars)
    wanted[result] = True
    return list(partial_eval.dce_jaxpr(opened, wanted)[1])


def evaluate_known(
    function: Callable[..., Sequence[Any]],
    in_avals: Sequence[ShapedArray],
    known: Sequence[bool],
    args: Sequence[Any],
) -> list[Any]:
    """Runs or traces of `function` what follows from the `known` arguments, which are given."""
    closed = jax.make_jaxpr(function)(*in_avals)
    unknown = [not is_known for is_known in known]
    part, *_ = partial_eval.partial_eval_jaxpr_nounits(closed, unknown, instantiate=False)
    return evaluate_jaxpr(part.jaxpr, part.consts, args)


def scan_counts(params: Mapping[str, Any]) -> tuple[int, int]:
    """How many constants and carries a `scan` with these parameters has."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carries, _ = params["ft_in"].unpack()
    return len(list(consts)), len(list(carries))


def is_saved(decision: Any) -> bool:
    """Whether the policy of a `jax.checkpoint` that answers `decision` keeps a value.

    One that it would move to another memory is kept where it is.
    """
    if isinstance(decision, bool):
        return decision
    if isinstance(decision, (type(partial_eval.Saveable), partial_eval.Offloadable)):
        return True
    if isinstance(decision, type(partial_eval.Recompute)):
        return False
    raise TypeError(
        "the policy of a jax.checkpoint must return a bool or one of JAX's Saveable, Recompute "
        f"and Offloadable(src, dst), got {decision!r}"
    )


def interpret_kernel(params: Mapping[str, Any], *args: Any) -> list[Any]:
    """What a `pallas_call` with these parameters computes, by operations of JAX."""
    interpreter = importlib.import_module("jax._src.pallas.hlo_interpreter")
    others = {name: value for name, value in params.items() if name != "interpret"}
    results: list[Any] = interpreter.pallas_call_hlo_interpret(*args, **others)
    return results


def sparse_definition(primitive: str) -> Callable[..., Any]:
    """What a primitive of JAX's sparse formats computes, as a function of JAX operations."""
    form = "api" if primitive == "todense" else primitive.partition("_")[0]
    module = importlib.import_module(f"jax.experimental.sparse.{form}")
    definition: Callable[..., Any] = getattr(module, f"_{primitive}_impl")
    return definition


def hold_weakly(cls: type) -> None:
    """Lets JAX's caches hold parameters of class `cls` no longer than others do."""
    util.weakref_cache_key_types.add(cls)


def needs_devices(eqn: Any) -> bool:
    """Whether lowering the equation asks which devices it is for."""
    inner = core.jaxprs_in_params(eqn.params)
    return eqn.primitive in dispatch.prim_requires_devices_during_lowering or any(
        map(dispatch.jaxpr_has_prim_requiring_devices, inner)
    )


def register_needs_devices(primitive: Any) -> None:
    """Says that lowering `primitive` asks which devices it is for."""
    dispatch.prim_requires_devices_during_lowering.add(primitive)


def refused_effects(effects: Collection[Any]) -> list[str]:
    """Those of an equation's effects that a program cannot have, by name.

    They are what JAX cannot lower either, such as writes to references.
    """
    return sorted(str(e) for e in effects if not jax_effects.lowerable_effects.contains(e))
