"""Everything bmgrad takes from JAX below its public surface, and nothing else.

In: avals, Python functions, jaxpr equations, StableHLO text. Out: jaxprs, user
locations, results of merged modules. Tested with the two JAX versions that
`pyproject.toml` names; a new version of JAX should cost changes here alone.
Next: `_primitive.py` uses the lowering half, the frontend the tracing half.
"""

from bmgrad.runtime._jax_internals._avals import (
    ShapedArray,
    accept_as_array,
    has_tangent,
    is_reference,
    match_varying,
    physical_aval,
    placed_as_cotangent,
    placed_like,
    plain_aval,
    tangent_aval,
    without_mesh,
)
from bmgrad.runtime._jax_internals._axes import (
    axes_of,
    axes_of_mesh,
    axis_effect,
    named_axes,
    real_effects,
    says_varying,
    with_axes,
    without_axis,
)
from bmgrad.runtime._jax_internals._custom_rules import (
    CustomJvp,
    CustomVjp,
    NullAccum,
    ValAccum,
    custom_jvp_rule,
    custom_rule_key,
    custom_vjp_rule,
)
from bmgrad.runtime._jax_internals._equations import (
    is_saved,
    refused_effects,
    scan_counts,
    sparse_definition,
    user_location,
)
from bmgrad.runtime._jax_internals._lowering import (
    Declaration,
    IrValue,
    LoweringContext,
    LoweringRule,
    call_module,
    canonical_platform,
    define_function,
    lower_each_platform,
    ordered_effects,
    platforms_of,
    register_pruning,
)
from bmgrad.runtime._jax_internals._tracing import (
    OpenTrace,
    TracedJaxpr,
    has_value,
    is_dead,
    trace,
    variable_of,
)

__all__ = [
    "CustomJvp",
    "CustomVjp",
    "Declaration",
    "IrValue",
    "LoweringContext",
    "LoweringRule",
    "NullAccum",
    "OpenTrace",
    "ShapedArray",
    "TracedJaxpr",
    "ValAccum",
    "accept_as_array",
    "axes_of",
    "axes_of_mesh",
    "axis_effect",
    "call_module",
    "canonical_platform",
    "custom_jvp_rule",
    "custom_rule_key",
    "custom_vjp_rule",
    "define_function",
    "has_tangent",
    "has_value",
    "is_dead",
    "is_reference",
    "is_saved",
    "lower_each_platform",
    "match_varying",
    "named_axes",
    "ordered_effects",
    "physical_aval",
    "placed_as_cotangent",
    "placed_like",
    "plain_aval",
    "platforms_of",
    "real_effects",
    "refused_effects",
    "register_pruning",
    "says_varying",
    "scan_counts",
    "sparse_definition",
    "tangent_aval",
    "trace",
    "user_location",
    "variable_of",
    "with_axes",
    "without_axis",
    "without_mesh",
]
