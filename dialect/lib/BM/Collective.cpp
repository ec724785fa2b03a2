//===- Collective.cpp - The rules of the ops of Collective.td -------------===//
//
// Each op's batching rule has two halves: over its own axis, where it becomes
// plain ops on the leading dimension, and over any other one, where it stays.
//
//===----------------------------------------------------------------------===//

#include "bmgrad/Dialect/BM/Collective.h"

#include "bmgrad/Dialect/BM/Elementwise.h"
#include "bmgrad/Dialect/BM/Indexing.h"
#include "bmgrad/Dialect/BM/Reduction.h"
#include "bmgrad/Dialect/BM/Shape.h"

using namespace mlir;
using namespace bmgrad::bm;

#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Collective.cpp.inc"

void bmgrad::bm::addCollectiveOps(BMDialect &dialect) {
  dialect.addFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/Collective.cpp.inc"
      >();
}

static Value moveDim(ImplicitLocOpBuilder &b, Value value, int64_t from,
                     int64_t to) {
  auto dims =
      llvm::to_vector(llvm::seq<int64_t>(0, tensorType(value).getRank()));
  dims.erase(dims.begin() + from);
  dims.insert(dims.begin() + to, from);
  return b.createOrFold<TransposeOp>(value, b.getDenseI64ArrayAttr(dims));
}

static Value sumOverBatch(BatchFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Value x = frame.operands[0];
  if (frame.batched[0])
    return ReduceSumOp::create(b, x, b.getDenseI64ArrayAttr({0}));
  return b.createOrFold<MulOp>(x.getType(), x,
                               makeConstant(b, x.getType(), frame.size));
}

/// Records the result of a batch over the op's own axis.
static LogicalResult finish(BatchFrame &frame, Value result, bool batched) {
  frame.results.push_back(result);
  frame.resultBatched.push_back(batched);
  return success();
}

/// Fails where a dimension, or the numbers in an op, do not fit the axis.
static LogicalResult expectSize(Operation *op, int64_t size, int64_t actual,
                                StringRef what) {
  if (actual == size)
    return success();
  return op->emitError("'")
         << op->getName().stripDialect() << "' over an axis of size " << size
         << " " << what << " " << actual;
}

static LogicalResult expectIndices(Operation *op, int64_t size,
                                   ArrayRef<int64_t> indices) {
  for (int64_t index : indices)
    if (index < 0 || index >= size)
      return op->emitError("'")
             << op->getName().stripDialect() << "' over an axis of size "
             << size << " names index " << index;
  return success();
}

//===----------------------------------------------------------------------===//
// Reductions
//===----------------------------------------------------------------------===//

LogicalResult PsumOp::emitTranspose(TransposeFrame &frame) {
  frame.operandCotangents[0] =
      PsumOp::create(frame.b, getType(), frame.cotangents[0], getAxis());
  return success();
}

LogicalResult PsumOp::emitBatch(BatchFrame &frame) {
  if (frame.axis.name != getAxis())
    return detail::batchLeading(*this, frame);
  return finish(frame, sumOverBatch(frame), false);
}

template <typename Extremum>
static LogicalResult noDerivative(Extremum op, JvpFrame &frame) {
  if (!isDifferentiable(op.getType()))
    return bmgrad::bm::detail::jvpZero(op, frame);
  return op.emitError("no derivative rule for primitive '")
         << op->getName().stripDialect() << "' of a named axis";
}

template <typename Reduction, typename Extremum>
static LogicalResult batchExtremum(Extremum op, BatchFrame &frame) {
  if (frame.axis.name != op.getAxis())
    return bmgrad::bm::detail::batchLeading(op, frame);
  Value x = frame.operands[0];
  if (frame.batched[0])
    x = Reduction::create(frame.b, x, frame.b.getDenseI64ArrayAttr({0}));
  return finish(frame, x, false);
}

LogicalResult PmaxOp::emitJvp(JvpFrame &frame) {
  return noDerivative(*this, frame);
}
LogicalResult PmaxOp::emitBatch(BatchFrame &frame) {
  return batchExtremum<ReduceMaxOp>(*this, frame);
}
LogicalResult PminOp::emitJvp(JvpFrame &frame) {
  return noDerivative(*this, frame);
}
LogicalResult PminOp::emitBatch(BatchFrame &frame) {
  return batchExtremum<ReduceMinOp>(*this, frame);
}

