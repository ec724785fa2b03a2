//===- Scan.cpp - Derivatives and batching of bm.scan ---------------------===//
//
// Marks (which carries have tangents, are linear, are batched) are found as a
// fixpoint before any IR is made; each rule then makes its loop in one go.
//
//===----------------------------------------------------------------------===//

#include "ControlUtils.h"
#include "bmgrad/Dialect/BM/Control.h"
#include "bmgrad/Dialect/BM/Shape.h"

using namespace mlir;
using namespace bmgrad::bm;
using namespace bmgrad::bm::control;

namespace {
/// A scan being made: its operands, its body and what that will yield.
struct NewScan {
  Region region;
  SmallVector<Value> consts, inits, xs, carries, ys;

  NewScan() { region.emplaceBlock(); }
  Block &block() { return region.front(); }
  ImplicitLocOpBuilder bodyBuilder(Location loc) {
    return builderAt(loc, block());
  }

  /// A loop like `like`, but for the direction.
  ScanOp create(ImplicitLocOpBuilder &b, ScanOp like, bool reverse) {
    SmallVector<Value> yielded(carries);
    llvm::append_range(yielded, ys);
    ImplicitLocOpBuilder inner = bodyBuilder(b.getLoc());
    YieldOp::create(inner, yielded);
    SmallVector<Type> types;
    for (Value carry : carries)
      types.push_back(carry.getType());
    for (Value y : ys)
      types.push_back(stackedType(y.getType(), like.getLength()));
    auto scan = ScanOp::create(b, types, consts, inits, xs, like.getLength(),
                               reverse, like.getUnroll());
    scan.getBody().takeBody(region);
    return scan;
  }
};
} // namespace

static LoopMarks markScan(ScanOp op, ArrayRef<bool> operands, BlockFlow flow) {
  return markLoop(op.getBlock(), operands, op.getNumConsts(),
                  op.getNumCarries(), flow);
}

SmallVector<bool> ScanOp::flowResults(ArrayRef<bool> marked, BlockFlow flow) {
  return markScan(*this, marked, flow).yields;
}

//===----------------------------------------------------------------------===//
// Forward
//===----------------------------------------------------------------------===//

LogicalResult ScanOp::emitJvp(JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  SmallVector<bool> active =
      markScan(*this, nonNull(frame.tangents), activeResults).arguments;

  NewScan scan;
  IRMapping mapping;
  DenseMap<Value, Value> tangents;
  auto addGroup = [&](Block::BlockArgListType arguments,
                      SmallVector<Value> &operands) {
    for (BlockArgument argument : arguments) {
      mapping.map(argument, addArgument(scan.block(), argument));
      operands.push_back(frame.primals[argument.getArgNumber()]);
    }
    for (BlockArgument argument : arguments) {
      unsigned index = argument.getArgNumber();
      if (!active[index])
        continue;
      tangents[argument] = addArgument(scan.block(), argument);
      operands.push_back(materialize(b, frame.tangents[index],
                                     frame.primals[index].getType()));
    }
  };
  addGroup(getConstArgs(), scan.consts);
  addGroup(getCarryArgs(), scan.inits);
  addGroup(getXArgs(), scan.xs);

  ImplicitLocOpBuilder inner = scan.bodyBuilder(getLoc());
  if (failed(jvpBlock(inner, getBlock(), mapping, tangents)))
    return failure();
  auto primalOf = [&](Value value) { return mapping.lookup(value); };
  scan.carries = llvm::map_to_vector(getYieldedCarries(), primalOf);
  scan.ys = llvm::map_to_vector(getYieldedYs(), primalOf);
  inner.setLoc(getLoc());
  // Where the tangent of each result is found among the results.
  SmallVector<std::optional<unsigned>> places(getNumResults());
  for (auto [index, value, argument] :
       llvm::enumerate(getYieldedCarries(), getCarryArgs()))
    if (active[argument.getArgNumber()]) {
      places[index] = scan.carries.size();
      scan.carries.push_back(
          materialize(inner, tangents.lookup(value), value.getType()));
    }
  for (auto [index, value] : llvm::enumerate(getYieldedYs()))
    if (Value tangent = tangents.lookup(value)) {
      places[getNumCarries() + index] = scan.carries.size() + scan.ys.size();
      scan.ys.push_back(tangent);
    }
  unsigned numCarries = scan.carries.size();
  ScanOp made = scan.create(b, *this, getReverse());

  llvm::append_range(frame.results,
                     made.getResults().take_front(getNumCarries()));
  llvm::append_range(frame.results,
                     made.getResults().slice(numCarries, getNumYs()));
  for (std::optional<unsigned> place : places)
    frame.resultTangents.push_back(place ? made.getResult(*place) : Value());
  return success();
}

