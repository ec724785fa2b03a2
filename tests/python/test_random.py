import copy
import inspect
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad.math as bm
from bmgrad import _tracing_state

random = bm.random


def test_seeds_repeat():
    random.seed(3)
    first = [random.normal(size=3), random.rand(2), random.randint(10, size=4)]
    random.seed(3)
    again = [random.normal(size=3), random.rand(2), random.randint(10, size=4)]
    for x, y in zip(first, again, strict=True):
        np.testing.assert_array_equal(x, y)
    random.seed(4)
    assert not np.array_equal(random.normal(size=3), first[0])


def test_draws_differ_and_move_the_state_on():
    before = np.asarray(random.DEFAULT)
    x, y = random.random(4), random.random(4)
    assert not np.array_equal(x, y)
    assert not np.array_equal(random.DEFAULT, before)


def test_a_given_key_leaves_the_stream_alone():
    before = np.asarray(random.DEFAULT)
    keys = [7, jax.random.PRNGKey(7), jax.random.key(7), bm.asarray(jax.random.PRNGKey(7))]
    drawn = [np.asarray(random.uniform(size=2, key=key)) for key in keys]
    for x in drawn[1:]:
        np.testing.assert_array_equal(x, drawn[0])
    np.testing.assert_array_equal(random.DEFAULT, before)


def test_streams_of_their_own():
    a, b, c = random.RandomState(1), random.default_rng(1), random.RandomState()
    before = np.asarray(random.DEFAULT)
    np.testing.assert_array_equal(a.normal(size=3), b.normal(size=3))
    assert not np.array_equal(a.normal(size=3), c.normal(size=3))
    np.testing.assert_array_equal(random.DEFAULT, before)
    a.seed(5)
    b.seed(5)
    np.testing.assert_array_equal(a.rand(2, 2), b.rand(2, 2))
    assert random.Generator is random.RandomState


def test_states_are_variables():
    state = random.RandomState(2)
    assert isinstance(state, bm.Variable)
    assert (state.shape, state.dtype) == ((2,), np.uint32)
    np.testing.assert_array_equal(state, jax.random.PRNGKey(2))
    kept = state.value
    first = state.rand(3)
    state.value = kept
    np.testing.assert_array_equal(state.rand(3), first)
    twin = copy.deepcopy(state)
    np.testing.assert_array_equal(twin.rand(3), state.rand(3))
    assert repr(random.RandomState(0)).startswith("RandomState([0, 0]")


def test_a_bad_key_is_refused():
    with pytest.raises(TypeError, match="uint32"):
        random.RandomState(jnp.ones(2))
    with pytest.raises(TypeError, match="uint32"):
        random.rand(2, key=jnp.ones(2))


def test_keys_for_jax():
    state = random.RandomState(0)
    key = state.split_key()
    assert jax.random.normal(key, (2,)).shape == (2,)
    keys = state.split_keys(3)
    assert keys.shape == (3, 2)
    assert len({tuple(np.asarray(k)) for k in [key, *keys, state]}) == 5


def test_under_a_trace_the_state_is_read_and_written():
    state = random.RandomState(0)

    class Context:
        key = None
        reads = writes = 0

        def read(self, array):
            if array is not state:
                return array._value
            self.reads += 1
            return array._value if self.key is None else self.key

        def write(self, array, value):
            if array is state:
                self.writes += 1
                self.key = value

        def own(self, array):
            pass

    context = Context()

    def draw():
        with _tracing_state.tracing(context):
            return state.rand(2).value, state.rand(2).value

    jaxpr = jax.make_jaxpr(draw)()
    assert len(jaxpr.out_avals) == 2
    assert context.writes == 2
    assert context.reads >= 2
    # The key of before the trace is no tracer, although the trace was the first to ask for it.
    np.testing.assert_array_equal(state, jax.random.PRNGKey(0))


