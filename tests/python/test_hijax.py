"""Operations of hijax, JAX's interface for operations that are objects: rules are honoured."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_checks import check_derivatives
from import_helpers import jax_flag
from jax.custom_derivatives import SymbolicZero
from jax.experimental import hijax

import bmgrad.math as bm

Operation = getattr(hijax, "HiPrim", None) or hijax.VJPHiPrimitive
X = np.array([0.5, -1.2, 2.0])


class Power(Operation):
    """Whose gradient is ten times the true one, so that one sees whose it is."""

    def __init__(self, aval, power):
        self.in_avals, self.out_aval = (aval,), aval
        self.params = {"power": power}
        super().__init__()

    def expand(self, x):
        return x**self.power

    def lower(self, x):
        return type(self)(self.in_avals[0], self.power - 1)(x)


class PowerWithVjp(Power):
    def vjp_fwd(self, nonzero, x):
        assert nonzero == (True,)
        return self(x), (x, {"power": self.power})

    def vjp_bwd(self, residuals, ct, total):
        x, others = residuals
        total.accum(10 * ct * others["power"] * self.lower(x))


class PowerWithReturnedVjp(Power):
    def vjp_fwd(self, nonzero, x):
        return self(x), x

    def vjp_bwd_retval(self, x, ct):
        return (10 * ct * self.power * self.lower(x),)


class PowerWithJvp(Power):
    def jvp(self, primals, tangents):
        (x,), (dx,) = primals, tangents
        return self(x), 10 * dx * self.power * self.lower(x)


class PowerWithLin(Power):
    def lin(self, nonzero, x):
        return self(x), self.power * self.lower(x)

    def linearized(self, slope, dx):
        return 10 * slope * dx


REVERSE = [PowerWithVjp, PowerWithReturnedVjp]
FORWARD = [PowerWithJvp, PowerWithLin]


def cube(kind):
    return lambda x: kind(jax.typeof(x), 3)(x)


@pytest.mark.parametrize("kind", [Power, *REVERSE, *FORWARD])
def test_values(kind):
    np.testing.assert_allclose(bm.jit(cube(kind))(X), X**3, rtol=1e-6)
    np.testing.assert_allclose(bm.vmap(cube(kind))(X), X**3, rtol=1e-6)


@pytest.mark.parametrize("kind", REVERSE + FORWARD)
def test_reverse_mode_to_second_order(kind):
    fun = lambda x: cube(kind)(x).sum()  # noqa: E731
    np.testing.assert_allclose(bm.grad(fun)(X), 30 * X**2, rtol=1e-6)
    second = bm.grad(lambda x: bm.grad(fun)(x).sum())(X)
    np.testing.assert_allclose(second, 600 * X, rtol=1e-6)
    batched = bm.vmap(bm.grad(cube(kind)))(X)
    np.testing.assert_allclose(batched, 30 * X**2, rtol=1e-6)
    in_loop = lambda x: jax.lax.scan(lambda c, _: (cube(kind)(c), None), x, length=2)[0].sum()  # noqa: E731
    np.testing.assert_allclose(bm.grad(in_loop)(X), 900 * X**8, rtol=1e-5)


@pytest.mark.parametrize("kind", FORWARD)
def test_forward_mode(kind):
    np.testing.assert_allclose(bm.jvp(cube(kind), (X,), (X,))[1], 30 * X**3, rtol=1e-6)
    np.testing.assert_allclose(bm.jacfwd(cube(kind))(X), np.diag(30 * X**2), rtol=1e-6)


def test_what_has_only_a_reverse_rule_has_no_forward_mode():
    with pytest.raises(NotImplementedError, match="custom VJP"):
        bm.jvp(cube(PowerWithVjp), (X,), (X,))


def test_without_rules_the_expansion_is_differentiated():
    check_derivatives(cube(Power), X, oracle=lambda x: x**3)


# Which arguments the rule below was told to be perturbed.
seen = []


class Scaled(Operation):
    """Of a tree of arguments, one of them an integer, to a tree of results."""

    def __init__(self, tree, count):
        self.in_avals = (tree, count)
        self.out_aval = {"both": tree["a"], "count": count}
        self.params = {}
        super().__init__()

    def expand(self, tree, count):
        return {"both": tree["a"] * tree["b"] * count, "count": count + 1}

    def vjp_fwd(self, nonzero, tree, count):
        seen.append(nonzero)
        return self(tree, count), (tree, count)

    def vjp_bwd(self, residuals, cts, totals, _):
        tree, count = residuals
        totals["a"].accum(10 * cts["both"] * tree["b"] * count)


def test_trees_and_integers():
    def fun(a, b, count):
        result = Scaled(*jax.tree.map(jax.typeof, ({"a": a, "b": b}, count)))(
            {"a": a, "b": b}, count
        )
        return result["both"].sum(), result["count"]

    seen.clear()
    (da, db), count = bm.grad(fun, argnums=(0, 1), has_aux=True)(X, X + 1, 3)
    np.testing.assert_allclose(da, 30 * (X + 1), rtol=1e-6)
    np.testing.assert_array_equal(db, np.zeros(3))
    assert count == 4
    bm.grad(lambda b: fun(X, b, 3)[0])(X)
    assert ({"a": False, "b": True}, False) in seen
    assert ({"a": True, "b": True}, False) in seen


@pytest.mark.parametrize("flag", ["jax_custom_vjp3", "jax_custom_jvp3", "jax_remat3"])
def test_rules_that_jax_keeps_as_objects(flag):
    @jax.custom_vjp
    def doubled(x, y):
        return x * y

    doubled.defvjp(lambda x, y: (doubled(x, y), y), lambda y, ct: (2 * ct * y, None))

    @jax.custom_jvp
    def tripled(x):
        return jnp.sin(x)

    tripled.defjvp(lambda x, dx: (tripled(*x), 3 * dx[0]))
    again = jax.checkpoint(lambda x: jnp.cos(x) * doubled(x, 5.0) + tripled(x))
    fun = lambda x: jax.vmap(lambda x: again(x) * doubled(x, 2.0))(x).sum()  # noqa: E731
    expected = jax.grad(fun)(X)
    with jax_flag(flag):
        np.testing.assert_allclose(bm.grad(fun)(X), expected, rtol=1e-6)


def test_rules_that_jax_keeps_as_objects_are_told_what_is_perturbed():
    told = []

    def rule(primals, tangents):
        told.append([type(dx) is SymbolicZero for dx in tangents])
        (x, y), (dx, dy) = primals, tangents
        terms = [t for t in (dx, dy) if type(t) is not SymbolicZero]
        return x + y, 7 * sum(terms)

    added = jax.custom_jvp(lambda x, y: x + y)
    added.defjvp(rule, symbolic_zeros=True)
    with jax_flag("jax_custom_jvp3"):
        assert bm.grad(lambda x: added(x, 2.0) * 3)(1.0) == 21.0
        assert told == [[False, True]]
        assert bm.grad(lambda x: jax.jit(added)(x * 2, x))(1.0) == 21.0
        assert told[-1] == [False, False]
        assert bm.jvp(lambda y: added(1.0, y), (1.0,), (2.0,))[1] == 14.0
        assert told[-1] == [True, False]
