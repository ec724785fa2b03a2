//===- Folding.cpp - The rules of the ops of Folding.td -------------------===//
//
// Where a named op would have a rule of its own, these are written out as ops
// that have one: the region is applied to whole arrays of elements.
//
//===----------------------------------------------------------------------===//

#include "bmgrad/Dialect/BM/Folding.h"
#include "Dims.h"
#include "Spatial.h"
#include "bmgrad/Dialect/BM/Control.h"
#include "bmgrad/Dialect/BM/Elementwise.h"
#include "bmgrad/Dialect/BM/Indexing.h"
#include "bmgrad/Dialect/BM/Shape.h"

using namespace mlir;
using namespace bmgrad;
using namespace bmgrad::bm;

#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Folding.cpp.inc"

void bmgrad::bm::addFoldingOps(BMDialect &dialect) {
  dialect.addFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/Folding.cpp.inc"
      >();
}

using Values = SmallVector<Value>;

//===----------------------------------------------------------------------===//
// Verifiers
//===----------------------------------------------------------------------===//

/// Checks operands, results of this shape and the region.
template <typename OpTy>
static LogicalResult verifyFolding(OpTy op, ArrayRef<int64_t> shape) {
  size_t count = op.getXs().size();
  if (count == 0 || op.getNumResults() != count)
    return op.emitOpError("has ")
           << count << " arrays and " << op.getNumResults()
           << " results: there must be as many, and at least one";
  SmallVector<Type> scalars;
  RankedTensorType first = tensorType(op.getXs().front());
  for (auto [x, init, result] :
       llvm::zip_equal(op.getXs(), op.getInits(), op.getResults())) {
    RankedTensorType type = tensorType(x);
    scalars.push_back(type.clone(ArrayRef<int64_t>()));
    if (type.getShape() != first.getShape())
      return op.emitOpError("arrays must have one shape, but there are ")
             << first << " and " << type;
    if (init.getType() != scalars.back())
      return op.emitOpError("initial value for ")
             << type << " must be a scalar of its type, but is "
             << init.getType();
    if (result.getType() != type.clone(shape))
      return op.emitOpError("result for ")
             << type << " must have shape [" << shape << "], but is "
             << result.getType();
  }
  Block &block = op.getBlock();
  auto yield = block.empty() ? YieldOp() : dyn_cast<YieldOp>(block.back());
  if (!yield || !llvm::equal(yield.getOperandTypes(), scalars))
    return op.emitOpError("region must yield a scalar for each array");
  llvm::append_range(scalars, SmallVector<Type>(scalars));
  if (!llvm::equal(block.getArgumentTypes(), scalars))
    return op.emitOpError("region must take two scalars for each array: those "
                          "of all, then others of all");
  return success();
}

LogicalResult ReduceOp::verifyRegions() {
  if (getXs().empty())
    return verifyFolding(*this, {});
  RankedTensorType type = tensorType(getXs().front());
  if (failed(verifyDims(getLoc(), "'bm.reduce' op axes", getAxes(),
                        type.getRank())))
    return failure();
  return verifyFolding(
      *this,
      llvm::map_to_vector(otherDims(type.getRank(), getAxes()),
                          [&](int64_t dim) { return type.getDimSize(dim); }));
}

LogicalResult ReduceWindowOp::verifyRegions() {
  if (getXs().empty())
    return verifyFolding(*this, {});
  RankedTensorType base = tensorType(getXs().front());
  if (failed(Sliding::of(*this).verify(getOperation(), base,
                                       tensorType(getResult(0)))))
    return failure();
  return verifyFolding(*this, tensorType(getResult(0)).getShape());
}

//===----------------------------------------------------------------------===//
// Written out
//===----------------------------------------------------------------------===//

namespace {
/// Joins arrays, element by element, by the region of an op.
struct ArrayJoiner {
  ImplicitLocOpBuilder &b;
  Block &body;
  /// Whether the last of the arrays says where elements are padding, which is
  /// joined with nothing.
  bool masked = false;

  FailureOr<Values> operator()(const Values &left, const Values &right) const {
    return masked ? joinMasked(left, right) : joinAll(left, right);
  }

  Value reshaped(Value x, ArrayRef<int64_t> shape) const {
    return b.createOrFold<ReshapeOp>(tensorType(x).clone(shape), x);
  }

private:
  FailureOr<Values> joinMasked(Values left, Values right) const {
    Value padsLeft = left.pop_back_val(), padsRight = right.pop_back_val();
    FailureOr<Values> joined = joinAll(left, right);
    if (failed(joined))
      return failure();
    for (auto [x, l, r] : llvm::zip_equal(*joined, left, right)) {
      x = SelectOp::create(b, x.getType(), padsLeft, r, x);
      x = SelectOp::create(b, x.getType(), padsRight, l, x);
    }
    joined->push_back(
        AndOp::create(b, padsLeft.getType(), padsLeft, padsRight));
    return joined;
  }

