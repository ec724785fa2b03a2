//===- Shape.cpp - The rules of the ops of Shape.td -----------------------===//

#include "bmgrad/Dialect/BM/Shape.h"
#include "Dims.h"
#include "bmgrad/Dialect/BM/Reduction.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/PatternMatch.h"

using namespace mlir;
using namespace bmgrad;
using namespace bmgrad::bm;

#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Shape.cpp.inc"

void bmgrad::bm::addShapeOps(BMDialect &dialect) {
  dialect.addFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/Shape.cpp.inc"
      >();
}

//===----------------------------------------------------------------------===//
// broadcast_in_dim
//===----------------------------------------------------------------------===//

LogicalResult BroadcastInDimOp::verify() {
  RankedTensorType from = tensorType(getX()), to = tensorType(getR());
  ArrayRef<int64_t> dims = getBroadcastDimensions();
  if (from.getElementType() != to.getElementType())
    return emitOpError("cannot change the element type from ")
           << from.getElementType() << " to " << to.getElementType();
  if (static_cast<int64_t>(dims.size()) != from.getRank())
    return emitOpError("has ")
           << dims.size() << " dims for an operand of rank " << from.getRank();
  for (auto [index, dim] : llvm::enumerate(dims)) {
    if (dim < 0 || dim >= to.getRank() || (index && dims[index - 1] >= dim))
      return emitOpError("dims must increase and be below the result's rank ")
             << to.getRank() << ", got [" << dims << "]";
    int64_t size = from.getDimSize(index);
    if (size != 1 && size != to.getDimSize(dim))
      return emitOpError("cannot stretch operand dimension ")
             << index << " from " << size << " to " << to.getDimSize(dim)
             << ": only size 1 is repeated";
  }
  return success();
}

OpFoldResult BroadcastInDimOp::fold(FoldAdaptor adaptor) {
  if (getX().getType() == getType())
    return getX();
  if (Attribute splat = resizedSplat(adaptor.getX(), getType()))
    return splat;
  auto inner = getX().getDefiningOp<BroadcastInDimOp>();
  if (!inner)
    return {};
  SmallVector<int64_t> dims;
  for (int64_t dim : inner.getBroadcastDimensions())
    dims.push_back(getBroadcastDimensions()[dim]);
  setBroadcastDimensions(dims);
  getXMutable().assign(inner.getX());
  return getResult();
}

LogicalResult BroadcastInDimOp::canonicalize(BroadcastInDimOp op,
                                             PatternRewriter &rewriter) {
  RankedTensorType from = tensorType(op.getX()), to = tensorType(op.getR());
  if (auto iota = op.getX().getDefiningOp<IotaOp>()) {
    int64_t dim = op.getBroadcastDimensions()[iota.getDimension()];
    if (from.getDimSize(iota.getDimension()) == to.getDimSize(dim)) {
      rewriter.replaceOpWithNewOp<IotaOp>(op, to, dim);
      return success();
    }
  }
  // Nothing is repeated: reshapes fold with one another.
  if (from.getNumElements() != to.getNumElements())
    return failure();
  rewriter.replaceOpWithNewOp<ReshapeOp>(op, to, op.getX());
  return success();
}

LogicalResult BroadcastInDimOp::emitTranspose(TransposeFrame &frame) {
  RankedTensorType from = tensorType(getX()), to = tensorType(getR());
  SmallVector<int64_t> kept;
  for (auto [index, dim] : llvm::enumerate(getBroadcastDimensions()))
    if (from.getDimSize(index) == to.getDimSize(dim))
      kept.push_back(dim);
  SmallVector<int64_t> repeated = otherDims(to.getRank(), kept);
  bool isReshape = from.getNumElements() == to.getNumElements();
  Value sum = isReshape ? frame.cotangents[0]
                        : frame.b.createOrFold<ReduceSumOp>(frame.cotangents[0],
                                                            repeated);
  frame.operandCotangents[0] = reshapeMasked(frame.b, sum, from);
  return success();
}

