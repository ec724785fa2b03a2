//===- Gather.cpp - Windows of an array at many positions -----------------===//

#include "Windows.h"
#include "bmgrad/Dialect/BM/Elementwise.h"
#include "bmgrad/Dialect/BM/Indexing.h"
#include "bmgrad/Dialect/BM/Reduction.h"
#include "bmgrad/Dialect/BM/Shape.h"

#include "mlir/IR/PatternMatch.h"

using namespace mlir;
using namespace bmgrad::bm;

LogicalResult GatherOp::verify() {
  if (failed(Windows::of(*this).verify(*this, tensorType(getOperand()),
                                       tensorType(getIndices()),
                                       tensorType(getR()))))
    return failure();
  ElementsAttr fill = getFillValueAttr();
  if (!fill)
    return success();
  if (getMode() != IndexMode::FillOrDrop)
    return emitOpError("fill_value needs mode fill_or_drop, but the mode is ")
           << stringifyIndexMode(getMode());
  auto scalar = tensorType(getR()).clone(ArrayRef<int64_t>());
  if (fill.getType() != scalar)
    return emitOpError("fill_value must have type ")
           << scalar << ", but has " << fill.getType();
  return success();
}

//===----------------------------------------------------------------------===//
// Rules
//===----------------------------------------------------------------------===//

LogicalResult GatherOp::emitJvp(JvpFrame &frame) {
  Windows windows = Windows::of(*this);
  Value indices = frame.primals[1];
  frame.results.push_back(
      windows.gather(frame.b, frame.primals[0], indices, getFillValueAttr()));
  // A window that is filled does not depend on the operand.
  frame.resultTangents.push_back(
      windows.gather(frame.b, frame.tangents[0], indices));
  return success();
}

LogicalResult GatherOp::emitTranspose(TransposeFrame &frame) {
  Value zeros = makeZero(frame.b, getOperand().getType());
  frame.operandCotangents[0] = Windows::of(*this).scatter<ScatterAddOp>(
      frame.b, zeros, frame.operands[1], frame.cotangents[0]);
  return success();
}

LogicalResult GatherOp::emitBatch(BatchFrame &frame) {
  Windows windows = Windows::of(*this);
  if (frame.batched[0] && frame.batched[1])
    windows.batchBoth(frame.size);
  else if (frame.batched[0])
    windows.batchOperand(frame.size);
  else
    windows.batchIndices();
  frame.results.push_back(windows.gather(
      frame.b, frame.operands[0], frame.operands[1], getFillValueAttr()));
  return success();
}

//===----------------------------------------------------------------------===//
// Lowering
//===----------------------------------------------------------------------===//

/// Whether the window at each index vector lies inside the operand.
static Value emitInBounds(ImplicitLocOpBuilder &b, const Windows &windows,
                          RankedTensorType operand, Value indices) {
  auto type = tensorType(indices);
  auto predicate = type.clone(b.getI1Type());
  Value bound = constantAlongLast(b, type, windows.lastPositions(operand));
  Value inside = CompareOp::create(b, predicate, indices, bound,
                                   CompareDirection::LE, false);
  if (!type.getElementType().isUnsignedInteger()) {
    Value zero = makeZero(b, type);
    Value above = CompareOp::create(b, predicate, indices, zero,
                                    CompareDirection::GE, false);
    inside = AndOp::create(b, predicate, above, inside);
  }
  auto result = predicate.clone(type.getShape().drop_back());
  if (windows.indexMap.size() == 1)
    return ReshapeOp::create(b, result, inside);
  return ReduceAndOp::create(b, result, inside,
                             ArrayRef<int64_t>{type.getRank() - 1});
}

/// A gather that need not check, and a mask.
static Value lowerFilling(ImplicitLocOpBuilder &b, GatherOp op) {
  auto result = tensorType(op.getR());
  Windows windows = Windows::of(op);
  Value indices = op.getIndices();
  // A narrow type may not hold the bounds.
  if (tensorType(indices).getElementTypeBitWidth() < 32)
    indices = ConvertOp::create(b, tensorType(indices).clone(b.getI32Type()),
                                indices);
  Value inside = emitInBounds(b, windows, tensorType(op.getOperand()), indices);
  SmallVector<int64_t> dims;
  for (int64_t dim = 0; dim < result.getRank(); ++dim)
    if (!llvm::is_contained(op.getOffsetDims(), dim))
      dims.push_back(dim);
  inside = b.createOrFold<BroadcastInDimOp>(result.clone(b.getI1Type()), inside,
                                            b.getDenseI64ArrayAttr(dims));
  auto scalar = dyn_cast_or_null<DenseElementsAttr>(op.getFillValueAttr());
  Value fill = scalar
                   ? ConstantOp::create(b, result, scalar.resizeSplat(result))
                   : makeZero(b, result);
  Value gathered = windows.with(IndexMode::PromiseInBounds)
                       .gather(b, op.getOperand(), indices);
  return SelectOp::create(b, result, inside, gathered, fill);
}

LogicalResult GatherOp::emitLowering(LoweringFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  auto indices = tensorType(getIndices()), result = tensorType(getR());
  Windows windows = Windows::of(*this);
  if (result.getNumElements() == 0) {
    frame.results.push_back(makeZero(b, result));
    return success();
  }
  if (getMode() == IndexMode::FillOrDrop) {
    frame.results.push_back(lowerFilling(b, *this));
    return success();
  }
  SmallVector<NamedAttribute> attributes{
      b.getNamedAttr("dimension_numbers", windows.gatherNumbers(b, indices)),
      b.getNamedAttr("indices_are_sorted", b.getBoolAttr(windows.sorted)),
      b.getNamedAttr("slice_sizes",
                     b.getDenseI64ArrayAttr(windows.sliceSizes))};
  Operation *lowered = detail::createForeign(b, "stablehlo.gather", result,
                                             getOperands(), attributes);
  frame.results.push_back(lowered->getResult(0));
  return success();
}

//===----------------------------------------------------------------------===//
// Canonical forms
//===----------------------------------------------------------------------===//

OpFoldResult GatherOp::fold(FoldAdaptor adaptor) {
  auto splat = dyn_cast_or_null<SplatElementsAttr>(adaptor.getOperand());
  if (splat && getMode() != IndexMode::FillOrDrop)
    return splat.resizeSplat(tensorType(getR()));
  return {};
}

void GatherOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                           MLIRContext *) {
  // Constant indices that are in bounds need no check at run time.
  patterns.add(+[](GatherOp op, PatternRewriter &rewriter) {
    if (op.getMode() == IndexMode::PromiseInBounds ||
        !Windows::of(op).provenInBounds(tensorType(op.getOperand()),
                                        op.getIndices()))
      return failure();
    rewriter.modifyOpInPlace(op, [&] {
      op.setMode(IndexMode::PromiseInBounds);
      op.removeFillValueAttr();
    });
    return success();
  });
}
