import copy
import gc
import pickle

import numpy as np
import pytest

import bmgrad as bp
import bmgrad.math as bm
from bmgrad.runtime import _dispatch


@pytest.fixture(autouse=True)
def fresh_names():
    bp.clear_name_cache()


class F(bp.Base):
    def __init__(self, name=None):
        super().__init__(name)
        self.b = bm.TrainVar(bm.ones(1))
        self.a = bm.Variable(bm.zeros(1))
        self.plain = bm.ones(1)


class Pair(bp.Base):
    def __init__(self):
        super().__init__()
        self.first = F()
        self.second = F()
        self.scale = bm.Parameter(bm.ones(()))


# ---- names


def test_names_count_per_class():
    f0, f1, pair = F(), F(), Pair()
    assert [f0.name, f1.name, pair.name] == ["F0", "F1", "Pair0"]
    assert [pair.first.name, pair.second.name] == ["F2", "F3"]


def test_explicit_names():
    f = F("readout")
    assert f.name == "readout"
    with pytest.raises(ValueError, match="'readout' belongs to another F"):
        F("readout")
    for bad in ("two words", "1a", "", 3):
        with pytest.raises(ValueError, match="identifier"):
            F(bad)


def test_fresh_names_pass_by_taken_ones():
    f = F("F0")
    assert (F().name, f.name) == ("F1", "F0")


def test_the_name_of_a_node_that_is_gone_is_free():
    F("readout")
    gc.collect()
    assert F("readout").name == "readout"


def test_renaming_frees_the_old_name():
    f = F()
    f.name = "other"
    assert f.name == "other"
    second = F("F0")
    assert second.name == "F0"
    with pytest.raises(ValueError, match="belongs"):
        f.name = "F0"
    assert f.name == "other"


def test_forgetting_super_init_is_explained():
    class G(bp.Base):
        def __init__(self):
            self.a = bm.Variable(bm.ones(1))

    with pytest.raises(AttributeError, match=r"super\(\).__init__\(\) in G.__init__"):
        G().vars()


def test_a_deep_copy_has_its_own_name_and_variables():
    pair = Pair()
    twin = copy.deepcopy(pair)
    assert len({pair.name, pair.first.name, twin.name, twin.first.name}) == 4
    twin.first.a += 1
    assert float(pair.first.a[0]) == 0
    with pytest.raises(ValueError, match=f"'{twin.first.name}.a'"):
        twin.first.a.value = bm.ones(3)


def test_what_pickle_makes_has_a_name_of_its_own():
    pair = Pair()
    twin = pickle.loads(pickle.dumps(pair))
    assert len({pair.name, pair.first.name, twin.name, twin.first.name}) == 4
    both = bp.Base()
    both.pair, both.twin = pair, twin
    assert len(both.vars()) == 10
    with pytest.raises(ValueError, match=f"'{twin.first.name}.a'"):
        twin.first.a.value = bm.ones(3)


def test_what_pickle_makes_keeps_its_name_where_that_is_free():
    data = pickle.dumps(F("readout"))
    gc.collect()
    bp.clear_name_cache()
    twin = pickle.loads(data)
    assert twin.name == "readout"
    with pytest.raises(ValueError, match="the name 'readout' belongs to another F"):
        F("readout")


class Mixin:
    def __getstate__(self):
        return {"saved": self.__dict__.copy()}

    def __setstate__(self, state):
        self.__dict__.update(state["saved"], restored=True)


class Mixed(F, Mixin):
    pass


def test_other_bases_may_restore_states():
    node = Mixed()
    twin = pickle.loads(pickle.dumps(node))
    assert twin.restored
    assert twin.a.tolist() == node.a.tolist()
    assert {node.name, twin.name} == {"Mixed0", "Mixed1"}


def test_a_shallow_copy_has_its_own_name_and_shares_variables():
    f = F()
    twin = copy.copy(f)
    assert twin.a is f.a
    assert {f.name, twin.name} == {"F0", "F1"}
    with pytest.raises(ValueError, match=r"'F0\.a'"):
        f.a.value = bm.ones(3)


# ---- variables


def test_vars_are_alphabetical_and_named_absolutely():
    f = F()
    assert list(f.vars()) == ["F0.a", "F0.b"]
    assert f.vars()["F0.a"] is f.a
    assert list(f.train_vars()) == ["F0.b"]
    assert isinstance(f.vars(), bp.ArrayCollector)


def test_vars_of_children():
    pair = Pair()
    assert list(pair.vars()) == ["Pair0.scale", "F0.a", "F0.b", "F1.a", "F1.b"]
    relative = ["scale", "first.a", "first.b", "second.a", "second.b"]
    assert list(pair.vars(method="relative")) == relative
    assert list(pair.train_vars(method="relative")) == ["first.b", "second.b"]
    assert list(pair.vars(level=0)) == ["Pair0.scale"]
    assert list(pair.vars(include_self=False)) == ["F0.a", "F0.b", "F1.a", "F1.b"]
    with pytest.raises(ValueError, match="absolute"):
        pair.vars(method="other")


