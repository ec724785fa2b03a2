"""Where functions of tests keep the variables that they make."""

import itertools

import jax.numpy as jnp

import bmgrad as bp
import bmgrad.math as bm


def with_own_code(function):
    """Functions of one code that are made again and again are not compiled as others are."""
    function.__code__ = function.__code__.replace(co_name=f"function{next(_numbers)}")
    return function


_numbers = itertools.count()


class Plain:
    pass


class Attribute:
    """Keeps one in an attribute of an object that is no node."""

    def __init__(self):
        self.held = Plain()

    def get(self):
        return getattr(self.held, "w", None)

    def put(self, variable):
        self.held.w = variable


class List:
    def __init__(self):
        self.held = []

    def get(self):
        return self.held[0] if self.held else None

    def put(self, variable):
        self.held[:] = [variable]


class Dict:
    def __init__(self):
        self.held = {}

    def get(self):
        return self.held.get("w")

    def put(self, variable):
        self.held["w"] = variable


class Closure:
    def __init__(self):
        w = None

        def get():
            return w

        def put(variable):
            nonlocal w
            w = variable

        self.get, self.put = get, put


class Circle(Plain):
    """An object that refers to itself, as one does that holds a bound method."""

    def __init__(self):
        self.itself, self.held = self, None

    def get(self):
        return self.held

    def put(self, variable):
        self.held = variable


class OfNode(bp.Base):
    """A list of variables that a node has."""

    def __init__(self):
        super().__init__()
        self.held = bm.VarList()

    def get(self):
        return self.held[0] if self.held else None

    def put(self, variable):
        self.held = bm.VarList([variable])


class InNode(bp.Base):
    """An attribute of a node."""

    def __init__(self):
        super().__init__()
        self.held = None

    def get(self):
        return self.held

    def put(self, variable):
        self.held = variable


class Lazy:
    def __init__(self, keeper, make):
        self.keeper, self.make, self.traces = keeper(), make, 0

    def loss(self, x):
        self.traces += 1
        if self.keeper.get() is None:
            self.keeper.put(bm.TrainVar(self.make(x)))
        return jnp.sum(jnp.sin(x) * self.keeper.get())


ZEROS_OF = {"constants": jnp.zeros_like, "arguments": lambda x: x * 0}
