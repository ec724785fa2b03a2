//===- Windows.cpp - What gather and scatter share ------------------------===//

#include "Windows.h"
#include "bmgrad/Dialect/BM/Elementwise.h"
#include "bmgrad/Dialect/BM/Indexing.h"
#include "bmgrad/Dialect/BM/Shape.h"

#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace bmgrad::bm;

static void shift(SmallVector<int64_t> &dims) {
  for (int64_t &dim : dims)
    ++dim;
}

static void prepend(SmallVector<int64_t> &list, int64_t value) {
  list.insert(list.begin(), value);
}

//===----------------------------------------------------------------------===//
// From and to ops
//===----------------------------------------------------------------------===//

Windows Windows::of(GatherOp op) {
  return {llvm::to_vector(op.getOffsetDims()),
          llvm::to_vector(op.getCollapsedSliceDims()),
          llvm::to_vector(op.getStartIndexMap()),
          llvm::to_vector(op.getOperandBatchingDims()),
          llvm::to_vector(op.getStartIndicesBatchingDims()),
          llvm::to_vector(op.getSliceSizes()),
          op.getMode(),
          op.getIndicesAreSorted(),
          op.getUniqueIndices()};
}

void Windows::setSliceSizes(RankedTensorType operand,
                            RankedTensorType updates) {
  auto next = offsetDims.begin();
  for (auto [dim, size] : llvm::enumerate(operand.getShape())) {
    int64_t signedDim = dim;
    if (llvm::is_contained(operandBatchingDims, signedDim))
      sliceSizes.push_back(std::min<int64_t>(size, 1));
    else if (llvm::is_contained(collapsedDims, signedDim) ||
             next == offsetDims.end() || *next < 0 ||
             *next >= updates.getRank())
      sliceSizes.push_back(1);
    else
      sliceSizes.push_back(updates.getDimSize(*next++));
  }
}

RankedTensorType Windows::type(RankedTensorType operand,
                               RankedTensorType indices) const {
  SmallVector<int64_t> shape;
  int64_t nextOperandDim = 0, nextIndicesDim = 0;
  int64_t rank = offsetDims.size() + indices.getRank() - 1;
  for (int64_t dim = 0; dim < rank; ++dim) {
    if (!llvm::is_contained(offsetDims, dim)) {
      shape.push_back(indices.getDimSize(nextIndicesDim++));
      continue;
    }
    while (llvm::is_contained(collapsedDims, nextOperandDim) ||
           llvm::is_contained(operandBatchingDims, nextOperandDim))
      ++nextOperandDim;
    shape.push_back(sliceSizes[nextOperandDim++]);
  }
  return operand.clone(shape);
}

Value Windows::gather(ImplicitLocOpBuilder &b, Value operand, Value indices,
                      ElementsAttr fillValue) const {
  RankedTensorType result = type(tensorType(operand), tensorType(indices));
  // A scatter may drop all its updates for want of anything to write to. There
  // is no gather of windows that do not fit, and they would count as zero.
  if (tensorType(operand).getNumElements() == 0)
    return makeZero(b, result);
  return GatherOp::create(b, result, operand, indices, sliceSizes, offsetDims,
                          collapsedDims, indexMap, operandBatchingDims,
                          indicesBatchingDims, mode, fillValue, sorted, unique);
}

Windows Windows::with(IndexMode other) const {
  Windows copy = *this;
  copy.mode = other;
  return copy;
}

static Attribute
numbers(OpBuilder &b, StringRef name, RankedTensorType indices,
        ArrayRef<std::pair<StringRef, ArrayRef<int64_t>>> fields) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  stream << name << "<";
  for (auto [field, dims] : fields)
    if (!dims.empty()) {
      stream << field << " = [";
      llvm::interleaveComma(dims, stream);
      stream << "], ";
    }
  stream << "index_vector_dim = " << indices.getRank() - 1 << ">";
  return bmgrad::bm::detail::foreignAttr(b, "stablehlo", text);
}

Attribute Windows::gatherNumbers(OpBuilder &b, RankedTensorType indices) const {
  return numbers(b, "gather", indices,
                 {{"offset_dims", offsetDims},
                  {"collapsed_slice_dims", collapsedDims},
                  {"operand_batching_dims", operandBatchingDims},
                  {"start_indices_batching_dims", indicesBatchingDims},
                  {"start_index_map", indexMap}});
}

Attribute Windows::scatterNumbers(OpBuilder &b,
                                  RankedTensorType indices) const {
  return numbers(b, "scatter", indices,
                 {{"update_window_dims", offsetDims},
                  {"inserted_window_dims", collapsedDims},
                  {"input_batching_dims", operandBatchingDims},
                  {"scatter_indices_batching_dims", indicesBatchingDims},
                  {"scatter_dims_to_operand_dims", indexMap}});
}

