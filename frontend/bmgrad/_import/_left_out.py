"""The primitives of JAX that have no op here, each with the reason; nothing else decides that.

In: a primitive's name and the modules of JAX that hold it. Out: the reason why a program
does not hold it as an op, or None for one that it should. The page of all primitives
(`docs/op_table.py`) and the test that none was forgotten read these lists. All but
`KERNELS` are errors in a program, or have no derivative there.
"""

from __future__ import annotations

from collections.abc import Iterable

# Values only, with JAX's kernel: JAX has no derivative of them either.
_KERNELS = """
    dimension_size empty empty2 geqp3 geqrf hessenberg householder_product iota_2x32_shape ormqr
    philox2x32 philox4x32 platform_index rng_bit_generator rng_uniform scaled_dot threefry2x32
    threefry4x32 tridiagonal zeros_like
"""
KERNELS = tuple(_KERNELS.split())

_REASONS = {
    "it works between devices, and belongs around a program: inside jax.shard_map call the "
    "compiled function and the collective side by side": """
        global_array_to_host_local_array host_local_array_to_global_array pbroadcast_dynamic precv
        psend ragged_all_to_all relayout shard_alike
    """,
    "it changes memory or makes a token: a program is a function of its inputs": """
        accum_grad_in_ref after_all broadcast_to create_linear create_token empty_ref free_ref
        pin run_state unpin
    """,
    "references that a function makes and keeps become values before it is imported": """
        freeze new_ref
    """,
    "it belongs to JAX's experimental values of other kinds (hijax)": """
        box_get box_set call_hi_primitive_linearized from_edtype log_extend
        log_read new_box new_log to_edtype
    """,
    "it is a kernel that calls Python or foreign code as JAX does, in an order of its own only; "
    "it has no derivative, or no results": """
        custom_partitioning debug_callback debug_print ffi_call inspect_sharding io_callback
        pure_callback
    """,
    "it makes keys or integers, as JAX's kernel; no derivative passes": """
        mulhi random_bits random_fold_in random_seed random_split
    """,
    "it tests how keys are used, when a function is traced": """
        assert_consumed_value consume
    """,
    "it reports errors to the host": """
        buffer_callback check unreachable
    """,
    "JAX makes it when it differentiates or lowers, and no function is traced to it": """
        custom_jvp_call_jaxpr custom_lin select_and_scatter
    """,
    "it holds the transpose that a user wrote, which is asked as those of third parties are": """
        linear_call
    """,
    "it is for shapes, memories or metadata that only JAX knows": """
        call_exported dce_sink dim_as_value program_order shape_assertion tie
        with_memory_space_constraint
    """,
}

LEFT_OUT: dict[str, str] = {
    name: reason for reason, names in _REASONS.items() for name in names.split()
} | dict.fromkeys(KERNELS, "JAX has no derivative of it either; its values are JAX's kernel")

_MODULES = {
    "jax._src.pallas": "it is a part of Pallas, a language for kernels",
    "jax._src.cudnn": "it is a kernel of one vendor; jax.nn has the same mathematics in ops",
    "jax._src.thunky": "it is a step of one vendor's runtime",
    "jax._src.tpu_custom_call": "it is a kernel of one vendor",
    "jax._src.export": "it is for shapes that only JAX's export knows",
    "jax.experimental.mosaic": "it is a kernel of one vendor",
    "jax.experimental.sparse": "it is a kernel of one vendor, below the formats' own primitives",
}
# The asynchronous halves of collectives, which JAX pairs itself.
_HALVES = ("_start", "_done")


def left_out_reason(name: str, modules: Iterable[str] = ()) -> str | None:
    """Why programs have no op for primitive `name`, held by these modules of JAX."""
    if name in LEFT_OUT:
        return LEFT_OUT[name]
    if name.endswith(_HALVES):
        return "it is half of what devices do at the same time as something else"
    for prefix, reason in _MODULES.items():
        if all(module.startswith(prefix) for module in modules) and modules:
            return reason
    return None
