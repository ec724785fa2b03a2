//===- Decompositions.cpp - Rules of Cholesky, LU and QR factors ----------===//
//
// Formulas and their sources: LinearAlgebra.td.
//
//===----------------------------------------------------------------------===//

#include "Matrices.h"
#include "bmgrad/Dialect/BM/LinearAlgebra.h"

using namespace mlir;
using namespace bmgrad;
using namespace bmgrad::bm;

//===----------------------------------------------------------------------===//
// Cholesky
//===----------------------------------------------------------------------===//

/// The derivative of the lower Cholesky factor `l` of a matrix that moves by
/// the Hermitian `dx`.
static Expr choleskyTangent(Expr l, Expr dx) {
  TriangularSolve left{.leftSide = true, .lower = true};
  TriangularSolve right{
      .leftSide = false, .lower = true, .transpose = true, .conjugate = true};
  Expr inner = left(l, right(l, dx));
  return matmul(l, 0.5 * (lowerTriangle(inner) + lowerTriangle(inner, -1)));
}

LogicalResult CholeskyOp::emitJvp(JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Expr l(b, CholeskyOp::create(b, getType(), frame.primals[0]));
  frame.results.push_back(l.get());
  Expr dx = hermitianOf(Expr(b, frame.tangents[0]), /*lower=*/true);
  frame.resultTangents.push_back(choleskyTangent(l, dx).get());
  return success();
}

/// `x y^T + y x^T`.
static Expr symmetricProduct(Expr x, Expr y) {
  Expr half = matmul(x, transposed(y));
  return half + transposed(half);
}

LogicalResult CholeskyUpdateOp::emitJvp(JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Expr factor(b, frame.primals[0]), w(b, frame.primals[1]);
  Expr r =
      w.with(CholeskyUpdateOp::create(b, getType(), factor.get(), w.get()));
  frame.results.push_back(r.get());
  // The matrix is f^T f + w w^T, its lower factor r^T.
  Value moved;
  if (frame.tangents[0]) {
    Expr df = upperTriangle(Expr(b, frame.tangents[0]));
    moved = symmetricProduct(transposed(df), transposed(upperTriangle(factor)))
                .get();
  }
  if (frame.tangents[1]) {
    Expr dw(b, frame.tangents[1]);
    Expr product = symmetricProduct(asColumns(dw, 1), asColumns(w, 1));
    moved = accumulate(b, moved, product.get());
  }
  Expr tangent = choleskyTangent(transposed(r), Expr(b, moved));
  frame.resultTangents.push_back(transposed(tangent).get());
  return success();
}

//===----------------------------------------------------------------------===//
// LU
//===----------------------------------------------------------------------===//

LogicalResult LuOp::emitJvp(JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  auto op = LuOp::create(b, getResultTypes(), frame.primals[0]);
  llvm::append_range(frame.results, op.getResults());
  RankedTensorType type = tensorType(getX());
  int64_t rows = numRows(type), columns = numColumns(type);
  int64_t rank = std::min(rows, columns);

  Expr factors(b, op.getFactors());
  Expr square = columnsOf(rowsOf(factors, 0, rank), 0, rank);
  Expr dx =
      permuteRows(Expr(b, frame.tangents[0]), Expr(b, op.getPermutation()));
  TriangularSolve leftLower{.lower = true, .unitDiagonal = true};
  TriangularSolve rightUpper{.leftSide = false};

  // f = L^-1 dx U^-1 of the square block; what is below it is dx U^-1, and what
  // is right of it L^-1 dx.
  Expr dTop = leftLower(square, rowsOf(dx, 0, rank));
  Expr f = rightUpper(square, columnsOf(dTop, 0, rank));
  Expr fLower = lowerTriangle(f, -1), fUpper = upperTriangle(f);
  Expr unitLower = lowerTriangle(square, -1) + identityLike(square);
  Expr upper = upperTriangle(square);
  Expr tangent = matmul(unitLower, fLower) + matmul(fUpper, upper);
  if (rows > rank) {
    Expr below = rightUpper(square, rowsOf(dx, rank, rows));
    below = below - matmul(rowsOf(factors, rank, rows), fUpper);
    tangent = stackRows(tangent, below);
  }
  if (columns > rank) {
    Expr right = columnsOf(dTop, rank, columns) -
                 matmul(fLower, columnsOf(factors, rank, columns));
    tangent = stackColumns(tangent, right);
  }
  frame.resultTangents = {tangent.get(), Value(), Value()};
  return success();
}

