//===- Pieces.cpp - The rules of concatenate, split and pad ---------------===//
//
// The ops of Shape.td that put arrays together and take them apart.
//
//===----------------------------------------------------------------------===//

#include "Dims.h"
#include "bmgrad/Dialect/BM/Elementwise.h"
#include "bmgrad/Dialect/BM/Indexing.h"
#include "bmgrad/Dialect/BM/Reduction.h"
#include "bmgrad/Dialect/BM/Shape.h"

#include "mlir/IR/PatternMatch.h"

using namespace mlir;
using namespace bmgrad;
using namespace bmgrad::bm;

//===----------------------------------------------------------------------===//
// concatenate
//===----------------------------------------------------------------------===//

LogicalResult ConcatenateOp::inferReturnTypes(MLIRContext *,
                                              std::optional<Location> location,
                                              Adaptor adaptor,
                                              SmallVectorImpl<Type> &types) {
  if (adaptor.getXs().empty())
    return emitOptionalError(location,
                             "concatenate needs at least one operand");
  RankedTensorType first = tensorType(adaptor.getXs().front());
  int64_t dimension = adaptor.getDimension();
  if (failed(verifyDims(location, "dim", dimension, first.getRank())))
    return failure();
  SmallVector<int64_t> shape(first.getShape());
  shape[dimension] = 0;
  for (Value x : adaptor.getXs()) {
    RankedTensorType type = tensorType(x);
    SmallVector<int64_t> expected(first.getShape());
    if (type.getRank() == first.getRank())
      expected[dimension] = type.getDimSize(dimension);
    if (type != first.clone(expected))
      return emitOptionalError(location,
                               "operands may differ only in dimension ",
                               dimension, ", but are ", first, " and ", type);
    shape[dimension] += type.getDimSize(dimension);
  }
  types.push_back(first.clone(shape));
  return success();
}

OpFoldResult ConcatenateOp::fold(FoldAdaptor adaptor) {
  if (getXs().size() == 1)
    return getXs().front();
  // All pieces of one array, in order, are that array.
  auto split = getXs().front().getDefiningOp<SplitOp>();
  if (split && split.getAxis() == getDimension() &&
      llvm::equal(split.getPieces(), getXs()))
    return split.getX();
  Attribute first = resizedSplat(adaptor.getXs().front(), getType());
  if (first && llvm::all_of(adaptor.getXs(), [&](Attribute x) {
        return resizedSplat(x, getType()) == first;
      }))
    return first;
  return {};
}

LogicalResult ConcatenateOp::canonicalize(ConcatenateOp op,
                                          PatternRewriter &rewriter) {
  SmallVector<Value> xs;
  for (Value x : op.getXs()) {
    auto inner = x.getDefiningOp<ConcatenateOp>();
    if (inner && inner.getDimension() == op.getDimension() && x.hasOneUse())
      llvm::append_range(xs, inner.getXs());
    else if (tensorType(x).getDimSize(op.getDimension()) != 0)
      xs.push_back(x);
  }
  if (llvm::equal(xs, op.getXs()) || xs.empty())
    return failure();
  rewriter.replaceOpWithNewOp<ConcatenateOp>(op, xs, op.getDimension());
  return success();
}

LogicalResult ConcatenateOp::emitTranspose(TransposeFrame &frame) {
  SmallVector<int64_t> sizes = llvm::map_to_vector(getXs(), [&](Value x) {
    return tensorType(x).getDimSize(getDimension());
  });
  auto split =
      SplitOp::create(frame.b, frame.cotangents[0], sizes, getDimension());
  for (auto [index, piece] : llvm::enumerate(split.getPieces()))
    if (frame.isLinear(index))
      frame.operandCotangents[index] = piece;
  return success();
}

LogicalResult ConcatenateOp::emitBatch(BatchFrame &frame) {
  SmallVector<Value> operands;
  for (unsigned index = 0; index < getXs().size(); ++index)
    operands.push_back(frame.getBatched(index));
  frame.results.push_back(
      ConcatenateOp::create(frame.b, operands, getDimension() + 1));
  return success();
}

//===----------------------------------------------------------------------===//
// split
//===----------------------------------------------------------------------===//

LogicalResult SplitOp::inferReturnTypes(MLIRContext *,
                                        std::optional<Location> location,
                                        Adaptor adaptor,
                                        SmallVectorImpl<Type> &types) {
  RankedTensorType from = tensorType(adaptor.getX());
  int64_t axis = adaptor.getAxis(), total = 0;
  if (failed(verifyDims(location, "axis", axis, from.getRank())))
    return failure();
  SmallVector<int64_t> shape(from.getShape());
  for (int64_t size : adaptor.getSizes()) {
    if (size < 0)
      return emitOptionalError(location, "piece of negative size ", size);
    total += shape[axis] = size;
    types.push_back(from.clone(shape));
  }
  if (total != from.getDimSize(axis))
    return emitOptionalError(location, "pieces of ", total,
                             " elements in all do not make up dimension ", axis,
                             " of ", from);
  return success();
}