//===----------------------------------------------------------------------===//
// Values sent along the axis
//===----------------------------------------------------------------------===//

LogicalResult PpermuteOp::verify() {
  if (getSources().size() != getDestinations().size())
    return emitOpError("has ") << getSources().size() << " sources, but "
                               << getDestinations().size() << " destinations";
  for (ArrayRef<int64_t> indices : {getSources(), getDestinations()})
    if (DenseSet<int64_t>(indices.begin(), indices.end()).size() !=
        indices.size())
      return emitOpError("names a source or a destination twice");
  return success();
}

LogicalResult PpermuteOp::emitTranspose(TransposeFrame &frame) {
  frame.operandCotangents[0] =
      PpermuteOp::create(frame.b, getType(), frame.cotangents[0], getAxis(),
                         getDestinations(), getSources());
  return success();
}

LogicalResult PpermuteOp::emitBatch(BatchFrame &frame) {
  if (frame.axis.name != getAxis())
    return detail::batchLeading(*this, frame);
  if (failed(expectIndices(*this, frame.size, getSources())) ||
      failed(expectIndices(*this, frame.size, getDestinations())))
    return failure();
  ImplicitLocOpBuilder &b = frame.b;
  bool everyone = static_cast<int64_t>(getSources().size()) == frame.size;
  Value x = frame.getBatched(0);
  RankedTensorType type = tensorType(x);
  if (type.getNumElements() == 0 || (everyone && !frame.batched[0]))
    return finish(frame, frame.operands[0], frame.batched[0]);
  // Out of bounds: an element to which nothing is sent gets zero.
  SmallVector<int32_t> from(frame.size, frame.size);
  for (auto [source, destination] :
       llvm::zip_equal(getSources(), getDestinations()))
    from[destination] = source;
  auto indexType = RankedTensorType::get({frame.size, 1}, b.getI32Type());
  Value indices = ConstantOp::create(
      b, indexType, DenseElementsAttr::get(indexType, ArrayRef(from)));
  SmallVector<int64_t> window(type.getShape());
  window[0] = 1;
  auto windowDims = llvm::to_vector(llvm::seq<int64_t>(1, type.getRank()));
  SmallVector<int64_t> first{0}, none;
  return finish(frame,
                GatherOp::create(b, type, x, indices, window, windowDims, first,
                                 first, none, none,
                                 everyone ? IndexMode::PromiseInBounds
                                          : IndexMode::FillOrDrop,
                                 ElementsAttr(), /*indices_are_sorted=*/false,
                                 /*unique_indices=*/everyone),
                true);
}

LogicalResult PbroadcastOp::emitTranspose(TransposeFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Value cotangent = frame.cotangents[0];
  RankedTensorType type = tensorType(cotangent);
  Value sum = PsumOp::create(b, type, cotangent, getAxis());
  auto indexType = RankedTensorType::get({}, b.getI32Type());
  Value isSource = CompareOp::create(
      b, indexType.clone(b.getI1Type()),
      AxisIndexOp::create(b, indexType, getAxis()),
      makeConstant(b, indexType, getSource()), CompareDirection::EQ);
  Value mask = b.createOrFold<BroadcastInDimOp>(
      type.clone(b.getI1Type()), isSource, b.getDenseI64ArrayAttr({}));
  frame.operandCotangents[0] =
      SelectOp::create(b, type, mask, sum, makeZero(b, type));
  return success();
}

LogicalResult PbroadcastOp::emitBatch(BatchFrame &frame) {
  if (frame.axis.name != getAxis())
    return detail::batchLeading(*this, frame);
  if (failed(expectIndices(*this, frame.size,
                           {static_cast<int64_t>(getSource())})))
    return failure();
  ImplicitLocOpBuilder &b = frame.b;
  Value x = frame.operands[0];
  if (!frame.batched[0])
    return finish(frame, x, false);
  RankedTensorType type = tensorType(x);
  SmallVector<int64_t> starts(type.getRank(), 0), limits(type.getShape()),
      strides(type.getRank(), 1), shape(type.getShape());
  starts[0] = getSource();
  limits[0] = getSource() + 1;
  shape[0] = 1;
  Value taken =
      SliceOp::create(b, type.clone(shape), x, starts, limits, strides);
  return finish(frame, b.createOrFold<ReshapeOp>(getType(), taken), false);
}