def test_unique_keeps_the_first_key():
    f = F()
    f.c = f.a
    assert list(f.vars()) == ["F0.a", "F0.b", "F0.c"]
    assert list(f.vars().unique()) == ["F0.a", "F0.b"]


def test_excluded_and_class_level_variables():
    class G(bp.Base):
        _excluded_vars = ("hidden",)
        shared = bm.Variable(bm.ones(1))

        def __init__(self):
            super().__init__()
            self.hidden = bm.Variable(bm.ones(1))
            self._rng = bm.random.RandomState(0)

        @property
        def view(self):
            raise AssertionError("collecting variables must not run properties")

    assert list(G().vars()) == ["G0._rng", "G0.shared"]


def test_var_containers():
    class G(bp.Base):
        def __init__(self):
            super().__init__()
            self.ws = bm.VarList([bm.TrainVar(bm.ones(1)), bm.Variable(bm.ones(2))])
            self.d = bm.VarDict(y=bm.TrainVar(bm.ones(3)), x=bm.Variable(bm.ones(4)))

    g = G()
    assert list(g.vars()) == ["G0.d-x", "G0.d-y", "G0.ws-0", "G0.ws-1"]
    assert list(g.train_vars(method="relative")) == ["d-y", "ws-0"]


def test_implicit_vars():
    f = F()
    v, w, x, y = (bm.Variable(bm.ones(1)) for _ in range(4))
    f.register_implicit_vars(v, [w], {"x": x}, y=y)
    f.register_implicit_vars(v)
    assert list(f.vars()) == ["F0.a", "F0.b", "F0.var0", "F0.var1", "F0.x", "F0.y"]
    assert f.vars(method="relative")["y"] is y
    with pytest.raises(TypeError, match="variable"):
        f.register_implicit_vars(bm.ones(1))
    with pytest.raises(ValueError, match="two objects"):
        f.register_implicit_vars(y=x)


# ---- nodes


def test_nodes():
    pair = Pair()
    assert list(pair.nodes()) == ["Pair0", "F0", "F1"]
    assert list(pair.nodes(method="relative")) == ["", "first", "second"]
    assert list(pair.nodes(include_self=False)) == ["F0", "F1"]
    assert list(pair.nodes(level=0)) == ["Pair0"]
    assert pair.nodes()["F1"] is pair.second


def test_levels():
    top = Pair()
    top.below = Pair()
    top.below.below = Pair()
    counts = [len(top.nodes(level=level)) for level in (0, 1, 2, 3, -1)]
    assert counts == [1, 4, 7, 9, 9]
    assert list(top.vars("relative", level=1)) == [
        *("scale", "first.a", "first.b", "second.a", "second.b", "below.scale")
    ]


def test_a_level_is_the_shortest_way():
    # The long way to `deep` must not hide what lies below it at the level asked for.
    top, middle, deep = F(), F(), F()
    top.m, middle.d, top.d, deep.leaf = middle, deep, deep, F()
    assert len(top.nodes(level=2)) == 4


def test_circles():
    x, y = F("X"), F("Y")
    x.other, y.other = y, x
    x.me = x
    assert set(x.nodes()) == {"X", "Y"}
    assert list(x.nodes(include_self=False)) == ["Y"]
    assert {key: node.name for key, node in x.nodes("relative").unique().items()} == {
        "": "X",
        "other": "Y",
    }
    assert set(x.vars()) == {"X.a", "X.b", "Y.a", "Y.b"}
    assert len(x.vars("relative").unique()) == 4
    assert list(x.vars("relative", include_self=False)) == ["other.a", "other.b"]


def test_node_containers_and_implicit_nodes():
    net = F("net")
    net.layers = bm.NodeList([F("l0"), bm.NodeList([F("l1")])])
    net.named = bm.NodeDict(out=F("o"))
    net.register_implicit_nodes(F("i0"), [F("i1")], {"k": F("i2")}, z=F("i3"))
    assert list(net.nodes("relative")) == [
        *("", "layers-0", "layers-1-0", "named.out", "i0", "i1", "k", "z")
    ]
    assert list(net.nodes()) == ["net", "l0", "l1", "o", "i0", "i1", "i2", "i3"]
    assert "layers-1-0.a" in net.vars("relative")
    with pytest.raises(TypeError, match="node"):
        net.register_implicit_nodes(3)
    with pytest.raises(ValueError, match="two objects"):
        net.register_implicit_nodes(z=F())


def test_plain_lists_are_not_searched():
    f = F()
    f.nodes_in_a_list = [F()]
    assert list(f.nodes()) == ["F0"]


# ---- containers as lists and dicts


