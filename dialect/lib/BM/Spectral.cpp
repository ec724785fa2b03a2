//===- Spectral.cpp - Rules of eigenvalues and singular values ------------===//
//
// Formulas and their sources: LinearAlgebra.td.
//
//===----------------------------------------------------------------------===//

#include "Matrices.h"
#include "bmgrad/Dialect/BM/Elementwise.h"
#include "bmgrad/Dialect/BM/LinearAlgebra.h"
#include "bmgrad/Dialect/BM/Reduction.h"
#include "bmgrad/Dialect/BM/Shape.h"

using namespace mlir;
using namespace bmgrad;
using namespace bmgrad::bm;

/// `1 / (w[j] - w[i])`, 0 for equal values.
static Expr inverseGaps(Expr w) {
  int64_t size = tensorType(w.get()).getShape().back();
  return reciprocalOrZero(asRows(w, size) - asColumns(w, size));
}

static bool keepsAll(std::optional<ArrayRef<int64_t>> subset, int64_t count) {
  return !subset || ((*subset)[0] == 0 && (*subset)[1] == count);
}

/// The error for vectors of some values: they depend on the others too.
static LogicalResult noPartialVectors(Operation *op) {
  return op->emitError("no derivative rule for primitive '")
         << op->getName().stripDialect()
         << "' with respect to the vectors of a subset of the values; compute "
            "all of them, then take those wanted";
}

//===----------------------------------------------------------------------===//
// Hermitian matrices
//===----------------------------------------------------------------------===//

LogicalResult EighOp::emitJvp(JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  auto op = cast<EighOp>(detail::cloneWith(b, *this, frame.primals));
  llvm::append_range(frame.results, op.getResults());
  bool usesVectors = !getV().use_empty();
  if (usesVectors && !keepsAll(getSubsetByIndex(), numRows(tensorType(getX()))))
    return noPartialVectors(*this);
  Expr v(b, op.getV()), w(b, op.getW());
  Expr dx = hermitianOf(Expr(b, frame.tangents[0]), getLower());
  Expr p = matmul(matmul(adjoint(v), dx), v);
  Value dv;
  if (usesVectors)
    dv = matmul(v, toElementOf(inverseGaps(w), v) * p).get();
  frame.resultTangents = {dv, realPart(diagonal(p)).get()};
  return success();
}

//===----------------------------------------------------------------------===//
// Singular values
//===----------------------------------------------------------------------===//

namespace {
/// The reduced decomposition, its tangent, and what both are made of.
struct Singular {
  Expr s, u, v;
  Expr dx;
  /// u^H dx v.
  Expr k;

  Expr valuesTangent() const { return diagonal(realPart(k)); }

  /// The tangents of u and v within their spans and, where a matrix is longer
  /// than the number of values, out of them.
  std::pair<Expr, Expr> vectorTangents() const {
    int64_t size = tensorType(s.get()).getShape().back();
    Expr hermitian = 0.5 * (k + adjoint(k));
    Expr antihermitian = 0.5 * (k - adjoint(k));
    Expr sums = reciprocalOrZero(asRows(s, size) + asColumns(s, size));
    Expr common = toElementOf(inverseGaps(s), k) * hermitian;
    Expr opposite = toElementOf(sums, k) * antihermitian;
    Expr turnU = common + opposite, turnV = common - opposite;
    if (isComplex(k)) {
      // Only the sum of the phases is determined: u takes all of it.
      Expr phases = diagonalPart(opposite);
      turnU = turnU + phases;
      turnV = turnV + phases;
    }
    return {matmul(u, turnU) + outOfSpan(u, dx, v),
            matmul(v, turnV) + outOfSpan(v, adjoint(dx), u)};
  }

private:
  /// `(1 - left left^H) moved right / s`.
  Expr outOfSpan(Expr left, Expr moved, Expr right) const {
    RankedTensorType type = tensorType(left.get());
    if (numRows(type) == numColumns(type))
      return expr::constantLike(left, 0.0);
    Expr image = matmul(moved, right);
    Expr out = image - matmul(left, matmul(adjoint(left), image));
    Expr inverse = asRows(reciprocalOrZero(s), numRows(type));
    return out * toElementOf(inverse, out);
  }
};
} // namespace

/// The tangent of a square matrix whose first columns move by `dFirst`; the
/// rest turn no more than orthogonality asks for.
static Expr completedTangent(Expr all, Expr dFirst) {
  int64_t count = numColumns(tensorType(dFirst.get()));
  int64_t size = numColumns(tensorType(all.get()));
  if (count == size)
    return dFirst;
  Expr first = columnsOf(all, 0, count), rest = columnsOf(all, count, size);
  Expr turn = matmul(adjoint(dFirst), rest);
  return stackColumns(dFirst, -matmul(first, turn));
}

