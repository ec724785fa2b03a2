//===- Matrices.h - Formulas of matrices ------------------------*- C++ -*-===//
//
// What the rules of linear algebra are written in: Expr (Expr.h) has the
// elementwise operators, here are those of matrices. The last two dimensions of
// an operand are the matrix, those before them run along as a batch.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_LIB_BM_MATRICES_H
#define BMGRAD_LIB_BM_MATRICES_H

#include "bmgrad/Dialect/BM/Expr.h"
#include "bmgrad/Dialect/BM/Rules.h"

namespace bmgrad::bm {

/// The dimensions before the matrix.
llvm::ArrayRef<int64_t> batchOf(mlir::RankedTensorType type);
int64_t numRows(mlir::RankedTensorType type);
int64_t numColumns(mlir::RankedTensorType type);
bool isComplex(Expr x);

/// `x y`, in full precision.
Expr matmul(Expr x, Expr y);
Expr transposed(Expr x);
/// The conjugate if complex.
Expr conj(Expr x);
/// The conjugate transpose.
Expr adjoint(Expr x);

/// The elements up to `diagonal` (0 is the main one, -1 the next below).
Expr lowerTriangle(Expr x, int64_t diagonal = 0);
/// The elements from `diagonal` on.
Expr upperTriangle(Expr x, int64_t diagonal = 0);
/// The matrix with zeros off its diagonal.
Expr diagonalPart(Expr x);
/// The diagonal of square matrices, as vectors.
Expr diagonal(Expr x);
/// The Hermitian matrix of which one triangle is that of `x`.
Expr hermitianOf(Expr x, bool lower);
/// The antihermitian matrix whose lower triangle is that of `x`, with the
/// imaginary part of its diagonal.
Expr antihermitianOf(Expr x);
/// 1 on the diagonal, of the type of `like`.
Expr identityLike(Expr like);

/// The vector as each row of a matrix with `rows` rows: `r[i, j] = v[j]`.
Expr asRows(Expr v, int64_t rows);
/// The vector as each column: `r[i, j] = v[i]`.
Expr asColumns(Expr v, int64_t columns);
/// The sum of each column.
Expr sumOfColumns(Expr x);

Expr realPart(Expr x);
Expr imaginaryPart(Expr x);
/// `x` with the element type of `like`; complex numbers do not become real.
Expr toElementOf(Expr x, Expr like);

Expr rowsOf(Expr x, int64_t begin, int64_t end);
Expr columnsOf(Expr x, int64_t begin, int64_t end);
/// `x` above `y`.
Expr stackRows(Expr x, Expr y);
/// `x` before `y`.
Expr stackColumns(Expr x, Expr y);
/// Row `indices[i]` of `x` as row `i`; the indices are a permutation.
Expr permuteRows(Expr x, Expr indices);

/// 1/x, or 0 where x is 0.
Expr reciprocalOrZero(Expr x);

struct TriangularSolve {
  bool leftSide = true, lower = false, transpose = false, conjugate = false,
       unitDiagonal = false;
  Expr operator()(Expr a, Expr b) const;
};

/// `op(a)^-1 b` from the factors that `bm.lu` makes of `a`; `op` is the
/// conjugate transpose if `adjoint`.
Expr luSolve(Expr factors, Expr permutation, Expr b, bool adjoint = false);

} // namespace bmgrad::bm

#endif // BMGRAD_LIB_BM_MATRICES_H
