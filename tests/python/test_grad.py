"""`grad`, `vector_grad`, `value_and_grad`: targets, results, containers, dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad as bp
import bmgrad.math as bm
from bmgrad._collector import ArrayCollector


def same(got, expected, rtol=1e-6):
    """Equal trees, types of values, and values."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        if theirs.dtype == jax.dtypes.float0:
            assert ours.dtype == theirs.dtype
            assert ours.shape == theirs.shape
        else:
            assert jax.typeof(ours) == jax.typeof(theirs)
            np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=1e-7)


def f(x, y, z):
    return (jnp.sin(x) * y**2 + jnp.exp(z) * x).sum()


ARGS = (jnp.array([0.1, 0.2]), jnp.array([1.0, 2.0]), jnp.array([-1.0, 0.5]))


class TestArgnums:
    @pytest.mark.parametrize("argnums", [0, 1, 2, -1, -3, (0,), (2, 0), (0, 1, 2), (-1, 0)])
    def test_as_jax(self, argnums):
        same(bm.grad(f, argnums=argnums)(*ARGS), jax.grad(f, argnums=argnums)(*ARGS))

    @pytest.mark.parametrize("argnums", [1, -1, (0, 2), (1,)])
    @pytest.mark.parametrize("name", ["grad", "value_and_grad", "jacrev", "jacfwd", "hessian"])
    def test_by_position_as_jax(self, name, argnums):
        ours, theirs = (getattr(m, name)(f, argnums)(*ARGS) for m in (bm, jax))
        same(ours, theirs, rtol=1e-5)

    def test_by_position_besides_argnums(self):
        same(bm.grad(f, np.int64(1))(*ARGS), jax.grad(f, 1)(*ARGS))
        with pytest.raises(TypeError, match="grad_vars must be a"):
            bm.grad(f, 1, 0)
        with pytest.raises(TypeError, match="grad_vars must be a"):
            bm.grad(f, True)

    def test_default_and_list(self):
        same(bm.grad(f)(*ARGS), jax.grad(f)(*ARGS))
        same(bm.grad(f, argnums=[0, 1])(*ARGS), jax.grad(f, argnums=(0, 1))(*ARGS))

    def test_duplicates_both_receive_the_gradient(self):
        twice = bm.grad(f, argnums=(1, 1))(*ARGS)
        expected = jax.grad(f, argnums=1)(*ARGS)
        same(twice, (expected, expected))

    @pytest.mark.parametrize(("argnums", "least"), [(3, 4), (-4, 4), ((0, 5), 6)])
    def test_out_of_range(self, argnums, least):
        kind = ValueError if argnums == -4 else TypeError  # As in JAX.
        with pytest.raises(kind, match=rf"argnums=.* at least {least} positional .* only 3"):
            bm.grad(f, argnums=argnums)(*ARGS)
        with pytest.raises(kind):
            jax.grad(f, argnums=argnums)(*ARGS)

    @pytest.mark.parametrize("argnums", ["x", 1.0, (0, "y"), {0}])
    def test_no_ints(self, argnums):
        with pytest.raises(TypeError, match="argnums must be an int, or a tuple or list of ints"):
            bm.grad(f, argnums=argnums)


