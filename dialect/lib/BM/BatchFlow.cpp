//===- BatchFlow.cpp - Which values of a block a batch reaches ------------===//
//
// The others are shared by all elements of the batch. What is said here of an
// op holds of what its batching rule makes, at the least.
//
//===----------------------------------------------------------------------===//

#include "CustomRules.h"
#include "bmgrad/Dialect/BM/Collective.h"
#include "bmgrad/Dialect/BM/KernelBatching.h"
#include "bmgrad/Dialect/BM/Transforms.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;
using namespace bmgrad::bm;

/// Whether `op` is over the axis; `seen` are the functions looked into so far.
static bool isOverAxis(Operation *op, StringRef name,
                       DenseSet<Operation *> &seen) {
  auto isOver = [&](Operation *inner) {
    if (auto collective = dyn_cast<CollectiveOpInterface>(inner))
      return collective.getAxis() == name;
    // In there the name means the axis of that batch.
    if (auto batch = dyn_cast<BatchOp>(inner))
      if (batch.getAxisName() == name)
        return false;
    auto refersToOne = [&](SymbolRefAttr symbol) {
      Operation *callee = SymbolTable::lookupNearestSymbolFrom(op, symbol);
      return callee && seen.insert(callee).second &&
                     ::isOverAxis(callee, name, seen)
                 ? WalkResult::interrupt()
                 : WalkResult::advance();
    };
    return inner->getAttrDictionary().walk(refersToOne).wasInterrupted();
  };
  return op
      ->walk([&](Operation *inner) {
        return isOver(inner) ? WalkResult::interrupt() : WalkResult::advance();
      })
      .wasInterrupted();
}

bool bmgrad::bm::isOverAxis(Operation *op, BatchAxis axis) {
  DenseSet<Operation *> seen;
  return !axis.name.empty() && ::isOverAxis(op, axis.name, seen);
}

namespace {
/// Which values are asked for: those that differ between the elements, with
/// those whose tangents do, or those that depend on the batch at all, though
/// all elements may share what is made of them together.
enum class Question { Values, Tangents, Reached };

/// Tells which values are batched over an axis.
class BatchFlow {
public:
  explicit BatchFlow(BatchAxis axis, Question question = Question::Tangents)
      : axis(axis), question(question) {}

  SmallVector<bool> ofBlock(Block &block, ArrayRef<bool> arguments);
  SmallVector<bool> ofCall(Operation *op, StringRef callee,
                           ArrayRef<bool> operands);
  SmallVector<bool> ofCall(CustomJvpOp op, ArrayRef<bool> operands);
  SmallVector<bool> ofCall(CustomVjpOp op, ArrayRef<bool> operands);
  SmallVector<bool> ofUnknownRule(CustomJvpOp op, ArrayRef<bool> operands);

  /// What `find` gives once nothing is known that it did not take into account.
  template <typename Find> SmallVector<bool> untilStable(Find find) {
    SmallVector<bool> found;
    do {
      visited.clear();
      isStable = true;
      found = find();
    } while (!isStable);
    return found;
  }

private:
  SmallVector<bool> ofOp(Operation &op, ArrayRef<bool> operands);
  bool hasCotangents(CustomVjpOp op, unsigned ct, ArrayRef<bool> inputs);

  BatchAxis axis;
  Question question;

  /// Of a call with a derivative rule, which mostly calls its function again:
  /// the results known to be batched so far, and whether somebody relied on it.
  struct Known {
    SmallVector<bool> results;
    bool isUsed = false;
  };
  llvm::StringMap<Known> known;
  llvm::StringSet<> visited;
  bool isStable = true;
  /// The backward rules being looked into.
  llvm::StringSet<> backward;
};
} // namespace

SmallVector<bool> BatchFlow::ofCall(Operation *op, StringRef callee,
                                    ArrayRef<bool> operands) {
  auto function = SymbolTable::lookupNearestSymbolFrom<FunctionOpInterface>(
      op, StringAttr::get(op->getContext(), callee));
  if (function.isExternal())
    return SmallVector<bool>(function.getNumResults(), true);
  return ofBlock(function.getFunctionBody().front(), operands);
}

