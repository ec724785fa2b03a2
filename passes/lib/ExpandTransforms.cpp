//===- ExpandTransforms.cpp - Replaces transforms by what they mean -------===//

#include "Flatten.h"
#include "bmgrad/Dialect/BM/BMDialect.h"
#include "bmgrad/Passes/Passes.h"

namespace bmgrad::bm {
#define GEN_PASS_DEF_EXPANDTRANSFORMS
#include "bmgrad/Passes/Passes.h.inc"
} // namespace bmgrad::bm

using namespace mlir;
using namespace bmgrad::bm;

namespace {
struct ExpandTransforms
    : bmgrad::bm::impl::ExpandTransformsBase<ExpandTransforms> {
  void runOnOperation() override {
    Flattener flattener(getOperation());
    auto functions = llvm::to_vector(getOperation().getOps<func::FuncOp>());
    for (func::FuncOp function : functions)
      if (function.isPublic() && (failed(flattener.flatten(function)) ||
                                  failed(flattener.dropCustomRules(function))))
        return signalPassFailure();
  }
};
} // namespace
