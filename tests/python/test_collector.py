import copy
import operator

import jax
import numpy as np
import pytest

import bmgrad as bp
import bmgrad.math as bm


def test_a_name_stands_for_one_object():
    x, y = bm.ones(1), bm.ones(1)
    c = bp.Collector(a=x)
    c["a"] = x
    changes = [
        lambda: operator.setitem(c, "a", y),
        lambda: c.update({"a": y}),
        lambda: c.update(a=y),
        lambda: c + {"a": y},
        lambda: c | {"a": y},
        lambda: bp.Collector({"a": x}, a=y),
    ]
    for change in changes:
        with pytest.raises(ValueError, match="'a' stands for two objects"):
            change()
    assert c["a"] is x


def test_merging():
    c = bp.Collector(a=1) + {"b": 2}
    d = c + ["x"]  # noqa: RUF005
    assert type(d) is bp.Collector
    assert dict(d) == {"a": 1, "b": 2, "_var2": "x"}
    assert dict(c) == {"a": 1, "b": 2}
    c |= {"c": 3}
    assert list(c) == ["a", "b", "c"]
    assert c.setdefault("a", 9) == 1
    assert c.setdefault("z", 9) == 9
    with pytest.raises(TypeError, match="mapping or a sequence, not int"):
        c.update(3)


def test_removing():
    x, y = object(), object()
    c = bp.Collector(a=x, b=y)
    assert dict(c - {"a": x}) == {"b": y}
    assert dict(c - ["a"]) == {"b": y}
    with pytest.raises(ValueError, match="'q'"):
        c - ["q"]
    with pytest.raises(ValueError, match=r"'a'.*two objects"):
        c - {"a": y}
    assert len(c) == 2


def test_replace():
    c = bp.Collector(a=1, b=2)
    c.replace("a", 3)
    assert list(c.items()) == [("a", 3), ("b", 2)]
    with pytest.raises(KeyError, match="no 'q'"):
        c.replace("q", 1)


def test_subset_and_unique():
    w, s = bm.TrainVar(bm.ones(1)), bm.Variable(bm.ones(1))
    c = bp.ArrayCollector(w=w, s=s, again=w)
    assert list(c.subset(bm.TrainVar)) == ["w", "again"]
    assert list(c.subset(bm.TrainVar).unique()) == ["w"]
    assert list(c.unique()) == ["w", "s"]
    assert type(c.unique()) is bp.ArrayCollector
    assert list(c.subset((bm.TrainVar, bm.Parameter))) == ["w", "again"]


def test_array_collectors_hold_arrays_only():
    assert bp.TensorCollector is bp.ArrayCollector
    c = bp.ArrayCollector(a=bm.ones(1))
    with pytest.raises(TypeError, match=r"'b' must be a bm\.Array"):
        c["b"] = 3
    with pytest.raises(TypeError, match="'a'"):
        c.replace("a", np.ones(1))


def test_values_of_an_array_collector():
    c = bp.ArrayCollector(a=bm.Variable(bm.ones(2)), b=bm.Variable(bm.zeros(1)))
    assert all(isinstance(v, jax.Array) for v in [*c.dict().values(), *c.data()])
    assert list(c.dict()) == ["a", "b"]
    c.assign({"b": bm.ones(1), "a": bm.zeros(2)})
    np.testing.assert_array_equal(c.data()[0], [0, 0])
    np.testing.assert_array_equal(c["b"], [1])


def test_assign_is_all_or_nothing():
    c = bp.ArrayCollector(a=bm.Variable(bm.ones(2)), b=bm.Variable(bm.zeros(1)))
    with pytest.raises(ValueError, match="missing values: 'b'; unknown names: 'q'"):
        c.assign({"a": bm.zeros(2), "q": bm.zeros(2)})
    with pytest.raises(ValueError, match="shape"):
        c.assign({"a": bm.zeros(2), "b": bm.zeros(3)})
    np.testing.assert_array_equal(c["a"], [1, 1])


def test_collectors_are_pytrees():
    c = bp.ArrayCollector(b=bm.Variable(bm.ones(2)), a=bm.Variable(bm.zeros(1)))
    doubled = jax.tree.map(lambda v: v + 1, c)
    assert type(doubled) is bp.ArrayCollector
    assert list(doubled) == ["b", "a"]
    np.testing.assert_array_equal(doubled["b"], [2, 2])
    paths = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(c)]
    assert paths == ["['b'].value", "['a'].value"]


def test_copies():
    c = bp.ArrayCollector(a=bm.Variable(bm.ones(2)))
    assert type(c.copy()) is bp.ArrayCollector
    assert c.copy()["a"] is c["a"]
    twin = copy.deepcopy(c)
    assert type(twin) is bp.ArrayCollector
    assert twin["a"] is not c["a"]