//===----------------------------------------------------------------------===//
// Splitting
//===----------------------------------------------------------------------===//

/// The values of the body that are the same in each step: they depend on marked
/// (primal) constants only.
static DenseSet<Value> findInvariants(ScanOp op,
                                      const DenseSet<Value> &linear) {
  DenseSet<Value> invariants;
  for (BlockArgument argument : op.getConstArgs())
    if (!linear.contains(argument))
      invariants.insert(argument);
  for (Operation &inner : op.getBlock().without_terminator())
    if (isMemoryEffectFree(&inner) &&
        !llvm::is_contained(flagsOf(inner.getOperands(), invariants), false))
      invariants.insert(inner.result_begin(), inner.result_end());
  return invariants;
}

/// Clones what computes an invariant value to where `b` is.
static Value hoist(OpBuilder &b, Value value, IRMapping &mapping) {
  if (Value mapped = mapping.lookupOrNull(value))
    return mapped;
  Operation *op = value.getDefiningOp();
  for (Value operand : op->getOperands())
    hoist(b, operand, mapping);
  b.clone(*op, mapping);
  return mapping.lookup(value);
}

// The primal loop stacks what the linear loop reads of each step, but for what
// that can have without: constants, slices of xs, and what is the same in each
// step, which is computed once before both.
LogicalResult ScanOp::emitSplit(SplitFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Block &body = getBlock();
  SmallVector<bool> marks =
      markScan(*this, flagsOf(getOperands(), frame.linear), dependentResults)
          .arguments;
  DenseSet<Value> linear;
  for (BlockArgument argument : body.getArguments())
    if (marks[argument.getArgNumber()])
      linear.insert(argument);
  FailureOr<SmallVector<Operation *>> linearOps = splitBlock(body, linear);
  if (failed(linearOps))
    return failure();

  // What the linear loop reads of the primal one.
  SmallVector<Value> hoisted, stacked;
  SmallVector<BlockArgument> readConsts, readXs;
  DenseSet<Value> invariants = findInvariants(*this, linear);
  unsigned firstX = getNumConsts() + getNumCarries();
  for (Value residual : collectResiduals(*linearOps, linear)) {
    auto argument = dyn_cast<BlockArgument>(residual);
    if (argument && argument.getArgNumber() < getNumConsts())
      readConsts.push_back(argument);
    else if (argument && argument.getArgNumber() >= firstX)
      readXs.push_back(argument);
    else if (invariants.contains(residual))
      hoisted.push_back(residual);
    else
      stacked.push_back(residual);
  }

  // The linear loop takes its ops out of the body.
  NewScan tangent;
  IRMapping mapping, outside;
  auto addOperand = [&](Value argument, SmallVector<Value> &operands,
                        Value operand) {
    mapping.map(argument, addArgument(tangent.block(), argument));
    operands.push_back(operand);
  };
  for (BlockArgument argument : getConstArgs())
    outside.map(argument, getOperand(argument.getArgNumber()));
  for (BlockArgument argument : readConsts)
    addOperand(argument, tangent.consts, getOperand(argument.getArgNumber()));
  for (Value value : hoisted)
    addOperand(value, tangent.consts, hoist(b, value, outside));
  auto addLinear = [&](Block::BlockArgListType arguments,
                       SmallVector<Value> &operands) {
    for (BlockArgument argument : arguments)
      if (linear.contains(argument))
        addOperand(argument, operands, getOperand(argument.getArgNumber()));
  };
  addLinear(getConstArgs(), tangent.consts);
  addLinear(getCarryArgs(), tangent.inits);
  for (BlockArgument argument : readXs)
    addOperand(argument, tangent.xs, getOperand(argument.getArgNumber()));
  for (Value value : stacked)
    mapping.map(value, addArgument(tangent.block(), value));
  SmallVector<Value> linearXs;
  addLinear(getXArgs(), linearXs);
  moveLinearOps(tangent.block(), *linearOps, linear, mapping);
  ImplicitLocOpBuilder inner = tangent.bodyBuilder(getLoc());
  SmallVector<Value> primalCarries, primalYs;
  SmallVector<bool> isLinear;
  for (auto [value, argument] :
       llvm::zip_equal(getYieldedCarries(), getCarryArgs())) {
    isLinear.push_back(linear.contains(argument));
    if (isLinear.back())
      tangent.carries.push_back(yieldLinear(inner, value, linear, mapping));
    else
      primalCarries.push_back(value);
  }
  for (Value value : getYieldedYs()) {
    isLinear.push_back(linear.contains(value));
    if (isLinear.back())
      tangent.ys.push_back(mapping.lookupOrDefault(value));
    else
      primalYs.push_back(value);
  }

  // The primal loop is what is left of the body.
  unsigned numPrimal = primalCarries.size() + primalYs.size();
  SmallVector<unsigned> places;
  SmallVector<bool> saveable = llvm::map_to_vector(stacked, isSaveable);
  for (Value value : stacked) {
    auto *place = llvm::find(primalYs, value);
    places.push_back(primalCarries.size() + (place - primalYs.begin()));
    if (place == primalYs.end())
      primalYs.push_back(value);
  }
  NewScan primal;
  auto primalOperands = [&](Block::BlockArgListType arguments) {
    SmallVector<Value> operands;
    for (BlockArgument argument : arguments)
      if (!linear.contains(argument))
        operands.push_back(getOperand(argument.getArgNumber()));
    return operands;
  };
  primal.consts = primalOperands(getConstArgs());
  primal.inits = primalOperands(getCarryArgs());
  primal.xs = primalOperands(getXArgs());
  primal.carries = primalCarries;
  primal.ys = primalYs;
  unsigned numPrimalConsts = primal.consts.size();
  body.getTerminator()->erase();
  body.eraseArguments(
      [&](BlockArgument argument) { return linear.contains(argument); });
  // Not computed again in each step.
  for (Value value : hoisted) {
    BlockArgument argument =
        body.insertArgument(numPrimalConsts++, value.getType(), value.getLoc());
    value.replaceAllUsesWith(argument);
    llvm::replace(primal.carries, value, Value(argument));
    llvm::replace(primal.ys, value, Value(argument));
    primal.consts.push_back(outside.lookup(value));
  }
  primal.region.takeBody(getBody());

  SmallVector<Value> primalResults, linearResults;
  if (!primal.carries.empty() || !primal.ys.empty()) {
    ScanOp made = primal.create(b, *this, getReverse());
    for (auto [place, flag] : llvm::zip_equal(places, saveable))
      tangent.xs.push_back(markSaveable(b, made.getResult(place), flag));
    llvm::append_range(primalResults, made.getResults().take_front(numPrimal));
  }
  llvm::append_range(tangent.xs, linearXs);
  if (!tangent.carries.empty() || !tangent.ys.empty()) {
    ScanOp made = tangent.create(b, *this, getReverse());
    llvm::append_range(linearResults, made.getResults());
    frame.linear.insert(linearResults.begin(), linearResults.end());
  }
  auto nextPrimal = primalResults.begin(), nextLinear = linearResults.begin();
  for (auto [result, fromLinear] : llvm::zip_equal(getResults(), isLinear))
    result.replaceAllUsesWith(fromLinear ? *nextLinear++ : *nextPrimal++);
  erase();
  return success();
}