LogicalResult SplitOp::fold(FoldAdaptor adaptor,
                            SmallVectorImpl<OpFoldResult> &results) {
  if (getPieces().size() == 1) {
    results.push_back(getX());
    return success();
  }
  if (Attribute splat = adaptor.getX();
      isa_and_nonnull<SplatElementsAttr>(splat)) {
    for (Value piece : getPieces())
      results.push_back(resizedSplat(splat, piece.getType()));
    return success();
  }
  auto joined = getX().getDefiningOp<ConcatenateOp>();
  if (!joined || joined.getDimension() != getAxis() ||
      !llvm::equal(joined.getXs().getTypes(), getPieces().getTypes()))
    return failure();
  llvm::append_range(results, joined.getXs());
  return success();
}

LogicalResult SplitOp::emitTranspose(TransposeFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  if (llvm::count_if(frame.cotangents, [](Value v) { return bool(v); }) > 1) {
    SmallVector<Value> pieces;
    for (auto [cotangent, piece] : llvm::zip(frame.cotangents, getPieces()))
      pieces.push_back(materialize(b, cotangent, piece.getType()));
    frame.operandCotangents[0] =
        b.createOrFold<ConcatenateOp>(pieces, getAxis());
    return success();
  }
  RankedTensorType from = tensorType(getX());
  SmallVector<int64_t> low(from.getRank()), high(from.getRank()),
      interior(from.getRank());
  const Value *only =
      llvm::find_if(frame.cotangents, [](Value v) { return bool(v); });
  int64_t index = only - frame.cotangents.begin(), axis = getAxis();
  for (auto [position, size] : llvm::enumerate(getSizes()))
    if (static_cast<int64_t>(position) != index)
      (static_cast<int64_t>(position) < index ? low : high)[axis] += size;
  Value zero = makeZero(b, RankedTensorType::get({}, from.getElementType()));
  frame.operandCotangents[0] =
      b.createOrFold<PadOp>(*only, zero, low, high, interior);
  return success();
}

LogicalResult SplitOp::emitBatch(BatchFrame &frame) {
  auto split =
      SplitOp::create(frame.b, frame.operands[0], getSizes(), getAxis() + 1);
  llvm::append_range(frame.results, split.getPieces());
  return success();
}

LogicalResult SplitOp::emitLowering(LoweringFrame &frame) {
  RankedTensorType from = tensorType(getX());
  SmallVector<int64_t> start(from.getRank()), limit(from.getShape()),
      strides(from.getRank(), 1);
  limit[getAxis()] = 0;
  for (auto [piece, size] : llvm::zip(getPieces(), getSizes())) {
    limit[getAxis()] += size;
    frame.results.push_back(frame.b.createOrFold<SliceOp>(
        piece.getType(), getX(), start, limit, strides));
    start[getAxis()] += size;
  }
  return success();
}

//===----------------------------------------------------------------------===//
// pad
//===----------------------------------------------------------------------===//

LogicalResult PadOp::inferReturnTypes(MLIRContext *,
                                      std::optional<Location> location,
                                      Adaptor adaptor,
                                      SmallVectorImpl<Type> &types) {
  RankedTensorType from = tensorType(adaptor.getX()),
                   padding = tensorType(adaptor.getPadding());
  if (padding != from.clone(ArrayRef<int64_t>()))
    return emitOptionalError(location,
                             "padding value must be a scalar of type ",
                             from.getElementType(), ", but is ", padding);
  ArrayRef<int64_t> low = adaptor.getLow(), high = adaptor.getHigh();
  ArrayRef<int64_t> interior = adaptor.getInterior();
  auto fits = [&](ArrayRef<int64_t> sizes) {
    return static_cast<int64_t>(sizes.size()) == from.getRank();
  };
  if (!fits(low) || !fits(high) || !fits(interior))
    return emitOptionalError(
        location, "low, high and interior need one entry for each of the ",
        from.getRank(), " dimensions");
  SmallVector<int64_t> shape;
  for (auto [dim, size] : llvm::enumerate(from.getShape())) {
    if (interior[dim] < 0)
      return emitOptionalError(location, "interior padding of dimension ", dim,
                               " is negative: ", interior[dim]);
    int64_t spread = size ? size + (size - 1) * interior[dim] : 0;
    shape.push_back(low[dim] + spread + high[dim]);
    if (shape.back() < 0)
      return emitOptionalError(location, "low and high cut more off dimension ",
                               dim, " than its ", spread, " elements");
  }
  types.push_back(from.clone(shape));
  return success();
}

