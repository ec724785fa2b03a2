"""Random programs have JAX's values, derivatives to second order, and batches.

A program is a list of steps. Each applies an op to values made before, of whatever shapes they
have come to. `BMGRAD_PROPERTY_EXAMPLES=500 pytest tests/python/test_properties.py` searches on;
what it finds becomes a test with a name, in the file of the op's family.
"""

import os
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from derivative_checks import check_batching, check_derivatives
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jax import lax

EXAMPLES = int(os.environ.get("BMGRAD_PROPERTY_EXAMPLES", "5"))


def fit(x, shape):
    """The elements of `x` in another shape, repeated or cut."""
    return jnp.resize(x, shape)


def matrix(x):
    """`x` with two axes."""
    return x.reshape(x.shape[0], -1) if x.ndim > 1 else x.reshape(1, -1)


def looped(x, y, n):
    def step(carry, row):
        carry = jnp.tanh(carry * row + y.ravel()[n % y.size])
        return carry, carry * row

    last, rows = lax.scan(step, jnp.ones(x.shape[1:]), x, reverse=bool(n % 2))
    return rows + last


def counted(x, y, n):
    return lax.fori_loop(0, n % 4, lambda i, c: jnp.sin(c) + i * fit(y, x.shape), x)


def branched(x, y, n):
    return lax.cond(x.sum() > 0, lambda x, y: x * y, lambda x, y: jnp.sin(x), x, fit(y, x.shape))


def switched(x, y, n):
    index = jnp.clip(jnp.floor(x.ravel()[0] + n % 3), 0, 2).astype(int)
    return lax.switch(index, [jnp.cos, lambda x: x * y.sum(), jnp.ones_like], x)


def indices(x, n):
    """Some rows of `x`, with repetitions."""
    return jnp.asarray(np.random.default_rng(n).integers(0, x.shape[0], 3))


STEPS = {
    # elementwise
    "sin": lambda x, y, n: jnp.sin(x),
    "square root": lambda x, y, n: jnp.sqrt(1 + x * x),
    "logistic": lambda x, y, n: jax.nn.sigmoid(x),
    "power": lambda x, y, n: x ** (n % 4),
    "error function": lambda x, y, n: lax.erf(x),
    "softplus": lambda x, y, n: jax.nn.softplus(x),
    "product": lambda x, y, n: x * fit(y, x.shape),
    "quotient": lambda x, y, n: x / (1 + fit(y, x.shape) ** 2),
    "angle": lambda x, y, n: jnp.arctan2(x, 2 + jnp.cos(fit(y, x.shape))),
    "maximum": lambda x, y, n: jnp.maximum(x, fit(y, x.shape)),
    "select": lambda x, y, n: jnp.where(x > 0.1, x, fit(y, x.shape) * 2),
    "integers": lambda x, y, n: x * jnp.floor(fit(y, x.shape) * 2).astype(int),
    "complex": lambda x, y, n: jnp.abs(lax.complex(x + 3, fit(y, x.shape))),
    # shape
    "transpose": lambda x, y, n: x.T,
    "flatten": lambda x, y, n: x.reshape(-1),
    "flip": lambda x, y, n: jnp.flip(x, n % x.ndim),
    "concatenate": lambda x, y, n: jnp.concatenate([matrix(x), matrix(x)[:1] * 2], 0),
    "pad": lambda x, y, n: jnp.pad(x, (n % 3, 1)),
    "dilate": lambda x, y, n: lax.pad(x, 0.5, [(n % 2, -1 if s > 2 else 0, 1) for s in x.shape]),
    "tile": lambda x, y, n: jnp.tile(x, 2),
    "stride": lambda x, y, n: x[:: 1 + n % 2],
    # reductions
    "sum": lambda x, y, n: x.sum(n % x.ndim, keepdims=True),
    "prod": lambda x, y, n: x.prod(n % x.ndim, keepdims=True),
    "max": lambda x, y, n: x.max(n % x.ndim, keepdims=True),
    "log-sum-exp": lambda x, y, n: jax.nn.logsumexp(x, n % x.ndim, keepdims=True),
    "variance": lambda x, y, n: x.var(keepdims=True),
    "cumsum": lambda x, y, n: jnp.cumsum(x, n % x.ndim),
    "cumprod": lambda x, y, n: jnp.cumprod(x, n % x.ndim),
    "cummax": lambda x, y, n: lax.cummax(x, n % x.ndim),
    "softmax": lambda x, y, n: jax.nn.softmax(x, n % x.ndim),
    # contraction
    "matmul": lambda x, y, n: matrix(x) @ fit(y, (matrix(x).shape[1], 2)),
    "outer": lambda x, y, n: jnp.outer(x.ravel()[:3], y.ravel()[:2]),
    "batched product": lambda x, y, n: jnp.einsum(
        "ij,ik->ijk", matrix(x), fit(y, (matrix(x).shape[0], 2))
    ).reshape(matrix(x).shape[0], -1),
    # indexing and sorting
    "gather": lambda x, y, n: x[indices(x, n)],
    "scatter": lambda x, y, n: x.at[indices(x, n)].add(fit(y, (3, *x.shape[1:]))),
    "scatter rows": lambda x, y, n: x.at[n % x.shape[0]].set(fit(y, x.shape[1:])),
    "dynamic slice": lambda x, y, n: lax.dynamic_slice_in_dim(x, n % 4 - 1, 1),
    "dynamic update": lambda x, y, n: lax.dynamic_update_index_in_dim(
        x, fit(y, x.shape[1:]), jnp.asarray(n % 3), 0
    ),
    "sort": lambda x, y, n: jnp.sort(x, n % x.ndim),
    "permute": lambda x, y, n: jnp.take_along_axis(x, jnp.argsort(fit(y, x.shape), 0), 0),
    # control flow
    "scan": looped,
    "fori": counted,
    "cond": branched,
    "switch": switched,
    "vmap": lambda x, y, n: jax.vmap(lambda row: row * jnp.sin(row.sum()))(x),
    "checkpoint": lambda x, y, n: jax.checkpoint(lambda x: jnp.sin(jnp.cos(x)))(x),
    "no gradient": lambda x, y, n: x + lax.stop_gradient(x * x),
}


