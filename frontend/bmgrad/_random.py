"""Random numbers: ``bm.random``.

In: numpy's names and arguments. Out: jax's random bits, drawn with a key that is itself a
variable, so that transforms thread it through a program like any other state. Next:
``math/random.py``, the public list.
"""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from bmgrad._array import Array, unwrap, wrap
from bmgrad._variable import Variable
from bmgrad.runtime._dispatch import begin_array

if TYPE_CHECKING:
    from jax.typing import DTypeLike

__all__ = ["DEFAULT", "DISTRIBUTIONS", "RandomState"]


class RandomState(Variable):
    """A stream of random numbers: a variable that holds a jax key and moves on at every draw.

    Args:
        seed: an int, or a raw key (uint32) or typed key of ``jax.random``; by default fresh
            entropy.

    Every distribution takes ``size`` (an int or a shape; by default the shape that its parameters
    broadcast to) and ``key`` (a seed or key to draw with instead, which leaves the stream where it
    is). Equal seeds give equal streams, whatever is transformed or compiled.

    Example:
        >>> import bmgrad.math as bm
        >>> a, b = bm.random.RandomState(1), bm.random.RandomState(1)
        >>> bool((a.normal(size=3) == b.normal(size=3)).all())
        True
    """

    __slots__ = ("_key", "_seed")
    _how_to_mend = ", as its seed() does"

    def __init__(self, seed: Any = None) -> None:
        # The key is made at the first read: importing bmgrad must not start a jax backend.
        self._seed = _entropy() if seed is None else unwrap(seed)
        self._key: Any = None if isinstance(self._seed, (int, np.integer)) else _as_key(seed)
        begin_array(self)

    @property
    def _value(self) -> Any:  # a slot in Array
        if self._key is None:
            # Not inside whatever is being traced: this is the value from before.
            with jax.ensure_compile_time_eval():
                self._key = _as_key(self._seed)
        return self._key

    @_value.setter
    def _value(self, value: Any) -> None:
        self._key = value

    def seed(self, seed: Any = None) -> None:
        """Start anew from ``seed`` (an int or a key), or from fresh entropy."""
        self.value = _as_key(_entropy() if seed is None else unwrap(seed))

    def split_key(self) -> jax.Array:
        """A key for one draw; the stream moves on."""
        key: jax.Array
        self.value, key = _split(self.value)
        return key

    def split_keys(self, n: int) -> jax.Array:
        """``n`` keys, of shape ``(n, ...)``; the stream moves on."""
        keys = _split_into(self.value, n + 1)
        self.value = keys[0]
        return keys[1:]

    def _draw_key(self, key: Any) -> jax.Array:
        # A key of its own type: JAX may be told to refuse plain ones.
        plain = self.split_key() if key is None else _as_key(unwrap(key))
        typed: jax.Array = jr.wrap_key_data(plain)
        return typed

    # ---- draws whose arguments are no distribution's parameters

    def rand(self, *shape: int, key: Any = None) -> Array:
        """Uniform numbers in [0, 1) of this shape."""
        return cast("Array", wrap(jr.uniform(self._draw_key(key), shape)))

    def randn(self, *shape: int, key: Any = None) -> Array:
        """Standard normal numbers of this shape."""
        return cast("Array", wrap(jr.normal(self._draw_key(key), shape)))

    def random(self, size: Any = None, key: Any = None) -> Array:
        """Uniform numbers in [0, 1)."""
        return self.rand(*_shape(size), key=key)

    random_sample = ranf = sample = random

    def randint(
        self,
        low: Any,
        high: Any = None,
        size: Any = None,
        dtype: DTypeLike = int,
        key: Any = None,
    ) -> Array:
        """Integers in [low, high), or in [0, low) if ``high`` is None."""
        low, high = (0, unwrap(low)) if high is None else (unwrap(low), unwrap(high))
        shape = _shape(size, low, high)
        return cast("Array", wrap(jr.randint(self._draw_key(key), shape, low, high, dtype)))

    def random_integers(
        self, low: Any, high: Any = None, size: Any = None, key: Any = None
    ) -> Array:
        """Integers in [low, high], or in [1, low] if ``high`` is None."""
        low, high = (1, low) if high is None else (low, high)
        return self.randint(low, high + 1, size, key=key)

    def choice(
        self, a: Any, size: Any = None, replace: bool = True, p: Any = None, key: Any = None
    ) -> Array:
        """Elements of ``a`` (of ``arange(a)`` if an int), with probabilities ``p``."""
        a = a if isinstance(a, (int, np.integer)) else jnp.asarray(unwrap(a))
        p = None if p is None else jnp.asarray(unwrap(p))
        drawn = jr.choice(self._draw_key(key), a, _shape(size), replace, p)
        return cast("Array", wrap(drawn))

    def permutation(
        self, x: Any, axis: int = 0, independent: bool = False, key: Any = None
    ) -> Array:
        """``x`` (``arange(x)`` if an int) in random order along ``axis``."""
        x = unwrap(x)
        x = x if isinstance(x, (int, np.integer)) else jnp.asarray(x)
        drawn = jr.permutation(self._draw_key(key), x, axis, independent=independent)
        return cast("Array", wrap(drawn))

    def shuffle(self, x: Array, axis: int = 0, key: Any = None) -> None:
        """Put the Array ``x`` in random order along ``axis``, in place."""
        if not isinstance(x, Array):
            raise TypeError(
                f"shuffle changes a bm.Array in place, which a {type(x).__name__} cannot be; "
                "use permutation()"
            )
        x.value = self.permutation(x, axis, key=key).value

    def multivariate_normal(
        self, mean: Any, cov: Any, size: Any = None, method: str = "cholesky", key: Any = None
    ) -> Array:
        """Normal vectors of shape ``size + mean.shape[-1:]`` with this covariance."""
        mean, cov = jnp.asarray(unwrap(mean)), jnp.asarray(unwrap(cov))
        shape = None if size is None else _shape(size)
        drawn = jr.multivariate_normal(self._draw_key(key), mean, cov, shape, method=method)
        return cast("Array", wrap(drawn))

    def multinomial(self, n: Any, pvals: Any, size: Any = None, key: Any = None) -> Array:
        """How many of ``n`` fell into each class, of shape ``size + pvals.shape[-1:]``."""
        # Versions of jax disagree about what a `shape` given to jr.multinomial covers.
        n, p = jnp.asarray(unwrap(n)), jnp.asarray(unwrap(pvals))
        shape = jnp.broadcast_shapes(n.shape, p.shape[:-1]) if size is None else _shape(size)
        n, p = jnp.broadcast_to(n, shape), jnp.broadcast_to(p, (*shape, p.shape[-1]))
        drawn = jr.multinomial(self._draw_key(key), n, p)
        return cast("Array", wrap(drawn.astype(int)))

    def dirichlet(self, alpha: Any, size: Any = None, key: Any = None) -> Array:
        """Probability vectors of shape ``size + alpha.shape[-1:]``."""
        shape = None if size is None else _shape(size)
        drawn = jr.dirichlet(self._draw_key(key), jnp.asarray(unwrap(alpha)), shape)
        return cast("Array", wrap(drawn))

    def categorical(self, logits: Any, axis: int = -1, size: Any = None, key: Any = None) -> Array:
        """Indices along ``axis`` with these unnormalised log-probabilities."""
        shape = None if size is None else _shape(size)
        drawn = jr.categorical(self._draw_key(key), jnp.asarray(unwrap(logits)), axis, shape)
        return cast("Array", wrap(drawn))

    def orthogonal(self, n: int, size: Any = None, key: Any = None) -> Array:
        """Uniform orthogonal matrices of shape ``size + (n, n)``."""
        return cast("Array", wrap(jr.orthogonal(self._draw_key(key), n, _shape(size))))

    if TYPE_CHECKING:
        # The distributions of the table below.
        def __getattr__(self, name: str) -> Callable[..., Array]: ...