  FailureOr<Values> joinAll(const Values &left, const Values &right) const {
    int64_t count = tensorType(left.front()).getNumElements();
    IRMapping mapping;
    DenseSet<Value> batched;
    Values operands(left);
    llvm::append_range(operands, right);
    for (auto [argument, value] :
         llvm::zip_equal(body.getArguments(), operands)) {
      mapping.map(argument, reshaped(value, {count}));
      batched.insert(argument);
    }
    if (failed(batchBlock(b, body, {count}, mapping, batched)))
      return failure();
    Values results;
    for (auto [value, like] :
         llvm::zip_equal(body.getTerminator()->getOperands(), left)) {
      Value result = mapping.lookup(value);
      if (!batched.contains(value))
        result = broadcastBatch(b, result, count);
      results.push_back(reshaped(result, tensorType(like).getShape()));
    }
    return results;
  }
};
} // namespace

/// `count` elements along the leading dimension, `stride` apart.
static Values takeLeading(ImplicitLocOpBuilder &b, const Values &xs,
                          int64_t start, int64_t count, int64_t stride = 1) {
  return llvm::map_to_vector(xs, [&](Value x) {
    RankedTensorType type = tensorType(x);
    SmallVector<int64_t> starts(type.getRank(), 0), limits(type.getShape()),
        strides(type.getRank(), 1), shape(type.getShape());
    starts[0] = start;
    limits[0] = start + (count - 1) * stride + 1;
    strides[0] = stride;
    shape[0] = count;
    return b.createOrFold<SliceOp>(type.clone(shape), x, starts, limits,
                                   strides);
  });
}

/// Joins all that lies along the leading dimension, pair by pair: neighbours,
/// which keeps the order, or the first half with the second.
static FailureOr<Values> joinLeading(const ArrayJoiner &join, Values xs,
                                     bool neighbours) {
  ImplicitLocOpBuilder &b = join.b;
  while (int64_t pairs = tensorType(xs.front()).getDimSize(0) / 2) {
    int64_t rest = tensorType(xs.front()).getDimSize(0) % 2;
    FailureOr<Values> joined =
        neighbours ? join(takeLeading(b, xs, 0, pairs, 2),
                          takeLeading(b, xs, 1, pairs, 2))
                   : join(takeLeading(b, xs, 0, pairs),
                          takeLeading(b, xs, pairs + rest, pairs));
    if (failed(joined))
      return failure();
    if (rest) {
      Values last = takeLeading(b, xs, neighbours ? 2 * pairs : pairs, 1);
      for (auto [x, end] : llvm::zip_equal(*joined, last))
        x = ConcatenateOp::create(b, ValueRange{x, end}, 0);
    }
    xs = *joined;
  }
  return llvm::map_to_vector(xs, [&](Value x) {
    return join.reshaped(x, tensorType(x).getShape().drop_front());
  });
}

static Values spreadTo(ImplicitLocOpBuilder &b, ValueRange scalars,
                       ArrayRef<int64_t> shape) {
  return llvm::map_to_vector(scalars, [&](Value x) {
    return b.createOrFold<BroadcastInDimOp>(tensorType(x).clone(shape), x,
                                            b.getDenseI64ArrayAttr({}));
  });
}

/// JAX's derivative joins halves; the value is joined with the initial one as
/// well, which need not leave it alone.
static FailureOr<Values> writeOut(ImplicitLocOpBuilder &b, ReduceOp op,
                                  ValueRange xs, ValueRange inits) {
  RankedTensorType from = tensorType(xs.front());
  ArrayRef<int64_t> shape = tensorType(op.getResult(0)).getShape();
  Values results = spreadTo(b, inits, shape);
  if (from.getNumElements() == 0)
    return results;
  SmallVector<int64_t> order(op.getAxes());
  llvm::append_range(order, otherDims(from.getRank(), op.getAxes()));
  int64_t count =
      from.getNumElements() / tensorType(op.getResult(0)).getNumElements();
  ArrayJoiner join{b, op.getBlock()};
  Values leading = llvm::map_to_vector(xs, [&](Value x) {
    return join.reshaped(b.createOrFold<TransposeOp>(x, order),
                         prepended(count, shape));
  });
  FailureOr<Values> joined = joinLeading(join, leading, /*neighbours=*/false);
  if (failed(joined))
    return failure();
  return join(results, *joined);
}

/// `x` as windows over it ask, with `padding` around and between its elements.
static Value pad(ImplicitLocOpBuilder &b, const Spatial &space, Value x,
                 Value padding) {
  SmallVector<int64_t> between;
  for (int64_t dilation : space.baseDilation)
    between.push_back(dilation - 1);
  return b.createOrFold<PadOp>(x, padding, space.low, space.high, between);
}