//===----------------------------------------------------------------------===//
// Batching
//===----------------------------------------------------------------------===//

void Windows::batchOperand(int64_t size) {
  for (auto *dims :
       {&offsetDims, &collapsedDims, &indexMap, &operandBatchingDims})
    shift(*dims);
  prepend(offsetDims, 0);
  prepend(sliceSizes, size);
}

void Windows::batchIndices() {
  shift(offsetDims);
  shift(indicesBatchingDims);
  // Different elements of the batch may index the same place.
  sorted = unique = false;
}

void Windows::batchBoth(int64_t size) {
  for (auto *dims : {&offsetDims, &collapsedDims, &indexMap,
                     &operandBatchingDims, &indicesBatchingDims})
    shift(*dims);
  prepend(operandBatchingDims, 0);
  prepend(indicesBatchingDims, 0);
  prepend(sliceSizes, std::min<int64_t>(size, 1));
}

//===----------------------------------------------------------------------===//
// Bounds
//===----------------------------------------------------------------------===//

SmallVector<int64_t> Windows::lastPositions(RankedTensorType operand) const {
  return llvm::map_to_vector(indexMap, [&](int64_t dim) {
    return operand.getDimSize(dim) - sliceSizes[dim];
  });
}

bool Windows::provenInBounds(RankedTensorType operand, Value indices) const {
  DenseIntElementsAttr constant;
  if (!matchPattern(indices, m_Constant(&constant)))
    return false;
  SmallVector<int64_t> last = lastPositions(operand);
  bool isUnsigned = constant.getElementType().isUnsignedInteger();
  auto values = constant.getValues<APInt>();
  size_t count =
      constant.isSplat() ? std::min(values.size(), last.size()) : values.size();
  for (size_t position = 0; position < count; ++position) {
    APInt index = values[position];
    APInt bound(65, last[position % last.size()], /*isSigned=*/true);
    APInt wide = isUnsigned ? index.zext(65) : index.sext(65);
    if (wide.isNegative() || wide.sgt(bound))
      return false;
  }
  return true;
}

bool Windows::areDisjoint(RankedTensorType indices) const {
  int64_t count = 1;
  for (auto [dim, size] : llvm::enumerate(indices.getShape().drop_back()))
    if (!llvm::is_contained(indicesBatchingDims, static_cast<int64_t>(dim)))
      count *= size;
  return unique || count <= 1;
}

Value Windows::clampIndices(ImplicitLocOpBuilder &b, RankedTensorType operand,
                            Value indices) const {
  RankedTensorType type = tensorType(indices);
  return ClampOp::create(b, type, makeZero(b, type), indices,
                         constantAlongLast(b, type, lastPositions(operand)));
}

Value bmgrad::bm::constantAlongLast(ImplicitLocOpBuilder &b,
                                    RankedTensorType like,
                                    ArrayRef<int64_t> values) {
  Type element = like.getElementType();
  unsigned width = element.getIntOrFloatBitWidth();
  APInt largest = element.isUnsignedInteger() ? APInt::getMaxValue(width)
                                              : APInt::getSignedMaxValue(width);
  SmallVector<APInt> numbers = llvm::map_to_vector(values, [&](int64_t value) {
    APInt wide(65, value, /*isSigned=*/true);
    return wide.sgt(largest.zext(65)) ? largest : wide.sextOrTrunc(width);
  });
  if (llvm::all_equal(values) && !values.empty())
    return ConstantOp::create(b, like,
                              DenseElementsAttr::get(like, numbers.front()));
  auto vector = like.clone({static_cast<int64_t>(values.size())});
  Value constant =
      ConstantOp::create(b, vector, DenseElementsAttr::get(vector, numbers));
  return BroadcastInDimOp::create(b, like, constant,
                                  b.getDenseI64ArrayAttr({like.getRank() - 1}));
}

//===----------------------------------------------------------------------===//
// Verification
//===----------------------------------------------------------------------===//