LogicalResult SvdOp::emitJvp(JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  RankedTensorType type = tensorType(getX()), values = tensorType(getS());
  int64_t rows = numRows(type), columns = numColumns(type);
  int64_t count = values.getShape().back();
  bool full = getComputeUv() && getFullMatrices();
  SmallVector<int64_t> uShape(batchOf(type)), vhShape(uShape);
  uShape.append({rows, full ? rows : count});
  vhShape.append({full ? columns : count, columns});
  auto op = SvdOp::create(
      b, TypeRange{values, type.clone(uShape), type.clone(vhShape)},
      frame.primals[0], full, /*compute_uv=*/true, getSubsetByIndexAttr(),
      getAlgorithmAttr());
  Expr u(b, op.getVectors()[0]), v = adjoint(Expr(b, op.getVectors()[1]));
  Expr first = columnsOf(u, 0, count), firstV = columnsOf(v, 0, count);
  Expr dx(b, frame.tangents[0]);
  Singular singular{Expr(b, op.getS()), first, firstV, dx,
                    matmul(matmul(adjoint(first), dx), firstV)};

  llvm::append_range(frame.results,
                     op.getResults().take_front(getNumResults()));
  frame.resultTangents.push_back(singular.valuesTangent().get());
  frame.resultTangents.resize(getNumResults());
  if (llvm::all_of(getVectors(), [](Value x) { return x.use_empty(); }))
    return success();
  if (!keepsAll(getSubsetByIndex(), std::min(rows, columns)))
    return noPartialVectors(*this);
  auto [du, dv] = singular.vectorTangents();
  frame.resultTangents[1] = completedTangent(u, du).get();
  frame.resultTangents[2] = adjoint(completedTangent(v, dv)).get();
  return success();
}

//===----------------------------------------------------------------------===//
// Eigenvalues of any matrix
//===----------------------------------------------------------------------===//

/// `a^-1 b`.
static Expr solved(Expr a, Expr b) {
  RankedTensorType type = tensorType(a.get());
  auto indices =
      RankedTensorType::get(type.getShape().drop_back(), a.b().getI32Type());
  auto lu = LuOp::create(a.b(), TypeRange{type, indices, indices}, a.get());
  return luSolve(a.with(lu.getFactors()), a.with(lu.getPermutation()), b);
}

/// The tangent of the eigenvectors `v` to the eigenvalues `w`, for
/// `p = v^-1 dx v`: the columns keep their length, and their largest component
/// stays real.
static Expr eigenvectorsTangent(Expr w, Expr v, Expr p) {
  ImplicitLocOpBuilder &b = v.b();
  Expr moved = matmul(v, inverseGaps(w) * p);
  RankedTensorType type = tensorType(v.get());
  int64_t rows = type.getRank() - 2, size = numRows(type);
  if (size == 0)
    return moved;
  auto parts =
      type.clone(cast<ComplexType>(type.getElementType()).getElementType());
  SmallVector<int64_t> vector(type.getShape().drop_back());
  auto indices = RankedTensorType::get(vector, b.getI32Type());
  Value absolute = AbsOp::create(b, parts, v.get());
  Expr largest(b, ArgmaxOp::create(b, indices, absolute, rows));
  Expr place(b, IotaOp::create(b, type.clone(b.getI32Type()), rows));
  Expr isLargest = expr::eq(place, asRows(largest, size));
  auto pick = [&](Expr x) {
    return sumOfColumns(expr::select(isLargest, x, expr::constantLike(x, 0.0)));
  };
  // What is added along v: its real part keeps the length, the imaginary one
  // the phase.
  Expr length = -realPart(sumOfColumns(conj(v) * moved));
  Expr phase = -(pick(imaginaryPart(moved)) / pick(realPart(v)));
  Expr along(
      b, ComplexOp::create(b, type.clone(vector), length.get(), phase.get()));
  return moved + v * asRows(along, size);
}

LogicalResult EigOp::emitJvp(JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  bool usesVectors = !llvm::all_of(
      getVectors(), [](Value vectors) { return vectors.use_empty(); });
  if (usesVectors && !getEnableEigvecDerivs())
    return emitError("no derivative rule for primitive 'eig' with respect to "
                     "eigenvectors, which have a derivative only where "
                     "eigenvalues differ and normalisation is smooth; "
                     "jax.lax.linalg.eig takes enable_eigvec_derivs=True to "
                     "say that they are");
  RankedTensorType values = tensorType(getW());
  SmallVector<int64_t> shape(values.getShape());
  shape.push_back(shape.back());
  SmallVector<Type> types(getComputeLeftEigenvectors() ? 3 : 2,
                          values.clone(shape));
  types[0] = values;
  // Of the vectors that make the tangent of the values, norm and phase cancel.
  auto op =
      EigOp::create(b, types, frame.primals[0], getComputeLeftEigenvectors(),
                    /*compute_right_eigenvectors=*/true,
                    /*enable_eigvec_derivs=*/true, getImplementationAttr());
  llvm::append_range(frame.results,
                     op.getResults().take_front(getNumResults()));

  Expr w(b, op.getW()), v(b, op.getVectors().back());
  Expr dx = toElementOf(Expr(b, frame.tangents[0]), v);
  Expr p = matmul(solved(v, dx), v);
  frame.resultTangents.push_back(diagonal(p).get());
  if (!usesVectors) {
    frame.resultTangents.resize(getNumResults());
    return success();
  }
  if (getComputeLeftEigenvectors()) {
    // They are the right eigenvectors of the conjugate transpose.
    Expr left(b, op.getVectors().front());
    Expr pLeft = matmul(solved(left, adjoint(dx)), left);
    frame.resultTangents.push_back(
        eigenvectorsTangent(conj(w), left, pLeft).get());
  }
  if (getComputeRightEigenvectors())
    frame.resultTangents.push_back(eigenvectorsTangent(w, v, p).get());
  return success();
}
