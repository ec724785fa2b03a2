//===- Indexing.cpp - Slices ----------------------------------------------===//
//
// Slices with constant and with run-time bounds. The other ops of Indexing.td
// are in Gather.cpp and Scatter.cpp.
//
//===----------------------------------------------------------------------===//

#include "bmgrad/Dialect/BM/Indexing.h"
#include "Windows.h"
#include "bmgrad/Dialect/BM/Shape.h"

#include "mlir/IR/Matchers.h"
#include "mlir/IR/PatternMatch.h"

using namespace mlir;
using namespace bmgrad::bm;

//===----------------------------------------------------------------------===//
// Assembly
//===----------------------------------------------------------------------===//

/// `[start:limit:stride, ...]`, where a stride of 1 may be left out.
static ParseResult parseSliceBounds(OpAsmParser &parser,
                                    DenseI64ArrayAttr &starts,
                                    DenseI64ArrayAttr &limits,
                                    DenseI64ArrayAttr &strides) {
  SmallVector<int64_t> start, limit, stride;
  auto parseDimension = [&]() -> ParseResult {
    stride.push_back(1);
    if (parser.parseInteger(start.emplace_back()) || parser.parseColon() ||
        parser.parseInteger(limit.emplace_back()))
      return failure();
    if (succeeded(parser.parseOptionalColon()))
      return parser.parseInteger(stride.back());
    return success();
  };
  if (parser.parseCommaSeparatedList(OpAsmParser::Delimiter::Square,
                                     parseDimension))
    return failure();
  starts = parser.getBuilder().getDenseI64ArrayAttr(start);
  limits = parser.getBuilder().getDenseI64ArrayAttr(limit);
  strides = parser.getBuilder().getDenseI64ArrayAttr(stride);
  return success();
}

static void printSliceBounds(OpAsmPrinter &printer, Operation *,
                             DenseI64ArrayAttr starts, DenseI64ArrayAttr limits,
                             DenseI64ArrayAttr strides) {
  printer << "[";
  llvm::interleaveComma(
      llvm::zip(starts.asArrayRef(), limits.asArrayRef(), strides.asArrayRef()),
      printer, [&](auto bounds) {
        auto [start, limit, stride] = bounds;
        printer << start << ":" << limit;
        if (stride != 1)
          printer << ":" << stride;
      });
  printer << "]";
}

#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Indexing.cpp.inc"

void bmgrad::bm::addIndexingOps(BMDialect &dialect) {
  dialect.addFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/Indexing.cpp.inc"
      >();
}

//===----------------------------------------------------------------------===//
// Slice
//===----------------------------------------------------------------------===//

static int64_t ceilDivide(int64_t x, int64_t y) { return (x + y - 1) / y; }

LogicalResult SliceOp::verify() {
  auto operand = tensorType(getOperand()), result = tensorType(getR());
  size_t rank = operand.getRank();
  if (getStartIndices().size() != rank || getLimitIndices().size() != rank ||
      getStrides().size() != rank)
    return emitOpError("needs start, limit and stride for each of the ")
           << rank << " dimensions of the operand, but has "
           << getStartIndices().size() << ", " << getLimitIndices().size()
           << " and " << getStrides().size();
  SmallVector<int64_t> shape;
  for (size_t dim = 0; dim < rank; ++dim) {
    int64_t start = getStartIndices()[dim], limit = getLimitIndices()[dim];
    int64_t size = operand.getDimSize(dim), stride = getStrides()[dim];
    if (start < 0 || limit < start || size < limit)
      return emitOpError("bounds ")
             << start << ":" << limit << " of dimension " << dim
             << " must be ascending and in [0, " << size << "]";
    if (stride < 1)
      return emitOpError("stride of dimension ")
             << dim << " must be positive, but it is " << stride;
    shape.push_back(ceilDivide(limit - start, stride));
  }
  if (result != operand.clone(shape))
    return emitOpError("result must have type ")
           << operand.clone(shape) << ", but has " << result;
  return success();
}

