"""`jax_debug_key_reuse`, which looks for PRNG keys that are used twice."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.experimental.key_reuse import _core as key_reuse


def register_key_uses(
    primitive: Any,
    function_of: Callable[..., tuple[Callable[..., Sequence[Any]], int] | None],
) -> None:
    """Lets JAX see how `primitive` uses keys.

    `function_of(**params)` gives a function that uses them likewise and how many of the first
    operands it takes, its results being the first of the primitive's; None if it is not known.
    """

    def signature(eqn: Any) -> Any:
        found = function_of(**eqn.params)
        if found is None:
            return key_reuse.unknown_signature(eqn)
        function, count = found
        avals = [atom.aval for atom in eqn.invars[:count]]
        inputs = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals]
        closed: Any = jax.make_jaxpr(function)(*inputs)
        return key_reuse.jaxpr_type_signature(getattr(closed, "jaxpr", closed))

    key_reuse.key_reuse_signatures[primitive] = key_reuse.dynamic_key_reuse_signature(signature)
