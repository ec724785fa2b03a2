//===- Schur.cpp - Rules of the Schur form --------------------------------===//
//
// Formulas and their sources: LinearAlgebra.td.
//
//===----------------------------------------------------------------------===//

#include "Matrices.h"
#include "bmgrad/Dialect/BM/Elementwise.h"
#include "bmgrad/Dialect/BM/LinearAlgebra.h"

using namespace mlir;
using namespace bmgrad;
using namespace bmgrad::bm;

static Expr zeroLike(Expr x) { return expr::constantLike(x, 0.0); }

/// `x t - t x`.
static Expr commutator(Expr x, Expr t) { return matmul(x, t) - matmul(t, x); }

//===----------------------------------------------------------------------===//
// The equation below the diagonal
//===----------------------------------------------------------------------===//

static Expr solveCommutator(Expr t, Expr p, bool transpose = false) {
  return p.with(
      CommutatorSolveOp::create(p.b(), p.type(), t.get(), p.get(), transpose));
}

LogicalResult CommutatorSolveOp::emitJvp(JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Expr t(b, frame.primals[0]);
  Expr r = solveCommutator(t, Expr(b, frame.primals[1]), getTranspose());
  frame.results.push_back(r.get());
  Value right = frame.tangents[1];
  if (frame.tangents[0]) {
    Expr dt = upperTriangle(Expr(b, frame.tangents[0]));
    if (getTranspose())
      dt = transposed(dt);
    right = accumulate(b, right, (-commutator(r, dt)).get());
  }
  frame.resultTangents.push_back(
      solveCommutator(t, Expr(b, right), getTranspose()).get());
  return success();
}

LogicalResult CommutatorSolveOp::emitTranspose(TransposeFrame &frame) {
  if (frame.isLinear(0))
    return emitOpError("is not linear in the triangular matrix");
  frame.operandCotangents[1] =
      solveCommutator(Expr(frame.b, frame.operands[0]),
                      Expr(frame.b, frame.cotangents[0]), !getTranspose())
          .get();
  return success();
}

//===----------------------------------------------------------------------===//
// Complex and real forms
//===----------------------------------------------------------------------===//

namespace {
/// The blocks of 2 by 2 on the diagonal of a real form. What there is one of in
/// a block stands at its upper right.
class Blocks {
public:
  explicit Blocks(Expr t)
      : t(t), below(transposed(lowerTriangle(t, -1))),
        isBlock(expr::gt(expr::abs(below), zeroLike(t))) {}

  /// The unitary matrix whose columns are eigenvectors of the blocks.
  Expr eigenvectors() const {
    Expr one = expr::constantLike(t, 1.0);
    Expr upper = expr::select(isBlock, t, one);
    Expr lower = expr::select(isBlock, below, -one);
    Expr cosine = inBlocks(expr::rsqrt(1.0 - lower / upper));
    Expr sine = inBlocks(expr::sign(upper) * expr::rsqrt(1.0 - upper / lower));
    Expr ones = inBlocks(one);
    // Each vector of a block has the block's cosine, others are of length 1.
    Expr outside = identityLike(t) - onDiagonal(ones);
    Expr real = outside + onDiagonal(cosine);
    Expr imaginary = sine + transposed(sine);
    RankedTensorType type = tensorType(t.get());
    return t.with(ComplexOp::create(
        t.b(), type.clone(ComplexType::get(type.getElementType())), real.get(),
        imaginary.get()));
  }

  /// The part below the blocks.
  Expr strictlyBelow(Expr x) const {
    return expr::select(isBelow(), zeroLike(x), lowerTriangle(x, -1));
  }

  /// The part that the form has: the upper triangle and the blocks.
  Expr form(Expr x) const {
    return expr::select(isBelow(), x, upperTriangle(x));
  }

  /// The antisymmetric matrix, within blocks, that keeps their diagonal
  /// elements equal where those of the tangent are `diagonal`.
  Expr equalizing(Expr tangent) const {
    int64_t size = numRows(tensorType(t.get()));
    Expr elements = diagonal(tangent);
    Expr excess = asRows(elements, size) - asColumns(elements, size);
    Expr turn = inBlocks(excess * reciprocalOrZero(2.0 * (t + below)));
    return transposed(turn) - turn;
  }

private:
  Expr inBlocks(Expr x) const { return expr::select(isBlock, x, zeroLike(x)); }

  /// What stands in blocks on both of their diagonal elements.
  Expr onDiagonal(Expr x) const {
    int64_t size = numRows(tensorType(t.get()));
    Expr elements = sumOfColumns(x) + sumOfColumns(transposed(x));
    return identityLike(x) * asRows(elements, size);
  }

  Expr isBelow() const {
    return expr::gt(expr::abs(transposed(inBlocks(below))), zeroLike(t));
  }

  Expr t;
  /// The elements below the diagonal of t, transposed: at the place of those
  /// above it.
  Expr below;
  Expr isBlock;
};
} // namespace

/// The tangent of the form `t` and `z^H dz`, for `p = z^H dx z`.
static std::pair<Expr, Expr> schurTangents(Expr t, Expr p) {
  if (isComplex(t)) {
    Expr turned = solveCommutator(t, p);
    Expr turn = turned - adjoint(turned);
    return {upperTriangle(p - commutator(turn, t)), turn};
  }
  // The eigenvectors of blocks make a triangular form of the real one; what is
  // below the blocks is the same in both.
  Blocks blocks(t);
  Expr vectors = blocks.eigenvectors();
  auto inVectors = [&](Expr x) {
    return matmul(matmul(adjoint(vectors), toElementOf(x, vectors)), vectors);
  };
  Expr turned = solveCommutator(inVectors(t), inVectors(p));
  Expr lower = blocks.strictlyBelow(
      realPart(matmul(matmul(vectors, turned), adjoint(vectors))));
  Expr turn = lower - transposed(lower);
  turn = turn + blocks.equalizing(p - commutator(turn, t));
  return {blocks.form(p - commutator(turn, t)), turn};
}

LogicalResult SchurOp::emitJvp(JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Type type = getT().getType();
  auto op = SchurOp::create(b, TypeRange{type, type}, frame.primals[0],
                            /*compute_schur_vectors=*/true);
  llvm::append_range(frame.results,
                     op.getResults().take_front(getNumResults()));
  Expr z(b, op.getZ());
  Expr p = matmul(matmul(adjoint(z), Expr(b, frame.tangents[0])), z);
  auto [dt, turn] = schurTangents(Expr(b, op.getT()), p);
  frame.resultTangents.push_back(dt.get());
  if (getZ())
    frame.resultTangents.push_back(matmul(z, turn).get());
  return success();
}
