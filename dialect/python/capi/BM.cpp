//===- BM.cpp - C interface of the bm dialect and its passes ----*- C++ -*-===//

#include "bmgrad-c/BM.h"

#include "bmgrad/Dialect/BM/BMOps.h"
#include "bmgrad/Dialect/BM/KernelBatching.h"
#include "bmgrad/Passes/Passes.h"
#include "mlir/CAPI/IR.h"
#include "mlir/CAPI/Support.h"

using namespace bmgrad::bm;

void bmRegisterDialects(MlirDialectRegistry registry) {
  registerDialects(*unwrap(registry));
}

void bmRegisterPasses() { registerPasses(); }

template <typename Op>
static void report(llvm::StringRef family, BMOpRecordCallback callback,
                   void *userData) {
  llvm::SmallVector<MlirStringRef> primitives;
  for (llvm::StringRef primitive : Op::getPrimitives())
    primitives.push_back(wrap(primitive));
  llvm::StringRef stablehlo = Op::getStablehloName();
  BMOpRecord record{wrap(Op::getOperationName()),
                    wrap(family),
                    wrap(stablehlo),
                    static_cast<intptr_t>(primitives.size()),
                    primitives.data(),
                    std::is_base_of_v<DifferentiableOpInterface::Trait<Op>, Op>,
                    std::is_base_of_v<LinearOpInterface::Trait<Op>, Op>,
                    std::is_base_of_v<BatchableOpInterface::Trait<Op>, Op>,
                    std::is_base_of_v<LowerableOpInterface::Trait<Op>, Op>};
  callback(&record, userData);
}

namespace {
struct OpVisitor {
  template <typename... Ops>
  void visitFamily([[maybe_unused]] llvm::StringRef family) {
    (report<Ops>(family, callback, userData), ...);
  }

  void run() {
#include "bmgrad/Dialect/BM/BMFamilies.inc"
  }

  BMOpRecordCallback callback;
  void *userData;
};
} // namespace

void bmForEachOp(BMOpRecordCallback callback, void *userData) {
  OpVisitor{callback, userData}.run();
}

void bmForEachPipeline(MlirStringCallback callback, void *userData) {
  for (llvm::StringRef name : getPipelineNames())
    callback(wrap(name), userData);
}

static void appendTo(MlirStringRef text, void *string) {
  static_cast<std::string *>(string)->append(text.data, text.length);
}

void bmSetBatchingRules(BMBatchingRuleCallback ask, BMMakeBatchCallback make) {
  setBatchingRules(
      [ask](llvm::StringRef symbol, llvm::MutableArrayRef<bool> results) {
        std::string reason;
        ask(wrap(symbol), results.data(), static_cast<intptr_t>(results.size()),
            appendTo, &reason);
        return reason;
      },
      [make](int64_t number, llvm::StringRef batch, std::string &module) {
        std::string reason;
        make(number, wrap(batch), appendTo, appendTo, &module, &reason);
        return reason;
      });
}