OpFoldResult PadOp::fold(FoldAdaptor adaptor) {
  auto none = [](ArrayRef<int64_t> sizes) {
    return llvm::all_of(sizes, [](int64_t size) { return size == 0; });
  };
  if (none(getLow()) && none(getHigh()) && none(getInterior()))
    return getX();
  Attribute padding = resizedSplat(adaptor.getPadding(), getType());
  if (padding && (resizedSplat(adaptor.getX(), getType()) == padding ||
                  tensorType(getX()).getNumElements() == 0))
    return padding;
  return {};
}

/// Where the result of `op`, padded from an operand of this type, holds
/// elements of the operand.
static Value insideMask(ImplicitLocOpBuilder &b, PadOp op,
                        RankedTensorType operand) {
  Value inside = makeConstant(b, operand.clone(b.getI1Type()), 1.0);
  Value outside = makeZero(b, RankedTensorType::get({}, b.getI1Type()));
  int64_t extra = operand.getRank() - tensorType(op.getX()).getRank();
  auto widened = [&](ArrayRef<int64_t> sizes) {
    SmallVector<int64_t> all(extra, 0);
    llvm::append_range(all, sizes);
    return all;
  };
  return b.createOrFold<PadOp>(inside, outside, widened(op.getLow()),
                               widened(op.getHigh()),
                               widened(op.getInterior()));
}

LogicalResult PadOp::emitTranspose(TransposeFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  RankedTensorType from = tensorType(getX());
  Value cotangent = frame.cotangents[0];
  if (frame.isLinear(1)) {
    // The sum over the padding alone: the difference of two large sums, of
    // which one is infinite if an element is, would lose it.
    Value mask = insideMask(b, *this, from);
    Value outside = b.createOrFold<SelectOp>(getType(), mask,
                                             makeZero(b, getType()), cotangent);
    auto all = llvm::to_vector(llvm::seq<int64_t>(from.getRank()));
    frame.operandCotangents[1] = b.createOrFold<ReduceSumOp>(outside, all);
  }
  if (!frame.isLinear(0))
    return success();
  // Elements that negative padding cut off have a zero cotangent.
  SmallVector<int64_t> low, high, none(from.getRank()), start, limit, strides;
  for (auto [dim, size] : llvm::enumerate(from.getShape())) {
    low.push_back(std::max<int64_t>(-getLow()[dim], 0));
    high.push_back(std::max<int64_t>(-getHigh()[dim], 0));
    start.push_back(std::max<int64_t>(getLow()[dim], 0));
    strides.push_back(getInterior()[dim] + 1);
    limit.push_back(size ? start.back() + (size - 1) * strides.back() + 1
                         : start.back());
  }
  Value zero = makeZero(b, tensorType(getPadding()));
  Value whole = b.createOrFold<PadOp>(cotangent, zero, low, high, none);
  frame.operandCotangents[0] =
      b.createOrFold<SliceOp>(from, whole, start, limit, strides);
  return success();
}

LogicalResult PadOp::emitBatch(BatchFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  SmallVector<int64_t> low = prepended(0, getLow()),
                       high = prepended(0, getHigh());
  SmallVector<int64_t> interior = prepended(0, getInterior());
  Value x = frame.getBatched(0);
  if (!frame.batched[1]) {
    frame.results.push_back(
        PadOp::create(b, x, frame.operands[1], low, high, interior));
    return success();
  }
  // A padding value for each example: it goes where the mask says.
  Value zero = makeZero(b, tensorType(getPadding()));
  Value padded = PadOp::create(b, x, zero, low, high, interior);
  Value spread = BroadcastInDimOp::create(
      b, padded.getType(), frame.operands[1], b.getDenseI64ArrayAttr({0}));
  frame.results.push_back(b.createOrFold<SelectOp>(
      padded.getType(), insideMask(b, *this, tensorType(x)), padded, spread));
  return success();
}

LogicalResult PadOp::emitLowering(LoweringFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  SmallVector<NamedAttribute> attributes{
      b.getNamedAttr("edge_padding_low", getLowAttr()),
      b.getNamedAttr("edge_padding_high", getHighAttr()),
      b.getNamedAttr("interior_padding", getInteriorAttr())};
  frame.results.push_back(bm::detail::createForeign(b, getStablehloName(),
                                                    getType(), getOperands(),
                                                    attributes)
                              ->getResult(0));
  return success();
}
