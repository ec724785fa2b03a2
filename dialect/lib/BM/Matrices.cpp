//===- Matrices.cpp - Formulas of matrices --------------------------------===//

#include "Matrices.h"
#include "Dims.h"
#include "Windows.h"
#include "bmgrad/Dialect/BM/Contraction.h"
#include "bmgrad/Dialect/BM/Elementwise.h"
#include "bmgrad/Dialect/BM/LinearAlgebra.h"
#include "bmgrad/Dialect/BM/Reduction.h"
#include "bmgrad/Dialect/BM/Shape.h"
#include "bmgrad/Dialect/BM/Sorting.h"

using namespace mlir;
using namespace bmgrad;
using namespace bmgrad::bm;

static RankedTensorType typeOf(Expr x) { return tensorType(x.get()); }

static SmallVector<int64_t> allDims(int64_t rank) {
  return llvm::to_vector(llvm::seq<int64_t>(rank));
}

ArrayRef<int64_t> bmgrad::bm::batchOf(RankedTensorType type) {
  return type.getShape().drop_back(2);
}

int64_t bmgrad::bm::numRows(RankedTensorType type) {
  return type.getDimSize(type.getRank() - 2);
}

int64_t bmgrad::bm::numColumns(RankedTensorType type) {
  return type.getDimSize(type.getRank() - 1);
}

bool bmgrad::bm::isComplex(Expr x) {
  return isa<ComplexType>(typeOf(x).getElementType());
}

//===----------------------------------------------------------------------===//
// Products and transposes
//===----------------------------------------------------------------------===//

Expr bmgrad::bm::matmul(Expr x, Expr y) {
  RankedTensorType lhs = typeOf(x), rhs = typeOf(y);
  int64_t batch = lhs.getRank() - 2;
  SmallVector<int64_t> shape(batchOf(lhs));
  shape.append({numRows(lhs), numColumns(rhs)});
  auto highest = PrecisionAttr::get(x.b().getContext(), Precision::Highest);
  SmallVector<int64_t> dims = allDims(batch);
  return x.with(DotGeneralOp::create(
      x.b(), lhs.clone(shape), x.get(), y.get(), dims, dims, {batch + 1},
      {batch}, x.b().getArrayAttr({highest, highest}), DotAlgorithmAttr()));
}

Expr bmgrad::bm::transposed(Expr x) {
  RankedTensorType type = typeOf(x);
  SmallVector<int64_t> dims = allDims(type.getRank()), shape(type.getShape());
  std::swap(dims.end()[-1], dims.end()[-2]);
  std::swap(shape.end()[-1], shape.end()[-2]);
  return x.with(
      x.b().createOrFold<TransposeOp>(type.clone(shape), x.get(), dims));
}

Expr bmgrad::bm::conj(Expr x) {
  return isComplex(x) ? x.with(ConjOp::create(x.b(), x.type(), x.get())) : x;
}

Expr bmgrad::bm::adjoint(Expr x) { return conj(transposed(x)); }

//===----------------------------------------------------------------------===//
// Triangles and diagonals
//===----------------------------------------------------------------------===//

static Expr triangle(Expr x, bool lower, int64_t diagonal) {
  return x.with(
      x.b().createOrFold<TriangleOp>(x.type(), x.get(), lower, diagonal));
}

Expr bmgrad::bm::lowerTriangle(Expr x, int64_t diagonal) {
  return triangle(x, /*lower=*/true, diagonal);
}

Expr bmgrad::bm::upperTriangle(Expr x, int64_t diagonal) {
  return triangle(x, /*lower=*/false, diagonal);
}

Expr bmgrad::bm::diagonalPart(Expr x) {
  return lowerTriangle(upperTriangle(x));
}

Expr bmgrad::bm::diagonal(Expr x) { return sumOfColumns(diagonalPart(x)); }

Expr bmgrad::bm::hermitianOf(Expr x, bool lower) {
  Expr strict = triangle(x, lower, lower ? -1 : 1);
  Expr middle = diagonalPart(x);
  if (isComplex(x))
    middle = toElementOf(realPart(middle), x);
  return strict + middle + adjoint(strict);
}

Expr bmgrad::bm::antihermitianOf(Expr x) {
  Expr strict = lowerTriangle(x, -1);
  Expr result = strict - adjoint(strict);
  if (!isComplex(x))
    return result;
  Expr middle = diagonalPart(x);
  return result + middle - toElementOf(realPart(middle), x);
}

Expr bmgrad::bm::identityLike(Expr like) {
  return diagonalPart(expr::constantLike(like, 1.0));
}

//===----------------------------------------------------------------------===//
// Vectors
//===----------------------------------------------------------------------===//

/// The vector repeated along a new dimension `dim` of the matrix.
static Expr repeated(Expr v, int64_t size, int64_t dim) {
  RankedTensorType type = typeOf(v);
  SmallVector<int64_t> shape(type.getShape());
  shape.insert(shape.begin() + dim, size);
  return v.with(BroadcastInDimOp::create(
      v.b(), type.clone(shape), v.get(),
      v.b().getDenseI64ArrayAttr(otherDims(type.getRank() + 1, {dim}))));
}

Expr bmgrad::bm::asRows(Expr v, int64_t rows) {
  return repeated(v, rows, typeOf(v).getRank() - 1);
}