//===----------------------------------------------------------------------===//
// Reverse
//===----------------------------------------------------------------------===//

// The loop runs the other way. It carries the cotangents of the linear carries
// and the sums of those of the linear constants; cotangents of the stacked
// results come in as xs, those of the linear xs go out stacked. What no
// cotangent reaches is left out.
LogicalResult ScanOp::emitTranspose(TransposeFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  SmallVector<bool> marks =
      markScan(*this,
               llvm::map_to_vector(frame.operands,
                                   [](Value value) { return !value; }),
               dependentResults)
          .arguments;
  DenseSet<Value> linear;
  for (BlockArgument argument : getBlock().getArguments())
    if (marks[argument.getArgNumber()])
      linear.insert(argument);
  for (auto [index, argument] : llvm::enumerate(getCarryArgs()))
    if (!linear.contains(argument))
      return emitOpError() << "cannot be transposed: carry " << index
                           << " is not linear";
  SmallVector<Operation *> linearOps = findLinearOps(getBlock(), linear);

  // Which values a cotangent reaches, over all steps.
  ArrayRef<Value> carryCotangents =
      frame.cotangents.take_front(getNumCarries());
  ArrayRef<Value> yCotangents = frame.cotangents.drop_front(getNumCarries());
  DenseSet<Value> reached;
  for (auto [argument, cotangent] :
       llvm::zip_equal(getCarryArgs(), carryCotangents))
    if (cotangent)
      reached.insert(argument);
  for (auto [value, cotangent] : llvm::zip_equal(getYieldedYs(), yCotangents))
    if (cotangent && linear.contains(value))
      reached.insert(value);
  for (size_t before = 0; before != reached.size();) {
    before = reached.size();
    for (auto [argument, value] :
         llvm::zip_equal(getCarryArgs(), getYieldedCarries()))
      if (reached.contains(argument) && linear.contains(value))
        reached.insert(value);
    reachBackward(linearOps, linear, reached);
  }

  NewScan scan;
  IRMapping mapping;
  DenseMap<Value, Value> cotangents;
  ImplicitLocOpBuilder inner = scan.bodyBuilder(getLoc());
  SmallVector<std::pair<BlockArgument, Value>> sums;
  for (BlockArgument argument : getConstArgs())
    if (Value operand = frame.operands[argument.getArgNumber()]) {
      mapping.map(argument, addArgument(scan.block(), argument));
      scan.consts.push_back(operand);
    }
  for (BlockArgument argument : getConstArgs())
    if (reached.contains(argument)) {
      sums.emplace_back(argument, addArgument(scan.block(), argument));
      scan.inits.push_back(makeZero(b, argument.getType()));
    }
  auto addCotangent = [&](Value value, Value argument) {
    if (!linear.contains(value))
      return;
    Value &slot = cotangents[value];
    slot = accumulate(inner, slot, argument);
  };
  for (auto [argument, value, cotangent] :
       llvm::zip_equal(getCarryArgs(), getYieldedCarries(), carryCotangents))
    if (reached.contains(argument)) {
      addCotangent(value, addArgument(scan.block(), argument));
      scan.inits.push_back(materialize(b, cotangent, argument.getType()));
    }
  for (BlockArgument argument : getXArgs())
    if (Value operand = frame.operands[argument.getArgNumber()]) {
      mapping.map(argument, addArgument(scan.block(), argument));
      scan.xs.push_back(operand);
    }
  for (auto [value, cotangent] : llvm::zip_equal(getYieldedYs(), yCotangents))
    if (cotangent && linear.contains(value)) {
      addCotangent(value, addArgument(scan.block(), value));
      scan.xs.push_back(cotangent);
    }

  clonePrimalOps(inner, getBlock(), linear, mapping);
  if (failed(transposeOps(inner, linearOps, linear, mapping, cotangents)))
    return failure();
  inner.setLoc(getLoc());
  SmallVector<BlockArgument> targets;
  for (auto [argument, sum] : sums) {
    targets.push_back(argument);
    scan.carries.push_back(accumulate(inner, sum, cotangents.lookup(argument)));
  }
  for (BlockArgument argument : getCarryArgs())
    if (reached.contains(argument)) {
      targets.push_back(argument);
      scan.carries.push_back(
          materialize(inner, cotangents.lookup(argument), argument.getType()));
    }
  for (BlockArgument argument : getXArgs())
    if (Value cotangent = cotangents.lookup(argument)) {
      targets.push_back(argument);
      scan.ys.push_back(cotangent);
    }
  if (targets.empty())
    return success();
  ScanOp made = scan.create(b, *this, !getReverse());
  for (auto [argument, cotangent] : llvm::zip_equal(targets, made.getResults()))
    if (frame.isLinear(argument.getArgNumber()))
      frame.operandCotangents[argument.getArgNumber()] = cotangent;
  return success();
}

