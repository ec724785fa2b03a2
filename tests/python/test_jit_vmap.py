"""`bm.jit` and `bm.vmap`: axes, static values, variables, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad as bp
import bmgrad.math as bm

X, M = jnp.arange(3.0), jnp.arange(6.0).reshape(2, 3)


class TestJit:
    def test_classes_and_modules_are_static(self):
        """Such as have the attributes of arrays."""
        fun = bm.jit(lambda x, kind: x.astype(getattr(kind, "int8", kind)))
        with_shape = type("WithShape", (), {"shape": (3,), "dtype": np.float32, "int8": np.int8})
        for kind in (np.float16, jnp.float16, np, with_shape):
            want = np.dtype(getattr(kind, "int8", kind))
            assert fun(np.ones(2, np.float32), kind).dtype == want
        of_kind = bm.grad(lambda x, kind: jnp.sum(2 * x.astype(kind)))
        np.testing.assert_array_equal(of_kind(np.ones(2, np.float32), np.float16), [2, 2])

    def test_tree_kwargs_and_static(self):
        @bm.jit
        def g(p, x, *, mode="add"):
            return {"out": p["a"] + x if mode == "add" else p["a"] * x, "mode": jnp.ones(2)}

        np.testing.assert_allclose(g({"a": X}, 2.0)["out"], X + 2)
        np.testing.assert_allclose(g({"a": X}, 2.0, mode="mul")["out"], X * 2)

    def test_boxes_come_back_as_boxes(self):
        got = bm.jit(lambda x, y: (x + 1, y + 1))(bm.ones(2), jnp.ones(2))
        assert type(got[0]) is bm.Array
        assert isinstance(got[1], jax.Array)

    def test_returned_variable_is_its_value(self):
        v = bm.Variable(bm.ones(2))
        got = bm.jit(lambda: v)()
        np.testing.assert_allclose(got, [1, 1])
        v.value = jnp.zeros(2)
        np.testing.assert_allclose(got, [1, 1])

    def test_none_and_empty_results(self):
        assert bm.jit(lambda x: None)(1.0) is None
        assert bm.jit(lambda x: ())(1.0) == ()

    def test_training_step(self):
        class Net(bp.Base):
            def __init__(self):
                super().__init__()
                self.w = bm.TrainVar(bm.zeros(3))

            def loss(self, x, y):
                return ((self.w * x).sum() - y) ** 2

        net = Net()
        grad = bm.grad(net.loss, grad_vars=net.train_vars(), return_value=True)

        @bm.jit
        def step(x, y):
            grads, loss = grad(x, y)
            for name, variable in net.train_vars().items():
                variable.value = variable - 0.05 * grads[name]
            return loss

        losses = [float(step(jnp.ones(3), 2.0)) for _ in range(20)]
        assert losses[-1] < 1e-3 * losses[0]
        assert step.cache_info().misses == 1

    def test_returned_objects_that_are_no_arrays(self):
        with pytest.raises(TypeError, match=r"returned 'text' of type str; results must be arrays"):
            bm.jit(lambda x: "text")(1.0)

    def test_method_decorator(self):
        class Cell(bp.Base):
            def __init__(self):
                super().__init__()
                self.h = bm.Variable(bm.zeros(()))

            @bm.jit
            def step(self, x):
                self.h += x
                return self.h * 2

        cell, other = Cell(), Cell()
        assert [float(cell.step(1.0)) for _ in range(3)] == [2, 4, 6]
        assert float(other.h) == 0
        assert float(cell.h) == 3

    def test_recursion(self):
        def power(x, n):
            return x if n == "1" else x * bm.jit(power)(x, str(int(n) - 1))

        assert float(bm.jit(power)(2.0, "4")) == 16


def same(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def product(x, y):
    return {"p": x * y, "s": jnp.sum(x) + y}


class TestStaticArguments:
    """Arguments that are compiled in, as those of `jax.jit`."""

    @staticmethod
    def power(x, n, *, scale=1):
        for _ in range(n):
            x = x * X
        return scale * x

    @pytest.mark.parametrize("how", [{"static_argnums": 1}, {"static_argnames": ("n",)}])
    def test_each_value_is_a_program(self, how):
        fun = bm.jit(lambda x, n: self.power(x, n), **how)
        for n in (2, 3, 2):
            np.testing.assert_array_equal(fun(X, n), X ** (n + 1))
            np.testing.assert_array_equal(fun(X, n=n), X ** (n + 1))
        # By position and by name they are different calls, as for JAX.
        assert fun.cache_info().misses == 4
        assert fun.cache_info().hits == 2

    def test_equal_values_of_other_types_are_others(self):
        fun = bm.jit(lambda x, n: x + jnp.zeros(3, type(n)), static_argnums=-1)
        assert fun(np.int32(1), 1).dtype == jnp.int32
        assert fun(np.int32(1), True).dtype == jnp.int32
        assert fun(np.int32(1), 1.0).dtype == jnp.float32

    def test_keyword_only(self):
        fun = bm.jit(self.power, static_argnums=(1,), static_argnames="scale")
        np.testing.assert_array_equal(fun(X, 1, scale=3), 3 * X**2)

    def test_in_transforms(self):
        fun = bm.jit(self.power, 1)
        np.testing.assert_array_equal(bm.vector_grad(fun)(X, 3), X**3)
        np.testing.assert_array_equal(bm.vector_grad(lambda x: fun(x, 2) * x)(X), 2 * X**3)
        np.testing.assert_array_equal(jax.vmap(lambda x: fun(x, 1))(M), M * X)

    def test_methods(self):
        class Counter(bp.Base):
            def __init__(self):
                super().__init__()
                self.count = bm.Variable(bm.zeros(()))

            @bm.jit(static_argnums=(0, 2))
            def step(self, x, n):
                self.count.value = self.count + n
                return x * jnp.ones(n)

        counters = Counter(), Counter()
        for counter, n in zip((*counters, counters[0]), (2, 3, 3), strict=True):
            np.testing.assert_array_equal(counter.step(2.0, n), np.full(n, 2.0))
        assert [float(counter.count) for counter in counters] == [5, 3]

    def test_what_is_compiled_ahead_of_time_takes_the_others(self):
        scale = bm.Variable(bm.ones(()))
        fun = bm.jit(lambda x, n, y: x**n * scale + y, static_argnames="n")
        compiled = fun.trace(X, 2, y=X).lower().compile()
        np.testing.assert_array_equal(compiled(X, y=X), X**2 + X)
        scale.value = bm.asarray(2.0)
        np.testing.assert_array_equal(compiled(X, y=X), 2 * X**2 + X)

    @pytest.mark.parametrize(
        ("how", "error", "message"),
        [
            ({"static_argnums": 2}, ValueError, "positional argument 2, but .* takes 2"),
            ({"static_argnames": "m"}, ValueError, "an argument 'm', but .* takes x, n, scale"),
            ({"static_argnums": "n"}, TypeError, "static_argnums of jit must be an int"),
            ({"static_argnames": 1}, TypeError, "static_argnames of jit must be a str"),
        ],
    )
    def test_wrong_names(self, how, error, message):
        with pytest.raises(error, match=message):
            bm.jit(self.power, **how)

    def test_what_cannot_be_hashed(self):
        fun = bm.jit(self.power, static_argnums=1)
        with pytest.raises(TypeError, match=r"static argument n .* got \[2\] of type list"):
            fun(X, [2])
        with pytest.raises(TypeError, match=r"static argument n .* got a traced value"):
            jax.jit(fun)(X, 2)


class TestVmap:
    @pytest.mark.parametrize(
        ("in_axes", "args"),
        [
            (0, (M, M)),
            (1, (M, M)),
            (-1, (M, M)),
            ((0, None), (M, 2.0)),
            ((None, 0), (X, M)),
            ((1, 0), (M, X)),
            ([0, 1], (M, M.T)),
        ],
    )
    @pytest.mark.parametrize("out_axes", [0, -1, {"p": 1, "s": 0}])
    def test_axes(self, in_axes, args, out_axes):
        same(
            bm.vmap(product, in_axes, out_axes)(*args),
            jax.vmap(product, in_axes, out_axes)(*args),
        )

    def test_prefix_trees(self):
        def g(p, x):
            return p["a"] + p["b"] * x

        args = {"a": M, "b": X}, 2.0
        in_axes = ({"a": 1, "b": 0}, None)
        same(bm.vmap(g, in_axes)(*args), jax.vmap(g, in_axes)(*args))

    def test_axis_size_and_keywords(self):
        got = bm.vmap(lambda x: x * 2, None, axis_size=4)(X)
        np.testing.assert_allclose(got, np.tile(2 * X, (4, 1)))
        got = bm.vmap(lambda x, *, k: x * k)(X, k=X)
        np.testing.assert_allclose(got, X * X)

    def test_result_that_does_not_depend_on_the_batch(self):
        same(bm.vmap(lambda x: 3.0)(X), jax.vmap(lambda x: jnp.array(3.0))(X))

    def test_variables_are_shared(self):
        w, n = bm.TrainVar(2.0), bm.Variable(bm.zeros(()))

        def g(x):
            n.value = n + 1
            return x * w

        got = bm.vmap(g)(X)
        np.testing.assert_allclose(got, 2 * X)
        assert float(n) == 1

    def test_a_write_that_depends_on_the_batch_is_refused(self):
        v = bm.Variable(bm.zeros(()))

        def g(x):
            v.value = v + x
            return x

        with pytest.raises(Exception, match=r"batch|depend|vari"):
            bm.vmap(g)(X)
        assert float(v) == 0

    @pytest.mark.parametrize(
        ("in_axes", "args", "message"),
        [
            (0, (M, X), "inconsistent batch sizes.*arg0.*2.*arg1.*3"),
            (2, (M,), "axis 2 of arg0, which has rank 2"),
            (0, (1.0,), "axis 0 of arg0, which has rank 0"),
            ((0, 0, 0), (M, M), "in_axes has 3 entries, but the call has 2"),
            (None, (M,), "needs an argument that is mapped, or axis_size"),
        ],
    )
    def test_errors(self, in_axes, args, message):
        with pytest.raises(ValueError, match=message):
            bm.vmap(lambda *a: a[0], in_axes)(*args)

    def test_out_axes_none(self):
        def f(x, y):
            return x * y, y + 1

        shared = bm.vmap(f, (0, None), out_axes=(0, None))(X, 2.0)[1]
        assert shared.shape == ()
        assert shared == 3.0
        with pytest.raises(ValueError, match="mapped output but out_axes is None: result 0"):
            bm.vmap(f, (0, None), out_axes=None)(X, 2.0)
        of_jax = jax.vmap(bm.jit(f), (0, None), out_axes=(0, None))(X, 2.0)[1]
        assert of_jax == 3.0

    @pytest.mark.parametrize("axes", [(True, 0), ({"x": 0}, 0), ((X,), 0), (0, False), (0, 1.0)])
    def test_axes_are_integers(self, axes):
        with pytest.raises(TypeError, match=r"vmap (in|out)_axes must be an int, None, or a"):
            bm.vmap(lambda x: x, *axes)(M)

    def test_gradients_of_integers(self):
        gradient = bm.grad(lambda x, n: x * n, argnums=1, allow_int=True)
        got = bm.vmap(gradient)(X, jnp.arange(3))
        assert (got.dtype, got.shape) == (jax.dtypes.float0, (3,))

    def test_random_numbers(self):
        bm.random.seed(0)
        got = bm.vmap(lambda x: x + bm.random.normal())(jnp.zeros(4))
        # One draw for all elements: the state is shared.
        assert len(set(np.asarray(got).tolist())) == 1


def test_vmap_over_nothing():
    got = bm.vmap(lambda x: jnp.sin(x).sum())(jnp.zeros((0, 3)))
    assert got.shape == (0,)
    assert got.dtype == jnp.float32


def test_without_jit_functions_run_as_they_are():
    calls, total = [], bm.Variable(jnp.zeros(()))

    @bm.jit
    def step(x):
        calls.append(isinstance(x, jax.core.Tracer))
        total.value = total + x.sum()
        return {"scaled": x * total, "flag": True}

    static = bm.jit(lambda x, n: x * n if x.sum() > 0 else n, static_argnums=1)
    x = jnp.arange(3.0)
    step(x)  # From here on calls take the short way.
    with jax.disable_jit():
        got = step(x)
        np.testing.assert_array_equal(static(x, 2), x * 2)
        assert static(-x, 2) == 2
    np.testing.assert_array_equal(got["scaled"], x * 6)
    assert got["flag"] is True
    assert total == 6
    step(x)
    assert total == 9
    assert calls == [True, False]


def test_without_jit_gradients_are_the_same():
    total = bm.Variable(jnp.zeros(()))
    inner = bm.jit(lambda x: total.update(total + 1) or jnp.sin(x) * total)
    with jax.disable_jit():
        got = bm.grad(lambda x: inner(x).sum(), return_value=True)(jnp.arange(3.0))
    np.testing.assert_allclose(got[0], jnp.cos(jnp.arange(3.0)), rtol=1e-6)
    assert total == 1
