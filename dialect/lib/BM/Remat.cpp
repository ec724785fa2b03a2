//===- Remat.cpp - Derivatives and batching of bm.remat -------------------===//
//
// As `jax.checkpoint` ("Sublinear memory cost", Chen et al., 2016): the linear
// part of the body stays in a region, with the primal ops whose values it
// reads. Its transpose runs these again when the cotangents come.
//
//===----------------------------------------------------------------------===//

#include "ControlUtils.h"
#include "bmgrad/Dialect/BM/Control.h"
#include "bmgrad/Dialect/BM/Residuals.h"
#include "llvm/ADT/SetVector.h"

using namespace mlir;
using namespace bmgrad::bm;
using namespace bmgrad::bm::control;

namespace {
/// A remat being made: its region lacks the terminator until `create`.
struct NewRemat {
  SmallVector<Value> inputs, yields;
  Region region;

  NewRemat() { region.emplaceBlock(); }
  Block &block() { return region.front(); }

  /// With the attributes of `like`.
  RematOp create(ImplicitLocOpBuilder &b, RematOp like, bool differentiated) {
    auto end = builderAt(b.getLoc(), block());
    YieldOp::create(end, yields);
    auto made = RematOp::create(b, ValueRange(yields).getTypes(), inputs,
                                differentiated, like.getPreventCse());
    made.getBody().takeBody(region);
    return made;
  }
};
} // namespace

SmallVector<bool> RematOp::flowResults(ArrayRef<bool> marked, BlockFlow flow) {
  return flow(getBlock(), marked);
}