LogicalResult SliceOp::emitTranspose(TransposeFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  auto operand = tensorType(getOperand()), result = tensorType(getR());
  SmallVector<int64_t> low(getStartIndices()), high, interior;
  for (auto [dim, count] : llvm::enumerate(result.getShape())) {
    interior.push_back(count > 1 ? getStrides()[dim] - 1 : 0);
    int64_t extent = count ? (count - 1) * (interior.back() + 1) + 1 : 0;
    high.push_back(operand.getDimSize(dim) - low[dim] - extent);
  }
  Value zero = makeZero(b, operand.clone(ArrayRef<int64_t>()));
  frame.operandCotangents[0] = b.createOrFold<PadOp>(
      operand, frame.cotangents[0], zero, low, high, interior);
  return success();
}

LogicalResult SliceOp::emitBatch(BatchFrame &frame) {
  SmallVector<int64_t> starts{0}, limits{frame.size}, strides{1};
  llvm::append_range(starts, getStartIndices());
  llvm::append_range(limits, getLimitIndices());
  llvm::append_range(strides, getStrides());
  frame.results.push_back(
      SliceOp::create(frame.b, batchedType(getType(), frame.size),
                      frame.operands[0], starts, limits, strides));
  return success();
}

OpFoldResult SliceOp::fold(FoldAdaptor adaptor) {
  if (getOperand().getType() == getType())
    return getOperand();
  if (auto splat = dyn_cast_or_null<SplatElementsAttr>(adaptor.getOperand()))
    return splat.resizeSplat(tensorType(getR()));
  return {};
}

/// slice(slice(x)) is one slice of x.
static LogicalResult mergeSlices(SliceOp op, PatternRewriter &rewriter) {
  auto inner = op.getOperand().getDefiningOp<SliceOp>();
  if (!inner)
    return failure();
  SmallVector<int64_t> starts, limits, strides;
  for (auto [dim, count] : llvm::enumerate(tensorType(op.getR()).getShape())) {
    int64_t innerStride = inner.getStrides()[dim];
    starts.push_back(inner.getStartIndices()[dim] +
                     op.getStartIndices()[dim] * innerStride);
    strides.push_back(op.getStrides()[dim] * innerStride);
    limits.push_back(count ? starts.back() + (count - 1) * strides.back() + 1
                           : starts.back());
    // An empty slice may begin behind the end of what it is a slice of.
    int64_t size = tensorType(inner.getOperand()).getDimSize(dim);
    starts.back() = std::min(starts.back(), size);
    limits.back() = std::min(limits.back(), size);
  }
  rewriter.replaceOpWithNewOp<SliceOp>(op, op.getType(), inner.getOperand(),
                                       starts, limits, strides);
  return success();
}

/// A slice that lies inside one operand of a concatenation is a slice of that.
static LogicalResult sliceOfConcatenate(SliceOp op, PatternRewriter &rewriter) {
  auto concatenate = op.getOperand().getDefiningOp<ConcatenateOp>();
  if (!concatenate || tensorType(op.getR()).getNumElements() == 0)
    return failure();
  int64_t dim = concatenate.getDimension(), offset = 0;
  for (Value piece : concatenate.getXs()) {
    int64_t size = tensorType(piece).getDimSize(dim);
    int64_t start = op.getStartIndices()[dim] - offset;
    int64_t last = start + (tensorType(op.getR()).getDimSize(dim) - 1) *
                               op.getStrides()[dim];
    offset += size;
    if (start >= size)
      continue;
    if (last >= size)
      return failure();
    SmallVector<int64_t> starts(op.getStartIndices()),
        limits(op.getLimitIndices());
    starts[dim] = start;
    limits[dim] = last + 1;
    rewriter.replaceOpWithNewOp<SliceOp>(op, op.getType(), piece, starts,
                                         limits, op.getStrides());
    return success();
  }
  return failure();
}

/// A slice that misses the padding is a slice of what was padded: so the
/// derivative of a slice, sliced again, costs nothing.
static LogicalResult sliceOfPad(SliceOp op, PatternRewriter &rewriter) {
  auto pad = op.getOperand().getDefiningOp<PadOp>();
  if (!pad || tensorType(op.getR()).getNumElements() == 0 ||
      llvm::any_of(pad.getInterior(),
                   [](int64_t padding) { return padding != 0; }))
    return failure();
  auto inside = tensorType(pad.getX());
  SmallVector<int64_t> starts, limits;
  for (auto [dim, count] : llvm::enumerate(tensorType(op.getR()).getShape())) {
    starts.push_back(op.getStartIndices()[dim] - pad.getLow()[dim]);
    limits.push_back(starts.back() + (count - 1) * op.getStrides()[dim] + 1);
    if (starts.back() < 0 || limits.back() > inside.getDimSize(dim))
      return failure();
  }
  rewriter.replaceOpWithNewOp<SliceOp>(op, op.getType(), pad.getX(), starts,
                                       limits, op.getStrides());
  return success();
}

void SliceOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                          MLIRContext *) {
  patterns.add(mergeSlices);
  patterns.add(sliceOfConcatenate);
  patterns.add(sliceOfPad);
}

//===----------------------------------------------------------------------===//
// Dynamic slices
//===----------------------------------------------------------------------===//

static LogicalResult verifyWindow(Operation *op, RankedTensorType operand,
                                  RankedTensorType window, ValueRange starts) {
  if (static_cast<int64_t>(starts.size()) != operand.getRank())
    return op->emitOpError("needs one start index for each of the ")
           << operand.getRank() << " dimensions of the operand, but has "
           << starts.size();
  for (Value start : starts)
    if (tensorType(start).getRank() != 0 ||
        start.getType() != starts.front().getType())
      return op->emitOpError(
                 "start indices must be scalars of one type, but there is ")
             << start.getType();
  bool fits = operand.getRank() == window.getRank() &&
              operand.getElementType() == window.getElementType() &&
              llvm::all_of(llvm::zip(operand.getShape(), window.getShape()),
                           [](auto sizes) {
                             return std::get<0>(sizes) >= std::get<1>(sizes);
                           });
  if (!fits)
    return op->emitOpError("a window of type ")
           << window << " does not fit into the operand of type " << operand;
  return success();
}

/// The same start indices, behind one of zero for the batch dimension.
static SmallVector<Value> startsBehindBatch(ImplicitLocOpBuilder &b,
                                            ValueRange starts) {
  Type type = starts.empty() ? RankedTensorType::get({}, b.getI32Type())
                             : starts[0].getType();
  SmallVector<Value> result{makeZero(b, type)};
  llvm::append_range(result, starts);
  return result;
}

/// Start indices of which some are batched, as index vectors of a gather.
static Value stackStarts(BatchFrame &frame, unsigned first) {
  ImplicitLocOpBuilder &b = frame.b;
  SmallVector<Value> columns;
  for (unsigned index = first; index < frame.operands.size(); ++index) {
    SmallVector<int64_t> dims;
    if (frame.batched[index])
      dims.push_back(0);
    Value start = frame.operands[index];
    columns.push_back(b.createOrFold<BroadcastInDimOp>(
        tensorType(start).clone({frame.size, 1}), start,
        b.getDenseI64ArrayAttr(dims)));
  }
  if (columns.size() == 1)
    return columns.front();
  auto type =
      tensorType(columns.front()).clone({frame.size, (int64_t)columns.size()});
  return ConcatenateOp::create(b, type, columns, /*dimension=*/1);
}

/// A window at one position: every dimension is indexed and none is collapsed.
static Windows singleWindow(RankedTensorType window) {
  auto dims = llvm::to_vector(llvm::seq<int64_t>(0, window.getRank()));
  return {dims,
          {},
          dims,
          {},
          {},
          llvm::to_vector(window.getShape()),
          IndexMode::Clip,
          /*sorted=*/true,
          /*unique=*/true};
}

LogicalResult DynamicSliceOp::verify() {
  return verifyWindow(*this, tensorType(getOperand()), tensorType(getR()),
                      getStartIndices());
}

LogicalResult DynamicSliceOp::emitTranspose(TransposeFrame &frame) {
  Type type = getOperand().getType();
  frame.operandCotangents[0] = frame.b.createOrFold<DynamicUpdateSliceOp>(
      type, makeZero(frame.b, type), frame.cotangents[0],
      frame.operands.drop_front());
  return success();
}

LogicalResult DynamicSliceOp::emitBatch(BatchFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Value operand = frame.operands[0];
  if (!llvm::is_contained(frame.batched.drop_front(), true)) {
    frame.results.push_back(DynamicSliceOp::create(
        b, batchedType(getType(), frame.size), operand,
        startsBehindBatch(b, frame.operands.drop_front())));
    return success();
  }
  Windows windows = singleWindow(tensorType(getR()));
  if (frame.batched[0])
    windows.batchBoth(frame.size);
  else
    windows.batchIndices();
  frame.results.push_back(windows.gather(b, operand, stackStarts(frame, 1)));
  return success();
}