def test_lists_check_what_comes_in():
    layers = bm.NodeList()
    layers.append(F())
    layers += [F(), F()]
    layers.extend([F()])
    assert isinstance(layers, list)
    assert len(layers) == 4
    first = layers[0]
    assert first in layers
    layers.remove(first)
    assert first not in layers
    for add in (layers.append, lambda x: layers.extend([x]), lambda x: layers.insert(0, x)):
        with pytest.raises(TypeError, match="node"):
            add(3)
    with pytest.raises(TypeError, match="variables"):
        bm.VarList([bm.ones(1)])
    with pytest.raises(TypeError):
        bm.VarList([bm.Variable(1)])[0:1] = [3]


def test_what_is_made_of_lists_is_collected_as_they_are():
    node, (a, b, c) = bp.Base(), (bm.Variable(i) for i in range(3))
    first, last, nodes = bm.VarList([a, b]), [c], [F()]
    for made, held in [
        (first + last, [a, b, c]),
        (last + first, [c, a, b]),
        (first[1:], [b]),
        (first * 2, [a, b, a, b]),
        (2 * first, [a, b, a, b]),
        (first.copy(), [a, b]),
    ]:
        assert type(made) is bm.VarList
        assert all(x is y for x, y in zip(made, held, strict=True))
    node.ws = first + last
    assert len(node.vars()) == 3
    node.children = bm.NodeList([F()])[:] + nodes
    assert len(node.vars()) == 7
    with pytest.raises(TypeError):
        first + nodes


def test_dicts_check_what_comes_in():
    variables = bm.VarDict({"a": bm.Variable(1)})
    variables.update(b=bm.Variable(2))
    variables |= {"c": bm.Variable(3)}
    assert isinstance(variables, dict)
    assert list(variables) == ["a", "b", "c"]
    with pytest.raises(TypeError, match="variables"):
        variables["d"] = bm.ones(1)
    with pytest.raises(TypeError, match="variables"):
        variables.setdefault("d", 3)
    with pytest.raises(TypeError, match="strings"):
        variables[3] = bm.Variable(1)
    with pytest.raises(TypeError, match="node"):
        bm.NodeDict(a=bm.Variable(1))


def test_assigning_a_value_to_a_variable_in_a_container():
    variables, named = bm.VarList([bm.Variable(2)]), bm.VarDict(a=bm.Variable(2))
    variable, other = variables[0], named["a"]
    variables[0] = bm.ones(2)
    named["a"] = bm.ones(2)
    variables[0] += 1
    named["a"] += 1
    assert variables[0] is variable
    assert named["a"] is other
    np.testing.assert_array_equal(variable, [2, 2])
    np.testing.assert_array_equal(other, [2, 2])


# ---- rebinding


def epoch_change(action):
    before = _dispatch.epoch()
    action()
    return _dispatch.epoch() - before


def test_rebinding_what_a_program_reads_is_noticed():
    f = F()
    assert epoch_change(lambda: setattr(f, "a", bm.Variable(bm.ones(1)))) == 0
    f.a._lifted = True
    f.plain._lifted = True
    assert epoch_change(lambda: setattr(f, "a", f.a)) == 0
    assert epoch_change(lambda: setattr(f, "new", 3)) == 0
    assert epoch_change(lambda: setattr(f, "plain", bm.ones(1))) == 1
    assert epoch_change(lambda: setattr(f, "plain", bm.ones(2))) == 0
    assert epoch_change(lambda: delattr(f, "a")) == 1

    def in_place():
        f.b._lifted = True
        f.b += 1
        f.b.value = bm.ones(1)

    assert epoch_change(in_place) == 0


def test_rebinding_what_holds_such_an_array_is_noticed():
    net = Pair()
    net.first.b._lifted = True
    net.first.back = net
    assert epoch_change(lambda: setattr(net, "second", F())) == 0
    assert epoch_change(lambda: setattr(net, "first", F())) == 1
    assert epoch_change(lambda: setattr(net, "first", F())) == 0
    net.ws = [bm.ones(1), {"a": bm.ones(1)}]
    net.ws[1]["a"]._lifted = True
    assert epoch_change(lambda: setattr(net, "ws", None)) == 1


def test_changing_a_container_that_a_program_reads_is_noticed():
    f = F()
    f.ws = bm.VarList([bm.Variable(1), bm.Variable(1)])
    f.named = bm.NodeDict(a=F())
    assert epoch_change(lambda: f.ws.append(bm.Variable(1))) == 0
    f.ws[0]._lifted = True
    f.named["a"].b._lifted = True
    f.ws[0] += 1
    assert epoch_change(lambda: f.ws.__setitem__(0, f.ws[0])) == 0
    assert epoch_change(lambda: f.ws.append(bm.Variable(1))) == 1
    assert epoch_change(lambda: f.ws.pop()) == 1
    assert epoch_change(lambda: f.ws.__setitem__(0, bm.Variable(1))) == 1
    assert epoch_change(lambda: f.named.update(a=F())) == 1
