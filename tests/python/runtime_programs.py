"""Programs that JAX makes and differentiates, to test the runtime without the compiler."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp

from bmgrad.runtime._jax_internals import has_tangent, without_mesh
from bmgrad.runtime._program import Linearized, LinearProgram, Program


def program(fun, *args, name="fun", in_names=None):
    """A `Program` of the JAX function `fun`, which returns a tuple, for arguments like `args`."""
    avals = [jax.typeof(x) for x in args]
    out_avals = [jax.typeof(x) for x in jax.eval_shape(fun, *args)]
    names = in_names or [f"x{i}" for i in range(len(avals))]
    return JaxProgram("", avals, out_avals, name=name, in_names=names).of(fun)


class JaxProgram(Program):
    def once(self, key, make):
        def meshless():
            with without_mesh():
                return make()

        return super().once(key, meshless)

    def of(self, fun):
        self.fun = fun
        return self

    def _lowered(self):
        args = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in self.in_avals]
        jitted = jax.jit(self.fun, keep_unused=True)
        # In another thread no mesh is set: JAX would write it into the text.
        with ThreadPoolExecutor(1) as other:
            make = other.submit(lambda: jitted.lower(*args).as_text().encode()).result
            return self.once("hlo", lambda: (make(), []))

    def selected(self, used):
        if all(used):
            return self

        def chosen(*args):
            return tuple(itertools.compress(self.fun(*args), used))

        out_avals = tuple(itertools.compress(self.out_avals, used))
        return self.like(JaxProgram, chosen, self.in_avals, out_avals, "used", **self.role())

    def like(self, kind, fun, in_avals, out_avals, suffix, **keywords):
        names = [f"{suffix}{i}" for i in range(len(in_avals))]
        name = f"{self.name}.{suffix}"
        return kind("", in_avals, out_avals, name=name, in_names=names, **keywords).of(fun)

    def linearize(self, active):
        return self.once(("linearize", active), lambda: self.make_linearized(active))

    def make_linearized(self, active):
        trees = []
        differentiable = [has_tangent(aval) for aval in self.out_avals]

        def fwd(*args):
            def chosen(*moved):
                moved = iter(moved)
                every = [next(moved) if a else x for a, x in zip(active, args, strict=True)]
                results = self.fun(*every)
                kept = tuple(itertools.compress(results, differentiable))
                return kept, tuple(results)

            primals = itertools.compress(args, active)
            _, lin, results = jax.linearize(chosen, *primals, has_aux=True)
            residuals, tree = jax.tree.flatten(lin)
            trees[:] = [tree]
            return (*results, *residuals)

        out_avals = [jax.typeof(x) for x in jax.eval_shape(fwd, *map(zeros, self.in_avals))]
        residuals = out_avals[len(self.out_avals) :]

        def lin(*args):
            return jax.tree.unflatten(trees[0], args[: len(residuals)])(*args[len(residuals) :])

        tangents = list(itertools.compress(self.in_avals, active))
        outs = list(itertools.compress(self.out_avals, differentiable))
        return Linearized(
            self.like(JaxProgram, fwd, self.in_avals, out_avals, "fwd"),
            self.like(
                JaxLinearProgram,
                lin,
                [*residuals, *tangents],
                outs,
                "lin",
                num_residuals=len(residuals),
            ),
            (None,) * len(residuals),
        )

    def batched_outputs(self, in_axes, size, axis_name):
        return [True] * len(self.out_avals)

    def batch(self, in_axes, size, out_axes, axis_name):
        assert set(out_axes) <= {0}
        return self.once(("batch", in_axes, size), lambda: self.make_batched(in_axes, size))

    def make_batched(self, in_axes, size):
        axes = tuple(None if axis < 0 else axis for axis in in_axes)
        fun = jax.vmap(self.fun, in_axes=axes, axis_size=size)
        in_avals = [
            jax.core.ShapedArray((*a.shape[:axis], size, *a.shape[axis:]), a.dtype)
            if axis >= 0
            else a
            for a, axis in zip(self.in_avals, in_axes, strict=True)
        ]
        out_avals = [jax.core.ShapedArray((size, *a.shape), a.dtype) for a in self.out_avals]
        return self.like(JaxProgram, fun, in_avals, out_avals, "batch", **self.role())

    def role(self):
        return {}


class JaxLinearProgram(LinearProgram, JaxProgram):
    def like(self, kind, *args, **keywords):
        kind = JaxLinearProgram if "num_residuals" in keywords else kind
        return super().like(kind, *args, **keywords)

    def role(self):
        return {"num_residuals": self.num_residuals}

    def transpose(self, wanted, nonzero):
        key = ("transpose", wanted, nonzero)
        return self.once(key, lambda: self.make_transposed(wanted, nonzero))

    def make_transposed(self, wanted, nonzero):
        n = self.num_residuals
        linear = [zeros(aval) for aval in self.in_avals[n:]]

        def fun(*args):
            turned = jax.linear_transpose(lambda *dx: self.fun(*args[:n], *dx), *linear)
            cts = iter(args[n:])
            given = [
                next(cts) if nz else zeros(aval)
                for nz, aval in zip(nonzero, self.out_avals, strict=True)
            ]
            return tuple(itertools.compress(turned(tuple(given)), wanted))

        in_avals = [*self.in_avals[:n], *itertools.compress(self.out_avals, nonzero)]
        out_avals = list(itertools.compress(self.in_avals[n:], wanted))
        return self.like(JaxLinearProgram, fun, in_avals, out_avals, "transpose", num_residuals=n)


def zeros(aval):
    return jnp.zeros(aval.shape, aval.dtype)


class HandWritten(Program):
    """A program whose StableHLO text is given."""

    def _lowered(self):
        return self.as_given.encode(), []

    def __init__(self, text, *args, **keywords):
        super().__init__("", *args, **keywords)
        self.as_given = text
