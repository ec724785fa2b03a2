//===- KernelBatching.cpp - Asking for batching rules ---------------------===//
//
// What the rules make of a batch is a module of its own, whose functions move
// into the one that calls it.
//
//===----------------------------------------------------------------------===//

#include "bmgrad/Dialect/BM/KernelBatching.h"

#include "mlir/IR/SymbolTable.h"
#include "mlir/Parser/Parser.h"

using namespace mlir;
using namespace bmgrad::bm;

namespace {
struct BatchingRules {
  AskBatchingRule ask;
  MakeBatch make;
};
} // namespace

static BatchingRules &batchingRules() {
  static BatchingRules rules;
  return rules;
}

void bmgrad::bm::setBatchingRules(AskBatchingRule ask, MakeBatch make) {
  batchingRules() = {std::move(ask), std::move(make)};
}

SmallVector<bool> bmgrad::bm::batchedKernelResults(KernelOp op,
                                                   ArrayRef<bool> batched,
                                                   int64_t size,
                                                   std::string &reason) {
  SmallVector<bool> results(op->getNumResults(), true);
  if (op.getHasBatchingRule() && batchingRules().ask) {
    SmallVector<int64_t> axes = llvm::map_to_vector(
        batched, [](bool flag) -> int64_t { return flag ? 0 : -1; });
    reason = batchingRules().ask(kernelSymbol(op) + batchSuffix(size, axes),
                                 results);
  }
  return results;
}

/// On the function that applies what was made: of what.
static constexpr StringLiteral kMadeOf("bm.made_of");

/// Moves the functions of `from` into `module` under names that are free, its
/// `@main` as `name` or the like, which is returned.
static func::FuncOp moveFunctions(ModuleOp from, ModuleOp module,
                                  StringRef name) {
  SymbolTable here(module), there(from);
  auto main = there.lookup<func::FuncOp>("main");
  (void)there.rename(main, name);
  for (Operation &op : from.getOps())
    if (here.lookup(SymbolTable::getSymbolName(&op)))
      (void)there.renameToUnique(&op, {&here});
  main.setPrivate();
  for (Operation &op : llvm::make_early_inc_range(from.getOps())) {
    op.remove();
    module.push_back(&op);
  }
  return main;
}

FailureOr<func::FuncOp> bmgrad::bm::functionOverBatch(Operation *op,
                                                      int64_t number,
                                                      StringRef name,
                                                      StringRef batch) {
  auto module = op->getParentOfType<ModuleOp>();
  MLIRContext *context = op->getContext();
  auto madeOf = StringAttr::get(context, std::to_string(number) + batch.str());
  for (auto function : module.getOps<func::FuncOp>())
    if (function->getAttr(kMadeOf) == madeOf)
      return function;

  if (!batchingRules().make)
    return op->emitError("nothing that knows the batching rule of '")
           << name << "'";
  std::string text, reason = batchingRules().make(number, batch, text);
  if (!reason.empty())
    return op->emitError() << reason;
  auto made = parseSourceString<ModuleOp>(text, context);
  if (!made)
    return failure();
  func::FuncOp function = moveFunctions(*made, module, (name + batch).str());
  function->setAttr(kMadeOf, madeOf);
  return function;
}
