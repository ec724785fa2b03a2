//===- Walks.cpp - Derivatives and batching of whole blocks ---------------===//
//
// What functions and the bodies of loops and branches share: each walk asks the
// ops of a block for their rule, in order (transposition: in reverse order).
//
//===----------------------------------------------------------------------===//

#include "bmgrad/Dialect/BM/Collective.h"
#include "bmgrad/Dialect/BM/Custom.h"
#include "bmgrad/Dialect/BM/Elementwise.h"
#include "bmgrad/Dialect/BM/KernelBatching.h"
#include "bmgrad/Dialect/BM/Shape.h"
#include "bmgrad/Dialect/BM/Transforms.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"

using namespace mlir;
using namespace bmgrad::bm;

//===----------------------------------------------------------------------===//
// Forward
//===----------------------------------------------------------------------===//

LogicalResult bmgrad::bm::jvpBlock(ImplicitLocOpBuilder &b, Block &block,
                                   IRMapping &mapping,
                                   DenseMap<Value, Value> &tangents) {
  LogicalResult status = success();
  // The ops after one that fails say as well what they lack.
  auto fail = [&](Operation &op) {
    status = failure();
    b.clone(op, mapping);
  };
  for (Operation &op : block.without_terminator()) {
    b.setLoc(op.getLoc());
    SmallVector<Value> operandTangents;
    bool active = false;
    for (Value operand : op.getOperands()) {
      operandTangents.push_back(tangents.lookup(operand));
      active |= static_cast<bool>(operandTangents.back());
    }
    if (!active) {
      b.clone(op, mapping);
      continue;
    }
    auto rule = dyn_cast<DifferentiableOpInterface>(&op);
    if (!rule) {
      op.emitOpError("has no derivative rule");
      fail(op);
      continue;
    }
    SmallVector<Value> primals;
    for (Value operand : op.getOperands())
      primals.push_back(mapping.lookup(operand));
    JvpFrame frame{b, primals, operandTangents};
    if (failed(rule.emitJvp(frame))) {
      fail(op);
      continue;
    }
    for (auto [result, primal, tangent] : llvm::zip_equal(
             op.getResults(), frame.results, frame.resultTangents)) {
      mapping.map(result, primal);
      if (tangent)
        tangents[result] = tangent;
    }
  }
  return status;
}

/// Marks flow from operands to the results that `passes` admits.
static SmallVector<bool>
flowThrough(Block &block, ArrayRef<bool> arguments, BlockFlow self,
            function_ref<bool(Operation &, Type)> passes) {
  DenseSet<Value> marked;
  for (auto [argument, flag] : llvm::zip_equal(block.getArguments(), arguments))
    if (flag && passes(*block.getParentOp(), argument.getType()))
      marked.insert(argument);
  auto flagsOf = [&](ValueRange values) {
    return llvm::map_to_vector(
        values, [&](Value value) { return marked.contains(value); });
  };
  for (Operation &op : block.without_terminator()) {
    SmallVector<bool> operands = flagsOf(op.getOperands());
    if (!llvm::is_contained(operands, true))
      continue;
    SmallVector<bool> results(op.getNumResults(), true);
    if (auto region = dyn_cast<FlowOpInterface>(&op))
      results = region.flowResults(operands, self);
    for (auto [result, flag] : llvm::zip_equal(op.getResults(), results))
      if (flag && passes(op, result.getType()))
        marked.insert(result);
  }
  return flagsOf(block.getTerminator()->getOperands());
}

SmallVector<bool> bmgrad::bm::activeResults(Block &block,
                                            ArrayRef<bool> activeArguments) {
  return flowThrough(
      block, activeArguments, activeResults, [](Operation &op, Type type) {
        return isDifferentiable(type) && !isa<StopGradientOp>(op);
      });
}

SmallVector<bool> bmgrad::bm::dependentResults(Block &block,
                                               ArrayRef<bool> markedArguments) {
  return flowThrough(block, markedArguments, dependentResults,
                     [](Operation &, Type) { return true; });
}

//===----------------------------------------------------------------------===//
// Splitting
//===----------------------------------------------------------------------===//

FailureOr<SmallVector<Operation *>>
bmgrad::bm::splitBlock(Block &block, DenseSet<Value> &linear) {
  auto dependsOnTangent = [&](Operation &op) {
    return llvm::any_of(op.getOperands(),
                        [&](Value v) { return linear.contains(v); });
  };
  for (Operation &op : llvm::make_early_inc_range(block.without_terminator())) {
    if (!dependsOnTangent(op))
      continue;
    if (auto splittable = dyn_cast<SplittableOpInterface>(&op)) {
      ImplicitLocOpBuilder b(op.getLoc(), &op);
      SplitFrame frame{b, linear};
      if (failed(splittable.emitSplit(frame)))
        return failure();
      continue;
    }
    linear.insert(op.result_begin(), op.result_end());
  }
  SmallVector<Operation *> linearOps;
  for (Operation &op : block.without_terminator())
    if (dependsOnTangent(op))
      linearOps.push_back(&op);
  return linearOps;
}

/// Constants and what spreads them cost nothing to make again.
static bool isFree(Operation *op) {
  return op && (op->hasTrait<OpTrait::ConstantLike>() ||
                isa<IotaOp, AxisIndexOp>(op) ||
                (isa<BroadcastInDimOp>(op) &&
                 isFree(op->getOperand(0).getDefiningOp())));
}

