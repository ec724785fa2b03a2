"""Programs of the bm dialect through the compiler: stages, derived programs, dumps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bmgrad.runtime import _kernels
from bmgrad.runtime._module import STAGES
from bmgrad.runtime._options import Options
from bmgrad.runtime._primitive import bind
from bmgrad.runtime._program import LinearProgram, Program

# sin(x) * y and the integer, untouched.
TEXT = """
func.func @main(%x: tensor<3xf32> loc("x"), %y: tensor<3xf32> loc("y"), %n: tensor<i32> loc("n"))
    -> (tensor<3xf32>, tensor<i32>) {
  %0 = bm.sin %x : tensor<3xf32>
  %1 = bm.mul %0, %y : tensor<3xf32>
  return %1, %n : tensor<3xf32>, tensor<i32>
}
"""
X, Y, N = jnp.arange(1.0, 4.0), jnp.linspace(0.5, 1.5, 3), jnp.int32(3)


def reference(x, y, n):
    return [jnp.sin(x) * y, n]


@pytest.fixture
def prog():
    avals = [jax.typeof(x) for x in (X, Y, N)]
    return Program(TEXT, avals, [avals[0], avals[2]], name="f", in_names=["x", "y", "n"])


def close(got, want):
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=2e-5), got, want)


def test_runs(prog):
    close(bind(prog, X, Y, N), reference(X, Y, N))


def test_stages_as_text(prog):
    assert "bm.sin" in prog.as_text("bm")
    jvp = prog.jvp((True, False, False))
    assert "bm.jvp" in jvp.as_text("bm")
    assert "bm.jvp" not in jvp.as_text("adjoint")
    assert "bm.cos" in jvp.as_text("optimized")
    assert '"stablehlo.cosine"' in jvp.as_text("stablehlo")
    with pytest.raises(ValueError, match="stage must be one of bm, adjoint, optimized, stablehlo"):
        prog.as_text("hlo")


def test_jvp(prog):
    jvp = prog.jvp((True, True, False))
    assert jvp is prog.jvp([True, True, False])
    assert jvp.in_names == ("x", "y", "n", "d.x", "d.y")
    assert len(jvp.out_avals) == 3
    y, n, dy = bind(jvp, X, Y, N, Y, X)
    close([y, n], reference(X, Y, N))
    close(dy, jnp.cos(X) * Y * Y + jnp.sin(X) * X)
    with pytest.raises(TypeError, match="f cannot be differentiated with respect to n, which is i"):
        prog.jvp((False, False, True))


def test_linearize_and_transpose(prog):
    fwd, lin, sources = linearized = prog.linearize((True, True, False))
    assert isinstance(lin, LinearProgram)
    y, n, *made = outputs = bind(fwd, X, Y, N)
    # What is there already is not made again.
    assert sorted(i for i in sources if i is not None) == [1]
    assert len(made) == len(sources) - 1
    residuals = linearized.residuals((X, Y, N), outputs)
    assert len(residuals) == lin.num_residuals
    close([y, n], reference(X, Y, N))
    close(bind(lin, *residuals, Y, X), [jnp.cos(X) * Y * Y + jnp.sin(X) * X])
    transposed = lin.transpose((True, True), (True,))
    close(bind(transposed, *residuals, X), [jnp.cos(X) * Y * X, jnp.sin(X) * X])
    close(bind(lin.transpose((False, True), (True,)), *residuals, X), [jnp.sin(X) * X])
    back = transposed.transpose((True,), (True, True))
    close(bind(back, *residuals, Y, X), [jnp.cos(X) * Y * Y + jnp.sin(X) * X])


def test_batch(prog):
    rows = jnp.stack([X, Y, X, Y], axis=1)
    batched = prog.batch((1, -1, -1), 4)
    products, numbers = bind(batched, rows, Y, N)
    close(products, jnp.sin(rows.T) * Y)
    close(numbers, jnp.full(4, 3))
    lin = prog.linearize((True, False, False)).lin
    axes = (-1,) * lin.num_residuals + (0,)
    assert isinstance(lin.batch(axes, 4), LinearProgram)


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: jax.grad(lambda x, y: f(x, y).sum(), (0, 1)),
        lambda f: jax.jit(jax.hessian(lambda x, y: f(x, y).sum())),
        lambda f: (
            lambda x, y: jax.vmap(jax.grad(lambda x, y: f(x, y).sum()))(
                jnp.stack([x, y]), jnp.stack([y, x])
            )
        ),
        lambda f: jax.jacfwd(jax.jacrev(f)),
    ],
)
def test_inside_jax(prog, transform):
    ours = transform(lambda x, y: bind(prog, x, y, N)[0])
    close(ours(X, Y), transform(lambda x, y: reference(x, y, N)[0])(X, Y))


def test_kernels(prog):
    f3 = prog.in_avals[0]
    number = _kernels.register(jax.lax.atan2_p, {}, [f3, f3])
    text = f"""
        func.func @main(%x: tensor<3xf32>, %y: tensor<3xf32>) -> tensor<3xf32> {{
          %0 = bm.kernel {{id = {number} : i64, name = "atan2"}} (%x, %y)
              : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
          return %0 : tensor<3xf32>
        }}"""
    kernel = Program(text, [f3, f3], [f3], name="kernel", in_names=["x", "y"])
    close(bind(kernel, X, Y), [jnp.arctan2(X, Y)])
    rows = jnp.stack([X, Y, Y, X])
    mapped = jax.vmap(jax.vmap(lambda x, y: bind(kernel, x, y)[0], (0, None)), (None, 0))
    wanted = jax.vmap(jax.vmap(jnp.arctan2, (0, None)), (None, 0))
    close(jax.jit(mapped)(rows, rows[:2]), wanted(rows, rows[:2]))


def test_dumps_every_stage(prog, tmp_path):
    dumped = Program(
        TEXT,
        prog.in_avals,
        prog.out_avals,
        name="loss<0>",
        in_names=prog.in_names,
        options=Options(dump_dir=tmp_path / "new"),
    )
    bind(dumped.jvp((True, False, False)), X, Y, N, X)
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    number = names[0].split("-")[0]
    assert names == [f"{number}-loss_0_.jvp-{i}-{s}.mlir" for i, s in enumerate(STAGES, 1)]
    assert "bm.cos" in (tmp_path / "new" / names[2]).read_text()


def test_names_must_fit():
    with pytest.raises(ValueError, match="f: 0 inputs but 1 names"):
        Program("", [], [], name="f", in_names=["x"])
