"""Transforms that are made anew see what has changed around their function."""

import collections
import datetime
import decimal
import functools
import gc
import operator
import sys
import threading
import types
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad as bp
import bmgrad.math as bm
from bmgrad._transforms._surroundings import _is_open

FACTOR = 2.0
HIDDEN = {"factor": 1.0}


def of_the_module(x):
    return x * FACTOR


def inner():
    return FACTOR


def by_another_function(x):
    return jnp.sin(x) * inner()


class Settings(dict):
    strength = 1.0


class Model:
    of_all = 1.0

    def __init__(self):
        self.w = jnp.ones(2)
        self.beta = 1.0
        self.table = np.ones(2)
        self.layers = [{"scale": 1.0}, jnp.ones(2)]
        self.part = types.SimpleNamespace(rate=1.0)
        self.settings = Settings()

    def loss(self, x):
        scales = self.layers[0]["scale"] * self.layers[1] * self.rate() * self.of_all
        return (x * self.w * self.beta * self.table * scales).sum()

    def rate(self):
        return self.part.rate * self.hidden * self.settings.strength

    @property
    def hidden(self):
        return HIDDEN["factor"]


def assign_array(model):
    model.w = model.w * 2


def assign_number(model):
    model.beta *= 2


def change_in_place(model):
    model.table *= 2


def assign_in_a_list(model):
    model.layers[1] = model.layers[1] * 3


def assign_in_a_dict(model):
    model.layers[0]["scale"] += 1


def assign_in_a_part(model):
    model.part.rate += 1


def assign_in_the_class(model):
    type(model).of_all += 1


def assign_what_a_property_reads(model):
    HIDDEN["factor"] += 1


def assign_to_a_dict(model):
    model.settings.strength += 1


CHANGES = [assign_array, assign_number, change_in_place, assign_in_a_list, assign_in_a_dict]
CHANGES += [assign_in_a_part, assign_in_the_class, assign_what_a_property_reads, assign_to_a_dict]