void bmgrad::bm::cloneFreeInto(OpBuilder &b, Value value,
                               const DenseSet<Value> &linear,
                               IRMapping &mapping) {
  Operation *op = value.getDefiningOp();
  if (linear.contains(value) || mapping.contains(value) || !isFree(op))
    return;
  for (Value operand : op->getOperands())
    cloneFreeInto(b, operand, linear, mapping);
  b.clone(*op, mapping);
}

SmallVector<Value> bmgrad::bm::collectResiduals(ArrayRef<Operation *> linearOps,
                                                const DenseSet<Value> &linear) {
  llvm::SetVector<Value> residuals;
  for (Operation *op : linearOps)
    for (OpOperand &operand : op->getOpOperands())
      if (!linear.contains(operand.get()) &&
          !isFree(operand.get().getDefiningOp()))
        residuals.insert(operand.get());
  return residuals.takeVector();
}

//===----------------------------------------------------------------------===//
// Reverse
//===----------------------------------------------------------------------===//

LogicalResult bmgrad::bm::transposeOps(ImplicitLocOpBuilder &b,
                                       ArrayRef<Operation *> linearOps,
                                       const DenseSet<Value> &linear,
                                       IRMapping &mapping,
                                       DenseMap<Value, Value> &cotangents) {
  auto primalAt = [&](Value value) {
    cloneFreeInto(b, value, linear, mapping);
    return mapping.lookup(value);
  };
  LogicalResult status = success();
  for (Operation *op : llvm::reverse(linearOps)) {
    SmallVector<Value> resultCotangents;
    bool active = false;
    for (Value result : op->getResults()) {
      resultCotangents.push_back(cotangents.lookup(result));
      active |= static_cast<bool>(resultCotangents.back());
    }
    if (!active)
      continue;
    auto rule = dyn_cast<LinearOpInterface>(op);
    // The ops before one that fails say as well what they lack.
    if (!rule) {
      if (auto kernel = dyn_cast<KernelOp>(op))
        status = op->emitError("no transpose rule for primitive '")
                 << kernel.getName() << "'";
      else
        status =
            op->emitOpError("is linear in a tangent but has no transpose rule");
      continue;
    }
    b.setLoc(op->getLoc());
    SmallVector<Value> operands;
    for (Value operand : op->getOperands())
      operands.push_back(linear.contains(operand) ? Value()
                                                  : primalAt(operand));
    TransposeFrame frame{b, operands, resultCotangents};
    frame.operandCotangents.assign(op->getNumOperands(), Value());
    if (failed(rule.emitTranspose(frame))) {
      status = failure();
      continue;
    }
    for (auto [operand, cotangent] :
         llvm::zip_equal(op->getOperands(), frame.operandCotangents))
      if (cotangent && linear.contains(operand)) {
        Value &slot = cotangents[operand];
        slot = accumulate(b, slot, cotangent);
      }
  }
  return status;
}

//===----------------------------------------------------------------------===//
// Batching
//===----------------------------------------------------------------------===//

LogicalResult bmgrad::bm::batchBlock(ImplicitLocOpBuilder &b, Block &block,
                                     BatchAxis axis, IRMapping &mapping,
                                     DenseSet<Value> &batched) {
  for (Operation &op : block.without_terminator()) {
    b.setLoc(op.getLoc());
    SmallVector<Value> operands;
    SmallVector<bool> flags;
    for (Value operand : op.getOperands()) {
      operands.push_back(mapping.lookup(operand));
      flags.push_back(batched.contains(operand));
    }
    if (!llvm::is_contained(flags, true) && !isOverAxis(&op, axis)) {
      b.clone(op, mapping);
      continue;
    }
    auto rule = dyn_cast<BatchableOpInterface>(&op);
    if (!rule)
      return op.emitOpError("has no batching rule");
    BatchFrame frame{b, operands, flags, axis};
    if (failed(rule.emitBatch(frame)))
      return failure();
    if (frame.resultBatched.empty())
      frame.resultBatched.assign(op.getNumResults(), true);
    for (auto [result, value, flag] :
         llvm::zip_equal(op.getResults(), frame.results, frame.resultBatched)) {
      mapping.map(result, value);
      if (flag)
        batched.insert(result);
    }
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Lowering
//===----------------------------------------------------------------------===//

LogicalResult bmgrad::bm::lowerBlock(Block &block) {
  for (auto it = block.begin(); it != block.end();) {
    Operation &op = *it;
    for (Region &region : op.getRegions())
      for (Block &inner : region)
        if (failed(lowerBlock(inner)))
          return failure();
    // Terminators of regions are rewritten by the op they belong to.
    auto rule = dyn_cast<LowerableOpInterface>(&op);
    if (!rule) {
      ++it;
      continue;
    }
    Operation *previous = op.getPrevNode();
    ImplicitLocOpBuilder b(op.getLoc(), &op);
    LoweringFrame frame{b};
    if (failed(rule.emitLowering(frame)))
      return failure();
    op.replaceAllUsesWith(frame.results);
    op.erase();
    // A rule may emit bm ops: they are next.
    it = previous ? std::next(Block::iterator(previous)) : block.begin();
  }
  return success();
}
