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
#include "bmgrad/Dialect/BM/Residuals.h"

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

/// Start indices of the slice at `counter` of an array of this rank.
static SmallVector<Value> startIndices(Value counter, Value zero,
                                       int64_t rank) {
  SmallVector<Value> indices(rank, zero);
  indices.front() = counter;
  return indices;
}

static Value readSlice(ImplicitLocOpBuilder &b, Value array, Value counter,
                       Value zero) {
  RankedTensorType type = tensorType(array);
  SmallVector<int64_t> sizes(type.getShape());
  sizes.front() = 1;
  SmallVector<Value> operands{array};
  llvm::append_range(operands, startIndices(counter, zero, type.getRank()));
  Value slice =
      bmgrad::bm::detail::createForeign(
          b, "stablehlo.dynamic_slice", type.clone(sizes), operands,
          b.getNamedAttr("slice_sizes", b.getDenseI64ArrayAttr(sizes)))
          ->getResult(0);
  return reshapeTo(b, slice, sliceType(type));
}

static Value writeSlice(ImplicitLocOpBuilder &b, Value array, Value slice,
                        Value counter, Value zero) {
  RankedTensorType type = tensorType(array);
  Value part = reshapeTo(b, slice, stackedType(slice.getType(), 1));
  SmallVector<Value> operands{array, part};
  llvm::append_range(operands, startIndices(counter, zero, type.getRank()));
  return bmgrad::bm::detail::createForeign(b, "stablehlo.dynamic_update_slice",
                                           type, operands)
      ->getResult(0);
}

/// A loop of one step is its body.
static void lowerSingleStep(ScanOp op, LoweringFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  SmallVector<Value> arguments(op.getConsts());
  llvm::append_range(arguments, op.getInits());
  for (auto [x, argument] : llvm::zip_equal(op.getXs(), op.getXArgs()))
    arguments.push_back(reshapeTo(b, x, argument.getType()));
  unsigned numCarries = op.getNumCarries();
  frame.results =
      inlineBlock(op.getBlock(), *op->getBlock(), op->getIterator(), arguments);
  for (auto [y, stacked] : llvm::zip_equal(
           MutableArrayRef(frame.results).drop_front(numCarries), op.getYs()))
    y = reshapeTo(b, y, stacked.getType());
}

LogicalResult ScanOp::emitLowering(LoweringFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  int64_t length = getLength();
  if (length == 1) {
    lowerSingleStep(*this, frame);
    return success();
  }
  SmallVector<Value> ys;
  for (Value y : getYs())
    ys.push_back(makeZero(b, y.getType()));
  if (length == 0) {
    llvm::append_range(frame.results, getInits());
    llvm::append_range(frame.results, ys);
    return success();
  }

  // The state: counter, constants, xs, carries, stacked results.
  SmallVector<Value> state{makeCounter(b, 0)};
  llvm::append_range(state, getConsts());
  llvm::append_range(state, getXs());
  llvm::append_range(state, getInits());
  llvm::append_range(state, ys);
  Operation *loop = createWhile(b, state);
  Block &cond = loop->getRegion(0).front(), &body = loop->getRegion(1).front();

  auto condBuilder = builderAt(getLoc(), cond);
  Value counter = cond.getArgument(0);
  Value more = CompareOp::create(
      condBuilder, RankedTensorType::get({}, b.getI1Type()), counter,
      makeCounter(condBuilder, length), CompareDirection::LT);
  createReturn(condBuilder, more);

  auto bodyBuilder = builderAt(getLoc(), body);
  counter = body.getArgument(0);
  auto arguments = body.getArguments().drop_front();
  auto consts = arguments.take_front(getNumConsts());
  auto xs = arguments.slice(getNumConsts(), getXs().size());
  auto carries =
      arguments.slice(getNumConsts() + getXs().size(), getNumCarries());
  auto stacks = arguments.take_back(getNumYs());
  Value zero = makeCounter(bodyBuilder, 0);
  Value at = counter;
  if (getReverse())
    at = SubOp::create(bodyBuilder, makeCounter(bodyBuilder, length - 1),
                       counter);
  SmallVector<Value> values(consts.begin(), consts.end());
  llvm::append_range(values, carries);
  for (Value x : xs)
    values.push_back(readSlice(bodyBuilder, x, at, zero));
  SmallVector<Value> yielded =
      inlineBlock(getBlock(), body, body.end(), values);
  bodyBuilder.setInsertionPointToEnd(&body);
  SmallVector<Value> next{
      AddOp::create(bodyBuilder, counter, makeCounter(bodyBuilder, 1))};
  llvm::append_range(next, consts);
  llvm::append_range(next, xs);
  llvm::append_range(next, ArrayRef(yielded).take_front(carries.size()));
  for (auto [stack, y] :
       llvm::zip_equal(stacks, ArrayRef(yielded).drop_front(carries.size())))
    next.push_back(writeSlice(bodyBuilder, stack, y, at, zero));
  createReturn(bodyBuilder, next);
  llvm::append_range(frame.results,
                     loop->getResults().take_back(getNumResults()));
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