/// Where `x`, padded, is padding; null if nowhere.
static Value findPadding(ImplicitLocOpBuilder &b, const Spatial &space,
                         Value x) {
  auto isPositive = [](int64_t width) { return width > 0; };
  auto isDilated = [](int64_t dilation) { return dilation > 1; };
  if (llvm::none_of(space.low, isPositive) &&
      llvm::none_of(space.high, isPositive) &&
      llvm::none_of(space.baseDilation, isDilated))
    return {};
  RankedTensorType type = tensorType(x).clone(b.getI1Type());
  return pad(b, space, makeConstant(b, type, 0),
             makeConstant(b, type.clone(ArrayRef<int64_t>{}), 1));
}

/// The elements at one place of all windows, place by place.
static SmallVector<Values> windowElements(ImplicitLocOpBuilder &b,
                                          const Sliding &by, const Values &xs,
                                          ArrayRef<int64_t> shape) {
  SmallVector<Values> elements;
  SmallVector<int64_t> place(shape.size(), 0);
  auto advance = [&] {
    for (int64_t dim = shape.size() - 1; dim >= 0; --dim) {
      if (++place[dim] < by.window[dim])
        return true;
      place[dim] = 0;
    }
    return false;
  };
  do {
    SmallVector<int64_t> starts, limits;
    for (auto [dim, count] : llvm::enumerate(shape)) {
      starts.push_back(place[dim] * by.space.windowDilation[dim]);
      limits.push_back(starts.back() + (count - 1) * by.space.strides[dim] + 1);
    }
    elements.push_back(llvm::map_to_vector(xs, [&](Value x) {
      return b.createOrFold<SliceOp>(tensorType(x).clone(shape), x, starts,
                                     limits, by.space.strides);
    }));
  } while (advance());
  return elements;
}

static FailureOr<Values> writeOut(ImplicitLocOpBuilder &b, ReduceWindowOp op,
                                  ValueRange xs, ValueRange inits) {
  ArrayRef<int64_t> shape = tensorType(op.getResult(0)).getShape();
  Values results = spreadTo(b, inits, shape);
  if (llvm::is_contained(shape, 0))
    return results;
  Sliding by = Sliding::of(op);
  Values padded;
  for (auto [x, init] : llvm::zip_equal(xs, inits))
    padded.push_back(pad(b, by.space, x, init));
  ArrayJoiner join{b, op.getBlock()};
  if (Value padding = findPadding(b, by.space, xs.front())) {
    join.masked = true;
    padded.push_back(padding);
    results.push_back(makeConstant(b, tensorType(padding).clone(shape), 0));
  }
  SmallVector<Values> elements = windowElements(b, by, padded, shape);
  // One after the other is what a backend does; in pairs where that would make
  // a long program.
  constexpr size_t few = 16;
  if (elements.size() <= few) {
    FailureOr<Values> joined = results;
    for (const Values &element : elements) {
      joined = join(*joined, element);
      if (failed(joined))
        return failure();
    }
    joined->truncate(xs.size());
    return joined;
  }
  Values stacks;
  for (size_t index = 0; index < padded.size(); ++index)
    stacks.push_back(ConcatenateOp::create(
        b,
        llvm::map_to_vector(elements,
                            [&](const Values &element) {
                              return join.reshaped(element[index],
                                                   prepended(1, shape));
                            }),
        0));
  FailureOr<Values> joined = joinLeading(join, stacks, /*neighbours=*/true);
  if (succeeded(joined))
    joined = join(results, *joined);
  if (succeeded(joined))
    joined->truncate(xs.size());
  return joined;
}

namespace {
/// An op written out in a block of its own, whose arguments are its operands.
struct WrittenOut {
  /// Of the op, though none of its own: symbols are looked up from inside.
  Region region;

  explicit WrittenOut(Operation *op) : region(op) {}

  Block &block() { return region.front(); }
  OperandRange results() { return block().getTerminator()->getOperands(); }

  template <typename OpTy> LogicalResult fill(OpTy op) {
    Block &block = region.emplaceBlock();
    for (Value operand : op->getOperands())
      block.addArgument(operand.getType(), operand.getLoc());
    ImplicitLocOpBuilder b(op.getLoc(), op.getContext());
    b.setInsertionPointToEnd(&block);
    size_t count = op.getXs().size();
    auto arguments = ValueRange(block.getArguments());
    FailureOr<Values> results = writeOut(b, op, arguments.take_front(count),
                                         arguments.drop_front(count));
    if (failed(results))
      return failure();
    YieldOp::create(b, *results);
    return success();
  }
};
} // namespace

//===----------------------------------------------------------------------===//
// Derivative and batching
//===----------------------------------------------------------------------===//

