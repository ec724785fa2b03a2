"""Variables under transforms: what is read is an input, what is assigned comes back."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad as bp
import bmgrad.math as bm

TRANSFORMS = [
    lambda f, w: bm.grad(f, grad_vars=w),
    lambda f, w: bm.vector_grad(f, grad_vars=w),
    lambda f, w: bm.value_and_grad(f, grad_vars=w),
    lambda f, w: bm.jacrev(f, grad_vars=w),
    lambda f, w: bm.jacfwd(f, grad_vars=w),
    lambda f, w: bm.hessian(f, grad_vars=w),
    lambda f, w: bm.jit(f),
]
NAMES = ["grad", "vector_grad", "value_and_grad", "jacrev", "jacfwd", "hessian", "jit"]


class Counter(bp.Base):
    def __init__(self):
        super().__init__()
        self.w = bm.TrainVar([1.0, 2.0])
        self.count = bm.Variable(bm.zeros((), dtype="int32"))
        self.trace = bm.Variable(bm.zeros(2))

    def loss(self, x=1.0):
        self.count += 1
        self.trace.value = self.w * x
        return (self.w**2 * x).sum()


@pytest.mark.parametrize("transform", TRANSFORMS, ids=NAMES)
class TestWrites:
    def test_come_back_after_each_call(self, transform):
        m = Counter()
        run = transform(m.loss, m.w)
        for calls in (1, 2, 3):
            run(float(calls))
            assert int(m.count) == calls
            np.testing.assert_allclose(m.trace, [calls, 2 * calls])
        assert type(m.count._value) is type(jnp.zeros(()))
        assert run.cache_info().misses == 1
        assert run.cache_info().hits == 2

    def test_nothing_changes_when_the_function_raises(self, transform):
        m = Counter()

        def fails(x):
            m.loss(x)
            m.w[0] = 7.0
            raise ZeroDivisionError("mine")

        before = [np.asarray(v.value) for v in (m.w, m.count, m.trace)]
        for _ in range(2):
            with pytest.raises(ZeroDivisionError, match="mine"):
                transform(fails, m.w)(1.0)
            for array, value in zip((m.w, m.count, m.trace), before, strict=True):
                assert not isinstance(array._value, jax.core.Tracer)
                np.testing.assert_array_equal(array, value)
        transform(m.loss, m.w)(1.0)
        assert int(m.count) == 1

    def test_gradient_is_at_the_values_on_entry(self, transform):
        m = Counter()

        def loss():
            before = (m.w**3).sum()
            m.w.value = m.w * 10
            return before

        result = transform(loss, m.w)()
        np.testing.assert_allclose(m.w, [10, 20])
        expected = {
            "grad": [3, 12],
            "vector_grad": [3, 12],
            "value_and_grad": [3, 12],
            "jacrev": [3, 12],
            "jacfwd": [3, 12],
            "hessian": [[6, 0], [0, 12]],
            "jit": 9,
        }[NAMES[TRANSFORMS.index(transform)]]
        result = result[1] if isinstance(result, tuple) else result
        np.testing.assert_allclose(result, expected, rtol=1e-6)

    def test_read_after_write_sees_the_new_value(self, transform):
        m = Counter()

        def loss():
            m.trace.value = m.w * m.w
            return (m.trace * 3).sum()

        result = transform(loss, m.w)()
        np.testing.assert_allclose(m.trace, [1, 4])
        if NAMES[TRANSFORMS.index(transform)] == "grad":
            np.testing.assert_allclose(result, [6, 12])


@pytest.mark.parametrize("inner", [lambda f: f, bm.grad, bm.jacrev, bm.jacfwd, bm.jit])
@pytest.mark.parametrize(
    "outer",
    [
        bm.grad,
        bm.jacrev,
        bm.jacfwd,
        bm.hessian,
        lambda f: bm.jit(bm.jacrev(f)),
        lambda f: lambda x: bm.vjp(f, x)[1](1.0)[0],
        lambda f: lambda x: bm.linearize(f, x)[1](1.0),
    ],
)
def test_variables_that_are_residuals_and_assigned(outer, inner):
    factor = bm.Variable(jnp.float32(0.5))

    def grow(x):
        y = x * x * factor.value
        factor.value = factor.value * 10
        return y

    def pure(x):
        return x * x * 0.5

    of_jax = {bm.grad: jax.grad, bm.jacrev: jax.grad, bm.jacfwd: jax.grad}
    plain = of_jax.get(inner, lambda f: f)(pure)
    second = jax.grad(jax.grad(plain)) if outer is bm.hessian else jax.grad(plain)
    np.testing.assert_allclose(outer(inner(grow))(3.0), second(3.0), rtol=1e-6)
    assert factor.value == 5


class TestKindsOfWrites:
    @pytest.mark.parametrize(
        ("change", "value", "gradient"),
        [
            (lambda v: v.__setitem__(0, 5), [5, 2], [0, 1]),
            (lambda v: v.__iadd__(1), [2, 3], [1, 1]),
            (lambda v: v.__imul__(3), [3, 6], [3, 3]),
            (lambda v: v.update(v**2), [1, 4], [2, 4]),
            (lambda v: v.fill(7), [7, 7], [0, 0]),
            (lambda v: v.__setitem__(slice(None), v[::-1]), [2, 1], [1, 1]),
        ],
    )
    def test_in_place(self, change, value, gradient):
        v = bm.Variable([1.0, 2.0])

        def loss():
            change(v)
            return v.sum()

        np.testing.assert_allclose(bm.grad(loss, grad_vars=v)(), gradient)
        np.testing.assert_allclose(v, value)

    def test_written_only(self):
        v = bm.Variable([1.0, 2.0])

        def f(x):
            v.value = jnp.stack([x, 2 * x])
            return x

        assert float(bm.grad(f)(3.0)) == 1
        np.testing.assert_allclose(v, [3, 6])

    def test_only_under_a_condition_of_the_host(self):
        v = bm.Variable(bm.zeros(()))

        def f(x, assign):
            if assign == "yes":
                v.value = x * 2
            return x**2

        grad = bm.grad(f)
        grad(3.0, "no")
        assert float(v) == 0
        grad(3.0, "yes")
        assert float(v) == 6
        grad(4.0, "no")
        assert float(v) == 6

    def test_wrong_shape_or_dtype_says_so(self):
        v = bm.Variable(bm.zeros(2))

        def f(x):
            v.value = x
            return x.sum()

        with pytest.raises(ValueError, match=r"shape \(2,\), but the new value has shape \(3,\)"):
            bm.grad(f)(jnp.ones(3))
        with pytest.raises(TypeError, match="dtype float32, but the new value has dtype float16"):
            bm.grad(f)(jnp.ones(2, "float16"))
        np.testing.assert_allclose(v, [0, 0])

    def test_a_new_array_made_inside_is_local(self):
        def f(x):
            acc = bm.zeros(3)
            acc[0] = x
            acc += x
            return (acc**2).sum()

        np.testing.assert_allclose(bm.grad(f)(2.0), 24.0)


class TestReads:
    def test_later_changes_are_seen_without_compiling_again(self):
        w, scale = bm.TrainVar([1.0, 2.0]), bm.array([3.0, 3.0])
        grad = bm.grad(lambda x: (w * scale * x).sum(), grad_vars=w)
        np.testing.assert_allclose(grad(1.0), [3, 3])
        scale.value = jnp.array([5.0, 6.0])
        np.testing.assert_allclose(grad(1.0), [5, 6])
        scale[0] = 0.0
        np.testing.assert_allclose(grad(2.0), [0, 12])
        assert grad.cache_info()[:3] == (2, 1, 1)

    def test_plain_attributes(self):
        class M(bp.Base):
            def __init__(self):
                super().__init__()
                self.w = bm.random.random((1, 4))

            def __call__(self, x):
                return bm.dot(self.w, x).sum()

        m = M()
        grad = bm.grad(m)
        np.testing.assert_allclose(grad(bm.ones(4)), m.w[0])
        m.w.value = bm.arange(4.0).reshape(1, 4)
        np.testing.assert_allclose(grad(bm.ones(4)), [0, 1, 2, 3])
        assert grad.cache_info().misses == 1

    def test_rebinding_an_attribute(self):
        class M(bp.Base):
            def __init__(self):
                super().__init__()
                self.w = bm.array([1.0, 2.0])

            def __call__(self, x):
                return (self.w * x).sum()

        m = M()
        grad = bm.grad(m)
        np.testing.assert_allclose(grad(1.0), 3)
        m.w = bm.array([10.0, 20.0, 30.0])
        np.testing.assert_allclose(grad(1.0), 60)

    def test_global_closure(self):
        w = bm.array(2.0)

        def outer():
            return lambda x: x * w

        grad = bm.grad(outer())
        assert float(grad(1.0)) == 2
        w.value = 5.0
        assert float(grad(1.0)) == 5

    def test_more_variables_at_other_shapes(self):
        a, b = bm.array(2.0), bm.array(3.0)

        def f(x):
            return (x * a).sum() if x.ndim == 1 else (x * a * b).sum()

        grad = bm.grad(f)
        np.testing.assert_allclose(grad(jnp.ones(2)), [2, 2])
        np.testing.assert_allclose(grad(jnp.ones((1, 2))), [[6, 6]])
        b.value = 10.0
        np.testing.assert_allclose(grad(jnp.ones(2)), [2, 2])
        np.testing.assert_allclose(grad(jnp.ones((1, 2))), [[20, 20]])

    def test_read_inside_inner_traces_of_jax(self):
        w = bm.TrainVar([1.0, 2.0])

        def loss(x):
            inner = jax.jit(lambda y: y * w.value)(x)
            mapped = jax.vmap(lambda y, k: y * k)(inner, w.value)
            total, _ = jax.lax.scan(lambda c, _: (c + mapped * w.value, None), inner, None, 2)
            return jax.lax.cond(x.sum() > 0, lambda t: (t * w.value).sum(), lambda t: 0.0, total)

        def oracle(w, x):
            return ((x * w + 2 * x * w**3) * w).sum()

        x = jnp.array([0.5, 1.5])
        got = bm.grad(loss, grad_vars=w, argnums=0)(x)
        np.testing.assert_allclose(got[0], jax.grad(oracle)(w.value, x), rtol=1e-5)
        np.testing.assert_allclose(got[1], jax.grad(oracle, argnums=1)(w.value, x), rtol=1e-5)


class TestNoTracerIsLeft:
    def test_written_in_a_scan_body(self):
        m = Counter()

        def loss(x):
            def body(c, _):
                m.trace.value = m.trace.value + c
                return c, None

            return jax.lax.scan(body, x, None, length=3)[0].sum()

        with pytest.raises(jax.errors.UnexpectedTracerError, match=r"trace|Counter"):
            bm.grad(loss)(jnp.ones(2))
        np.testing.assert_allclose(m.trace, [0, 0])

    def test_the_message_names_the_variable(self):
        class Cell(bp.Base):
            def __init__(self):
                super().__init__()
                self.h = bm.Variable(bm.zeros(2))

            def loss(self, x):
                def body(c, _):
                    self.h.value = c
                    return c, None

                return jax.lax.scan(body, x, None, length=3)[0].sum()

        cell = Cell()
        with pytest.raises(jax.errors.UnexpectedTracerError, match=rf"{cell.name}\.h"):
            bm.grad(cell.loss)(jnp.ones(2))
        assert not isinstance(cell.h._value, jax.core.Tracer)

    @pytest.mark.parametrize("around", [jax.jit, jax.vmap, jax.grad])
    def test_written_under_a_transform_of_jax(self, around):
        v = bm.Variable(bm.zeros(()))

        def f(x):
            v.value = x * 2
            return x**2

        grad = bm.grad(f)
        arg = jnp.ones(2) if around is jax.vmap else 1.0
        with pytest.raises(jax.errors.UnexpectedTracerError, match="assigns a variable"):
            around(grad)(arg)
        assert float(v) == 0
        assert float(grad(1.0)) == 2
        assert float(v) == 2

    def test_failure_in_the_middle_of_nested_traces(self):
        v = bm.Variable(bm.ones(2))

        def loss(x):
            v.value = v * x

            def body(c, _):
                v.value.sum()
                raise KeyError("inside scan")

            return jax.lax.scan(body, x, None, length=2)[0].sum()

        outer = bm.grad(lambda x: bm.vector_grad(loss)(x).sum())
        with pytest.raises(KeyError, match="inside scan"):
            outer(jnp.ones(2))
        np.testing.assert_allclose(v, [1, 1])
        assert float((v * 2).sum()) == 4


class TestRandom:
    def test_draws_go_on_inside_transforms(self):
        bm.random.seed(3)
        grad = bm.grad(lambda x: (x * bm.random.normal(size=3)).sum())
        first, second = np.asarray(grad(jnp.ones(3))), np.asarray(grad(jnp.ones(3)))
        assert not np.allclose(first, second)
        bm.random.seed(3)
        np.testing.assert_array_equal(grad(jnp.ones(3)), first)
        np.testing.assert_array_equal(grad(jnp.ones(3)), second)
        assert grad.cache_info().misses == 1

    def test_the_same_numbers_as_without_a_transform(self):
        def draw(x):
            return (x * bm.random.uniform(size=(4,))).sum()

        bm.random.seed(11)
        plain = float(draw(1.0))
        follows = float(bm.random.uniform())
        bm.random.seed(11)
        np.testing.assert_allclose(bm.grad(draw)(1.0), plain, rtol=1e-6)
        np.testing.assert_allclose(bm.random.uniform(), follows)

    def test_dropout(self):
        w = bm.TrainVar(bm.ones(100))
        bm.random.seed(0)
        gradient = bm.grad(lambda: (w * bm.random.bernoulli(0.3, 100)).sum(), grad_vars=w)()
        assert set(np.unique(gradient)) == {0.0, 1.0}


class TestThreads:
    def test_one_function_in_two_threads(self):
        m = Counter()
        grad = bm.grad(lambda x: (m.w * x**2).sum())
        results, errors = {}, []

        def work(k):
            try:
                shape = (2,) if k % 2 else (3, 2)
                results[k] = [np.asarray(grad(jnp.full(shape, float(k)))) for _ in range(5)]
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        for k, values in results.items():
            for value in values:
                np.testing.assert_allclose(value, np.broadcast_to([2 * k, 4 * k], value.shape))
        info = grad.cache_info()
        assert info.hits + info.misses == 20

    def test_a_trace_in_one_thread_does_not_show_in_another(self):
        v = bm.Variable([1.0])
        inside, done = threading.Event(), threading.Event()
        seen = []

        def loss(x):
            v.value = v * x
            inside.set()
            assert done.wait(10)
            return v.sum()

        def look():
            assert inside.wait(10)
            seen.append(v.value)
            done.set()

        other = threading.Thread(target=look)
        other.start()
        bm.grad(loss)(2.0)
        other.join()
        assert not isinstance(seen[0], jax.core.Tracer)
        np.testing.assert_allclose(seen[0], [1.0])
        np.testing.assert_allclose(v, [2.0])