class TestResults:
    def test_python_scalars(self):
        def g(a, b):
            return a**2 * b

        same(bm.grad(g, argnums=(0, 1))(2.0, 3.0), jax.grad(g, argnums=(0, 1))(2.0, 3.0))
        same(bm.value_and_grad(g)(2.0, 3.0), jax.value_and_grad(g)(2.0, 3.0))

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
    def test_dtypes(self, dtype):
        x = jnp.arange(1.0, 4.0).astype(dtype)
        same(bm.grad(lambda x: (x * x).sum())(x), jax.grad(lambda x: (x * x).sum())(x), rtol=1e-2)

    def test_float64(self):
        with jax.enable_x64(True):
            x = jnp.arange(1.0, 4.0)
            assert x.dtype == jnp.float64
            same(bm.grad(f)(x, x, x), jax.grad(f)(x, x, x), rtol=1e-14)

    def test_numpy_arguments(self):
        x = np.arange(1.0, 4.0, dtype=np.float32)
        got = bm.grad(f)(x, x, x)
        assert isinstance(got, jax.Array)
        same(got, jax.grad(f)(x, x, x))

    def test_pytrees(self):
        def g(params, x):
            return (params["w"] * x + params["b"][0]).sum() * params["b"][1]

        params = {"w": jnp.ones(3), "b": [jnp.zeros(()), 2.0]}
        x = jnp.arange(3.0)
        same(bm.grad(g)(params, x), jax.grad(g)(params, x))
        same(bm.grad(g, argnums=(1, 0))(params, x), jax.grad(g, argnums=(1, 0))(params, x))

    def test_boxes_in_pytrees_stay_boxes(self):
        got = bm.grad(lambda p: (p["a"] * p["b"]).sum())({"a": bm.ones(2), "b": jnp.ones(2)})
        assert type(got["a"]) is bm.Array
        assert isinstance(got["b"], jax.Array)

    def test_none_in_pytrees(self):
        got = bm.grad(lambda p: p[0] ** 2)((3.0, None))
        assert got[1] is None
        assert float(got[0]) == 6

    def test_unused_argument(self):
        same(bm.grad(lambda x, y: y.sum())(*ARGS[:2]), jnp.zeros(2))

    def test_constant_function(self):
        same(bm.grad(lambda x: 3.0)(jnp.ones(2)), jnp.zeros(2))

    def test_kwargs(self):
        def g(x, *, scale=1.0, shift):
            return (x * scale + shift).sum()

        got = bm.grad(g)(jnp.ones(2), shift=jnp.zeros(2), scale=3.0)
        np.testing.assert_allclose(got, [3, 3])

    def test_empty_array(self):
        assert bm.grad(lambda x: x.sum())(jnp.zeros((0, 3))).shape == (0, 3)

    def test_aux_that_is_no_array(self):
        """It is what the function returned, at each call, as with JAX."""

        class Report:
            pass

        report = Report()

        def loss(x):
            return x**2, {"name": "loss", "fun": jnp.sin, "report": report, "twice": 2 * x}

        for x in (2.0, 3.0):
            for transform in (bm.grad, bm.jacrev):
                derivative, aux = transform(loss, has_aux=True)(x)
                assert float(derivative) == 2 * x
                assert (aux["name"], aux["fun"], aux["report"]) == ("loss", jnp.sin, report)
                assert float(aux["twice"]) == 2 * x
            assert bm.vjp(loss, x, has_aux=True)[2]["report"] is report
        inner = bm.jit(lambda x: bm.grad(loss, has_aux=True)(x)[1]["twice"])
        assert float(inner(2.0)) == 4
        with pytest.raises(TypeError, match="of type"):
            bm.grad(loss, has_aux=True).lower(2.0)

    @pytest.mark.parametrize(
        "aux",
        [3, 2**40, 1e300, True, 1j, np.int64(2**40), np.float64(1 / 3), np.arange(3.0)],
        ids=repr,
    )
    def test_auxiliary_numbers_and_what_numpy_computed_are_returned_as_they_are(self, aux):
        loss = lambda x: (x**2, {"aux": aux, "twice": 2 * x})  # noqa: E731
        results = [
            bm.grad(loss, has_aux=True)(1.0)[1],
            bm.value_and_grad(loss, has_aux=True)(1.0)[0][1],
            bm.jacfwd(loss, has_aux=True)(1.0)[1],
            bm.vjp(loss, 1.0, has_aux=True)[2],
            bm.grad(lambda x: bm.grad(loss, has_aux=True)(x), has_aux=True)(1.0)[1],
        ]
        for result in results:
            assert type(result["aux"]) is type(aux)
            np.testing.assert_array_equal(result["aux"], aux)
            assert isinstance(result["twice"], jax.Array)
        assert isinstance(jax.jit(bm.grad(lambda x: (x, 3), has_aux=True))(1.0)[1], jax.Array)

    def test_auxiliary_arrays_of_numpy_are_new_ones_at_each_call(self):
        gradient = bm.grad(lambda x: (x**2, np.zeros(2)), has_aux=True)
        gradient(1.0)[1][:] = 1
        np.testing.assert_array_equal(gradient(1.0)[1], [0, 0])

    def test_has_aux_and_return_value(self):
        def g(x):
            return (x**2).sum(), {"double": 2 * x, "text": x.shape[0]}

        x = jnp.arange(3.0)
        aux = {"double": 2 * x, "text": 3}
        gradient, got = bm.grad(g, has_aux=True)(x)
        np.testing.assert_allclose(gradient, 2 * x)
        np.testing.assert_allclose(got["double"], aux["double"])
        assert int(got["text"]) == 3
        gradient, value, got = bm.grad(g, has_aux=True, return_value=True)(x)
        assert float(value) == 5
        (value, got), gradient = bm.value_and_grad(g, has_aux=True)(x)
        np.testing.assert_allclose(gradient, 2 * x)
        assert float(value) == 5
        assert set(got) == {"double", "text"}

    def test_aux_as_list(self):
        gradient, aux = bm.grad(lambda x: [x**2, "never mind" and x], has_aux=True)(2.0)
        assert (float(gradient), float(aux)) == (4, 2)

    def test_vector_grad_is_the_sum_over_all_outputs(self):
        def g(x):
            return {"a": x**2, "b": (x.sum(), jnp.sin(x))}

        def total(x):
            return sum(leaf.sum() for leaf in jax.tree.leaves(g(x)))

        x = jnp.arange(3.0)
        gradient, value = bm.vector_grad(g, return_value=True)(x)
        same(gradient, jax.grad(total)(x))
        same(value, g(x))


