//===- Solves.cpp - Rules of triangular and tridiagonal solves ------------===//

#include "Matrices.h"
#include "bmgrad/Dialect/BM/LinearAlgebra.h"
#include "bmgrad/Dialect/BM/Shape.h"

using namespace mlir;
using namespace bmgrad;
using namespace bmgrad::bm;

//===----------------------------------------------------------------------===//
// One system with a batch of right-hand sides
//===----------------------------------------------------------------------===//

namespace {
/// A batch of right-hand sides of one system, put side by side.
struct SideBySide {
  ImplicitLocOpBuilder &b;
  RankedTensorType type;
  /// Where the batch dimension goes: before the dimension that counts the
  /// right-hand sides.
  int64_t dim;

  /// From `[batch, ..., m, n]` to `[..., m, batch * n]`.
  Value join(Value value) const {
    SmallVector<int64_t> order, shape;
    for (int64_t i = 1; i < type.getRank(); ++i) {
      if (i == dim)
        order.push_back(0);
      order.push_back(i);
    }
    for (int64_t i : llvm::seq<int64_t>(1, type.getRank()))
      shape.push_back(type.getDimSize(i) * (i == dim ? type.getDimSize(0) : 1));
    Value moved = b.createOrFold<TransposeOp>(permuted(order), value, order);
    return b.createOrFold<ReshapeOp>(type.clone(shape), moved);
  }

  Value separate(Value value) const {
    SmallVector<int64_t> order, inverse;
    for (int64_t i = 1; i < type.getRank(); ++i) {
      if (i == dim)
        order.push_back(0);
      order.push_back(i);
    }
    inverse.resize(order.size());
    for (auto [to, from] : llvm::enumerate(order))
      inverse[from] = to;
    Value moved = b.createOrFold<ReshapeOp>(permuted(order), value);
    return b.createOrFold<TransposeOp>(type, moved, inverse);
  }

private:
  RankedTensorType permuted(ArrayRef<int64_t> order) const {
    return type.clone(llvm::map_to_vector(
        order, [&](int64_t i) { return type.getDimSize(i); }));
  }
};
} // namespace

//===----------------------------------------------------------------------===//
// Triangular systems
//===----------------------------------------------------------------------===//

static TriangularSolve solveOf(TriangularSolveOp op) {
  return {op.getLeftSide(), op.getLower(), op.getTransposeA(),
          op.getConjugateA(), op.getUnitDiagonal()};
}

LogicalResult TriangularSolveOp::emitJvp(JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  TriangularSolve solve = solveOf(*this);
  Expr a(b, frame.primals[0]), r = solve(a, Expr(b, frame.primals[1]));
  frame.results.push_back(r.get());
  Value right = frame.tangents[1];
  if (frame.tangents[0]) {
    Expr da(b, frame.tangents[0]);
    int64_t off = getUnitDiagonal() ? 1 : 0;
    da = getLower() ? lowerTriangle(da, -off) : upperTriangle(da, off);
    if (getTransposeA())
      da = transposed(da);
    if (getConjugateA())
      da = conj(da);
    Expr moved = -(getLeftSide() ? matmul(da, r) : matmul(r, da));
    right = accumulate(b, right, moved.get());
  }
  frame.resultTangents.push_back(solve(a, Expr(b, right)).get());
  return success();
}

LogicalResult TriangularSolveOp::emitTranspose(TransposeFrame &frame) {
  if (frame.isLinear(0))
    return emitOpError("is not linear in the matrix");
  TriangularSolve solve = solveOf(*this);
  solve.transpose = !solve.transpose;
  frame.operandCotangents[1] = solve(Expr(frame.b, frame.operands[0]),
                                     Expr(frame.b, frame.cotangents[0]))
                                   .get();
  return success();
}

