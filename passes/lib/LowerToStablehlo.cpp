//===- LowerToStablehlo.cpp - Lowers bm to StableHLO and CHLO -------------===//

#include "Tokens.h"

#include "bmgrad/Dialect/BM/BMDialect.h"
#include "bmgrad/Passes/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace bmgrad::bm {
#define GEN_PASS_DEF_LOWERTOSTABLEHLO
#include "bmgrad/Passes/Passes.h.inc"
} // namespace bmgrad::bm

using namespace mlir;
using namespace bmgrad::bm;

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
  }
};
} // namespace
