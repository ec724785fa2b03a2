"""`float`, NumPy and SciPy of what no derivative is taken of, outside jit as with JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad.math as bm

X, C, N, K = jnp.float32(2.0), jnp.float32(0.9), jnp.float32(3.0), jnp.int32(2)
XS = jnp.arange(3.0)


def sine_by_numpy():
    fun = jax.custom_vjp(lambda x: jnp.asarray(np.sin(x)))
    fun.defvjp(lambda x: (jnp.asarray(np.sin(x)), x), lambda x, ct: (ct * np.cos(x),))
    return fun


def forward_by_numpy():
    fun = jax.custom_jvp(lambda x: jnp.asarray(np.sin(x)))
    fun.defjvp(lambda primals, tangents: (fun(*primals), tangents[0] * jnp.cos(primals[0])))
    return fun


def root_by_python():
    def solve(a):
        z, goal = 0.0, float(a)
        for _ in range(30):
            z -= (z**3 + z - goal) / (3 * z**2 + 1)
        return jnp.float32(z)

    fun = jax.custom_vjp(solve)
    fun.defvjp(lambda a: (solve(a), solve(a)), lambda z, ct: (ct / (3 * z**2 + 1),))
    return fun


def backward_by_numpy():
    fun = jax.custom_vjp(lambda x: x * 2)
    fun.defvjp(lambda x: (x * 2, x), lambda x, ct: (ct * np.asarray(x) + float(x),))
    return fun


def backward_by_residuals():
    fun = jax.custom_vjp(lambda x, d: x * d)
    fun.defvjp(
        lambda x, d: (x * d, (x, d)),
        lambda kept, ct: (ct * kept[1] * (2 if kept[1] > 0 else 3), ct * 0),
    )
    return fun


def backward_by_constants(keeps):
    fun = jax.custom_vjp(lambda x: x * 2)
    fun.defvjp(lambda x: (x * 2, x if keeps else None), lambda _, ct: (ct * 5 if K == 2 else ct,))
    return fun


def twice(m, f):
    return m.grad(m.grad(f))


ALLOWED = {
    "constant": lambda m: m.grad(lambda x: x * float(jnp.sqrt(2.0)))(X),
    "constant of NumPy": lambda m: m.grad(lambda x: x * np.array(jnp.eye(2) * 2)[0, 0])(X),
    "closed over": lambda m: m.grad(lambda x: x * float(XS.mean()))(X),
    "argument": lambda m: m.grad(lambda x, c: x * float(c * 2))(X, C),
    "NumPy's functions": lambda m: m.grad(lambda x, c: x * np.sqrt(c * 2))(X, C),
    "NumPy's predicates": lambda m: m.grad(
        lambda x, c: x if np.isnan(c * 2) or not np.allclose(c * 2, 1.8) else 3 * x
    )(X, C),
    "list of NumPy": lambda m: m.grad(lambda x, n: x * np.array([n, 2.0]).sum())(X, N),
    "complex": lambda m: m.grad(lambda x, n: x * complex(n * 2).real)(X, N),
    "tolist": lambda m: m.grad(lambda x, w: x * sum((w * 2).tolist()))(X, XS),
    "text": lambda m: m.grad(lambda x, c: x * float(f"{c * 2:.2f}"))(X, C),
    "parameter": lambda m: m.grad(lambda x, n: jax.lax.integer_pow(x, n))(X, 3),
    "method": lambda m: m.grad(lambda x, n: x * (n * 2).block_until_ready())(X, N),
    "gradient inside": lambda m: m.grad(lambda x, c: x * float(m.grad(jnp.sin)(c)))(X, C),
    "jit inside": lambda m: m.grad(lambda x, n: x * float(jax.jit(lambda y: y * 2)(n)))(X, N),
    "stop_gradient": lambda m: m.grad(lambda x: x * float(jax.lax.stop_gradient(x)))(X),
    "batch": lambda m: m.vmap(lambda x: x * float(C * 1.1))(XS),
    "batch beside": lambda m: m.vmap(lambda c, x: x * float(c * 1.1), in_axes=(None, 0))(C, XS),
    "second": lambda m: m.grad(lambda x: m.grad(lambda y: y * y * float(C * 3))(x))(X),
    "second, stopped": lambda m: twice(m, lambda x: x * x * float(jax.lax.stop_gradient(x)))(X),
    "hessian": lambda m: m.hessian(lambda x, c: x * x * float(c * 2))(X, C),
    "inside jax.grad": lambda m: jax.grad(
        lambda x: m.grad(lambda y, c: y * y * float(c * 2))(x, C)
    )(X),
    "rule": lambda m: m.grad(sine_by_numpy())(X),
    "rule at a point": lambda m: m.vjp(sine_by_numpy(), X)[1](1.0),
    "forward rule": lambda m: m.grad(forward_by_numpy())(X),
    "forward rule at a point": lambda m: m.jvp(forward_by_numpy(), (X,), (X,)),
    "rule by Python": lambda m: m.grad(lambda x: root_by_python()(x) * x)(X),
    "backward rule": lambda m: m.grad(backward_by_numpy())(X),
    "backward rule in a batch": lambda m: m.vmap(
        lambda s: s * m.grad(lambda y: backward_by_residuals()(y, y * 2))(X)
    )(XS),
    "backward rule, closed over": lambda m: m.vmap(
        lambda s: m.grad(lambda y: backward_by_residuals()(y, C * 2))(s)
    )(XS),
    "no residuals": lambda m: m.grad(backward_by_constants(False))(X),
    "constants in a batch": lambda m: m.vmap(m.grad(backward_by_constants(True)))(XS),
}
REFUSED = {
    "float": lambda m: m.grad(lambda x: x * float(x * 2))(X),
    "NumPy": lambda m: m.grad(lambda x: x * np.sin(x * 2))(X),
    "of a gradient around": lambda m: m.grad(lambda x: m.grad(lambda y: y * y * float(x))(x))(X),
    "of jax.grad around": lambda m: jax.grad(
        lambda x: m.grad(lambda y, z: y * y * float(z * 2))(x, x)
    )(X),
    "rule, second order": lambda m: twice(m, sine_by_numpy())(X),
    "in jit": lambda m: m.jit(lambda x: x * float(x))(X),
    "of a reference": lambda m: m.grad(lambda x: x * float(jax.new_ref(C)[...]))(X),
    "batch": lambda m: m.vmap(lambda x: x * float(x))(XS),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_values_are_constants(name):
    ours, wanted = ALLOWED[name](bm), ALLOWED[name](jax)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), ours, wanted)


@pytest.mark.parametrize("name", REFUSED)
def test_derivatives_are_not_lost(name):
    for lib in (bm, jax):
        with pytest.raises(TypeError, match="traced array"):
            REFUSED[name](lib)


def test_second_derivatives_of_backward_rules_are_not_lost():
    for lib in (jax, bm):
        with pytest.raises(TypeError, match="traced array"):
            twice(lib, backward_by_numpy())(X)


def test_references_that_are_primals():
    ref, tangent = jax.new_ref(X), jax.new_ref(jnp.float32(1.0))
    with pytest.raises(TypeError, match="traced array"):
        bm.jvp(lambda ref: ref[...] * float(ref[...]), (ref,), (tangent,))


def test_variables():
    scale, weight = bm.Variable(C), bm.Variable(X)
    assert bm.grad(lambda x: x * float(scale.value))(X) == C
    assert bm.grad(lambda x: x * float(scale) * weight.value, grad_vars=weight)(X) == X * C
    with pytest.raises(TypeError, match="traced array"):
        bm.grad(lambda x: x * float(scale.value * 2), grad_vars=scale)(X)