def test_importing_starts_no_backend():
    # jax refuses this setting once a backend has started.
    code = (
        "import bmgrad as bp, bmgrad.math as bm, jax;"
        "jax.config.update('jax_num_cpu_devices', 2);"
        "assert bm.random.rand(2).shape == (2,);"
        "assert len(jax.devices('cpu')) == 2"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- distributions

N = 4000
EULER = 0.5772156649
# name, arguments, mean, standard deviation
MOMENTS = [
    ("rand", (), 0.5, 12**-0.5),
    ("randn", (), 0, 1),
    ("random", (), 0.5, 12**-0.5),
    ("randint", (2, 7), 4, 2**0.5),
    ("randint", (5,), 2, 2**0.5),
    ("random_integers", (5,), 3, 2**0.5),
    ("choice", ([1.0, 5.0],), 3, 2),
    ("bernoulli", (0.3,), 0.3, 0.21**0.5),
    ("beta", (2, 3), 0.4, 0.2),
    ("binomial", (10, 0.3), 3, 2.1**0.5),
    ("categorical", ([0.0, float(np.log(3.0))],), 0.75, 0.1875**0.5),
    ("chisquare", (3,), 3, 6**0.5),
    ("exponential", (2.0,), 2, 2),
    ("f", (4, 20), 20 / 18, (2 * 400 * 22 / (4 * 18**2 * 16)) ** 0.5),
    ("gamma", (3.0, 2.0), 6, 12**0.5),
    ("geometric", (0.25,), 4, 12**0.5),
    ("gumbel", (1.0, 2.0), 1 + 2 * EULER, 2 * np.pi / 6**0.5),
    ("laplace", (1.0, 2.0), 1, 8**0.5),
    ("loggamma", (1.0,), -EULER, np.pi / 6**0.5),
    ("logistic", (1.0, 2.0), 1, 2 * np.pi / 3**0.5),
    ("lognormal", (0.5, 0.5), np.exp(0.625), np.exp(0.625) * np.expm1(0.25) ** 0.5),
    ("maxwell", (), (8 / np.pi) ** 0.5, (3 - 8 / np.pi) ** 0.5),
    ("negative_binomial", (4, 0.5), 4, 8**0.5),
    ("noncentral_chisquare", (3, 2), 5, 14**0.5),
    ("noncentral_f", (4, 20, 2), 20 * 6 / (4 * 18), 1.3),
    ("normal", (1.0, 2.0), 1, 2),
    ("pareto", (5.0,), 0.25, (5 / (16 * 3)) ** 0.5),
    ("poisson", (3.0,), 3, 3**0.5),
    ("power", (3.0,), 0.75, (3 / (16 * 5)) ** 0.5),
    ("rayleigh", (2.0,), 2 * (np.pi / 2) ** 0.5, 2 * (2 - np.pi / 2) ** 0.5),
    ("standard_exponential", (), 1, 1),
    ("standard_gamma", (3.0,), 3, 3**0.5),
    ("standard_normal", (), 0, 1),
    ("standard_t", (10,), 0, (10 / 8) ** 0.5),
    ("t", (10,), 0, (10 / 8) ** 0.5),
    ("triangular", (0.0, 1.0, 5.0), 2, (21 / 18) ** 0.5),
    ("truncated_normal", (0.0, 100.0), (2 / np.pi) ** 0.5, (1 - 2 / np.pi) ** 0.5),
    ("uniform", (2.0, 4.0), 3, 3**-0.5),
    ("wald", (2.0, 4.0), 2, 2**0.5),
    ("weibull", (1.0,), 1, 1),
    ("weibull_min", (1.0, 2.0), 2, 2),
]


@pytest.mark.parametrize(("name", "args", "mean", "deviation"), MOMENTS)
def test_moments(name, args, mean, deviation):
    state = random.RandomState(11)
    args = tuple(bm.array(a) if isinstance(a, list) else a for a in args)
    shape = (N,) if name in ("rand", "randn") else ()
    keywords = {} if shape else {"size": N}
    drawn = getattr(state, name)(*args, *shape, **keywords)
    assert type(drawn) is bm.Array
    assert drawn.shape == (N,)
    drawn = np.asarray(drawn, np.float64)
    assert abs(drawn.mean() - mean) < 5 * deviation / N**0.5
    assert abs(drawn.std() / deviation - 1) < 0.25


def test_every_distribution_has_its_moments_tested():
    tested = {row[0] for row in MOMENTS}
    no_moments = {
        *("DEFAULT", "Generator", "RandomState", "default_rng", "seed", "split_key", "split_keys"),
        *("random_sample", "ranf", "sample"),  # other names of random
        *("standard_cauchy", "dirichlet", "multinomial", "multivariate_normal"),  # below
        *("orthogonal", "permutation", "shuffle"),
    }
    assert set(random.__all__) == tested | no_moments


def test_truncated_normal():
    x = random.RandomState(0).truncated_normal(-1.0, 2.0, 2000, 1.0, 3.0)
    assert -1 <= float(x.min()) < -0.9
    assert 1.9 < float(x.max()) <= 2


def test_cauchy():
    x = np.asarray(random.RandomState(0).standard_cauchy(4000))
    np.testing.assert_allclose(np.quantile(x, [0.25, 0.5, 0.75]), [-1, 0, 1], atol=0.1)


def test_vectors():
    state = random.RandomState(0)
    cov = np.array([[2.0, 0.5], [0.5, 1.0]])
    x = state.multivariate_normal([1.0, -1.0], cov, 4000)
    np.testing.assert_allclose(np.mean(x, 0), [1, -1], atol=0.1)
    np.testing.assert_allclose(np.cov(np.asarray(x).T), cov, atol=0.15)
    assert state.multivariate_normal([1.0, -1.0], cov).shape == (2,)
    counts = state.multinomial(10, [0.2, 0.8], size=500)
    assert counts.shape == (500, 2)
    np.testing.assert_array_equal(counts.sum(1), np.full(500, 10))
    np.testing.assert_allclose(np.mean(counts, 0), [2, 8], atol=0.3)
    p = state.dirichlet(bm.array([2.0, 6.0]), 500)
    np.testing.assert_allclose(p.sum(1), np.ones(500), rtol=1e-5)
    np.testing.assert_allclose(np.mean(p, 0), [0.25, 0.75], atol=0.05)
    q = state.orthogonal(3, size=2)
    identity = np.broadcast_to(np.eye(3), (2, 3, 3))
    np.testing.assert_allclose(q @ q.mT, identity, atol=1e-5)


def test_sizes():
    state = random.RandomState(0)
    assert state.normal().shape == ()
    assert state.normal(size=()).shape == ()
    assert state.normal(size=3).shape == (3,)
    assert state.normal(0.0, 1.0, (2, 3)).shape == (2, 3)
    assert state.normal(bm.zeros((4, 1)), np.ones(2)).shape == (4, 2)
    assert state.normal(bm.zeros(2), size=(5, 2)).shape == (5, 2)
    assert state.rand(2, 3).shape == (2, 3)
    assert state.random((2, 3)).shape == (2, 3)
    assert state.randint(0, bm.array([3, 4])).shape == (2,)
    for draw in (state.normal, state.poisson, state.uniform):
        with pytest.raises(ValueError, match="broadcast"):
            draw(bm.zeros((4, 2)), size=(2,))


def test_dtypes():
    state = random.RandomState(0)
    assert state.bernoulli(0.5, 2).dtype == bool
    assert state.randint(5, size=2).dtype == np.int32
    assert state.randint(5, size=2, dtype=bm.uint8).dtype == np.uint8
    assert state.binomial(5, 0.5, N).dtype == np.int32
    assert state.poisson(5, N).dtype == np.int32
    assert state.normal(0, 1, 2).dtype == np.float32
    assert state.uniform(bm.zeros(2, dtype=bm.float16)).dtype == np.float32


def test_choice_without_replacement():
    state = random.RandomState(0)
    assert sorted(state.choice(5, 5, replace=False).tolist()) == [0, 1, 2, 3, 4]
    assert set(state.choice(bm.array([3, 4]), 20, p=[0.0, 1.0]).tolist()) == {4}


def test_permutation_and_shuffle():
    state = random.RandomState(0)
    assert sorted(state.permutation(20).tolist()) == list(range(20))
    x = bm.arange(20)
    y = state.permutation(x)
    assert x.tolist() == list(range(20))
    assert y.tolist() != x.tolist()
    assert state.shuffle(x) is None
    assert x.tolist() != list(range(20))
    assert sorted(x.tolist()) == list(range(20))
    with pytest.raises(TypeError, match="permutation"):
        state.shuffle(np.arange(3))


def test_arguments_are_checked():
    with pytest.raises(TypeError, match="missing"):
        random.gamma()
    with pytest.raises(TypeError, match="unexpected"):
        random.normal(bad=1)
    assert list(inspect.signature(random.normal).parameters) == ["loc", "scale", "size", "key"]
    assert random.normal.__doc__


def test_where_jax_refuses_plain_keys():
    def draw():
        bm.random.seed(3)
        return (
            bm.random.rand(2),
            bm.random.split_keys(2),
            bm.grad(lambda x: x * bm.random.rand())(1.0),
        )

    before = draw()
    jax.config.update("jax_legacy_prng_key", "error")
    try:
        after = draw()
    finally:
        jax.config.update("jax_legacy_prng_key", "allow")
    for x, y in zip(before, after, strict=True):
        np.testing.assert_array_equal(x, y)
