//===- ControlLowering.cpp - Ops with regions in StableHLO ----------------===//
//
// A scan becomes a counted while: slices of xs are read at the counter, stacked
// results written at it in place. Regions hold StableHLO already when they come
// here; bm ops that are emitted here are lowered next, also inside the new
// regions.
//
//===----------------------------------------------------------------------===//

#include "ControlUtils.h"
#include "bmgrad/Dialect/BM/Control.h"
#include "bmgrad/Dialect/BM/Elementwise.h"
#include "bmgrad/Dialect/BM/Indexing.h"
#include "bmgrad/Dialect/BM/Residuals.h"
#include "bmgrad/Dialect/BM/Shape.h"

using namespace mlir;
using namespace bmgrad::bm;
using namespace bmgrad::bm::control;

static void createReturn(ImplicitLocOpBuilder &b, ValueRange values) {
  bmgrad::bm::detail::createForeign(b, "stablehlo.return", {}, values);
}

static Value makeCounter(ImplicitLocOpBuilder &b, int64_t value) {
  auto type = RankedTensorType::get({}, b.getI32Type());
  return ConstantOp::create(
      b, type, DenseElementsAttr::get(type, b.getI32IntegerAttr(value)));
}

/// A stablehlo.while over `state`, with blocks for its condition and its body.
static Operation *createWhile(ImplicitLocOpBuilder &b, ValueRange state) {
  Operation *loop = bmgrad::bm::detail::createForeign(
      b, "stablehlo.while", state.getTypes(), state, {}, 2);
  for (Region &region : loop->getRegions()) {
    Block &block = region.emplaceBlock();
    for (Value value : state)
      addArgument(block, value);
  }
  return loop;
}

//===----------------------------------------------------------------------===//
// Scan
//===----------------------------------------------------------------------===//

static Value reshapeTo(ImplicitLocOpBuilder &b, Value value, Type type) {
  return bmgrad::bm::detail::createForeign(b, "stablehlo.reshape", type, value)
      ->getResult(0);
}

namespace {
/// Where slices of arrays begin, along the leading axis and the others.
struct Start {
  Value at, zero;

  explicit operator bool() const { return bool(at); }
  SmallVector<Value> indices(int64_t rank) const {
    SmallVector<Value> indices(rank, zero);
    indices.front() = at;
    return indices;
  }
};
} // namespace

/// `count` slices of an array, those from `start` on; all without it.
static Value readSlices(ImplicitLocOpBuilder &b, Value array, Start start,
                        int64_t count) {
  if (!start)
    return array;
  RankedTensorType type = tensorType(array);
  SmallVector<int64_t> sizes(type.getShape());
  sizes.front() = count;
  SmallVector<Value> operands{array};
  llvm::append_range(operands, start.indices(type.getRank()));
  return bmgrad::bm::detail::createForeign(
             b, "stablehlo.dynamic_slice", type.clone(sizes), operands,
             b.getNamedAttr("slice_sizes", b.getDenseI64ArrayAttr(sizes)))
      ->getResult(0);
}

/// The slice of number `index`, without its leading axis.
static Value pickSlice(ImplicitLocOpBuilder &b, Value slices, int64_t index) {
  RankedTensorType type = tensorType(slices);
  Value slice = slices;
  if (type.getDimSize(0) != 1) {
    SmallVector<int64_t> starts(type.getRank(), 0), limits(type.getShape()),
        strides(type.getRank(), 1);
    starts.front() = index;
    limits.front() = index + 1;
    slice = SliceOp::create(b, stackedType(sliceType(type), 1), slices, starts,
                            limits, strides);
  }
  return reshapeTo(b, slice, sliceType(type));
}