LogicalResult TriangularSolveOp::emitBatch(BatchFrame &frame) {
  if (frame.batched[0])
    return detail::batchLeading(*this, frame);
  RankedTensorType type = tensorType(frame.operands[1]);
  SideBySide sides{frame.b, type, type.getRank() - (getLeftSide() ? 1 : 2)};
  Expr solved = solveOf(*this)(Expr(frame.b, frame.operands[0]),
                               Expr(frame.b, sides.join(frame.operands[1])));
  frame.results.push_back(sides.separate(solved.get()));
  return success();
}

//===----------------------------------------------------------------------===//
// Tridiagonal systems
//===----------------------------------------------------------------------===//

/// The elements moved by one along `dim`, the later ones first if `back`; zero
/// comes in, and what leaves is lost.
static Expr shifted(Expr x, int64_t dim, bool back) {
  RankedTensorType type = tensorType(x.get());
  SmallVector<int64_t> low(type.getRank(), 0), high(low), interior(low);
  low[dim] = back ? -1 : 1;
  high[dim] = -low[dim];
  Value zero = makeZero(x.b(), type.clone(ArrayRef<int64_t>()));
  return x.with(PadOp::create(x.b(), x.get(), zero, low, high, interior));
}

static Expr solveTridiagonal(TridiagonalSolveOp op, Expr lower, Expr diagonal,
                             Expr upper, Expr b) {
  return b.with(TridiagonalSolveOp::create(b.b(), b.type(), lower.get(),
                                           diagonal.get(), upper.get(), b.get(),
                                           op.getPerturbSingular()));
}

LogicalResult TridiagonalSolveOp::emitJvp(JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  ArrayRef<Value> x = frame.primals;
  auto solve = [&](Value right) {
    return solveTridiagonal(*this, Expr(b, x[0]), Expr(b, x[1]), Expr(b, x[2]),
                            Expr(b, right));
  };
  Expr r = solve(x[3]);
  frame.results.push_back(r.get());
  RankedTensorType type = tensorType(r.get());
  int64_t rows = type.getRank() - 2;
  Value right = frame.tangents[3];
  Expr neighbours[] = {shifted(r, rows, /*back=*/false), r,
                       shifted(r, rows, /*back=*/true)};
  for (auto [tangent, neighbour] : llvm::zip(frame.tangents, neighbours))
    if (tangent) {
      Expr weights = asColumns(Expr(b, tangent), numColumns(type));
      right = accumulate(b, right, (-(weights * neighbour)).get());
    }
  frame.resultTangents.push_back(solve(right).get());
  return success();
}

LogicalResult TridiagonalSolveOp::emitTranspose(TransposeFrame &frame) {
  if (frame.isLinear(0) || frame.isLinear(1) || frame.isLinear(2))
    return emitOpError("is not linear in the matrix");
  ImplicitLocOpBuilder &b = frame.b;
  Expr lower(b, frame.operands[0]), upper(b, frame.operands[2]);
  int64_t dim = tensorType(lower.get()).getRank() - 1;
  frame.operandCotangents[3] =
      solveTridiagonal(*this, shifted(upper, dim, /*back=*/false),
                       Expr(b, frame.operands[1]),
                       shifted(lower, dim, /*back=*/true),
                       Expr(b, frame.cotangents[0]))
          .get();
  return success();
}

LogicalResult TridiagonalSolveOp::emitBatch(BatchFrame &frame) {
  if (llvm::is_contained(frame.batched.take_front(3), true))
    return detail::batchLeading(*this, frame);
  RankedTensorType type = tensorType(frame.operands[3]);
  SideBySide sides{frame.b, type, type.getRank() - 1};
  Expr solved = solveTridiagonal(*this, Expr(frame.b, frame.operands[0]),
                                 Expr(frame.b, frame.operands[1]),
                                 Expr(frame.b, frame.operands[2]),
                                 Expr(frame.b, sides.join(frame.operands[3])));
  frame.results.push_back(sides.separate(solved.get()));
  return success();
}