LogicalResult RematOp::emitJvp(JvpFrame &frame) {
  NewRemat made;
  made.inputs.assign(frame.primals.begin(), frame.primals.end());
  for (Value tangent : frame.tangents)
    if (tangent)
      made.inputs.push_back(tangent);
  auto tangents =
      jvpInto(getLoc(), getBlock(), frame.tangents, made.block(), made.yields);
  if (failed(tangents))
    return failure();
  for (Value tangent : *tangents)
    if (tangent)
      made.yields.push_back(tangent);
  RematOp op = made.create(frame.b, *this, getDifferentiated());
  unsigned next = getNumResults();
  for (auto [index, tangent] : llvm::enumerate(*tangents)) {
    frame.results.push_back(op.getResult(index));
    frame.resultTangents.push_back(tangent ? op.getResult(next++) : Value());
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Splitting
//===----------------------------------------------------------------------===//

namespace {
/// What the linear ops need of the primal ones.
struct Needed {
  /// Values that are kept, among the block's arguments and its ops' results.
  llvm::SetVector<Value> kept;
  /// The ops that are run again.
  DenseSet<Operation *> again;
};
} // namespace

static Needed findNeeded(ArrayRef<Operation *> linearOps,
                         const DenseSet<Value> &linear) {
  Needed needed;
  SmallVector<Value> pending = collectResiduals(linearOps, linear);
  while (!pending.empty()) {
    Value value = pending.pop_back_val();
    Operation *op = value.getDefiningOp();
    // What has effects is not repeated.
    if (!op || isSaveable(value) || !isMemoryEffectFree(op))
      needed.kept.insert(value);
    else if (needed.again.insert(op).second)
      llvm::append_range(pending, collectResiduals(op, linear));
  }
  return needed;
}

/// Replaces in a loop or branch, made anew from `op`, what it gives as a result
/// and is kept. `mapping` maps the latter to where it is kept.
static void readKept(Operation *op, Operation *made, const IRMapping &mapping) {
  for (OpResult result : op->getResults()) {
    Value kept;
    for (Operation *user : result.getUsers())
      if (isa<SaveableOp>(user))
        kept = mapping.lookupOrNull(user->getResult(0));
    if (!kept)
      continue;
    unsigned number = result.getResultNumber();
    auto replace = [&](Block &block, Type type) {
      Value argument = addArgument(block, result, type);
      Value computed = block.getTerminator()->getOperand(number);
      if (!isa<BlockArgument>(computed) && isSaveable(computed))
        computed.replaceAllUsesWith(argument);
    };
    if (auto scan = dyn_cast<ScanOp>(made)) {
      scan.getXsMutable().append(kept);
      replace(scan.getBlock(), sliceType(kept.getType()));
    } else if (auto cond = dyn_cast<CondOp>(made)) {
      cond.getInputsMutable().append(kept);
      for (Region &branch : cond.getBranches())
        replace(branch.front(), kept.getType());
    }
  }
}

/// Creates the linear part: its ops where nothing is run again, else a remat.
static SmallVector<Value> placeLinear(RematOp op, SplitFrame &frame,
                                      NewRemat &tangent, bool inRegion) {
  if (tangent.yields.empty())
    return {};
  if (inRegion) {
    RematOp made = tangent.create(frame.b, op, /*differentiated=*/true);
    frame.linear.insert(made.result_begin(), made.result_end());
    return SmallVector<Value>(made.getResults());
  }
  auto end = builderAt(op.getLoc(), tangent.block());
  YieldOp::create(end, tangent.yields);
  SmallVector<Operation *> ops;
  for (Operation &inner : tangent.block().without_terminator())
    ops.push_back(&inner);
  SmallVector<Value> results = inlineBlock(tangent.block(), *op->getBlock(),
                                           op->getIterator(), tangent.inputs);
  for (Operation *inner : ops)
    if (llvm::is_contained(flagsOf(inner->getOperands(), frame.linear), true))
      frame.linear.insert(inner->result_begin(), inner->result_end());
  return results;
}

LogicalResult RematOp::emitSplit(SplitFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Block &block = getBlock();
  SmallVector<bool> linearInputs = flagsOf(getInputs(), frame.linear);
  DenseSet<Value> linear;
  for (BlockArgument argument : block.getArguments())
    if (linearInputs[argument.getArgNumber()])
      linear.insert(argument);
  FailureOr<SmallVector<Operation *>> linearOps = splitBlock(block, linear);
  if (failed(linearOps))
    return failure();
  SmallVector<Value> yielded(getYield().getValues());
  SmallVector<bool> linearResults = flagsOf(yielded, linear);
  Needed needed = findNeeded(*linearOps, linear);

  // The linear part: what is kept, then the tangents.
  NewRemat tangent;
  IRMapping mapping;
  SmallVector<Value> keptResults;
  for (Value value : needed.kept) {
    if (auto argument = dyn_cast<BlockArgument>(value)) {
      mapping.map(value, addArgument(tangent.block(), value));
      tangent.inputs.push_back(getInputs()[argument.getArgNumber()]);
    } else {
      keptResults.push_back(value);
    }
  }
  for (Value value : keptResults)
    mapping.map(value, addArgument(tangent.block(), value));
  for (BlockArgument argument : block.getArguments())
    if (linearInputs[argument.getArgNumber()])
      mapping.map(argument, addArgument(tangent.block(), argument));
  auto inner = builderAt(getLoc(), tangent.block());
  for (Operation &op : block.without_terminator()) {
    if (!needed.again.contains(&op))
      continue;
    for (Value operand : op.getOperands())
      cloneFreeInto(inner, operand, linear, mapping);
    readKept(&op, inner.clone(op, mapping), mapping);
  }
  moveLinearOps(tangent.block(), *linearOps, linear, mapping);
  for (Value value : pick(yielded, linearResults))
    tangent.yields.push_back(yieldLinear(inner, value, linear, mapping));

  // The primal part is what is left of the body.
  NewRemat primal;
  primal.inputs = pick(getInputs(), linearInputs, false);
  primal.yields = pick(yielded, linearResults, false);
  unsigned numPrimal = primal.yields.size();
  llvm::append_range(primal.yields, keptResults);
  block.getTerminator()->erase();
  block.eraseArguments([&](BlockArgument argument) {
    return linearInputs[argument.getArgNumber()];
  });
  bool hasEffects = !llvm::all_of(
      block, [](Operation &op) { return isMemoryEffectFree(&op); });
  primal.region.takeBody(getBody());
  SmallVector<Value> primalResults;
  if (!primal.yields.empty() || hasEffects) {
    RematOp made = primal.create(b, *this, getDifferentiated());
    llvm::append_range(primalResults, made.getResults().take_front(numPrimal));
    llvm::append_range(tangent.inputs, made.getResults().drop_front(numPrimal));
  }
  llvm::append_range(tangent.inputs, pick(getInputs(), linearInputs));
  SmallVector<Value> tangentResults =
      placeLinear(*this, frame, tangent, /*inRegion=*/!needed.again.empty());

  auto nextPrimal = primalResults.begin(), nextLinear = tangentResults.begin();
  for (auto [result, isLinear] : llvm::zip_equal(getResults(), linearResults))
    result.replaceAllUsesWith(isLinear ? *nextLinear++ : *nextPrimal++);
  erase();
  return success();
}

//===----------------------------------------------------------------------===//
// Reverse
//===----------------------------------------------------------------------===//

LogicalResult RematOp::emitTranspose(TransposeFrame &frame) {
  NewRemat made;
  auto cotangents = transposeInto(getLoc(), getBlock(), frame.operands,
                                  frame.cotangents, made.block(), made.inputs);
  if (failed(cotangents))
    return failure();
  for (Value cotangent : *cotangents)
    if (cotangent)
      made.yields.push_back(cotangent);
  if (made.yields.empty())
    return success();
  RematOp op = made.create(frame.b, *this, getDifferentiated());
  unsigned next = 0;
  for (auto [slot, cotangent] :
       llvm::zip_equal(frame.operandCotangents, *cotangents))
    if (cotangent)
      slot = op.getResult(next++);
  return success();
}

//===----------------------------------------------------------------------===//
// Batching
//===----------------------------------------------------------------------===//

LogicalResult RematOp::emitBatch(BatchFrame &frame) {
  NewRemat made;
  made.inputs.assign(frame.operands.begin(), frame.operands.end());
  auto batched = batchInto(getLoc(), getBlock(), made.inputs, frame.batched,
                           frame.axis, made.block(), made.yields);
  if (failed(batched))
    return failure();
  frame.resultBatched = std::move(*batched);
  RematOp op = made.create(frame.b, *this, getDifferentiated());
  llvm::append_range(frame.results, op.getResults());
  return success();
}