LogicalResult DynamicSliceOp::emitLowering(LoweringFrame &frame) {
  auto sizes = frame.b.getDenseI64ArrayAttr(tensorType(getR()).getShape());
  Operation *lowered = detail::createForeign(
      frame.b, getStablehloName(), getType(), getOperands(),
      {frame.b.getNamedAttr("slice_sizes", sizes)});
  frame.results.push_back(lowered->getResult(0));
  return success();
}

OpFoldResult DynamicSliceOp::fold(FoldAdaptor adaptor) {
  if (getOperand().getType() == getType())
    return getOperand();
  if (auto splat = dyn_cast_or_null<SplatElementsAttr>(adaptor.getOperand()))
    return splat.resizeSplat(tensorType(getR()));
  // What was written there last; both windows are clamped alike.
  if (auto write = getOperand().getDefiningOp<DynamicUpdateSliceOp>())
    if (write.getUpdate().getType() == getType() &&
        write.getStartIndices() == getStartIndices())
      return write.getUpdate();
  return {};
}

/// With constant start indices it is a slice.
static LogicalResult makeStatic(DynamicSliceOp op, PatternRewriter &rewriter) {
  SmallVector<int64_t> starts, limits;
  auto operand = tensorType(op.getOperand()), result = tensorType(op.getR());
  for (auto [dim, value] : llvm::enumerate(op.getStartIndices())) {
    DenseIntElementsAttr constant;
    if (!matchPattern(value, m_Constant(&constant)))
      return failure();
    APInt index = *constant.begin();
    bool isUnsigned = constant.getElementType().isUnsignedInteger();
    int64_t last = operand.getDimSize(dim) - result.getDimSize(dim);
    int64_t start = isUnsigned
                        ? static_cast<int64_t>(index.getLimitedValue(last))
                        : std::clamp<int64_t>(index.getSExtValue(), 0, last);
    starts.push_back(start);
    limits.push_back(start + result.getDimSize(dim));
  }
  SmallVector<int64_t> strides(starts.size(), 1);
  rewriter.replaceOpWithNewOp<SliceOp>(op, result, op.getOperand(), starts,
                                       limits, strides);
  return success();
}

void DynamicSliceOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                                 MLIRContext *) {
  patterns.add(makeStatic);
}

LogicalResult DynamicUpdateSliceOp::verify() {
  return verifyWindow(*this, tensorType(getOperand()), tensorType(getUpdate()),
                      getStartIndices());
}

LogicalResult DynamicUpdateSliceOp::emitTranspose(TransposeFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Value cotangent = frame.cotangents[0];
  Type window = getUpdate().getType();
  ArrayRef<Value> starts = frame.operands.drop_front(2);
  if (frame.isLinear(0))
    frame.operandCotangents[0] = b.createOrFold<DynamicUpdateSliceOp>(
        getType(), cotangent, makeZero(b, window), starts);
  if (frame.isLinear(1))
    frame.operandCotangents[1] =
        b.createOrFold<DynamicSliceOp>(window, cotangent, starts);
  return success();
}

LogicalResult DynamicUpdateSliceOp::emitBatch(BatchFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Value operand = frame.getBatched(0), update = frame.getBatched(1);
  if (!llvm::is_contained(frame.batched.drop_front(2), true)) {
    frame.results.push_back(DynamicUpdateSliceOp::create(
        b, operand.getType(), operand, update,
        startsBehindBatch(b, frame.operands.drop_front(2))));
    return success();
  }
  Windows windows = singleWindow(tensorType(getUpdate()));
  windows.batchBoth(frame.size);
  frame.results.push_back(
      windows.scatter<ScatterOp>(b, operand, stackStarts(frame, 2), update));
  return success();
}

OpFoldResult DynamicUpdateSliceOp::fold(FoldAdaptor) {
  if (getUpdate().getType() == getType())
    return getUpdate();
  if (tensorType(getUpdate()).getNumElements() == 0)
    return getOperand();
  return {};
}
