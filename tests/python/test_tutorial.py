"""The tutorial on class variables, output by output: values, kinds, weak types, names.

The code is the tutorial's own but for the import line. Where it draws random numbers the
expected value is computed from what was drawn.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad as bp
import bmgrad.math as bm


@pytest.fixture(autouse=True)
def fresh_names():
    bp.clear_name_cache()


def check(got, kind, expected, *, weak_type=False, rtol=1e-6):
    """`got` has exactly this kind, the shape and values of `expected`, and float32."""
    expected = np.asarray(expected, np.float32)
    if kind is jax.Array:
        assert isinstance(got, jax.Array)
    else:
        assert type(got) is kind
    assert got.dtype == jnp.float32
    assert got.shape == expected.shape
    assert got.weak_type == weak_type
    np.testing.assert_allclose(np.asarray(got), expected, rtol=rtol, atol=1e-7)


class Linear(bp.Base):
    def __init__(self):
        super(Linear, self).__init__()  # noqa: UP008  # as in the tutorial
        self.w = bm.random.random((1, 10))
        self.b = bm.zeros(1)

    def update(self, x):
        r = bm.dot(self.w, x) + self.b
        return r.sum()


class LinearAux(Linear):
    def update(self, x):
        dot = bm.dot(self.w, x)
        r = (dot + self.b).sum()
        return r, (r, dot)


class F(bp.Base):
    def __init__(self):
        super().__init__()
        self.a = bm.TrainVar(bm.ones(1))
        self.b = bm.TrainVar(bm.ones(1))

    def __call__(self, c):
        ab = self.a * self.b
        ab2 = ab * 2
        vv = ab2 + c
        return vv.mean()


class F2(F):
    def __call__(self, c):
        ab = self.a * self.b
        ab = ab * 2
        self.a.value = ab
        return (ab + c).mean()


class F3(F):
    def __call__(self, c, d):
        ab = self.a * self.b
        ab = ab * 2
        return (ab + c * d).mean()


class F4(F):
    def __call__(self, c):
        ab = self.a * self.b
        ab2 = ab * 2
        loss = (ab + c).mean()
        return loss, (ab, ab2)


def test_set_platform():
    before = jax.config.jax_default_device
    try:
        bp.math.set_platform("cpu")
        assert bp.math.get_platform() == "cpu"
    finally:
        jax.config.update("jax_default_device", before)


class TestPreliminary:
    def test_the_parts_are_arrays(self):
        linear = Linear()
        assert type(linear.w) is bm.JaxArray
        assert linear.w.shape == (1, 10)
        assert 0 <= float(linear.w.min()) < float(linear.w.max()) < 1

    def test_argnums(self):
        linear = Linear()
        grad = bm.grad(linear.update, argnums=0)
        check(grad(bm.ones(10)), bm.JaxArray, linear.w[0])

    def test_grad_vars(self):
        linear = Linear()
        grads = bm.grad(linear.update, grad_vars=(linear.w, linear.b))(bm.ones(10))
        assert type(grads) is tuple
        check(grads[0], jax.Array, np.ones((1, 10)))
        check(grads[1], jax.Array, [1.0])

    def test_grad_vars_and_argnums(self):
        linear = Linear()
        grad = bm.grad(linear.update, grad_vars=(linear.w, linear.b), argnums=0)
        var_grads, arg_grads = grad(bm.ones(10))
        assert type(var_grads) is tuple
        check(var_grads[0], jax.Array, np.ones((1, 10)))
        check(var_grads[1], jax.Array, [1.0])
        check(arg_grads, bm.JaxArray, linear.w[0])

    def test_return_value(self):
        linear = Linear()
        grad = bm.grad(linear.update, argnums=0, return_value=True)
        gradient, value = grad(bm.ones(10))
        check(gradient, bm.JaxArray, linear.w[0])
        check(value, jax.Array, np.sum(linear.w), rtol=1e-5)

    def test_has_aux(self):
        model = LinearAux()
        grad = bm.grad(model.update, argnums=0, has_aux=True)
        gradient, aux = grad(bm.ones(10))
        check(gradient, bm.JaxArray, model.w[0])
        assert type(aux) is tuple
        check(aux[0], jax.Array, np.sum(model.w), rtol=1e-5)
        check(aux[1], bm.JaxArray, [np.sum(model.w)], rtol=1e-5)


class TestPureFunctions:
    def test_first_argument(self):
        def f(a, b):
            return a * 2 + b

        check(bm.grad(f)(2.0, 1.0), jax.Array, 2.0, weak_type=True)

    def test_argnums(self):
        def f(a, b):
            return a * 2 + b

        grads = bm.grad(f, argnums=(0, 1))(2.0, 1.0)
        assert type(grads) is tuple
        check(grads[0], jax.Array, 2.0, weak_type=True)
        check(grads[1], jax.Array, 1.0, weak_type=True)


class TestClassObjects:
    def test_collector(self):
        f = F()
        grads = bm.grad(f, grad_vars=f.train_vars())(10.0)
        assert type(grads) is dict
        assert list(grads) == ["F0.a", "F0.b"]
        check(grads["F0.a"], jax.Array, [2.0])
        check(grads["F0.b"], jax.Array, [2.0])

    def test_list(self):
        f = F()
        grads = bm.grad(f, grad_vars=[f.a, f.b])(10.0)
        assert type(grads) is tuple
        check(grads[0], jax.Array, [2.0])
        check(grads[1], jax.Array, [2.0])

    def test_dynamically_changed(self):
        f2 = F2()
        check(bm.grad(f2, dyn_vars=[f2.a], grad_vars=f2.b)(10.0), jax.Array, [2.0])
        check(f2.a, bm.TrainVar, [2.0])
        check(f2.b, bm.TrainVar, [1.0])

    def test_variables_and_one_argument(self):
        f3 = F3()
        of_vars, of_args = bm.grad(f3, grad_vars=[f3.a, f3.b], argnums=0)(10.0, 3.0)
        check(of_vars[0], jax.Array, [2.0])
        check(of_vars[1], jax.Array, [2.0])
        check(of_args, jax.Array, 3.0, weak_type=True)
        assert str(of_args) == "3.0"

    def test_variables_and_two_arguments(self):
        f3 = F3()
        of_vars, of_args = bm.grad(f3, grad_vars=[f3.a, f3.b], argnums=(0, 1))(10.0, 3.0)
        check(of_vars[0], jax.Array, [2.0])
        check(of_vars[1], jax.Array, [2.0])
        assert type(of_args) is tuple
        check(of_args[0], jax.Array, 3.0, weak_type=True)
        check(of_args[1], jax.Array, 10.0, weak_type=True)

    def test_loss(self):
        f = F()
        grad, loss = bm.grad(f, grad_vars=f.a, return_value=True)(10.0)
        check(grad, jax.Array, [2.0])
        check(loss, jax.Array, 12.0)
        assert (str(grad), str(loss)) == ("[2.]", "12.0")

    def test_auxiliary_data(self):
        f4 = F4()
        grad, aux_data = bm.grad(f4, grad_vars=f4.a, has_aux=True)(10.0)
        check(grad, jax.Array, [1.0])
        assert type(aux_data) is tuple
        check(aux_data[0], bm.JaxArray, [1.0])
        check(aux_data[1], bm.JaxArray, [2.0])

    def test_not_a_scalar(self):
        with pytest.raises(TypeError) as error:
            bm.grad(lambda x: x)(bm.zeros(2))
        assert str(error.value) == (
            "Gradient only defined for scalar-output functions. Output had shape: (2,)."
        )
        assert "output.sum() or" in error.value.__notes__[0]

    def test_mean(self):
        check(bm.grad(lambda x: x.mean())(bm.zeros(2)), bm.JaxArray, [0.5, 0.5])


class TestVectorGrad:
    @staticmethod
    def f(a, b):
        return bm.sin(b) * a

    def test_vectors(self):
        a = bm.arange(5.0)
        b = bm.random.random(5)
        check(bm.vector_grad(self.f)(a, b), bm.JaxArray, np.sin(b))
        grads = bm.vector_grad(self.f, argnums=(0, 1))(a, b)
        assert type(grads) is tuple
        check(grads[0], bm.JaxArray, np.sin(b))
        check(grads[1], bm.JaxArray, np.cos(b) * np.arange(5))

    def test_matrices(self):
        a = bm.arange(6.0).reshape((2, 3))
        b = bm.random.random((2, 3))
        of_b = np.cos(b) * np.arange(6).reshape(2, 3)
        check(bm.vector_grad(self.f, argnums=1)(a, b), bm.JaxArray, of_b)
        grads = bm.vector_grad(self.f, argnums=(0, 1))(a, b)
        check(grads[0], bm.JaxArray, np.sin(b))
        check(grads[1], bm.JaxArray, of_b)

    def test_class_object(self):
        class Test(bp.Base):
            def __init__(self):
                super().__init__()
                self.x = bm.ones(5)
                self.y = bm.ones(5)

            def __call__(self):
                return self.x**2 + self.y**3 + 10

        t = Test()
        check(bm.vector_grad(t, grad_vars=t.x)(), jax.Array, np.full(5, 2.0))
        one = bm.vector_grad(t, grad_vars=(t.x,))()
        assert type(one) is tuple
        assert len(one) == 1
        check(one[0], jax.Array, np.full(5, 2.0))
        both = bm.vector_grad(t, grad_vars=(t.x, t.y))()
        check(both[0], jax.Array, np.full(5, 2.0))
        check(both[1], jax.Array, np.full(5, 3.0))


class TestJacobian:
    of_x = (
        [10.0, 0.0, 0.0],
        [0.0, 0.0, 25.0],
        [0.0, 16.0, -2.0],
        [1.6209068, 0.0, 0.84147096],
    )
    of_y = ([1.0, 0.0], [0.0, 15.0], [0.0, 0.0], [0.0, 0.0])

    def test_pure_function(self):
        def f1(x, y):
            a = 4 * x[1] ** 2 - 2 * x[2]
            r = jnp.asarray([x[0] * y[0], 5 * x[2] * y[1], a, x[2] * jnp.sin(x[0])])
            return r, a

        _x = bm.array([1.0, 2.0, 3.0])
        _y = bm.array([10.0, 5.0])
        grads, vec, aux = bm.jacobian(f1, return_value=True, has_aux=True)(_x, _y)
        check(grads, bm.JaxArray, self.of_x)
        check(vec, jax.Array, [10.0, 75.0, 10.0, 2.5244129])
        check(aux, jax.Array, 10.0)

    @pytest.mark.parametrize("jacobian", [bm.jacobian, bm.jacrev, bm.jacfwd])
    def test_class_object(self, jacobian):
        class Test(bp.Base):
            def __init__(self):
                super().__init__()
                self.x = bm.array([1.0, 2.0, 3.0])

            def __call__(self, y):
                a = self.x[0] * y[0]
                b = 5 * self.x[2] * y[1]
                c = 4 * self.x[1] ** 2 - 2 * self.x[2]
                d = self.x[2] * jnp.sin(self.x[0])
                r = jnp.asarray([a, b, c, d])
                return r, (c, d)

        t = Test()
        f_grad = jacobian(t, grad_vars=t.x, argnums=0, has_aux=True, return_value=True)
        (var_grads, arg_grads), value, aux = f_grad(bm.array([10.0, 5.0]))
        check(var_grads, jax.Array, self.of_x)
        check(arg_grads, bm.JaxArray, self.of_y)
        check(value, jax.Array, [10.0, 75.0, 10.0, 2.5244129])
        assert type(aux) is tuple
        check(aux[0], jax.Array, 10.0)
        check(aux[1], jax.Array, 2.5244129)
