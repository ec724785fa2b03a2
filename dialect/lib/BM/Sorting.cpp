//===- Sorting.cpp - The rules of the ops of Sorting.td -------------------===//

#include "bmgrad/Dialect/BM/Sorting.h"
#include "Windows.h"
#include "bmgrad/Dialect/BM/Elementwise.h"
#include "bmgrad/Dialect/BM/Shape.h"

#include "bmgrad/Dialect/BM/Expr.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/IR/TypeUtilities.h"

#include <limits>

using namespace mlir;
using namespace bmgrad::bm;

//===----------------------------------------------------------------------===//
// Assembly
//===----------------------------------------------------------------------===//

/// A sort's results have the types of its operands, which are written once.
static ParseResult parseSameTypes(OpAsmParser &parser,
                                  SmallVectorImpl<Type> &operands,
                                  SmallVectorImpl<Type> &results) {
  if (parser.parseTypeList(operands))
    return failure();
  results.assign(operands.begin(), operands.end());
  return success();
}

static void printSameTypes(OpAsmPrinter &printer, Operation *,
                           TypeRange operands, TypeRange) {
  llvm::interleaveComma(operands, printer);
}

#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Sorting.cpp.inc"

void bmgrad::bm::addSortingOps(BMDialect &dialect) {
  dialect.addFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/Sorting.cpp.inc"
      >();
}

/// `operand` at `indices` along one dimension; all others run together. `exact`
/// says that the indices are of places, each once.
static Value gatherAlong(ImplicitLocOpBuilder &b, int64_t dimension,
                         Value operand, Value indices, bool exact = true) {
  auto indicesType = tensorType(indices);
  SmallVector<int64_t> shape(indicesType.getShape());
  shape.push_back(1);
  Value vectors = ReshapeOp::create(b, indicesType.clone(shape), indices);
  Windows windows;
  windows.collapsedDims = windows.indexMap = {dimension};
  for (auto [dim, size] : llvm::enumerate(tensorType(operand).getShape())) {
    bool along = static_cast<int64_t>(dim) == dimension;
    windows.sliceSizes.push_back(along ? 1 : std::min<int64_t>(size, 1));
    if (!along)
      windows.operandBatchingDims.push_back(dim);
  }
  windows.indicesBatchingDims = windows.operandBatchingDims;
  windows.unique = exact;
  windows.mode = exact ? IndexMode::PromiseInBounds : IndexMode::FillOrDrop;
  return windows.gather(b, operand, vectors);
}

//===----------------------------------------------------------------------===//
// Sort
//===----------------------------------------------------------------------===//

LogicalResult SortOp::verify() {
  if (getOperands().empty())
    return emitOpError("needs an array to sort");
  if (getOperandTypes() != getResultTypes())
    return emitOpError("results must have the types of the operands");
  auto first = tensorType(getOperands().front());
  for (Value operand : getOperands())
    if (tensorType(operand).getShape() != first.getShape())
      return emitOpError("operands must have one shape, but there are ")
             << first << " and " << operand.getType();
  int64_t dimension = getDimension(), keys = getNumKeys();
  if (dimension < 0 || dimension >= first.getRank())
    return emitOpError("dimension must be in [0, ")
           << first.getRank() << "), but it is " << dimension;
  if (keys < 1 || keys > static_cast<int64_t>(getOperands().size()))
    return emitOpError("num_keys must be in [1, ")
           << getOperands().size() << "], but it is " << keys;
  return success();
}

LogicalResult SortOp::emitJvp(JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  auto shape = tensorType(getOperands().front()).getShape();
  int64_t dimension = getDimension();
  // An iota that is sorted along shows where each element came from.
  bool wide = shape[dimension] > std::numeric_limits<int32_t>::max();
  auto indexType =
      RankedTensorType::get(shape, b.getIntegerType(wide ? 64 : 32));
  SmallVector<Value> operands(frame.primals);
  operands.push_back(IotaOp::create(b, indexType, dimension));
  auto sort = SortOp::create(b, ValueRange(operands).getTypes(), operands,
                             dimension, getNumKeys(), getIsStable());
  llvm::append_range(frame.results, sort.getResults().drop_back());
  for (Value tangent : frame.tangents)
    frame.resultTangents.push_back(
        tangent ? gatherAlong(b, dimension, tangent, sort.getResults().back())
                : Value());
  return success();
}

