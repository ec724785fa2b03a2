//===- LinearAlgebra.cpp - What the ops of LinearAlgebra.td demand --------===//
//
// Registration, verifiers and the triangle of a matrix. Rules: Solves.cpp,
// Decompositions.cpp (Cholesky, LU, QR) and Spectral.cpp (eigenvalues, SVD).
//
//===----------------------------------------------------------------------===//

#include "bmgrad/Dialect/BM/LinearAlgebra.h"
#include "Matrices.h"
#include "bmgrad/Dialect/BM/Elementwise.h"
#include "bmgrad/Dialect/BM/Shape.h"

#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace bmgrad;
using namespace bmgrad::bm;

#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/LinearAlgebra.cpp.inc"

void bmgrad::bm::addLinearAlgebraOps(BMDialect &dialect) {
  dialect.addFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/LinearAlgebra.cpp.inc"
      >();
}

//===----------------------------------------------------------------------===//
// Verifiers
//===----------------------------------------------------------------------===//

static LogicalResult verifyMatrix(Operation *op, Value operand) {
  if (tensorType(operand).getRank() < 2)
    return op->emitOpError("needs an operand with the dimensions of a matrix, "
                           "but it has type ")
           << operand.getType();
  return success();
}

static LogicalResult verifySquare(Operation *op, Value operand) {
  if (failed(verifyMatrix(op, operand)))
    return failure();
  RankedTensorType type = tensorType(operand);
  if (numRows(type) != numColumns(type))
    return op->emitOpError("needs square matrices, but has an operand of type ")
           << type;
  return success();
}

/// Checks that `value`, which messages call `name`, is a batch like that of the
/// matrices `like`, of arrays of `shape`.
static LogicalResult verifyShape(Operation *op, StringRef name, Value value,
                                 Value like, ArrayRef<int64_t> shape,
                                 Type element = {}) {
  SmallVector<int64_t> expected(batchOf(tensorType(like)));
  llvm::append_range(expected, shape);
  auto type = RankedTensorType::get(
      expected, element ? element : getElementTypeOrSelf(value.getType()));
  if (type != value.getType())
    return op->emitOpError() << name << " must have type " << type
                             << ", but has " << value.getType();
  return success();
}

static Type realElement(Value x) {
  Type element = getElementTypeOrSelf(x.getType());
  auto complex = dyn_cast<ComplexType>(element);
  return complex ? complex.getElementType() : element;
}

/// The number of values that `subset_by_index` keeps of `count`.
static FailureOr<int64_t> subsetSize(Operation *op,
                                     std::optional<ArrayRef<int64_t>> subset,
                                     int64_t count) {
  if (!subset)
    return count;
  if (subset->size() != 2 || (*subset)[0] < 0 || (*subset)[1] > count ||
      (*subset)[0] > (*subset)[1])
    return op->emitOpError("subset_by_index must be a range within [0, ")
           << count << ")";
  return (*subset)[1] - (*subset)[0];
}

LogicalResult TriangleOp::verify() { return verifyMatrix(*this, getX()); }

LogicalResult CholeskyOp::verify() { return verifySquare(*this, getX()); }

LogicalResult CholeskyUpdateOp::verify() {
  if (failed(verifySquare(*this, getFactor())))
    return failure();
  RankedTensorType type = tensorType(getFactor());
  return verifyShape(*this, "the vector", getW(), getFactor(), {numRows(type)},
                     type.getElementType());
}

LogicalResult TriangularSolveOp::verify() {
  if (failed(verifySquare(*this, getA())) ||
      failed(verifyMatrix(*this, getB())))
    return failure();
  RankedTensorType a = tensorType(getA()), b = tensorType(getB());
  SmallVector<int64_t> shape{numRows(b), numColumns(b)};
  shape[getLeftSide() ? 0 : 1] = numRows(a);
  return verifyShape(*this, "the right-hand side", getB(), getA(), shape,
                     a.getElementType());
}

LogicalResult TridiagonalSolveOp::verify() {
  RankedTensorType diagonal = tensorType(getDiagonal());
  if (diagonal.getRank() < 1)
    return emitOpError("needs diagonals, but has scalars");
  if (failed(verifyMatrix(*this, getB())))
    return failure();
  RankedTensorType b = tensorType(getB());
  SmallVector<int64_t> shape(diagonal.getShape());
  shape.push_back(numColumns(b));
  if (b != diagonal.clone(shape))
    return emitOpError("the right-hand side must have type ")
           << diagonal.clone(shape) << ", but has " << b;
  return success();
}

LogicalResult LuOp::verify() {
  if (failed(verifyMatrix(*this, getX())))
    return failure();
  RankedTensorType x = tensorType(getX());
  int64_t rows = numRows(x), rank = std::min(rows, numColumns(x));
  return success(
      succeeded(verifyShape(*this, "pivots", getPivots(), getX(), {rank})) &&
      succeeded(verifyShape(*this, "the permutation", getPermutation(), getX(),
                            {rows})));
}

LogicalResult LuPivotsToPermutationOp::verify() {
  RankedTensorType pivots = tensorType(getPivots());
  if (pivots.getRank() < 1)
    return emitOpError("needs a vector of pivots");
  SmallVector<int64_t> shape(pivots.getShape());
  int64_t count = shape.back(), size = getPermutationSize();
  shape.back() = size;
  if (size < count)
    return emitOpError("permutation_size ")
           << size << " is less than the number of pivots, " << count;
  if (tensorType(getR()) != pivots.clone(shape))
    return emitOpError("result must have type ")
           << pivots.clone(shape) << ", but has " << getType();
  return success();
}

