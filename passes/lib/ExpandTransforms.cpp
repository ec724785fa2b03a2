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
    auto functions = llvm::to_vector(llvm::make_filter_range(
        getOperation().getOps<func::FuncOp>(),
        [](func::FuncOp function) { return function.isPublic(); }));
    for (func::FuncOp function : functions)
      if (failed(flattener.flatten(function)))
        return signalPassFailure();
    // Not before all are flat: one function may differentiate another.
    for (func::FuncOp function : functions)
      if (failed(flattener.dropRules(function)))
        return signalPassFailure();
  }
};
} // namespace