@pytest.mark.parametrize("transform", ["grad", "value_and_grad", "jacrev", "jacfwd", "hessian"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_of_methods(change, transform, monkeypatch):
    got, want = [], []
    for results, library in ((got, bm), (want, jax)):
        monkeypatch.setattr(Model, "of_all", 1.0)
        monkeypatch.setitem(HIDDEN, "factor", 1.0)
        model = Model()
        for _ in range(3):
            results.append(getattr(library, transform)(model.loss)(1.5))
            change(model)
    np.testing.assert_allclose(np.array(got), np.array(want), 1e-6)


@pytest.mark.parametrize("function", [of_the_module, by_another_function])
def test_of_functions_that_read_what_is_global(function, monkeypatch):
    for factor in (2.0, 3.0, 2.0):
        monkeypatch.setitem(globals(), "FACTOR", factor)
        np.testing.assert_allclose(bm.grad(function)(0.5), jax.grad(function)(0.5), 1e-6)


def test_of_closures_and_partials():
    factor = 2.0

    def function(x, y=1.0):
        return x * factor * y

    partial = functools.partial(function, y=2.0)
    for factor in (2.0, 3.0):
        assert bm.grad(function)(1.0) == factor
        assert bm.grad(partial)(1.0) == 2 * factor


@pytest.mark.parametrize("wrap", [jax.custom_jvp, jax.custom_vjp, jax.jit])
def test_of_functions_in_objects(wrap, monkeypatch):
    wrapped = wrap(of_the_module if wrap is jax.jit else lambda x: 1.0 * x)
    if wrap is jax.custom_jvp:
        wrapped.defjvp(lambda p, t: (wrapped(*p), t[0] * FACTOR))
    if wrap is jax.custom_vjp:
        wrapped.defvjp(lambda x: (wrapped(x), None), lambda _, ct: (ct * FACTOR,))
    for factor in (2.0, 3.0):
        monkeypatch.setitem(globals(), "FACTOR", factor)
        if wrap is jax.jit:
            wrapped.clear_cache()
        for function in (wrapped, functools.partial(wrapped)):
            np.testing.assert_allclose(bm.grad(function)(0.5), factor)


def test_what_the_function_changes_itself_is_no_change():
    count = 0

    def loss(x):
        nonlocal count
        count += 1
        return x**2

    for _ in range(4):
        bm.grad(loss)(1.0)
    assert count == 1


def test_numbers_that_compare_in_their_own_way():
    count, huge, no_number = 0, 10**5000, float("nan")

    def loss(x):
        nonlocal count
        count += 1
        return x**2 if huge > 0 else no_number

    for _ in range(3):
        bm.grad(loss)(1.0)
    assert count == 1


def test_nor_is_it_where_it_asks_for_values():
    model, traced = Model(), []

    def loss(x):
        traced.append(x)
        return model.loss(x) if x > 0 else x

    for factor in (1.0, 2.0, 3.0):
        model.beta = factor
        assert bm.grad(loss)(1.0) == 2 * factor


def test_of_programs_of_several_shapes_none_is_older_than_a_change():
    model = Model()
    loss = lambda x: jnp.sum(model.loss(x[0]))  # noqa: E731
    kept = bm.grad(loss)
    kept(jnp.ones(1))
    model.beta = 3.0
    kept(jnp.ones(2))
    np.testing.assert_array_equal(bm.grad(loss)(jnp.ones(1)), [6])


def test_array_objects_are_inputs():
    class Node(bp.Base):
        def __init__(self):
            super().__init__()
            self.w = bm.Variable(bm.ones(2))

        def loss(self, x):
            return (x * self.w).sum()

    node = Node()
    for i in range(3):
        assert bm.grad(node.loss)(1.0) == 2 * 2**i
        node.w.value = node.w.value * 2
    assert bm.grad(node.loss).cache_info().misses == 1


def test_bm_jit_is_as_jax_jit():
    model = Model()
    assert bm.jit(model.loss)(1.0) == 2
    model.beta = 2.0
    assert bm.jit(model.loss)(1.0) == 2


def test_what_is_around_is_not_kept():
    model = Model()
    model.not_read = np.ones(2)
    not_read = weakref.ref(model.not_read)
    bm.grad(model.loss)(1.0)
    del model.not_read
    gc.collect()
    assert not_read() is None


def refuse(*args, **keywords):
    raise RuntimeError("nobody has asked for that")


Quantity = type("Quantity", (np.ndarray,), {"tobytes": refuse, "__eq__": refuse})
Slotted = type("Slotted", (), {"__slots__": ("value", "__weakref__")})
OWN_WAYS = {
    "array": np.ones(2).view(Quantity),
    "list": type("Rows", (list,), {"__iter__": refuse, "__len__": refuse})([1.0]),
    "dict": type("Table", (dict,), dict.fromkeys(("__iter__", "keys", "values"), refuse))(a=1.0),
    "set": type("Some", (set,), {"__iter__": refuse, "__len__": refuse})([1.0]),
    "proxy": type("Proxy", (), {"__class__": property(refuse), "__getattr__": refuse})(),
    "attributes": type("Lazy", (), {"__getattribute__": refuse})(),
    "dict of attributes": type("NoDict", (), {"__dict__": property(refuse)})(),
    "property over a slot": type("Hidden", (Slotted,), {"value": property(refuse)})(),
    "int": type("Whole", (int,), {"__eq__": refuse, "__hash__": refuse, "__int__": refuse})(3),
    "float": type("Real", (float,), {"__repr__": refuse, "__eq__": refuse})(3.0),
    "str": type("Text", (str,), {"__eq__": refuse, "__hash__": refuse, "__str__": refuse})("a"),
    "type": type("Meta", (type,), {"__eq__": refuse, "__hash__": refuse})("OfMeta", (), {})(),
}


class Holder:
    def __init__(self, value):
        self.value, self.factor = value, 1.0

    def loss(self, x):
        return self.factor * x**2 if self.value is not None else x


@pytest.mark.parametrize("kind", OWN_WAYS)
def test_no_code_of_the_user_runs(kind):
    holder = Holder(OWN_WAYS[kind])
    kept = bm.grad(holder.loss)
    for factor in (1.0, 2.0, 3.0):
        holder.factor = factor
        assert bm.grad(holder.loss)(1.5) == 3.0 * factor
        assert bm.vmap(holder.loss)(np.ones(2)).tolist() == [factor] * 2
        assert kept(1.5) == 3.0


def test_what_is_in_slots_and_objects_of_own_ways_changes():
    inside = type("Inside", (Slotted,), {"__getattribute__": refuse})()
    row = type("Row", (list,), {"__iter__": refuse})([inside])
    holder = Holder(row)
    holder.loss = lambda x: x * Slotted.value.__get__(list.__getitem__(row, 0))
    for value in (2.0, 3.0):
        Slotted.value.__set__(inside, value)
        assert bm.grad(holder.loss)(1.0) == value


def test_of_ranges_and_slices():
    some = types.SimpleNamespace(steps=range(2), part=slice(0, 1))
    loss = lambda x: sum(x * i for i in some.steps) + jnp.sum((x * jnp.ones(3))[some.part])  # noqa: E731
    assert bm.grad(loss)(1.0) == 2.0
    some.steps = range(3)
    assert bm.grad(loss)(1.0) == 4.0
    some.part = slice(0, 2)
    assert bm.grad(loss)(1.0) == 5.0


def test_of_the_order_of_a_dict_and_of_what_is_of_a_thread():
    ordered, own = collections.OrderedDict(a=1.0, b=2.0), threading.local()
    own.factor = 1.0
    loss = lambda x: x * next(iter(ordered.values())) * own.factor  # noqa: E731
    assert bm.grad(loss)(1.0) == 1.0
    ordered.move_to_end("a")
    assert bm.grad(loss)(1.0) == 2.0
    own.factor = 3.0
    assert bm.grad(loss)(1.0) == 6.0


# Of types that take no weak references, or of C: two values, and what makes a number of one.
OF_C = {
    "decimal": (decimal.Decimal("0.5"), decimal.Decimal("2"), float),
    "duration": (datetime.timedelta(seconds=1), datetime.timedelta(seconds=2), lambda v: v.seconds),
    "getter": (operator.itemgetter(0), operator.itemgetter(1), lambda v: v([1.0, 2.0])),
    "ufunc": (np.add, np.multiply, lambda v: v(3.0, 4.0)),
    "bytes": (bytearray(b"1"), bytearray(b"2"), float),
    "view": (memoryview(b"1"), memoryview(b"2"), lambda v: v[0]),
    "mapping": (
        types.MappingProxyType({"a": 1}),
        types.MappingProxyType({"a": 2}),
        lambda v: v["a"],
    ),
    "generator": (
        np.random.default_rng(1),
        np.random.default_rng(2),
        lambda v: float(v.bit_generator.state["state"]["state"] % 7),
    ),
}


@pytest.mark.parametrize("kind", OF_C)
def test_of_objects_that_take_no_weak_references(kind):
    *values, number = OF_C[kind]
    holder = Holder(values[0])
    # Code of its own for each kind: functions that are made often are traced at each call.
    code = f"lambda x: ({kind!r}, number(holder.value) * x)[1]"
    loss = eval(code, {"number": number, "holder": holder})
    for holder.value in (*values, *values):
        assert bm.grad(loss)(1.0) == jax.grad(loss)(1.0)


PACKAGE = """
factor = 1.0

class Base:
    scale = 1.0

    def get(self):
        return self.scale * factor
"""


def test_of_modules(monkeypatch):
    """Those that are imported, and what functions and classes in them read."""
    package, settings = types.ModuleType("of_a_user"), types.ModuleType("of_a_user.settings")
    monkeypatch.setitem(sys.modules, "of_a_user", package)
    package.settings, settings.factor = settings, 1.0
    settings.of_a_user = settings.settings = package  # As where modules import each other.
    code = (
        "factor = 1.0\nclass Base:\n    scale = 1.0\n    def get(self): return self.scale * factor"
    )
    exec(code, vars(package))
    base = package.Base()
    monkeypatch.setitem(globals(), "of_a_user", package)
    places = (settings, "factor"), (package, "factor"), (package.Base, "scale")
    loss = lambda x: x * of_a_user.settings.factor * base.get()  # noqa: E731, F821
    for count, (place, name) in enumerate(places):
        assert bm.grad(loss)(1.0) == 2.0**count
        setattr(place, name, 2.0)
    assert bm.grad(loss)(1.0) == 8.0


def test_installed_packages_are_not_looked_into():
    """They are many, and take what there is to look at from the user's own."""
    assert _is_open("of_nobody", "of_nobody")
    assert _is_open(__name__)
    assert not any(map(_is_open, ("jax", "pytest", "numpy", "math", "json", "builtins")))


class Scaled:
    """Its gradient is kept, and finds a value of the trace around it."""

    def __init__(self, library):
        self.scale, self.slope = 1.0, library.grad(self.inner)

    def inner(self, x):
        return (x**2 * self.scale).sum()

    def outer(self, x):
        self.scale = x[0]
        try:
            return self.slope(x).sum()
        finally:
            self.scale = 1.0


AROUND = {
    "jit": lambda m, f: jax.jit(f),
    "grad": lambda m, f: m.grad(f),
    "hessian": lambda m, f: m.hessian(f),
    "jax.grad": lambda m, f: jax.grad(f),
    "jit of grad": lambda m, f: jax.jit(m.grad(f)),
    "vmap of grad": lambda m, f: lambda x: jax.vmap(m.grad(f))(x[None]),
    "scan": lambda m, f: lambda x: jax.lax.scan(lambda c, _: (m.grad(f)(c), None), x, length=2),
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("is_called_before", [False, True])
def test_of_transforms_that_are_kept_inside_others(is_called_before, around):
    x, results = jnp.array([0.1, 0.2, 0.3]), []
    for library in (bm, jax):
        model = Scaled(library)
        if is_called_before:
            model.slope(x)
        results.append(AROUND[around](library, model.outer)(x))
    jax.tree.map(np.testing.assert_allclose, *results)


def test_what_does_not_change_is_traced_once_inside_others():
    traced = []
    slope = bm.grad(lambda x: traced.append(x) or x**2)
    for _ in range(3):
        jax.vmap(slope)(jnp.ones(2))
        jax.vmap(bm.grad(lambda x: slope(x)))(jnp.ones(2))
    assert len(traced) == 1


def test_after_a_change_it_is_traced_once_inside_others():
    traced, around = [], types.SimpleNamespace(factor=1.0)
    slope = bm.grad(lambda x: traced.append(1) or around.factor * x**2)
    slope(1.0)
    for around.factor in (1.0, 2.0):
        for _ in range(4):
            np.testing.assert_array_equal(jax.vmap(slope)(jnp.ones(2)), [2 * around.factor] * 2)
    assert len(traced) <= 3


def test_data_come_before_code(monkeypatch):
    """Functions are many, and call each other; what the user assigns to is in objects."""
    called = lambda i: ", ".join(f"f{20 * i + k}" for k in range(1, 21))  # noqa: E731
    code = "\n".join(f"def f{i}(x): return {called(i)}" for i in range(3000))
    module = types.ModuleType("of_a_user")
    monkeypatch.setitem(sys.modules, "of_a_user", module)
    exec(code, vars(module))
    deep = types.SimpleNamespace(a=types.SimpleNamespace(b=[types.SimpleNamespace(rate=1.0)]))
    loss = lambda x: (x if deep.a else module.f0(x)) * deep.a.b[0].rate  # noqa: E731
    for rate in (1.0, 2.0):
        deep.a.b[0].rate = rate
        assert bm.grad(loss)(1.0) == rate


loss = 1.0  # It has the name of a method.


class Net:
    def __init__(self):
        self.rate, self.traced = 2.0, 0

    def loss(self, x):
        self.traced += 1
        return x * self.rate

    def all(self, x):
        return self.loss(x) + self.loss(x)


def test_names_of_attributes_are_no_globals(monkeypatch):
    net = Net()
    for step in range(6):
        monkeypatch.setitem(globals(), "loss", float(step))
        assert bm.grad(net.all)(1.0) == 4.0
    assert net.traced == 2