LogicalResult BroadcastInDimOp::emitBatch(BatchFrame &frame) {
  frame.results.push_back(frame.b.createOrFold<BroadcastInDimOp>(
      batchedType(getType(), frame.size), frame.operands[0],
      prepended(0, shiftedDims(getBroadcastDimensions()))));
  return success();
}

//===----------------------------------------------------------------------===//
// reshape
//===----------------------------------------------------------------------===//

LogicalResult ReshapeOp::verify() {
  RankedTensorType from = tensorType(getX()), to = tensorType(getR());
  if (from.getElementType() != to.getElementType())
    return emitOpError("cannot change the element type from ")
           << from.getElementType() << " to " << to.getElementType();
  if (from.getNumElements() != to.getNumElements())
    return emitOpError("needs as many elements as it has: ")
           << from << " holds " << from.getNumElements() << ", " << to
           << " holds " << to.getNumElements();
  return success();
}

OpFoldResult ReshapeOp::fold(FoldAdaptor adaptor) {
  if (getX().getType() == getType())
    return getX();
  if (auto elements = dyn_cast_or_null<DenseElementsAttr>(adaptor.getX()))
    return elements.reshape(cast<ShapedType>(getType()));
  auto inner = getX().getDefiningOp<ReshapeOp>();
  if (!inner)
    return {};
  if (inner.getX().getType() == getType())
    return inner.getX();
  getXMutable().assign(inner.getX());
  return getResult();
}

LogicalResult ReshapeOp::emitTranspose(TransposeFrame &frame) {
  frame.operandCotangents[0] =
      reshapeMasked(frame.b, frame.cotangents[0], tensorType(getX()));
  return success();
}

LogicalResult ReshapeOp::emitBatch(BatchFrame &frame) {
  frame.results.push_back(frame.b.createOrFold<ReshapeOp>(
      batchedType(getType(), frame.size), frame.operands[0]));
  return success();
}

//===----------------------------------------------------------------------===//
// transpose
//===----------------------------------------------------------------------===//

LogicalResult TransposeOp::inferReturnTypes(MLIRContext *,
                                            std::optional<Location> location,
                                            Adaptor adaptor,
                                            SmallVectorImpl<Type> &types) {
  RankedTensorType from = tensorType(adaptor.getX());
  ArrayRef<int64_t> permutation = adaptor.getPermutation();
  if (static_cast<int64_t>(permutation.size()) != from.getRank())
    return emitOptionalError(location, "permutation has ", permutation.size(),
                             " entries for an operand of rank ",
                             from.getRank());
  if (failed(verifyDims(location, "permutation", permutation, from.getRank())))
    return failure();
  types.push_back(from.clone(llvm::map_to_vector(
      permutation, [&](int64_t dim) { return from.getDimSize(dim); })));
  return success();
}

/// Result dimension of each operand dimension.
static SmallVector<int64_t> inverse(ArrayRef<int64_t> permutation) {
  SmallVector<int64_t> result(permutation.size());
  for (auto [index, dim] : llvm::enumerate(permutation))
    result[dim] = index;
  return result;
}

OpFoldResult TransposeOp::fold(FoldAdaptor adaptor) {
  if (llvm::equal(getPermutation(),
                  llvm::seq<int64_t>(getPermutation().size())))
    return getX();
  if (Attribute splat = resizedSplat(adaptor.getX(), getType()))
    return splat;
  auto inner = getX().getDefiningOp<TransposeOp>();
  if (!inner)
    return {};
  SmallVector<int64_t> permutation =
      llvm::map_to_vector(getPermutation(), [&](int64_t dim) {
        return inner.getPermutation()[dim];
      });
  setPermutation(permutation);
  getXMutable().assign(inner.getX());
  return getResult();
}