/// Writes `slices`, which have no leading axis, to an array from `start` on;
/// without it they are all that it has.
static Value writeSlices(ImplicitLocOpBuilder &b, Value array,
                         ArrayRef<Value> slices, Start start) {
  SmallVector<Value> parts;
  for (Value slice : slices)
    parts.push_back(reshapeTo(b, slice, stackedType(slice.getType(), 1)));
  Value part = parts.front();
  if (parts.size() > 1)
    part = ConcatenateOp::create(
        b, stackedType(slices.front().getType(), parts.size()), parts, 0);
  if (!start)
    return part;
  RankedTensorType type = tensorType(array);
  SmallVector<Value> operands{array, part};
  llvm::append_range(operands, start.indices(type.getRank()));
  return bmgrad::bm::detail::createForeign(b, "stablehlo.dynamic_update_slice",
                                           type, operands)
      ->getResult(0);
}

namespace {
/// Where a scan is: what its steps read and change.
struct ScanState {
  SmallVector<Value> consts, xs, carries, stacks;
};
} // namespace

/// Makes `count` steps of a scan, those whose slices are at `at` and after it;
/// all without `at`.
static void emitSteps(ImplicitLocOpBuilder &b, ScanOp op, ScanState &state,
                      Value at, int64_t count) {
  Start start;
  if (at)
    start = {at, makeCounter(b, 0)};
  SmallVector<Value> slices;
  for (Value x : state.xs)
    slices.push_back(readSlices(b, x, start, count));
  SmallVector<SmallVector<Value>> ys(state.stacks.size(),
                                     SmallVector<Value>(count));
  for (int64_t step = 0; step < count; ++step) {
    int64_t index = op.getReverse() ? count - 1 - step : step;
    SmallVector<Value> arguments(state.consts);
    llvm::append_range(arguments, state.carries);
    for (Value x : slices)
      arguments.push_back(pickSlice(b, x, index));
    IRMapping mapping;
    mapping.map(op.getBlock().getArguments(), arguments);
    for (Operation &inner : op.getBlock().without_terminator())
      b.clone(inner, mapping);
    auto valueOf = [&](Value value) { return mapping.lookupOrDefault(value); };
    state.carries = llvm::map_to_vector(op.getYieldedCarries(), valueOf);
    for (auto [stacked, value] : llvm::zip_equal(ys, op.getYieldedYs()))
      stacked[index] = valueOf(value);
  }
  for (auto [stack, stacked] : llvm::zip_equal(state.stacks, ys))
    stack = writeSlices(b, stack, stacked, start);
}

LogicalResult ScanOp::emitLowering(LoweringFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  int64_t length = getLength(), unroll = getUnroll();
  ScanState state;
  state.consts = getConsts();
  state.xs = getXs();
  state.carries = getInits();

  // Where one turn would do there is no loop.
  if (length && length <= unroll) {
    state.stacks.resize(getNumYs());
    emitSteps(b, *this, state, /*at=*/{}, length);
    frame.results.append(state.carries);
    frame.results.append(state.stacks);
    return success();
  }
  for (Value y : getYs())
    state.stacks.push_back(makeZero(b, y.getType()));
  int64_t left = length % unroll;
  if (int64_t inLoop = length - left) {
    // The state of the loop: counter, constants, xs, carries, stacked results.
    SmallVector<Value> inits{makeCounter(b, 0)};
    for (ArrayRef<Value> values :
         {state.consts, state.xs, state.carries, state.stacks})
      llvm::append_range(inits, values);
    Operation *loop = createWhile(b, inits);
    Block &cond = loop->getRegion(0).front(),
          &body = loop->getRegion(1).front();

    auto condBuilder = builderAt(getLoc(), cond);
    Value more =
        CompareOp::create(condBuilder, RankedTensorType::get({}, b.getI1Type()),
                          cond.getArgument(0), makeCounter(condBuilder, inLoop),
                          CompareDirection::LT);
    createReturn(condBuilder, more);

    auto bodyBuilder = builderAt(getLoc(), body);
    Value counter = body.getArgument(0);
    auto take = [values = ValueRange(body.getArguments()).drop_front()](
                    SmallVector<Value> &group) mutable {
      SmallVector<Value> taken = values.take_front(group.size());
      values = values.drop_front(group.size());
      return taken;
    };
    ScanState inside;
    inside.consts = take(state.consts);
    inside.xs = take(state.xs);
    inside.carries = take(state.carries);
    inside.stacks = take(state.stacks);
    SmallVector<Value> next{
        AddOp::create(bodyBuilder, counter, makeCounter(bodyBuilder, unroll))};
    Value at = counter;
    if (getReverse())
      at = SubOp::create(bodyBuilder, makeCounter(bodyBuilder, length - unroll),
                         counter);
    emitSteps(bodyBuilder, *this, inside, at, unroll);
    for (ArrayRef<Value> values :
         {inside.consts, inside.xs, inside.carries, inside.stacks})
      llvm::append_range(next, values);
    createReturn(bodyBuilder, next);
    auto results = loop->getResults().take_back(getNumResults());
    state.carries = results.take_front(getNumCarries());
    state.stacks = results.drop_front(getNumCarries());
  }
  if (left)
    emitSteps(b, *this, state, makeCounter(b, getReverse() ? 0 : length - left),
              left);
  frame.results.append(state.carries);
  frame.results.append(state.stacks);
  return success();
}