//===----------------------------------------------------------------------===//
// The axis and a dimension
//===----------------------------------------------------------------------===//

LogicalResult AllToAllOp::verify() {
  if (getDimension() >= static_cast<uint64_t>(tensorType(getX()).getRank()))
    return emitOpError("has dimension ")
           << getDimension() << " of an operand of type " << getX().getType();
  return success();
}

LogicalResult AllToAllOp::emitTranspose(TransposeFrame &frame) {
  frame.operandCotangents[0] = AllToAllOp::create(
      frame.b, getType(), frame.cotangents[0], getAxis(), getDimension());
  return success();
}

LogicalResult AllToAllOp::emitBatch(BatchFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Value x = frame.getBatched(0);
  int64_t dim = getDimension() + 1;
  if (frame.axis.name != getAxis()) {
    frame.results.push_back(
        AllToAllOp::create(b, x.getType(), x, getAxis(), dim));
    return success();
  }
  if (failed(expectSize(*this, frame.size, tensorType(x).getDimSize(dim),
                        "exchanges it with a dimension of size")))
    return failure();
  auto dims = llvm::to_vector(llvm::seq<int64_t>(0, tensorType(x).getRank()));
  std::swap(dims[0], dims[dim]);
  return finish(frame,
                b.createOrFold<TransposeOp>(x, b.getDenseI64ArrayAttr(dims)),
                true);
}

/// `wide` is `narrow` with one dimension more, at `dim`.
static LogicalResult verifyGathered(Operation *op, Type narrow, Type wide,
                                    uint64_t dim) {
  auto inner = cast<RankedTensorType>(narrow),
       outer = cast<RankedTensorType>(wide);
  SmallVector<int64_t> shape(outer.getShape());
  if (dim < shape.size()) {
    shape.erase(shape.begin() + dim);
    if (outer.clone(shape) == inner)
      return success();
  }
  return op->emitOpError("has types ")
         << narrow << " and " << wide << ": the second is to be the first "
         << "with one dimension more, dimension " << dim;
}

LogicalResult AllGatherOp::verify() {
  return verifyGathered(*this, getX().getType(), getType(), getDimension());
}

LogicalResult AllGatherOp::emitTranspose(TransposeFrame &frame) {
  frame.operandCotangents[0] =
      ReduceScatterOp::create(frame.b, getX().getType(), frame.cotangents[0],
                              getAxis(), getDimension());
  return success();
}

LogicalResult AllGatherOp::emitBatch(BatchFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  if (frame.axis.name != getAxis()) {
    frame.results.push_back(AllGatherOp::create(
        b, batchedType(getType(), frame.size), frame.getBatched(0), getAxis(),
        getDimension() + 1));
    return success();
  }
  if (failed(expectSize(*this, frame.size,
                        tensorType(getR()).getDimSize(getDimension()),
                        "makes a dimension of size")))
    return failure();
  return finish(frame, moveDim(b, frame.getBatched(0), 0, getDimension()),
                false);
}

LogicalResult ReduceScatterOp::verify() {
  return verifyGathered(*this, getType(), getX().getType(), getDimension());
}

LogicalResult ReduceScatterOp::emitTranspose(TransposeFrame &frame) {
  frame.operandCotangents[0] =
      AllGatherOp::create(frame.b, getX().getType(), frame.cotangents[0],
                          getAxis(), getDimension());
  return success();
}

LogicalResult ReduceScatterOp::emitBatch(BatchFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  if (frame.axis.name != getAxis()) {
    frame.results.push_back(ReduceScatterOp::create(
        b, batchedType(getType(), frame.size), frame.getBatched(0), getAxis(),
        getDimension() + 1));
    return success();
  }
  if (failed(expectSize(*this, frame.size,
                        tensorType(getX()).getDimSize(getDimension()),
                        "scatters a dimension of size")))
    return failure();
  return finish(frame, moveDim(b, sumOverBatch(frame), getDimension(), 0),
                true);
}

LogicalResult AxisIndexOp::emitBatch(BatchFrame &frame) {
  return finish(frame,
                IotaOp::create(frame.b, batchedType(getType(), frame.size), 0),
                true);
}