class TestIntegersAndComplex:
    def test_allow_int(self):
        def g(n, x):
            return (n * x).sum()

        n, x = jnp.arange(3), jnp.ones(3)
        got = bm.grad(g, argnums=(0, 1), allow_int=True)(n, x)
        same(got, jax.grad(g, argnums=(0, 1), allow_int=True)(n, x))
        assert got[0].dtype == jax.dtypes.float0

    def test_allow_int_for_variables(self):
        n = bm.Variable(jnp.arange(3))
        got = bm.grad(lambda x: (n * x).sum(), grad_vars=n, allow_int=True)(jnp.ones(3))
        assert got.dtype == jax.dtypes.float0
        assert got.shape == (3,)

    def test_integers_that_are_not_differentiated_for(self):
        def g(x, n, flag):
            return jnp.where(flag, x * n, x).sum()

        args = jnp.ones(3), jnp.arange(3), True
        same(bm.grad(g)(*args), jax.grad(g)(*args))

    def test_complex_input_real_output(self):
        def g(z):
            return jnp.real(z * jnp.conj(z) * z).sum()

        z = jnp.array([1 + 2j, 0.5 - 1j])
        same(bm.grad(g)(z), jax.grad(g)(z))

    def test_holomorphic(self):
        z = jnp.array(1 + 2j)
        same(
            bm.grad(lambda z: z**3, holomorphic=True)(z),
            jax.grad(lambda z: z**3, holomorphic=True)(z),
        )
        same(
            bm.vector_grad(jnp.sin, holomorphic=True)(z),
            jax.grad(jnp.sin, holomorphic=True)(z),
        )


class Model(bp.Base):
    def __init__(self):
        super().__init__()
        self.a = bm.TrainVar([1.0, 2.0])
        self.b = bm.TrainVar([3.0, 4.0])
        self.c = bm.Variable([5.0, 6.0])

    def __call__(self, x=1.0):
        return (self.a * self.b * x + self.c**2).sum()

    @bm.grad
    def decorated(self, x):
        return (self.a * x**2).sum()

    @bm.grad(argnums=(0, 1), return_value=True)
    def decorated_with_options(self, x, y):
        return (self.a * x * y).sum()


OF_A, OF_B, OF_C = [3.0, 4.0], [1.0, 2.0], [10.0, 12.0]


