//===- LowerToStablehlo.cpp - Lowers bm to StableHLO and CHLO -------------===//

#include "Tokens.h"

#include "bmgrad/Dialect/BM/BMDialect.h"
#include "bmgrad/Passes/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/StringSet.h"

namespace bmgrad::bm {
#define GEN_PASS_DEF_LOWERTOSTABLEHLO
#include "bmgrad/Passes/Passes.h.inc"
} // namespace bmgrad::bm

using namespace mlir;
using namespace bmgrad::bm;

/// A loop without steps leaves what its body would have called.
static void eraseUncalledDeclarations(ModuleOp module) {
  llvm::StringSet<> called;
  module.walk([&](func::CallOp call) { called.insert(call.getCallee()); });
  for (auto function :
       llvm::make_early_inc_range(module.getOps<func::FuncOp>()))
    if (function.isExternal() && !called.contains(function.getName()))
      function.erase();
}

namespace {
struct LowerToStablehlo
    : bmgrad::bm::impl::LowerToStablehloBase<LowerToStablehlo> {
  void runOnOperation() override {
    if (!getContext().allowsUnregisteredDialects()) {
      getOperation().emitError(
          "StableHLO ops are written unregistered: the context must allow "
          "unregistered dialects (bm-opt -allow-unregistered-dialect)");
      return signalPassFailure();
    }
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      for (Block &block : function.getBody())
        if (failed(lowerBlock(block)))
          return signalPassFailure();
      WalkResult left = function.walk([](Operation *op) {
        if (!isa_and_nonnull<BMDialect>(op->getDialect()))
          return WalkResult::advance();
        op->emitOpError("has no lowering to StableHLO");
        return WalkResult::interrupt();
      });
      if (left.wasInterrupted() || failed(threadTokens(function)))
        return signalPassFailure();
    }
    eraseUncalledDeclarations(getOperation());
  }
};
} // namespace
