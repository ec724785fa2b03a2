//===- FindBatched.cpp - What a batch over a named axis reaches -----------===//

#include "Flatten.h"
#include "bmgrad/Dialect/BM/BMDialect.h"
#include "bmgrad/Dialect/BM/Rules.h"
#include "bmgrad/Passes/Passes.h"

namespace bmgrad::bm {
#define GEN_PASS_DEF_FINDBATCHED
#include "bmgrad/Passes/Passes.h.inc"
} // namespace bmgrad::bm

using namespace mlir;
using namespace bmgrad::bm;

namespace {
struct FindBatched : bmgrad::bm::impl::FindBatchedBase<FindBatched> {
  using FindBatchedBase::FindBatchedBase;

  void runOnOperation() override {
    Flattener flattener(getOperation());
    auto target = flattener.lookup(getOperation(), function);
    if (failed(target) || failed(flattener.flatten(*target)))
      return signalPassFailure();
    SmallVector<bool> arguments(target->getNumArguments(), false);
    for (int64_t index : batched) {
      if (index < 0 || index >= static_cast<int64_t>(arguments.size())) {
        target->emitError("batched names argument ")
            << index << ", but there are " << arguments.size();
        return signalPassFailure();
      }
      arguments[index] = true;
    }
    Block &body = target->getBody().front();
    SmallVector<bool> results =
        tangents ? batchedResults(body, arguments, {size, axis})
                 : batchedValues(body, arguments, {size, axis});
    (*target)->setAttr("bm.batched",
                       DenseBoolArrayAttr::get(&getContext(), results));
  }
};
} // namespace