LogicalResult TransposeOp::canonicalize(TransposeOp op,
                                        PatternRewriter &rewriter) {
  SmallVector<int64_t> moved = inverse(op.getPermutation());
  if (auto inner = op.getX().getDefiningOp<BroadcastInDimOp>()) {
    SmallVector<int64_t> dims =
        llvm::map_to_vector(inner.getBroadcastDimensions(),
                            [&](int64_t dim) { return moved[dim]; });
    if (llvm::is_sorted(dims)) {
      rewriter.replaceOpWithNewOp<BroadcastInDimOp>(op, op.getType(),
                                                    inner.getX(), dims);
      return success();
    }
  }
  if (auto iota = op.getX().getDefiningOp<IotaOp>()) {
    rewriter.replaceOpWithNewOp<IotaOp>(op, op.getType(),
                                        moved[iota.getDimension()]);
    return success();
  }
  // Only dimensions of size 1 move: the order of the elements stays.
  RankedTensorType from = tensorType(op.getX());
  auto wide = llvm::filter_to_vector(op.getPermutation(), [&](int64_t dim) {
    return from.getDimSize(dim) != 1;
  });
  if (!llvm::is_sorted(wide))
    return failure();
  rewriter.replaceOpWithNewOp<ReshapeOp>(op, op.getType(), op.getX());
  return success();
}

LogicalResult TransposeOp::emitTranspose(TransposeFrame &frame) {
  frame.operandCotangents[0] = frame.b.createOrFold<TransposeOp>(
      frame.cotangents[0], inverse(getPermutation()));
  return success();
}

LogicalResult TransposeOp::emitBatch(BatchFrame &frame) {
  frame.results.push_back(TransposeOp::create(
      frame.b, frame.operands[0], prepended(0, shiftedDims(getPermutation()))));
  return success();
}

//===----------------------------------------------------------------------===//
// reverse
//===----------------------------------------------------------------------===//

LogicalResult ReverseOp::verify() {
  return verifyDims(getLoc(), "'bm.reverse' op dims", getDimensions(),
                    tensorType(getX()).getRank());
}

OpFoldResult ReverseOp::fold(FoldAdaptor adaptor) {
  RankedTensorType type = tensorType(getX());
  if (llvm::all_of(getDimensions(),
                   [&](int64_t dim) { return type.getDimSize(dim) <= 1; }))
    return getX();
  if (Attribute splat = resizedSplat(adaptor.getX(), getType()))
    return splat;
  auto inner = getX().getDefiningOp<ReverseOp>();
  if (inner && inner.getDimensions() == getDimensions())
    return inner.getX();
  return {};
}

LogicalResult ReverseOp::emitTranspose(TransposeFrame &frame) {
  frame.operandCotangents[0] =
      frame.b.createOrFold<ReverseOp>(frame.cotangents[0], getDimensions());
  return success();
}

LogicalResult ReverseOp::emitBatch(BatchFrame &frame) {
  frame.results.push_back(ReverseOp::create(frame.b, frame.operands[0],
                                            shiftedDims(getDimensions())));
  return success();
}

//===----------------------------------------------------------------------===//
// copy
//===----------------------------------------------------------------------===//

OpFoldResult CopyOp::fold(FoldAdaptor) { return getX(); }

LogicalResult CopyOp::emitTranspose(TransposeFrame &frame) {
  frame.operandCotangents[0] = frame.cotangents[0];
  return success();
}

LogicalResult CopyOp::emitBatch(BatchFrame &frame) {
  frame.results.push_back(frame.operands[0]);
  return success();
}

LogicalResult CopyOp::emitLowering(LoweringFrame &frame) {
  frame.results.push_back(getX());
  return success();
}

//===----------------------------------------------------------------------===//
// iota
//===----------------------------------------------------------------------===//

LogicalResult IotaOp::verify() {
  return verifyDims(getLoc(), "'bm.iota' op dim", getDimension(),
                    tensorType(getR()).getRank());
}

LogicalResult IotaOp::emitLowering(LoweringFrame &frame) {
  frame.results.push_back(
      bm::detail::createForeign(
          frame.b, getStablehloName(), getType(), {},
          {frame.b.getNamedAttr("iota_dimension", getDimensionAttr())})
          ->getResult(0));
  return success();
}
