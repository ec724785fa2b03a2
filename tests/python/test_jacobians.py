"""`jacrev`, `jacfwd`, `hessian` and the functional forms `vjp`, `jvp`, `linearize`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad as bp
import bmgrad.math as bm


def same(got, expected, rtol=1e-5):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        if theirs.dtype == jax.dtypes.float0:
            assert ours.dtype == theirs.dtype
            assert ours.shape == theirs.shape
        else:
            assert jax.typeof(ours).str_short() == jax.typeof(theirs).str_short()
            np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=1e-6)


X, Y = jnp.array([0.3, 1.2]), jnp.array([[1.0, -1.0, 0.5], [0.2, 0.4, 0.6]])


def matrix(x, y):
    return jnp.sin(x)[:, None] * y**2


def nested(x, y):
    return {"a": x.sum() * y, "b": [jnp.cos(x), (x * x).sum()]}


def of_tree(p, x):
    return p["w"] * x + p["b"]


TREE = {"w": jnp.ones((2, 2)), "b": jnp.array(3.0)}
CASES = [
    (matrix, (X, Y), 1),
    (matrix, (X, Y), (-1,)),
    (nested, (X, Y), (1, 0)),
    (of_tree, (TREE, X), (0, 1)),
    (lambda x: x**2, (2.0,), 0),
    (lambda x: (x, 1.0), (X,), 0),
]


@pytest.mark.parametrize(("fun", "args", "argnums"), CASES)
class TestAsJAX:
    def test_jacrev(self, fun, args, argnums):
        same(bm.jacrev(fun, argnums=argnums)(*args), jax.jacrev(fun, argnums=argnums)(*args))

    def test_jacfwd(self, fun, args, argnums):
        same(bm.jacfwd(fun, argnums=argnums)(*args), jax.jacfwd(fun, argnums=argnums)(*args))

    def test_hessian(self, fun, args, argnums):
        same(bm.hessian(fun, argnums=argnums)(*args), jax.hessian(fun, argnums=argnums)(*args))

    def test_has_aux_and_return_value(self, fun, args, argnums):
        def with_aux(*args):
            return fun(*args), {"x": args[-1]}

        for ours, theirs in ((bm.jacrev, jax.jacrev), (bm.jacfwd, jax.jacfwd)):
            got = ours(with_aux, argnums=argnums, has_aux=True, return_value=True)(*args)
            assert len(got) == 3
            same(got[0], theirs(fun, argnums=argnums)(*args))
            same(got[1], jax.tree.map(jnp.asarray, fun(*args)))
            same(got[2]["x"], jnp.asarray(args[-1]))


def test_names_of_one():
    assert bm.jacobian is bm.jacrev


def test_float64_bfloat16_complex():
    with jax.enable_x64(True):
        x = jnp.array([0.1, 0.2])
        same(bm.hessian(lambda x: jnp.prod(x) ** 3)(x), jax.hessian(lambda x: jnp.prod(x) ** 3)(x))
    x = jnp.array([1, 2], jnp.bfloat16)
    same(bm.jacfwd(jnp.square)(x), jax.jacfwd(jnp.square)(x))
    same(bm.jacrev(jnp.square)(x), jax.jacrev(jnp.square)(x))
    z = jnp.array([1 + 1j, 2 - 1j])
    for ours, theirs in ((bm.jacrev, jax.jacrev), (bm.jacfwd, jax.jacfwd)):
        got = ours(lambda z: z**2, holomorphic=True)(z)
        same(got, theirs(lambda z: z**2, holomorphic=True)(z))


def test_integers():
    def g(n, x):
        return n * x

    args = jnp.arange(2), jnp.ones(2)
    got = bm.jacrev(g, argnums=(0, 1), allow_int=True)(*args)
    same(got[1], jnp.diag(jnp.arange(2.0)))
    assert got[0].dtype == jax.dtypes.float0
    assert got[0].shape == (2, 2)
    with pytest.raises(TypeError, match="but got int32 for argument 0"):
        bm.jacrev(g)(*args)


class Model(bp.Base):
    def __init__(self):
        super().__init__()
        self.a = bm.TrainVar([1.0, 2.0])
        self.b = bm.TrainVar([3.0])
        self.n = bm.Variable(bm.zeros(()))

    def __call__(self, x):
        self.n += 1
        return self.a**2 * self.b * x

    def scalar(self, x):
        return (self(x) ** 2).sum()


def pure(a, b, x):
    return a**2 * b * x


@pytest.mark.parametrize("transform", [bm.jacrev, bm.jacfwd])
class TestVariables:
    def test_containers(self, transform):
        m = Model()
        a, b = m.a.value, m.b.value
        of_a, of_b, of_x = jax.jacrev(pure, argnums=(0, 1, 2))(a, b, 2.0)
        got = transform(m, grad_vars=m.a)(2.0)
        assert isinstance(got, jax.Array)
        same(got, of_a)
        same(transform(m, grad_vars=[m.a, m.b])(2.0), (of_a, of_b))
        got = transform(m, grad_vars=m.train_vars())(2.0)
        same(got, {f"{m.name}.a": of_a, f"{m.name}.b": of_b})
        variables, argument = transform(m, grad_vars=[m.a], argnums=0)(2.0)
        same(variables, (of_a,))
        same(argument, of_x)
        assert int(m.n) == 4

    def test_tree_of_outputs(self, transform):
        m = Model()

        def outputs(x):
            return {"y": m(x), "z": (m.b * x, x)}

        def oracle(a, b, x):
            return {"y": pure(a, b, x), "z": (b * x, x)}

        expected = jax.jacrev(oracle, argnums=(0, 1, 2))(m.a.value, m.b.value, 2.0)
        is_row = lambda row: isinstance(row, tuple) and len(row) == 3  # noqa: E731
        variables, argument = transform(outputs, grad_vars=[m.a, m.b], argnums=0)(2.0)
        leaves = expected
        same(jax.tree.map(lambda row: row[:2], leaves, is_leaf=is_row), variables)
        same(jax.tree.map(lambda row: row[2], leaves, is_leaf=is_row), argument)

    def test_value_is_the_value(self, transform):
        m = Model()
        jacobian, value = transform(m, grad_vars=m.a, return_value=True)(2.0)
        np.testing.assert_allclose(value, [6, 24])
        np.testing.assert_allclose(jacobian, [[12, 0], [0, 24]])


class TestHessianOfVariables:
    def test_one(self):
        m = Model()
        expected = jax.hessian(lambda a: (pure(a, m.b.value, 2.0) ** 2).sum())(m.a.value)
        hessian, value = bm.hessian(m.scalar, grad_vars=m.a, return_value=True)(2.0)
        same(hessian, expected)
        np.testing.assert_allclose(value, 36 + 576)
        assert int(m.n) == 1

    def test_several(self):
        m = Model()

        def scalar(p):
            return (pure(p["a"], p["b"], 2.0) ** 2).sum()

        expected = jax.hessian(scalar)({"a": m.a.value, "b": m.b.value})
        same(bm.hessian(m.scalar, grad_vars={"a": m.a, "b": m.b})(2.0), expected)

    def test_only_variables_does_not_force_argnums(self):
        m = Model()
        got = bm.hessian(m.scalar, grad_vars=[m.a])(2.0)
        assert jax.tree.structure(got) == jax.tree.structure(((0,),))

    def test_aux(self):
        m = Model()
        hessian, aux = bm.hessian(lambda x: (m.scalar(x), {"n": m.n}), grad_vars=m.b, has_aux=True)(
            1.0
        )
        np.testing.assert_allclose(hessian, [[2 * (1 + 16)]])
        assert int(aux["n"]) == 1


class TestVjp:
    def test_as_jax(self):
        out, vjp = bm.vjp(matrix, X, Y)
        expected, oracle = jax.vjp(matrix, X, Y)
        same(out, expected)
        ct = jnp.arange(6.0).reshape(2, 3)
        same(vjp(ct), oracle(ct))
        same(vjp(2 * ct), oracle(2 * ct))

    def test_trees_and_aux(self):
        def g(p, x):
            return {"y": of_tree(p, x)}, x.sum()

        out, vjp, aux = bm.vjp(g, TREE, X, has_aux=True)
        expected, oracle, theirs = jax.vjp(g, TREE, X, has_aux=True)
        same((out, aux), (expected, theirs))
        ct = {"y": jnp.ones((2, 2))}
        same(vjp(ct), oracle(ct))

    def test_integers(self):
        args = jnp.arange(2), jnp.ones(2)
        _, vjp = bm.vjp(lambda n, x: n * x, *args)
        _, oracle = jax.vjp(lambda n, x: n * x, *args)
        same(vjp(jnp.ones(2)), oracle(jnp.ones(2)))

    def test_python_scalars(self):
        out, vjp = bm.vjp(lambda x, y: x * y, 2.0, 3.0)
        expected, oracle = jax.vjp(lambda x, y: x * y, 2.0, 3.0)
        same((out, vjp(1.0)), (expected, oracle(1.0)))

    def test_wrong_cotangents(self):
        _, vjp = bm.vjp(matrix, X, Y)
        with pytest.raises(ValueError, match=r"cotangent 0 has shape \(2,\).*asks for shape"):
            vjp(jnp.ones(2))
        with pytest.raises(ValueError, match="the cotangent has the tree"):
            vjp((jnp.ones((2, 3)),))
        with pytest.raises(ValueError, match="dtype float16"):
            vjp(jnp.ones((2, 3), "float16"))

    def test_writes_happen_once(self):
        m = Model()
        _, vjp = bm.vjp(m, 2.0)
        vjp(jnp.ones(2))
        vjp(jnp.ones(2))
        assert int(m.n) == 1
        assert not isinstance(m.n._value, jax.core.Tracer)

    def test_vmap_of_vjp_function(self):
        _, vjp = bm.vjp(jnp.sin, X)
        same(jax.vmap(vjp)(jnp.eye(2))[0], jnp.diag(jnp.cos(X)))

    def test_crosses_jit(self):
        """What vjp and linearize return is a pytree: it may leave a jit and enter another."""
        out, vjp = jax.jit(lambda x: bm.vjp(lambda x: (jnp.sin(x), 2), x))(X)
        (ct,) = jax.jit(lambda vjp, ct: vjp((ct, np.zeros((), jax.dtypes.float0))))(vjp, X)
        same((out, ct), ((jnp.sin(X), jnp.asarray(2)), X * jnp.cos(X)))
        points = jnp.stack([X, 2 * X])
        linear = jax.vmap(lambda x: bm.linearize(jnp.sin, x)[1])(points)
        same(jax.vmap(lambda f, dx: f(dx))(linear, points), points * jnp.cos(points))

    def test_primals_that_are_residuals(self):
        """They are kept as they are, and may be dropped and given again."""
        x, w = {"a": jnp.ones((3, 4)), "b": jnp.ones(4)}, jnp.eye(4)
        fun = lambda x, w: x["a"] @ w + jnp.sin(x["b"])  # noqa: E731
        out, vjp = bm.vjp(fun, x, w)
        assert vjp.args_res[1] is w
        assert vjp.args_res[0]["a"] is x["a"]
        assert jax.tree.leaves(vjp.args_res[0]["b"]) == []
        assert [r.shape for r in vjp.opaque_residuals] == [(4,)]
        vjp.args_res[1] = None
        with pytest.raises(ValueError, match="args_res has 2 leaves, but the primals have 3"):
            vjp(out)
        vjp.args_res[1] = w
        same(vjp(out), jax.vjp(fun, x, w)[1](out))
        vjp.args_res = [x, 3 * w]
        same(vjp(out)[0]["a"], 3 * out)

    def test_results_that_are_residuals(self):
        out, vjp = bm.vjp(jnp.exp, X)
        assert vjp.opaque_residuals[0] is out
        same(vjp(X), (X * jnp.exp(X),))

    def test_primals_that_may_change_are_copied(self):
        x, y = np.ones(2), np.ones(2)
        _, vjp = bm.vjp(jnp.multiply, x, y)
        x[:] = 5.0
        same(vjp(jnp.ones(2))[1], jnp.ones(2))

    def test_with_references(self):
        """Cotangents are added to references, or left out; what is returned is what JAX returns."""
        _, vjp = bm.vjp(lambda x, y, n: {"a": jnp.sin(x["x"]) * y * n}, {"x": X}, Y[:, 0], 2)
        ct, total = {"a": jnp.ones(2)}, jax.new_ref(X)
        for of_y in (jax.ad.GradValue(), jax.ad.DontWant()):
            returned = vjp.with_refs({"x": total}, of_y, jax.ad.GradValue())(ct)
            assert isinstance(returned[0]["x"], jax.ad.GradRef)
            assert returned[2].dtype == jax.dtypes.float0
            if isinstance(of_y, jax.ad.DontWant):
                assert isinstance(returned[1], jax.ad.DidntWant)
            else:
                same(returned[1], 2 * jnp.sin(X))
        same(total[...], X + 2 * 2 * jnp.cos(X) * Y[:, 0])
        with pytest.raises(ValueError, match="with_refs was given PyTreeDef"):
            vjp.with_refs(total)

    def test_references_in_a_loop(self):
        @jax.jit
        def summed(xs):
            total = jax.new_ref(jnp.zeros(2))

            def body(carry, x):
                bm.vjp(jnp.sin, x)[1].with_refs(total)(jnp.ones(2))
                return carry, None

            jax.lax.scan(body, None, xs)
            return total[...]

        same(summed(jnp.stack([X, 2 * X])), jnp.cos(X) + jnp.cos(2 * X))

    def test_numpy_scalars_fit(self):
        same(bm.jvp(jnp.sin, (0.0,), (np.float64(2.0),))[1], jnp.asarray(2.0))


class TestJvp:
    def test_as_jax(self):
        tangents = jnp.ones(2), 2 * Y
        same(bm.jvp(matrix, (X, Y), tangents), jax.jvp(matrix, (X, Y), tangents))

    def test_vmap_over_directions(self):
        """The value does not vary with the direction, and JAX is told so."""
        push = jax.vmap(lambda dx: bm.jvp(jnp.sin, (X,), (dx,)), out_axes=(None, -1))
        same(push(jnp.eye(2)), (jnp.sin(X), jnp.diag(jnp.cos(X))))

    def test_trees_and_aux(self):
        def g(p, x):
            return of_tree(p, x), {"x": x}

        primals, tangents = (TREE, X), (jax.tree.map(jnp.ones_like, TREE), X)
        got = bm.jvp(g, primals, tangents, has_aux=True)
        same(got, jax.jvp(g, primals, tangents, has_aux=True))

    def test_integers(self):
        zeros = np.zeros((2,), jax.dtypes.float0)
        primals, tangents = (jnp.arange(2), jnp.ones(2)), (zeros, jnp.ones(2))
        same(
            bm.jvp(lambda n, x: (n * x, n), primals, tangents),
            jax.jvp(lambda n, x: (n * x, n), primals, tangents),
        )

    @pytest.mark.parametrize(
        ("primals", "tangents", "kind", "message"),
        [
            (X, (X,), TypeError, "takes primals as a tuple or list"),
            ((X,), X, TypeError, "takes tangents as a tuple or list"),
            ((X,), (X, X), TypeError, "the tangent has the tree"),
            ((X,), (Y,), ValueError, r"tangent 0 has shape \(2, 3\)"),
            ((jnp.arange(2),), (X,), TypeError, "float0"),
        ],
    )
    def test_what_does_not_fit(self, primals, tangents, kind, message):
        with pytest.raises(kind, match=message):
            bm.jvp(lambda x: x * 1.0, primals, tangents)

    def test_through_a_loop_of_unknown_length(self):
        def g(x):
            return jax.lax.while_loop(lambda c: c < 100.0, lambda c: c * x, x)

        same(bm.jvp(g, (3.0,), (1.0,)), jax.jvp(g, (3.0,), (1.0,)))
        same(bm.jacfwd(g)(3.0), jax.jacfwd(g)(3.0))


class TestLinearize:
    def test_as_jax(self):
        out, linear = bm.linearize(nested, X, Y)
        expected, oracle = jax.linearize(nested, X, Y)
        same(out, expected)
        same(linear(X, 2 * Y), oracle(X, 2 * Y))

    def test_aux_and_wrong_tangents(self):
        out, linear, aux = bm.linearize(lambda x: (x**2, x), X, has_aux=True)
        same((out, aux), (X**2, X))
        with pytest.raises(TypeError, match="the tangent has the tree"):
            linear(X, X)
        with pytest.raises(TypeError, match=r"has_aux=True expects .* a pair"):
            bm.linearize(lambda x: x, X, has_aux=True)
