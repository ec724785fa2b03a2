//===- Linearize.cpp - Splits a function into primal and linear part ------===//

#include "Derive.h"
#include "Flatten.h"
#include "bmgrad/Dialect/BM/BMDialect.h"
#include "bmgrad/Passes/Passes.h"

namespace bmgrad::bm {
#define GEN_PASS_DEF_LINEARIZE
#define GEN_PASS_DEF_TRANSPOSE
#include "bmgrad/Passes/Passes.h.inc"
} // namespace bmgrad::bm

using namespace mlir;
using namespace bmgrad::bm;

namespace {
struct Linearize : bmgrad::bm::impl::LinearizeBase<Linearize> {
  using LinearizeBase::LinearizeBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    Flattener flattener(module);
    auto target = flattener.lookup(module, function);
    if (failed(target) || failed(flattener.flatten(*target)))
      return signalPassFailure();
    unsigned numArguments = target->getNumArguments(),
             numResults = target->getNumResults();
    for (int64_t index : wrt)
      if (index < 0 || index >= numArguments ||
          !isDifferentiable(target->getArgument(index).getType())) {
        target->emitError("wrt names argument ")
            << index << ", which has no derivative";
        return signalPassFailure();
      }
    auto tangent = flattener.jvp(*target, wrt, differentiableResults(*target),
                                 function + ".jvp");
    if (failed(tangent))
      return signalPassFailure();
    if (failed(deriveSplit(*tangent, numArguments, numResults,
                           function + ".fwd", function + ".lin")))
      return signalPassFailure();
    flattener.erase(*tangent);
    flattener.erase(*target);
    for (StringRef part : {".fwd", ".lin"})
      module.lookupSymbol<func::FuncOp>((function + part).str()).setPublic();
  }
};

struct Transpose : bmgrad::bm::impl::TransposeBase<Transpose> {
  using TransposeBase::TransposeBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    Flattener flattener(module);
    auto target = flattener.lookup(module, function);
    if (failed(target) || failed(flattener.flatten(*target)))
      return signalPassFailure();
    if (residuals < 0 || residuals > target->getNumArguments()) {
      target->emitError("has ")
          << target->getNumArguments() << " arguments, fewer than the "
          << residuals << " residuals named";
      return signalPassFailure();
    }
    auto made =
        flattener.transpose(*target, residuals, 0, function + ".transpose");
    if (failed(made))
      return signalPassFailure();
    flattener.erase(*target);
    made->setName(function);
    made->setPublic();
  }
};
} // namespace