class TestGradVars:
    def test_one(self):
        m = Model()
        got = bm.grad(m, grad_vars=m.a)()
        assert isinstance(got, jax.Array)
        np.testing.assert_allclose(got, OF_A)

    @pytest.mark.parametrize("container", [list, tuple])
    def test_sequence(self, container):
        m = Model()
        got = bm.grad(m, grad_vars=container([m.a, m.c]))()
        assert type(got) is tuple
        np.testing.assert_allclose(got, [OF_A, OF_C])

    def test_sequence_of_one_and_of_none(self):
        m = Model()
        (got,) = bm.grad(m, grad_vars=[m.b])()
        np.testing.assert_allclose(got, OF_B)
        assert bm.grad(m, grad_vars=[])() == ()
        assert bm.grad(m, grad_vars={})() == {}

    @pytest.mark.parametrize("keys", [("second", "first"), (2, 1)])
    def test_dict_keeps_its_keys(self, keys):
        m = Model()
        got = bm.grad(m, grad_vars=dict(zip(keys, (m.b, m.a), strict=True)))()
        assert set(got) == set(keys)
        np.testing.assert_allclose(got[keys[0]], OF_B)
        np.testing.assert_allclose(got[keys[1]], OF_A)

    def test_keys_that_cannot_be_sorted(self):
        m = Model()
        with pytest.raises(TypeError, match=r"keys of grad_vars .* got \['a', 1\]"):
            bm.grad(m, grad_vars={"a": m.a, 1: m.b})

    @pytest.mark.parametrize("how", [Model.train_vars, Model.vars])
    def test_collector(self, how):
        m = Model()
        collector = how(m)
        assert isinstance(collector, ArrayCollector)
        got = bm.grad(m, grad_vars=collector)()
        assert type(got) is dict
        assert set(got) == set(collector)
        np.testing.assert_allclose(got[f"{m.name}.b"], OF_B)

    def test_duplicates_both_receive_the_full_gradient(self):
        m = Model()
        first, second = bm.grad(m, grad_vars=[m.a, m.a])()
        np.testing.assert_allclose(first, OF_A)
        np.testing.assert_allclose(second, OF_A)

    def test_with_argnums(self):
        m = Model()
        variables, arguments = bm.grad(m, grad_vars={"a": m.a}, argnums=(0,))(2.0)
        np.testing.assert_allclose(variables["a"], [6, 8])
        assert type(arguments) is tuple
        np.testing.assert_allclose(arguments[0], 11)

    def test_with_everything(self):
        m = Model()

        def g(x):
            return m(x), x * 2

        (variables, argument), value, aux = bm.grad(
            g, grad_vars=m.a, argnums=0, has_aux=True, return_value=True
        )(1.0)
        np.testing.assert_allclose(variables, OF_A)
        assert (float(argument), float(value), float(aux)) == (11, 72, 2)

    def test_plain_attribute_and_loose_array(self):
        w = bm.random.random((2, 3))
        got = bm.grad(lambda: (w**2).sum(), grad_vars=w)()
        np.testing.assert_allclose(got, 2 * w.to_numpy(), rtol=1e-6)

    def test_variable_that_the_function_does_not_read(self):
        m, other = Model(), bm.TrainVar([1.0])
        got = bm.grad(m, grad_vars=[m.a, other])()
        np.testing.assert_allclose(got[1], [0.0])

    def test_variable_given_as_argument_as_well(self):
        # The argument is a copy of its value; only what is read from the variable counts.
        w = bm.TrainVar([2.0])
        got = bm.grad(lambda x: (x * w).sum(), grad_vars=w, argnums=0)(w)
        np.testing.assert_allclose(got[0], [2.0])
        np.testing.assert_allclose(got[1], [2.0])

    @pytest.mark.parametrize("grad_vars", [1.0, "a", jnp.ones(2), [jnp.ones(2)], {"k": 3}])
    def test_what_is_no_variable(self, grad_vars):
        m = Model()
        message = r"grad_vars.* must be a bm.Array or Variable.* for an argument use argnums"
        with pytest.raises(TypeError, match=message):
            bm.grad(m, grad_vars)


class TestDecorators:
    def test_function(self):
        @bm.grad
        def g(x):
            "Squares."
            return x**2

        assert float(g(3.0)) == 6
        assert g.__doc__ == "Squares."
        assert g.__name__ == "g"

    def test_with_options(self):
        @bm.grad(argnums=1, return_value=True)
        def g(x, y):
            return x * y**2

        assert [float(v) for v in g(2.0, 3.0)] == [12, 18]

    def test_all_of_them(self):
        def g(x):
            return x**2

        for transform in (bm.vector_grad, bm.jacrev, bm.jacfwd):
            assert float(transform()(g)(3.0)) == 6
        assert float(bm.hessian()(g)(3.0)) == 2
        assert float(bm.value_and_grad()(g)(3.0)[1]) == 6
        assert float(bm.jit()(g)(3.0)) == 9
        assert bm.vmap()(g)(bm.arange(3.0)).tolist() == [0, 1, 4]

    def test_methods(self):
        first, second = Model(), Model()
        second.a.value = jnp.array([10.0, 20.0])
        np.testing.assert_allclose(first.decorated(2.0), 12)
        np.testing.assert_allclose(second.decorated(2.0), 120)
        (of_x, of_y), value = first.decorated_with_options(2.0, 3.0)
        assert [float(v) for v in (of_x, of_y, value)] == [9, 6, 18]

    def test_of_a_method_is_compiled_once_for_each_object(self):
        m = Model()
        before = bm.cache_info().misses
        for x in (1.0, 2.0, 3.0):
            m.decorated(x)
        assert bm.cache_info().misses == before + 1

    def test_no_function(self):
        with pytest.raises(TypeError, match=r"bm\.grad takes a function .* got 3"):
            bm.grad(3)


@jax.tree_util.register_pytree_node_class
class Scaled:
    """A pytree with aux data that may be an array."""

    def __init__(self, x, by):
        self.x, self.by = x, by

    def tree_flatten(self):
        return (self.x,), self.by

    @classmethod
    def tree_unflatten(cls, by, children):
        return cls(*children, by)