LogicalResult QrOp::verify() {
  if (failed(verifyMatrix(*this, getX())))
    return failure();
  RankedTensorType x = tensorType(getX());
  int64_t rows = numRows(x), columns = numColumns(x);
  int64_t rank = getFullMatrices() ? rows : std::min(rows, columns);
  Type element = x.getElementType();
  if (getPivoting() != static_cast<bool>(getPermutation()))
    return emitOpError("has a permutation if, and only if, it is pivoting");
  return success(succeeded(verifyShape(*this, "q", getQ(), getX(), {rows, rank},
                                       element)) &&
                 succeeded(verifyShape(*this, "r", getUpper(), getX(),
                                       {rank, columns}, element)) &&
                 (!getPivoting() ||
                  succeeded(verifyShape(*this, "the permutation",
                                        getPermutation(), getX(), {columns}))));
}

LogicalResult EighOp::verify() {
  if (failed(verifySquare(*this, getX())))
    return failure();
  RankedTensorType x = tensorType(getX());
  FailureOr<int64_t> count = subsetSize(*this, getSubsetByIndex(), numRows(x));
  if (failed(count))
    return failure();
  return success(
      succeeded(verifyShape(*this, "v", getV(), getX(), {numRows(x), *count},
                            x.getElementType())) &&
      succeeded(verifyShape(*this, "w", getW(), getX(), {*count},
                            realElement(getX()))));
}

LogicalResult SvdOp::verify() {
  if (failed(verifyMatrix(*this, getX())))
    return failure();
  RankedTensorType x = tensorType(getX());
  int64_t rows = numRows(x), columns = numColumns(x);
  FailureOr<int64_t> rank =
      subsetSize(*this, getSubsetByIndex(), std::min(rows, columns));
  if (failed(rank) || failed(verifyShape(*this, "s", getS(), getX(), {*rank},
                                         realElement(getX()))))
    return failure();
  if (getVectors().size() != (getComputeUv() ? 2 : 0))
    return emitOpError("has u and vh if, and only if, compute_uv is set");
  if (!getComputeUv())
    return success();
  Type element = x.getElementType();
  bool full = getFullMatrices();
  return success(
      succeeded(verifyShape(*this, "u", getVectors()[0], getX(),
                            {rows, full ? rows : *rank}, element)) &&
      succeeded(verifyShape(*this, "vh", getVectors()[1], getX(),
                            {full ? columns : *rank, columns}, element)));
}

LogicalResult EigOp::verify() {
  if (failed(verifySquare(*this, getX())))
    return failure();
  int64_t size = numRows(tensorType(getX()));
  Type element = ComplexType::get(realElement(getX()));
  if (failed(verifyShape(*this, "w", getW(), getX(), {size}, element)))
    return failure();
  size_t sides = getComputeLeftEigenvectors() + getComputeRightEigenvectors();
  if (getVectors().size() != sides)
    return emitOpError(
               "must have as many matrices of vectors as are computed, ")
           << sides << ", but has " << getVectors().size();
  for (Value vectors : getVectors())
    if (failed(verifyShape(*this, "vectors", vectors, getX(), {size, size},
                           element)))
      return failure();
  return success();
}

//===----------------------------------------------------------------------===//
// The triangle of a matrix
//===----------------------------------------------------------------------===//

static int64_t diagonalOf(TriangleOp op) {
  return static_cast<int64_t>(op.getDiagonal());
}

OpFoldResult TriangleOp::fold(FoldAdaptor) {
  if (isZeroConstant(getX()))
    return getX();
  auto inner = getX().getDefiningOp<TriangleOp>();
  if (inner && inner.getLower() == getLower() &&
      (getLower() ? diagonalOf(inner) <= diagonalOf(*this)
                  : diagonalOf(inner) >= diagonalOf(*this)))
    return inner.getR();
  return {};
}

LogicalResult TriangleOp::emitTranspose(TransposeFrame &frame) {
  frame.operandCotangents[0] = frame.b.createOrFold<TriangleOp>(
      getType(), frame.cotangents[0], getLower(), getDiagonal());
  return success();
}

LogicalResult TriangleOp::emitLowering(LoweringFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  RankedTensorType type = tensorType(getX());
  int64_t rank = type.getRank();
  // One matrix's mask, spread over the batch.
  auto plane =
      RankedTensorType::get(type.getShape().take_back(2), b.getI32Type());
  Expr row(b, IotaOp::create(b, plane, 0)),
      column(b, IotaOp::create(b, plane, 1));
  Expr shifted = row + static_cast<double>(diagonalOf(*this));
  Value mask = CompareOp::create(
      b, plane.clone(b.getI1Type()), column.get(), shifted.get(),
      getLower() ? CompareDirection::LE : CompareDirection::GE,
      /*total_order=*/false);
  Value spread = b.createOrFold<BroadcastInDimOp>(
      type.clone(b.getI1Type()), mask,
      b.getDenseI64ArrayAttr({rank - 2, rank - 1}));
  frame.results.push_back(
      SelectOp::create(b, type, spread, getX(), makeZero(b, type)));
  return success();
}

LogicalResult SchurOp::verify() {
  if (failed(verifySquare(*this, getX())))
    return failure();
  if (getComputeSchurVectors() != static_cast<bool>(getZ()))
    return emitOpError("has z if, and only if, compute_schur_vectors is set");
  for (Type type : getResultTypes())
    if (type != getX().getType())
      return emitOpError("results must have type ")
             << getX().getType() << ", but there is " << type;
  return success();
}

LogicalResult CommutatorSolveOp::verify() {
  return verifySquare(*this, getT());
}