Expr bmgrad::bm::asColumns(Expr v, int64_t columns) {
  return repeated(v, columns, typeOf(v).getRank());
}

Expr bmgrad::bm::sumOfColumns(Expr x) {
  auto axes = x.b().getDenseI64ArrayAttr({typeOf(x).getRank() - 2});
  return x.with(ReduceSumOp::create(x.b(), x.get(), axes));
}

//===----------------------------------------------------------------------===//
// Element types
//===----------------------------------------------------------------------===//

template <typename OpTy> static Expr part(Expr x) {
  auto element = cast<ComplexType>(typeOf(x).getElementType());
  Type type = typeOf(x).clone(element.getElementType());
  return x.with(OpTy::create(x.b(), type, x.get()));
}

Expr bmgrad::bm::realPart(Expr x) { return isComplex(x) ? part<RealOp>(x) : x; }

Expr bmgrad::bm::imaginaryPart(Expr x) {
  return isComplex(x) ? part<ImagOp>(x) : expr::constantLike(x, 0.0);
}

Expr bmgrad::bm::toElementOf(Expr x, Expr like) {
  Type element = typeOf(like).getElementType();
  if (typeOf(x).getElementType() == element)
    return x;
  return x.with(ConvertOp::create(x.b(), typeOf(x).clone(element), x.get()));
}

Expr bmgrad::bm::reciprocalOrZero(Expr x) {
  Expr zero = expr::constantLike(x, 0.0), one = expr::constantLike(x, 1.0);
  Expr isZero = expr::eq(x, zero);
  return expr::select(isZero, zero, one / expr::select(isZero, one, x));
}

//===----------------------------------------------------------------------===//
// Blocks and permutations
//===----------------------------------------------------------------------===//

static Expr sliced(Expr x, int64_t dim, int64_t begin, int64_t end) {
  RankedTensorType type = typeOf(x);
  if (begin == 0 && end == type.getDimSize(dim))
    return x;
  SmallVector<int64_t> starts(type.getRank(), 0), strides(type.getRank(), 1);
  SmallVector<int64_t> limits(type.getShape()), shape(type.getShape());
  starts[dim] = begin;
  limits[dim] = end;
  shape[dim] = end - begin;
  return x.with(SliceOp::create(x.b(), type.clone(shape), x.get(), starts,
                                limits, strides));
}

Expr bmgrad::bm::rowsOf(Expr x, int64_t begin, int64_t end) {
  return sliced(x, typeOf(x).getRank() - 2, begin, end);
}

Expr bmgrad::bm::columnsOf(Expr x, int64_t begin, int64_t end) {
  return sliced(x, typeOf(x).getRank() - 1, begin, end);
}

static Expr joined(Expr x, Expr y, int64_t dim) {
  return x.with(
      ConcatenateOp::create(x.b(), ValueRange{x.get(), y.get()}, dim));
}

Expr bmgrad::bm::stackRows(Expr x, Expr y) {
  return joined(x, y, typeOf(x).getRank() - 2);
}

Expr bmgrad::bm::stackColumns(Expr x, Expr y) {
  return joined(x, y, typeOf(x).getRank() - 1);
}

Expr bmgrad::bm::permuteRows(Expr x, Expr indices) {
  RankedTensorType type = typeOf(x), indexType = typeOf(indices);
  int64_t batch = type.getRank() - 2;
  SmallVector<int64_t> shape(indexType.getShape());
  shape.push_back(1);
  Value vectors =
      ReshapeOp::create(x.b(), indexType.clone(shape), indices.get());
  Windows windows;
  windows.offsetDims = {batch + 1};
  windows.collapsedDims = windows.indexMap = {batch};
  windows.operandBatchingDims = windows.indicesBatchingDims = allDims(batch);
  for (int64_t size : type.getShape().drop_back())
    windows.sliceSizes.push_back(std::min<int64_t>(size, 1));
  windows.sliceSizes.push_back(numColumns(type));
  windows.unique = true;
  return x.with(windows.gather(x.b(), x.get(), vectors));
}

//===----------------------------------------------------------------------===//
// Solves
//===----------------------------------------------------------------------===//

Expr TriangularSolve::operator()(Expr a, Expr b) const {
  return b.with(TriangularSolveOp::create(
      b.b(), b.type(), a.get(), b.get(), leftSide, lower, transpose,
      conjugate && isComplex(a), unitDiagonal));
}

/// The indices that undo a permutation.
static Expr inverted(Expr permutation) {
  RankedTensorType type = typeOf(permutation);
  int64_t last = type.getRank() - 1;
  Value iota = IotaOp::create(permutation.b(), type, last);
  SmallVector<Value> operands{permutation.get(), iota};
  auto sort = SortOp::create(permutation.b(), TypeRange{type, type}, operands,
                             last, /*num_keys=*/1, /*is_stable=*/false);
  return permutation.with(sort.getResult(1));
}

Expr bmgrad::bm::luSolve(Expr factors, Expr permutation, Expr b, bool adjoint) {
  TriangularSolve unitLower{.lower = true, .unitDiagonal = true}, upper;
  if (!adjoint)
    return upper(factors, unitLower(factors, permuteRows(b, permutation)));
  unitLower.transpose = unitLower.conjugate = true;
  upper.transpose = upper.conjugate = true;
  return permuteRows(unitLower(factors, upper(factors, b)),
                     inverted(permutation));
}