//===----------------------------------------------------------------------===//
// QR
//===----------------------------------------------------------------------===//

namespace {
struct QrTangent {
  Expr q, upper;
};
} // namespace

/// Of the reduced factors of a matrix with at least as many rows as columns.
static QrTangent reducedQrTangent(Expr q, Expr upper, Expr dx) {
  Expr c = TriangularSolve{.leftSide = false}(upper, dx);
  Expr inner = matmul(adjoint(q), c);
  Expr turn = antihermitianOf(inner);
  return {matmul(q, turn - inner) + c, matmul(inner - turn, upper)};
}

/// How the columns turn that complete `q` to a square matrix. In a product of
/// Householder reflections they follow from the others:
/// Z = Q21 (Q11 - 1)^-1 with the blocks of the first columns.
static Expr completionTangent(Expr q, Expr dq, int64_t columns) {
  int64_t rows = numRows(tensorType(q.get()));
  Expr first = columnsOf(q, 0, columns), rest = columnsOf(q, columns, rows);
  Expr top = rowsOf(first, 0, columns), bottom = rowsOf(first, columns, rows);
  Expr dTop = rowsOf(dq, 0, columns), dBottom = rowsOf(dq, columns, rows);
  Expr shifted = top - identityLike(top);
  RankedTensorType type = tensorType(top.get());
  auto indices =
      RankedTensorType::get(type.getShape().drop_back(), q.b().getI32Type());
  auto lu =
      LuOp::create(q.b(), TypeRange{type, indices, indices}, shifted.get());
  Expr zAdjoint = luSolve(q.with(lu.getFactors()), q.with(lu.getPermutation()),
                          adjoint(bottom), /*adjoint=*/true);
  Expr z = adjoint(zAdjoint);
  return matmul(dq, zAdjoint) -
         matmul(first + matmul(rest, z), adjoint(dBottom - matmul(z, dTop)));
}

LogicalResult QrOp::emitJvp(JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  auto op = cast<QrOp>(detail::cloneWith(b, *this, frame.primals));
  llvm::append_range(frame.results, op.getResults());
  RankedTensorType type = tensorType(getX());
  int64_t rows = numRows(type), columns = numColumns(type);
  Expr q(b, op.getQ()), upper(b, op.getUpper()), dx(b, frame.tangents[0]);
  if (getPivoting())
    dx = transposed(permuteRows(transposed(dx), Expr(b, op.getPermutation())));

  QrTangent tangent;
  if (rows < columns) {
    tangent =
        reducedQrTangent(q, columnsOf(upper, 0, rows), columnsOf(dx, 0, rows));
    // q is square: dR = q^H dx - (q^H dq) R.
    Expr right =
        matmul(adjoint(q), columnsOf(dx, rows, columns)) -
        matmul(matmul(adjoint(q), tangent.q), columnsOf(upper, rows, columns));
    tangent.upper = stackColumns(tangent.upper, right);
  } else {
    tangent = reducedQrTangent(columnsOf(q, 0, columns),
                               rowsOf(upper, 0, columns), dx);
    if (getFullMatrices() && rows > columns) {
      tangent.q =
          stackColumns(tangent.q, completionTangent(q, tangent.q, columns));
      Expr below = rowsOf(upper, columns, rows);
      tangent.upper = stackRows(tangent.upper, expr::constantLike(below, 0.0));
    }
  }
  frame.resultTangents = {tangent.q.get(), tangent.upper.get()};
  frame.resultTangents.resize(getNumResults());
  return success();
}