def _entropy() -> int:
    return secrets.randbits(32)


def _as_key(seed: Any) -> jax.Array:
    """A raw key from a seed, a raw key or a typed key."""
    if isinstance(seed, (int, np.integer)):
        return jr.key_data(jr.key(int(seed)))
    key = jnp.asarray(unwrap(seed))
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return jr.key_data(key)
    if key.ndim == 0 and jnp.issubdtype(key.dtype, jnp.integer):
        return jr.key_data(jr.key(key))
    if key.dtype != jnp.uint32:
        raise TypeError(f"a random key has dtype uint32, not {key.dtype}; a seed is an int")
    return key


@jax.jit
def _split(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    # Compiled as one: taking the halves apart would cost more than making them.
    keys = _split_into(key, 2)
    return keys[0], keys[1]


def _split_into(key: Any, count: int) -> jax.Array:
    return jr.key_data(jr.split(jr.wrap_key_data(key), count))


def _shape(size: Any, *parameters: Any) -> tuple[int, ...]:
    if size is None:
        return jnp.broadcast_shapes(*(np.shape(p) for p in parameters))
    return tuple(size) if isinstance(size, (tuple, list)) else (int(size),)


# ---- the distributions with parameters that broadcast

_REQUIRED = inspect.Parameter.empty


class _Row:
    """One distribution: how to draw from it, and its parameters with their defaults, in order."""

    def __init__(self, draw: Callable[..., Any], summary: str, /, **parameters: Any) -> None:
        self.draw = draw
        self.summary = summary
        parameters.setdefault("size", None)
        parameters["key"] = None
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        self.signature = inspect.Signature(
            [inspect.Parameter(n, kind, default=d) for n, d in parameters.items()]
        )


def _negative_binomial(k: Any, s: Any, n: Any, p: Any) -> Any:
    k1, k2 = jr.split(k)
    return jr.poisson(k2, jr.gamma(k1, n, s) * (1 - p) / p, s)


def _noncentral_chisquare(k: Any, s: Any, df: Any, nonc: Any) -> Any:
    # A central one whose degrees of freedom are raised by twice a Poisson number.
    k1, k2 = jr.split(k)
    return jr.chisquare(k2, df + 2.0 * jr.poisson(k1, nonc / 2, s), s)


def _noncentral_f(k: Any, s: Any, dfnum: Any, dfden: Any, nonc: Any) -> Any:
    k1, k2 = jr.split(k)
    top = _noncentral_chisquare(k1, s, dfnum, nonc) / dfnum
    return top / (jr.chisquare(k2, dfden, shape=s) / dfden)


# ``k`` is the key, ``s`` the shape; parameters arrive as arrays of that shape.
DISTRIBUTIONS: dict[str, _Row] = {
    "bernoulli": _Row(lambda k, s, p: jr.bernoulli(k, p, s), "True with probability p.", p=0.5),
    "beta": _Row(lambda k, s, a, b: jr.beta(k, a, b, s), "Beta numbers.", a=_REQUIRED, b=_REQUIRED),
    "binomial": _Row(
        lambda k, s, n, p: jr.binomial(k, n, p, s).astype(int),
        "Successes among n trials of probability p.",
        n=_REQUIRED,
        p=_REQUIRED,
    ),
    "chisquare": _Row(lambda k, s, df: jr.chisquare(k, df, s), "Chi-square.", df=_REQUIRED),
    "exponential": _Row(
        lambda k, s, scale: scale * jr.exponential(k, s), "Exponential of mean scale.", scale=1.0
    ),
    "f": _Row(lambda k, s, a, b: jr.f(k, a, b, s), "F numbers.", dfnum=_REQUIRED, dfden=_REQUIRED),
    "gamma": _Row(
        lambda k, s, shape, scale: scale * jr.gamma(k, shape, s),
        "Gamma numbers.",
        shape=_REQUIRED,
        scale=1.0,
    ),
    "geometric": _Row(
        lambda k, s, p: jr.geometric(k, p, s), "Trials until the first success.", p=_REQUIRED
    ),
    "gumbel": _Row(
        lambda k, s, loc, scale: loc + scale * jr.gumbel(k, s), "Gumbel.", loc=0.0, scale=1.0
    ),
    "laplace": _Row(
        lambda k, s, loc, scale: loc + scale * jr.laplace(k, s), "Laplace.", loc=0.0, scale=1.0
    ),
    "loggamma": _Row(
        lambda k, s, a: jr.loggamma(k, a, s), "Logarithms of gamma numbers.", a=_REQUIRED
    ),
    "logistic": _Row(
        lambda k, s, loc, scale: loc + scale * jr.logistic(k, s), "Logistic.", loc=0.0, scale=1.0
    ),
    "lognormal": _Row(
        lambda k, s, mean, sigma: jnp.exp(mean + sigma * jr.normal(k, s)),
        "Exponentials of normal numbers.",
        mean=0.0,
        sigma=1.0,
    ),
    "maxwell": _Row(lambda k, s: jr.maxwell(k, s), "Maxwell."),
    "negative_binomial": _Row(
        _negative_binomial, "Failures before the n-th success.", n=_REQUIRED, p=_REQUIRED
    ),
    "noncentral_chisquare": _Row(
        _noncentral_chisquare, "Noncentral chi-square.", df=_REQUIRED, nonc=_REQUIRED
    ),
    "noncentral_f": _Row(
        _noncentral_f, "Noncentral F.", dfnum=_REQUIRED, dfden=_REQUIRED, nonc=_REQUIRED
    ),
    "normal": _Row(
        lambda k, s, loc, scale: loc + scale * jr.normal(k, s), "Normal.", loc=0.0, scale=1.0
    ),
    "pareto": _Row(
        lambda k, s, a: jr.pareto(k, a, s) - 1, "Pareto II (Lomax), as numpy's.", a=_REQUIRED
    ),
    "poisson": _Row(lambda k, s, lam: jr.poisson(k, lam, s), "Poisson.", lam=1.0),
    "power": _Row(
        lambda k, s, a: jr.uniform(k, s) ** (1 / a), "Density a x**(a-1) on [0, 1].", a=_REQUIRED
    ),
    "rayleigh": _Row(lambda k, s, scale: jr.rayleigh(k, scale, s), "Rayleigh.", scale=1.0),
    "standard_cauchy": _Row(lambda k, s: jr.cauchy(k, s), "Cauchy."),
    "standard_exponential": _Row(lambda k, s: jr.exponential(k, s), "Exponential of mean 1."),
    "standard_gamma": _Row(
        lambda k, s, shape: jr.gamma(k, shape, s), "Gamma of scale 1.", shape=_REQUIRED
    ),
    "standard_normal": _Row(lambda k, s: jr.normal(k, s), "Normal of mean 0 and deviation 1."),
    "standard_t": _Row(lambda k, s, df: jr.t(k, df, s), "Student's t.", df=_REQUIRED),
    "t": _Row(lambda k, s, df: jr.t(k, df, s), "Student's t.", df=_REQUIRED),
    "triangular": _Row(
        lambda k, s, left, mode, right: jr.triangular(k, left, mode, right, s),
        "Triangular.",
        left=_REQUIRED,
        mode=_REQUIRED,
        right=_REQUIRED,
    ),
    "truncated_normal": _Row(
        lambda k, s, lower, upper, loc, scale: (
            loc + scale * jr.truncated_normal(k, (lower - loc) / scale, (upper - loc) / scale, s)
        ),
        "Normal, between lower and upper.",
        lower=_REQUIRED,
        upper=_REQUIRED,
        size=None,
        loc=0.0,
        scale=1.0,
    ),
    "uniform": _Row(
        lambda k, s, low, high: low + (high - low) * jr.uniform(k, s),
        "Uniform in [low, high).",
        low=0.0,
        high=1.0,
    ),
    "wald": _Row(
        lambda k, s, mean, scale: scale * jr.wald(k, mean / scale, s),
        "Inverse Gaussian.",
        mean=_REQUIRED,
        scale=_REQUIRED,
    ),
    "weibull": _Row(
        lambda k, s, a: jr.weibull_min(k, jnp.ones(()), a, s), "Weibull of scale 1.", a=_REQUIRED
    ),
    "weibull_min": _Row(
        lambda k, s, a, scale: jr.weibull_min(k, scale, a, s), "Weibull.", a=_REQUIRED, scale=1.0
    ),
}


def _method(name: str, row: _Row) -> Callable[..., Array]:
    def draw(key: jax.Array, shape: tuple[int, ...], *values: Any) -> Any:
        return row.draw(key, shape, *(jnp.broadcast_to(_as_float(v), shape) for v in values))

    draw.__name__ = name
    draw = jax.jit(draw, static_argnums=1)

    def method(self: RandomState, *args: Any, **kwargs: Any) -> Array:
        bound = row.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        parameters = dict(bound.arguments)
        size, key = parameters.pop("size"), parameters.pop("key")
        values = [_parameter(p) for p in parameters.values()]
        return cast("Array", wrap(draw(self._draw_key(key), _shape(size, *values), *values)))

    method.__name__ = name
    method.__qualname__ = f"RandomState.{name}"
    method.__doc__ = row.summary
    self_parameter = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method.__signature__ = row.signature.replace(  # type: ignore[attr-defined]
        parameters=[self_parameter, *row.signature.parameters.values()]
    )
    return method


def _parameter(value: Any) -> Any:
    value = unwrap(value)
    return jnp.asarray(value) if isinstance(value, (list, tuple)) else value


def _as_float(value: Any) -> jax.Array:
    array = jnp.asarray(value)
    if jnp.issubdtype(array.dtype, jnp.inexact):
        return array
    return array.astype(jnp.result_type(float))


for _name, _row in DISTRIBUTIONS.items():
    setattr(RandomState, _name, _method(_name, _row))

DEFAULT = RandomState()
DEFAULT._name = "random.DEFAULT"