//===----------------------------------------------------------------------===//
// While, cond and remat
//===----------------------------------------------------------------------===//

LogicalResult WhileOp::emitLowering(LoweringFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  // The state: the operands, constants passed on as they are.
  Operation *loop = createWhile(b, getOperands());
  Block &cond = loop->getRegion(0).front(), &body = loop->getRegion(1).front();
  unsigned numCondConsts = getCondConsts().size(), numCarries = getNumCarries();
  auto condArgs = cond.getArguments();
  SmallVector<Value> values(condArgs.begin(), condArgs.begin() + numCondConsts);
  llvm::append_range(values, condArgs.take_back(numCarries));
  auto condBuilder = builderAt(getLoc(), cond);
  SmallVector<Value> predicate =
      inlineBlock(getCondBlock(), cond, cond.end(), values);
  createReturn(condBuilder, predicate);

  auto bodyArgs = body.getArguments();
  auto bodyBuilder = builderAt(getLoc(), body);
  values.assign(bodyArgs.begin() + numCondConsts, bodyArgs.end());
  SmallVector<Value> carries =
      inlineBlock(getBodyBlock(), body, body.end(), values);
  SmallVector<Value> next(bodyArgs.begin(), bodyArgs.end() - numCarries);
  llvm::append_range(next, carries);
  createReturn(bodyBuilder, next);
  llvm::append_range(frame.results, loop->getResults().take_back(numCarries));
  return success();
}

LogicalResult CondOp::emitLowering(LoweringFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  unsigned numBranches = getBranches().size();
  if (numBranches == 1) {
    frame.results = inlineBlock(getBranchBlock(0), *(*this)->getBlock(),
                                (*this)->getIterator(), getInputs());
    return success();
  }
  // XLA takes the last branch for every index out of bounds, also a negative
  // one.
  Value index = ClampOp::create(b, getIndex().getType(), makeCounter(b, 0),
                                getIndex(), makeCounter(b, numBranches - 1));
  Operation *choice = bmgrad::bm::detail::createForeign(
      b, "stablehlo.case", getResultTypes(), index, {}, numBranches);
  for (unsigned branch = 0; branch < numBranches; ++branch) {
    Block &block = choice->getRegion(branch).emplaceBlock();
    SmallVector<Value> yielded =
        inlineBlock(getBranchBlock(branch), block, block.end(), getInputs());
    auto end = builderAt(getLoc(), block);
    createReturn(end, yielded);
  }
  llvm::append_range(frame.results, choice->getResults());
  return success();
}

LogicalResult RematOp::emitLowering(LoweringFrame &frame) {
  SmallVector<Value> inputs(getInputs());
  if (getDifferentiated() && getPreventCse() && !inputs.empty()) {
    auto barrier = OptimizationBarrierOp::create(
        frame.b, getInputs().getTypes(), getInputs());
    inputs.assign(barrier.result_begin(), barrier.result_end());
  }
  frame.results = inlineBlock(getBlock(), *(*this)->getBlock(),
                              (*this)->getIterator(), inputs);
  return success();
}