//===----------------------------------------------------------------------===//
// Batching
//===----------------------------------------------------------------------===//

/// Exchanges the first two axes: batch and time.
static Value swapLeading(ImplicitLocOpBuilder &b, Value value) {
  RankedTensorType type = tensorType(value);
  auto order = llvm::to_vector(llvm::seq<int64_t>(type.getRank()));
  std::swap(order[0], order[1]);
  SmallVector<int64_t> shape(type.getShape());
  std::swap(shape[0], shape[1]);
  return b.createOrFold<TransposeOp>(type.clone(shape), value,
                                     b.getDenseI64ArrayAttr(order));
}

LogicalResult ScanOp::emitBatch(BatchFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  SmallVector<bool> marks =
      markScan(*this, frame.batched, flowOf(frame.axis)).arguments;
  NewScan scan;
  IRMapping mapping;
  DenseSet<Value> batched;
  for (BlockArgument argument : getBlock().getArguments()) {
    unsigned index = argument.getArgNumber();
    Type type = argument.getType();
    if (marks[index]) {
      batched.insert(argument);
      type = batchedType(type, frame.size);
    }
    mapping.map(argument, addArgument(scan.block(), argument, type));
    if (index < getNumConsts())
      scan.consts.push_back(frame.operands[index]);
    else if (index < getNumConsts() + getNumCarries())
      scan.inits.push_back(marks[index] ? frame.getBatched(index)
                                        : frame.operands[index]);
    else
      scan.xs.push_back(marks[index] ? swapLeading(b, frame.operands[index])
                                     : frame.operands[index]);
  }

  ImplicitLocOpBuilder inner = scan.bodyBuilder(getLoc());
  if (failed(batchBlock(inner, getBlock(), frame.axis, mapping, batched)))
    return failure();
  inner.setLoc(getLoc());
  for (auto [argument, value] :
       llvm::zip_equal(getCarryArgs(), getYieldedCarries())) {
    Value carry = mapping.lookup(value);
    bool wanted = marks[argument.getArgNumber()];
    if (wanted && !batched.contains(value))
      carry = broadcastBatch(inner, carry, frame.size);
    scan.carries.push_back(carry);
    frame.resultBatched.push_back(wanted);
  }
  for (Value value : getYieldedYs()) {
    scan.ys.push_back(mapping.lookup(value));
    frame.resultBatched.push_back(batched.contains(value));
  }
  ScanOp made = scan.create(b, *this, getReverse());
  llvm::append_range(frame.results, made.getFinalCarries());
  for (auto [value, y] : llvm::zip_equal(getYieldedYs(), made.getYs()))
    frame.results.push_back(batched.contains(value) ? swapLeading(b, y) : y);
  return success();
}