SmallVector<bool> bmgrad::bm::withInputTangents(ValueRange inputs,
                                                ArrayRef<bool> flags) {
  SmallVector<bool> all(flags);
  for (auto [input, flag] : llvm::zip_equal(inputs, flags))
    if (isDifferentiable(input.getType()))
      all.push_back(flag);
  return all;
}

SmallVector<bool> BatchFlow::ofCall(CustomJvpOp op, ArrayRef<bool> operands) {
  FlatSymbolRefAttr rule = op.getRuleAttr();
  if (!rule || op.getBatcher() || question == Question::Values)
    return ofCall(op, op.getPrimal(), operands);
  if (SymbolTable::lookupNearestSymbolFrom<FunctionOpInterface>(op, rule)
          .isExternal())
    return ofUnknownRule(op, operands);

  std::string key = (op.getPrimal() + " " + rule.getValue() + " ").str();
  for (bool flag : operands)
    key += flag ? '1' : '0';
  Known &before = known[key];
  before.results.resize(op->getNumResults(), false);
  if (!visited.insert(key).second) {
    before.isUsed = true;
    return before.results;
  }
  SmallVector<bool> results = ofCall(op, op.getPrimal(), operands);
  // A result may be shared where its tangent is not, as a rule is the user's.
  SmallVector<bool> ofRule =
      ofCall(op, rule.getValue(), withInputTangents(op.getInputs(), operands));
  auto *tangent = ofRule.begin() + results.size();
  for (auto [result, flag] : llvm::zip_equal(op.getResults(), results))
    if (isDifferentiable(result.getType()))
      flag |= *tangent++;
  Known &now = known[key];
  for (auto [known, found] : llvm::zip_equal(now.results, results)) {
    isStable &= known || !found || !now.isUsed;
    known |= found;
  }
  return now.results;
}

/// Of a call whose rule is not there yet, if there is one: what does not depend
/// on the batch may have a tangent that does.
SmallVector<bool> BatchFlow::ofUnknownRule(CustomJvpOp op,
                                           ArrayRef<bool> operands) {
  SmallVector<bool> results = ofCall(op, op.getPrimal(), operands);
  bool mayHaveTangents = false;
  for (auto [input, flag] : llvm::zip_equal(op.getInputs(), operands))
    mayHaveTangents |= flag && isDifferentiable(input.getType());
  if (question == Question::Tangents && axis.isOfAllResults && mayHaveTangents)
    for (auto [result, flag] : llvm::zip_equal(op.getResults(), results))
      flag |= isDifferentiable(result.getType());
  return results;
}

/// Whether an input of those gets a cotangent from that of the given result,
/// which is counted among those that have cotangents.
bool BatchFlow::hasCotangents(CustomVjpOp op, unsigned ct,
                              ArrayRef<bool> inputs) {
  auto bwd = SymbolTable::lookupNearestSymbolFrom<FunctionOpInterface>(
      op, op.getBwdAttr());
  if (bwd.isExternal() || !backward.insert(op.getBwd()).second)
    return false;
  SmallVector<bool> arguments(bwd.getNumArguments(), false);
  arguments[op.getNumResiduals() + ct] = true;
  SmallVector<bool> reached = ofCall(op, op.getBwd(), arguments);
  backward.erase(op.getBwd());
  return llvm::any_of(llvm::zip_equal(reached, inputs), [](auto flags) {
    auto [reaches, isAsked] = flags;
    return reaches && isAsked;
  });
}

SmallVector<bool> BatchFlow::ofCall(CustomVjpOp op, ArrayRef<bool> operands) {
  SmallVector<bool> results = ofCall(op, op.getPrimal(), operands);
  if (question != Question::Tangents || !llvm::is_contained(results, false))
    return results;
  // What does not depend on the batch may have a cotangent for each element, as
  // a rule is the user's. What is made of all together has one.
  SmallVector<bool> reached =
      reachedCallResults(op, op.getPrimal(), operands, axis);
  SmallVector<bool> inputs;
  for (auto [input, flag] : llvm::zip_equal(op.getInputs(), operands))
    if (isDifferentiable(input.getType()))
      inputs.push_back(flag);
  unsigned ct = 0;
  for (auto [result, flag, isReached] :
       llvm::zip_equal(op.getResults(), results, reached)) {
    if (!isDifferentiable(result.getType()))
      continue;
    flag = flag || (!isReached && hasCotangents(op, ct, inputs));
    ++ct;
  }
  return results;
}