@st.composite
def programs(draw):
    steps = draw(
        st.lists(
            st.tuples(st.sampled_from(sorted(STEPS)), *[st.integers(0, 7)] * 3),
            min_size=2,
            max_size=5,
        )
    )
    shapes = [tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))) for _ in range(2)]
    return steps, shapes, draw(st.integers(0, 99))


def program(steps):
    def run(*args):
        values = list(args)
        for name, i, j, n in steps:
            x, y = values[-1 - i % len(values)], values[-1 - j % len(values)]
            # Kept small, so that no derivative overflows.
            values.append(0.7 * STEPS[name](jnp.atleast_1d(x), jnp.atleast_1d(y), n))
        return values[-1], sum(value.mean() for value in values)

    return run


def keeps(name, avals):
    """Some values, none of them complex: those JAX fails to keep."""
    is_complex = [jnp.issubdtype(aval.dtype, jnp.complexfloating) for aval in avals]
    # A conversion may make complex numbers of others.
    return len(name) % 2 == 0 and name != "convert_element_type" and not any(is_complex)


# What does not change a function, but how its derivatives are made.
WRAPPED = [
    lambda f: f,
    jax.jit,
    jax.checkpoint,
    partial(jax.checkpoint, policy=jax.checkpoint_policies.dots_saveable),
    partial(jax.checkpoint, policy=lambda primitive, *avals, **_: keeps(primitive.name, avals)),
]


def points(shapes, seed):
    rng = np.random.default_rng(seed)
    return [rng.uniform(-1.2, 1.4, shape) for shape in shapes]


# A run is the same each time: what fails is for a named test, not for chance.
random_programs = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@random_programs
@given(programs())
def test_derivatives_of_random_programs(drawn):
    steps, shapes, seed = drawn
    wrapped = WRAPPED[seed % len(WRAPPED)](program(steps))
    check_derivatives(wrapped, *points(shapes, seed), rtol=1e-8, differences=False)


@random_programs
@given(programs())
def test_batches_of_random_programs(drawn):
    steps, shapes, seed = drawn
    check_batching(WRAPPED[seed % len(WRAPPED)](program(steps)), *points(shapes, seed))


def test_the_steps_fit_any_shapes():
    for shapes in ([(3, 2), (2,)], [(1,), (2, 3, 1)]):
        for name, step in STEPS.items():
            for n in range(8):
                out = jax.eval_shape(lambda x, y, n=n, step=step: step(x, y, n), *points(shapes, 0))
                assert out.ndim > 0, name