class TestStaticArguments:
    def test_strings_functions_and_none(self):
        def g(x, how, activation, nothing):
            assert nothing is None
            return activation(x).sum() if how == "sum" else activation(x).mean()

        x = jnp.arange(4.0)
        grad = bm.grad(g)
        np.testing.assert_allclose(grad(x, "sum", jnp.sin, None), np.cos(x), rtol=1e-6)
        np.testing.assert_allclose(grad(x, "mean", jnp.sin, None), np.cos(x) / 4, rtol=1e-6)
        np.testing.assert_allclose(grad(x, "sum", jnp.cos, None), -np.sin(x), rtol=1e-6)
        np.testing.assert_allclose(grad(x, "sum", jnp.sin, None), np.cos(x), rtol=1e-6)
        assert grad.cache_info().misses == 3

    def test_in_keywords_and_containers(self):
        def g(x, config, *, mode):
            return (x * config["scale"]).sum() if mode == config["mode"] else x.sum()

        grad = bm.grad(g)
        config = {"scale": 3.0, "mode": "on"}
        np.testing.assert_allclose(grad(jnp.ones(2), config, mode="on"), [3, 3])
        np.testing.assert_allclose(grad(jnp.ones(2), config, mode="off"), [1, 1])

    def test_unhashable(self):
        class Odd:
            __hash__ = None

        with pytest.raises(TypeError, match="argument o is a Odd, which is neither an array"):
            bm.grad(lambda x, o: x).trace(1.0, Odd())

    def test_arrays_as_aux_data(self):
        """They cannot be compared, so nothing is compiled for all of them."""
        x = jnp.ones(2)
        gradient = bm.grad(lambda scaled: (scaled.x**2 * sum(scaled.by)).sum())
        for by in ([1.0], np.array([1.0, 2.0]), np.array([1.0, 3.0]), jnp.array([1.0, 2.0])):
            np.testing.assert_allclose(gradient(Scaled(x, by)).x, 2 * sum(by) * x)
        compiled = bm.jit(lambda scaled: scaled.x)
        compiled(Scaled(x, np.ones(2)))
        with pytest.raises(ValueError, match="arrays cannot be passed as metadata"):
            compiled(Scaled(x, np.ones(2)))

    def test_a_static_argument_has_no_derivative(self):
        with pytest.raises(
            TypeError, match=r"argument 1 of grad: 'text' of type .* is not a valid"
        ):
            bm.grad(lambda x, s: x, argnums=1)(1.0, "text")


def test_without_jit():
    """`jax.disable_jit` is for stepping through Python; programs are compiled all the same."""
    a = bm.Variable(jnp.ones(2))

    def fun(x):
        a.value = a + 1
        return a * x

    with jax.disable_jit():
        np.testing.assert_array_equal(bm.vector_grad(fun)(1.0), 4.0)
        np.testing.assert_array_equal(bm.jit(fun)(3.0), [9.0, 9.0])
    np.testing.assert_array_equal(a, [3.0, 3.0])


class TestCallsAfterTheFirst:
    """A function that took nothing but arrays so far is called at once; it may change its ways."""

    def test_then_it_reads_a_variable(self):
        scale = bm.Variable(jnp.float32(3.0))
        g = bm.grad(lambda x: (x * scale.value).sum() if x.ndim else x**2)
        assert float(g(1.5)) == float(g(1.5)) == 3.0
        np.testing.assert_allclose(g(jnp.ones(2)), [3, 3])
        scale.value = 5.0
        np.testing.assert_allclose(g(jnp.ones(2)), [5, 5])
        assert float(g(1.5)) == 3.0

    def test_then_it_takes_a_string(self):
        g = bm.grad(lambda x, how="square": x**2 if how == "square" else x**3)
        assert float(g(2.0)) == float(g(2.0)) == 4.0
        assert float(g(2.0, how="cube")) == 12.0

    def test_then_it_decides_by_values(self):
        g = bm.grad(lambda x: x.sum() if x.ndim == 0 or x[0] > 0 else -x.sum())
        assert float(g(1.0)) == float(g(1.0)) == 1.0
        np.testing.assert_allclose(g(-jnp.ones(2)), -jnp.ones(2))

    def test_then_it_raises(self):
        def loss(x):
            if x.ndim:
                raise TypeError("mine")
            return x**2

        g = bm.grad(loss)
        assert float(g(2.0)) == float(g(2.0)) == 4.0
        with pytest.raises(TypeError, match="mine"):
            g(jnp.ones(2))
        assert float(g(2.0)) == 4.0

    def test_calls_are_counted(self):
        g = bm.grad(lambda x: x**2)
        for _ in range(3):
            g(1.0)
        info = g.cache_info()
        assert (info.hits, info.misses) == (2, 1)