template <typename OpTy>
static LogicalResult jvpFolding(OpTy op, JvpFrame &frame) {
  WrittenOut made(op);
  if (failed(made.fill(op)))
    return failure();
  IRMapping mapping;
  DenseMap<Value, Value> tangents;
  for (auto [argument, primal, tangent] : llvm::zip_equal(
           made.block().getArguments(), frame.primals, frame.tangents)) {
    mapping.map(argument, primal);
    if (tangent)
      tangents[argument] = tangent;
  }
  if (failed(jvpBlock(frame.b, made.block(), mapping, tangents)))
    return failure();
  for (Value result : made.results()) {
    frame.results.push_back(mapping.lookup(result));
    frame.resultTangents.push_back(tangents.lookup(result));
  }
  return success();
}

template <typename OpTy>
static LogicalResult batchWrittenOut(OpTy op, BatchFrame &frame) {
  WrittenOut made(op);
  if (failed(made.fill(op)))
    return failure();
  IRMapping mapping;
  DenseSet<Value> batched;
  for (auto [argument, operand, flag] : llvm::zip_equal(
           made.block().getArguments(), frame.operands, frame.batched)) {
    mapping.map(argument, operand);
    if (flag)
      batched.insert(argument);
  }
  if (failed(batchBlock(frame.b, made.block(), frame.axis, mapping, batched)))
    return failure();
  for (Value result : made.results()) {
    frame.results.push_back(mapping.lookup(result));
    frame.resultBatched.push_back(batched.contains(result));
  }
  return success();
}

/// Arrays with a batch dimension are joined as before, beside it; initial
/// values are scalars and have no place for one.
template <typename OpTy, typename CreateFn>
static LogicalResult batchFolding(OpTy op, BatchFrame &frame, CreateFn create) {
  size_t count = op.getXs().size();
  if (llvm::is_contained(frame.batched.drop_front(count), true))
    return batchWrittenOut(op, frame);
  Values xs;
  SmallVector<Type> types;
  for (size_t index = 0; index < count; ++index) {
    xs.push_back(frame.getBatched(index));
    types.push_back(batchedType(op.getResult(index).getType(), frame.size));
  }
  OpTy made = create(TypeRange(types), xs, frame.operands.drop_front(count));
  IRMapping mapping;
  op.getBody().cloneInto(&made.getBody(), mapping);
  llvm::append_range(frame.results, made.getResults());
  return success();
}

LogicalResult ReduceOp::emitJvp(JvpFrame &frame) {
  return jvpFolding(*this, frame);
}

LogicalResult ReduceWindowOp::emitJvp(JvpFrame &frame) {
  return jvpFolding(*this, frame);
}

LogicalResult ReduceOp::emitBatch(BatchFrame &frame) {
  return batchFolding(*this, frame,
                      [&](TypeRange types, ValueRange xs, ValueRange inits) {
                        return ReduceOp::create(frame.b, types, xs, inits,
                                                shiftedDims(getAxes()));
                      });
}

LogicalResult ReduceWindowOp::emitBatch(BatchFrame &frame) {
  Sliding by = Sliding::of(*this).batched();
  return batchFolding(
      *this, frame, [&](TypeRange types, ValueRange xs, ValueRange inits) {
        return ReduceWindowOp::create(frame.b, types, xs, inits, by.window,
                                      by.space.strides, by.space.low,
                                      by.space.high, by.space.baseDilation,
                                      by.space.windowDilation);
      });
}

//===----------------------------------------------------------------------===//
// Lowering
//===----------------------------------------------------------------------===//

/// The op `name`, which takes the region over.
template <typename OpTy>
static LogicalResult lowerFolding(OpTy op, StringRef name,
                                  ArrayRef<NamedAttribute> attributes,
                                  LoweringFrame &frame) {
  Operation *lowered =
      bm::detail::createForeign(frame.b, name, op.getResultTypes(),
                                op.getOperands(), attributes, /*regions=*/1);
  Operation *yield = op.getBlock().getTerminator();
  ImplicitLocOpBuilder end(op.getLoc(), yield);
  bm::detail::createForeign(end, "stablehlo.return", {}, yield->getOperands());
  yield->erase();
  lowered->getRegion(0).takeBody(op.getBody());
  llvm::append_range(frame.results, lowered->getResults());
  return success();
}

LogicalResult ReduceOp::emitLowering(LoweringFrame &frame) {
  return lowerFolding(
      *this, "stablehlo.reduce",
      frame.b.getNamedAttr("dimensions",
                           frame.b.getDenseI64ArrayAttr(getAxes())),
      frame);
}

LogicalResult ReduceWindowOp::emitLowering(LoweringFrame &frame) {
  return lowerFolding(*this, "stablehlo.reduce_window",
                      Sliding::of(*this).attributes(frame.b), frame);
}