SmallVector<bool> BatchFlow::ofOp(Operation &op, ArrayRef<bool> operands) {
  bool any = llvm::is_contained(operands, true);
  auto collective = dyn_cast<CollectiveOpInterface>(op);
  if (collective && collective.getAxis() == axis.name &&
      question != Question::Reached)
    return SmallVector<bool>(op.getNumResults(), collective.isBatched(any));
  if (auto region = dyn_cast<FlowOpInterface>(op))
    return region.flowResults(operands,
                              [this](Block &block, ArrayRef<bool> arguments) {
                                return ofBlock(block, arguments);
                              });
  if (auto rule = dyn_cast<CustomJvpOp>(op))
    return ofCall(rule, operands);
  if (auto rule = dyn_cast<CustomVjpOp>(op))
    return ofCall(rule, operands);
  // In one over an axis of the same name, the name means that.
  if (auto batch = dyn_cast<BatchOp>(op);
      batch && (axis.name.empty() || batch.getAxisName() != axis.name))
    return ofCall(batch, batch.getCallee(), operands);
  if (auto call = dyn_cast<func::CallOp>(op))
    return ofCall(call, call.getCallee(), operands);
  if (auto kernel = dyn_cast<KernelOp>(op);
      kernel && question != Question::Reached) {
    // Where it cannot be told, batching the op will fail, if it comes to that.
    std::string reason;
    return batchedKernelResults(kernel, operands, axis.size, reason);
  }
  return SmallVector<bool>(op.getNumResults(), true);
}

SmallVector<bool> BatchFlow::ofBlock(Block &block, ArrayRef<bool> arguments) {
  DenseSet<Value> batched;
  auto flagsOf = [&](ValueRange values) {
    return llvm::map_to_vector(
        values, [&](Value value) { return batched.contains(value); });
  };
  for (auto [argument, flag] : llvm::zip_equal(block.getArguments(), arguments))
    if (flag)
      batched.insert(argument);
  for (Operation &op : block.without_terminator()) {
    SmallVector<bool> operands = flagsOf(op.getOperands());
    if (!llvm::is_contained(operands, true) && !isOverAxis(&op, axis))
      continue;
    for (auto [result, flag] :
         llvm::zip_equal(op.getResults(), ofOp(op, operands)))
      if (flag)
        batched.insert(result);
  }
  return flagsOf(block.getTerminator()->getOperands());
}

SmallVector<bool> bmgrad::bm::batchedResults(Block &block,
                                             ArrayRef<bool> batchedArguments,
                                             BatchAxis axis) {
  BatchFlow flow(axis);
  return flow.untilStable(
      [&] { return flow.ofBlock(block, batchedArguments); });
}

SmallVector<bool> bmgrad::bm::batchedValues(Block &block,
                                            ArrayRef<bool> batchedArguments,
                                            BatchAxis axis) {
  BatchFlow flow(axis, Question::Values);
  return flow.untilStable(
      [&] { return flow.ofBlock(block, batchedArguments); });
}

SmallVector<bool> bmgrad::bm::batchedCallResults(Operation *op,
                                                 StringRef callee,
                                                 ArrayRef<bool> batched,
                                                 BatchAxis axis) {
  BatchFlow flow(axis);
  return flow.untilStable([&] { return flow.ofCall(op, callee, batched); });
}

SmallVector<bool> bmgrad::bm::reachedCallResults(Operation *op,
                                                 StringRef callee,
                                                 ArrayRef<bool> batched,
                                                 BatchAxis axis) {
  BatchFlow flow(axis, Question::Reached);
  return flow.untilStable([&] { return flow.ofCall(op, callee, batched); });
}

SmallVector<bool> bmgrad::bm::batchedRuleResults(CustomJvpOp op,
                                                 ArrayRef<bool> batched,
                                                 BatchAxis axis) {
  BatchFlow flow(axis);
  return flow.untilStable([&] { return flow.ofCall(op, batched); });
}

SmallVector<bool> bmgrad::bm::batchedRuleResults(CustomVjpOp op,
                                                 ArrayRef<bool> batched,
                                                 BatchAxis axis) {
  BatchFlow flow(axis);
  return flow.untilStable([&] { return flow.ofCall(op, batched); });
}