namespace {
/// What the fields are called in gathers and in scatters.
struct Names {
  StringRef offset, collapsed, indexMap, indicesBatching, windows;
};
const Names gatherNames{"offset_dims", "collapsed_slice_dims",
                        "start_index_map", "start_indices_batching_dims",
                        "result"};
const Names scatterNames{"update_window_dims", "inserted_window_dims",
                         "scatter_dims_to_operand_dims",
                         "scatter_indices_batching_dims", "updates"};

LogicalResult verifyDims(Operation *op, StringRef name, ArrayRef<int64_t> dims,
                         int64_t rank, bool ascending) {
  llvm::SmallDenseSet<int64_t> seen;
  for (auto [position, dim] : llvm::enumerate(dims)) {
    if (dim < 0 || dim >= rank)
      return op->emitOpError(name)
             << " must be in [0, " << rank << "), but it is [" << dims << "]";
    if (!seen.insert(dim).second)
      return op->emitOpError(name)
             << " must not repeat a dimension, but it is [" << dims << "]";
    if (ascending && position && dims[position - 1] > dim)
      return op->emitOpError(name)
             << " must be ascending, but it is [" << dims << "]";
  }
  return success();
}

LogicalResult verifyDisjoint(Operation *op, StringRef name,
                             ArrayRef<int64_t> dims,
                             ArrayRef<int64_t> batching) {
  for (int64_t dim : dims)
    if (llvm::is_contained(batching, dim))
      return op->emitOpError("dimension ") << dim << " is both in " << name
                                           << " and in operand_batching_dims";
  return success();
}
} // namespace

LogicalResult Windows::verify(Operation *op, RankedTensorType operand,
                              RankedTensorType indices,
                              RankedTensorType windows) const {
  bool isGather = isa<GatherOp>(op);
  const Names &names = isGather ? gatherNames : scatterNames;
  if (indices.getRank() == 0)
    return op->emitOpError(
        "indices must have a last dimension that holds the index vectors");
  int64_t rank = operand.getRank(), lastDim = indices.getRank() - 1;

  if (failed(verifyDims(op, names.offset, offsetDims,
                        offsetDims.size() + lastDim, true)) ||
      failed(verifyDims(op, names.collapsed, collapsedDims, rank, true)) ||
      failed(verifyDims(op, names.indexMap, indexMap, rank, false)) ||
      failed(verifyDims(op, "operand_batching_dims", operandBatchingDims, rank,
                        true)) ||
      failed(verifyDims(op, names.indicesBatching, indicesBatchingDims, lastDim,
                        false)) ||
      failed(verifyDisjoint(op, names.collapsed, collapsedDims,
                            operandBatchingDims)) ||
      failed(verifyDisjoint(op, names.indexMap, indexMap, operandBatchingDims)))
    return failure();
  if (static_cast<int64_t>(indexMap.size()) != indices.getDimSize(lastDim))
    return op->emitOpError(names.indexMap)
           << " has " << indexMap.size()
           << " entries, but the index vectors have "
           << indices.getDimSize(lastDim);
  if (operandBatchingDims.size() != indicesBatchingDims.size())
    return op->emitOpError("operand_batching_dims and ")
           << names.indicesBatching
           << " must have equal lengths, but they have "
           << operandBatchingDims.size() << " and "
           << indicesBatchingDims.size();
  for (auto [inOperand, inIndices] :
       llvm::zip(operandBatchingDims, indicesBatchingDims))
    if (operand.getDimSize(inOperand) != indices.getDimSize(inIndices))
      return op->emitOpError("batching dimension ")
             << inOperand << " of the operand has size "
             << operand.getDimSize(inOperand) << ", but dimension " << inIndices
             << " of the indices has size " << indices.getDimSize(inIndices);
  if (static_cast<int64_t>(offsetDims.size() + collapsedDims.size() +
                           operandBatchingDims.size()) != rank)
    return op->emitOpError("each of the ")
           << rank << " operand dimensions must be one of " << names.offset
           << ", " << names.collapsed
           << " or operand_batching_dims, but these name "
           << offsetDims.size() + collapsedDims.size() +
                  operandBatchingDims.size();
  if (static_cast<int64_t>(sliceSizes.size()) != rank)
    return op->emitOpError("slice_sizes must have one entry for each of the ")
           << rank << " operand dimensions, but has " << sliceSizes.size();

  for (int64_t dim = 0; dim < rank; ++dim) {
    int64_t size = sliceSizes[dim];
    bool collapsed = llvm::is_contained(collapsedDims, dim);
    if (collapsed && size != 1)
      return op->emitOpError(
                 "a collapsed dimension must have slice size 1, but dimension ")
             << dim << " has " << size;
    if (llvm::is_contained(operandBatchingDims, dim) && size > 1)
      return op->emitOpError("a batching dimension must have slice size 0 or "
                             "1, but dimension ")
             << dim << " has " << size;
    // With no index vector no window is taken; a scatter drops what has no
    // place.
    bool mayExceed = indices.getNumElements() == 0 || (collapsed && !isGather);
    if (size < 0 || (size > operand.getDimSize(dim) && !mayExceed))
      return op->emitOpError("a window of size ")
             << size << " does not fit into dimension " << dim
             << " of the operand, of size " << operand.getDimSize(dim);
  }
  RankedTensorType expected = type(operand, indices);
  if (windows != expected)
    return op->emitOpError(names.windows)
           << " must have type " << expected << ", but has " << windows;
  return success();
}