LogicalResult SortOp::emitBatch(BatchFrame &frame) {
  SmallVector<Value> operands;
  for (unsigned index = 0; index < getNumOperands(); ++index)
    operands.push_back(frame.getBatched(index));
  auto sort = SortOp::create(frame.b, ValueRange(operands).getTypes(), operands,
                             getDimension() + 1, getNumKeys(), getIsStable());
  llvm::append_range(frame.results, sort.getResults());
  return success();
}

/// Floats in total order, but with one zero and one NaN.
static Expr canonicalKey(Expr x) {
  Expr zero = expr::constantLike(x, 0.0);
  Expr nan = expr::constantLike(x, std::numeric_limits<double>::quiet_NaN());
  Expr number = expr::select(expr::eq(x, zero), zero, x);
  return expr::select(expr::eq(x, x), number, nan);
}

/// The keys that a scalar is compared by.
static void appendKeys(Expr x, SmallVectorImpl<Expr> &keys) {
  auto type = cast<RankedTensorType>(x.type());
  if (auto complexType = dyn_cast<ComplexType>(type.getElementType())) {
    Type part = type.clone(complexType.getElementType());
    keys.push_back(canonicalKey(x.with(RealOp::create(x.b(), part, x.get()))));
    keys.push_back(canonicalKey(x.with(ImagOp::create(x.b(), part, x.get()))));
  } else {
    keys.push_back(isa<FloatType>(type.getElementType()) ? canonicalKey(x) : x);
  }
}

/// Whether the first of each pair of `arguments` comes before the second.
static Value emitComesBefore(ImplicitLocOpBuilder &b,
                             ArrayRef<BlockArgument> arguments,
                             int64_t keyCount) {
  SmallVector<Expr> left, right;
  for (int64_t key = 0; key < keyCount; ++key) {
    appendKeys(Expr(b, arguments[2 * key]), left);
    appendKeys(Expr(b, arguments[2 * key + 1]), right);
  }
  auto type = RankedTensorType::get({}, b.getI1Type());
  auto compare = [&](Expr x, Expr y, CompareDirection direction) -> Value {
    bool isFloat = isa<FloatType>(getElementTypeOrSelf(x.type()));
    return CompareOp::create(b, type, x.get(), y.get(), direction,
                             /*total_order=*/isFloat);
  };
  Value before;
  for (auto [x, y] : llvm::reverse(llvm::zip_equal(left, right))) {
    Value less = compare(x, y, CompareDirection::LT);
    if (before) {
      Value tie =
          AndOp::create(b, type, compare(x, y, CompareDirection::EQ), before);
      less = OrOp::create(b, type, less, tie);
    }
    before = less;
  }
  return before;
}

LogicalResult SortOp::emitLowering(LoweringFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  SmallVector<NamedAttribute> attributes{
      b.getNamedAttr("dimension", b.getI64IntegerAttr(getDimension())),
      b.getNamedAttr("is_stable", b.getBoolAttr(getIsStable()))};
  Operation *lowered =
      detail::createForeign(b, "stablehlo.sort", getResultTypes(),
                            getOperands(), attributes, /*regions=*/1);
  Block &body = lowered->getRegion(0).emplaceBlock();
  for (Value operand : getOperands()) {
    Type scalar = tensorType(operand).clone(ArrayRef<int64_t>());
    body.addArguments({scalar, scalar}, {getLoc(), getLoc()});
  }
  ImplicitLocOpBuilder inner(getLoc(), OpBuilder::atBlockEnd(&body));
  Value before = emitComesBefore(inner, body.getArguments(), getNumKeys());
  detail::createForeign(inner, "stablehlo.return", {}, before);
  llvm::append_range(frame.results, lowered->getResults());
  return lowerBlock(body);
}

/// What only moves along and is not used need not move: derivatives leave such
/// operands behind.
static LogicalResult dropUnused(SortOp op, PatternRewriter &rewriter) {
  SmallVector<Value> operands, kept;
  for (auto [index, result] : llvm::enumerate(op.getResults()))
    if (static_cast<int64_t>(index) < static_cast<int64_t>(op.getNumKeys()) ||
        !result.use_empty()) {
      operands.push_back(op.getOperands()[index]);
      kept.push_back(result);
    }
  if (operands.size() == op.getNumOperands())
    return failure();
  auto sort = SortOp::create(
      rewriter, op.getLoc(), ValueRange(operands).getTypes(), operands,
      op.getDimension(), op.getNumKeys(), op.getIsStable());
  for (auto [old, result] : llvm::zip_equal(kept, sort.getResults()))
    rewriter.replaceAllUsesWith(old, result);
  rewriter.eraseOp(op);
  return success();
}

void SortOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                         MLIRContext *) {
  patterns.add(dropUnused);
}

//===----------------------------------------------------------------------===//
// The largest elements
//===----------------------------------------------------------------------===//

/// Checks an op that gives elements along `axis` and their indices.
template <typename OpTy> static LogicalResult verifyLargest(OpTy op) {
  auto operand = tensorType(op.getOperand()),
       values = tensorType(op.getValues());
  int64_t axis = op.getAxis();
  if (axis < 0 || axis >= operand.getRank())
    return op.emitOpError("axis must be in [0, ")
           << operand.getRank() << "), but it is " << axis;
  SmallVector<int64_t> shape(operand.getShape());
  int64_t size = shape[axis];
  if (values.getRank() == operand.getRank())
    shape[axis] = values.getDimSize(axis);
  if (values != operand.clone(shape) || shape[axis] > size)
    return op.emitOpError("values must have the operand's type ")
           << operand << " with at most " << size << " elements along axis "
           << axis << ", but have " << values;
  if (tensorType(op.getIndices()).getShape() != values.getShape())
    return op.emitOpError(
               "values and indices must have one shape, but they have ")
           << values << " and " << op.getIndices().getType();
  return success();
}

LogicalResult TopKOp::verify() { return verifyLargest(*this); }

LogicalResult TopKOp::emitJvp(JvpFrame &frame) {
  auto op =
      TopKOp::create(frame.b, getResultTypes(), frame.primals[0], getAxis());
  llvm::append_range(frame.results, op.getResults());
  frame.resultTangents = {
      gatherAlong(frame.b, getAxis(), frame.tangents[0], op.getIndices()),
      Value()};
  return success();
}

LogicalResult TopKOp::emitBatch(BatchFrame &frame) {
  SmallVector<Type> types{batchedType(getValues().getType(), frame.size),
                          batchedType(getIndices().getType(), frame.size)};
  auto op = TopKOp::create(frame.b, types, frame.operands[0], getAxis() + 1);
  llvm::append_range(frame.results, op.getResults());
  return success();
}

LogicalResult TopKOp::emitLowering(LoweringFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  auto values = tensorType(getValues());
  if (values.getNumElements() == 0) {
    frame.results = {makeZero(b, values), makeZero(b, getIndices().getType())};
    return success();
  }
  // CHLO has it for the last dimension only.
  int64_t axis = getAxis(), last = values.getRank() - 1;
  auto permutation = llvm::to_vector(llvm::seq<int64_t>(0, values.getRank()));
  std::swap(permutation[axis], permutation[last]);
  auto swapped = [&](RankedTensorType type) {
    SmallVector<int64_t> shape(type.getShape());
    std::swap(shape[axis], shape[last]);
    return type.clone(shape);
  };
  auto swap = [&](Value value) -> Value {
    return axis == last ? value
                        : TransposeOp::create(b, swapped(tensorType(value)),
                                              value, permutation);
  };
  Value operand = swap(getOperand());
  auto k = b.getNamedAttr("k", b.getI64IntegerAttr(values.getDimSize(axis)));
  Operation *lowered = detail::createForeign(
      b, "chlo.top_k", {swapped(values), swapped(tensorType(getIndices()))},
      operand, k);
  for (Value result : lowered->getResults())
    frame.results.push_back(swap(result));
  return success();
}

LogicalResult ApproxTopKOp::verify() { return verifyLargest(*this); }

LogicalResult ApproxTopKOp::emitJvp(JvpFrame &frame) {
  auto op = cast<ApproxTopKOp>(
      detail::cloneWith(frame.b, getOperation(), frame.primals));
  llvm::append_range(frame.results, op.getResults());
  frame.resultTangents = {gatherAlong(frame.b, getAxis(), frame.tangents[0],
                                      op.getIndices(), /*exact=*/false),
                          Value()};
  return success();
}

LogicalResult ApproxTopKOp::emitBatch(BatchFrame &frame) {
  SmallVector<Type> types{batchedType(getValues().getType(), frame.size),
                          batchedType(getIndices().getType(), frame.size)};
  auto op = cast<ApproxTopKOp>(
      detail::cloneWith(frame.b, getOperation(), frame.operands, types));
  op.setAxis(getAxis() + 1);
  llvm::append_range(frame.results, op.getResults());
  return success();
}
