//===- BM.cpp - C interface of the bm dialect and its passes ----*- C++ -*-===//

#include "bmgrad-c/BM.h"

#include "bmgrad/Dialect/BM/BMDialect.h"
#include "bmgrad/Passes/Passes.h"
#include "mlir/CAPI/IR.h"
#include "mlir/CAPI/Support.h"

using namespace bmgrad::bm;

void bmRegisterDialects(MlirDialectRegistry registry) {
  registerDialects(*unwrap(registry));
}

void bmRegisterPasses() { registerPasses(); }

namespace {
template <typename Op>
void report(llvm::StringRef family, BMOpRecordCallback callback,
            void *userData) {
  llvm::SmallVector<MlirStringRef> primitives;
  for (llvm::StringRef primitive : Op::getPrimitives())
    primitives.push_back(wrap(primitive));
  llvm::StringRef stablehlo = Op::getStablehloName();
  BMOpRecord record{wrap(Op::getOperationName()), wrap(family), wrap(stablehlo),
                    static_cast<intptr_t>(primitives.size()),
                    primitives.data()};
  callback(&record, userData);
}

template <typename... Ops>
void reportFamily([[maybe_unused]] llvm::StringRef family,
                  [[maybe_unused]] BMOpRecordCallback callback,
                  [[maybe_unused]] void *userData) {
  (report<Ops>(family, callback, userData), ...);
}
} // namespace

void bmForEachOp(BMOpRecordCallback callback, void *userData) {
  reportFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/Elementwise.cpp.inc"
      >("elementwise", callback, userData);
  reportFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/Shape.cpp.inc"
      >("shape", callback, userData);
  reportFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/Indexing.cpp.inc"
      >("indexing", callback, userData);
  reportFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/Reduction.cpp.inc"
      >("reduction", callback, userData);
  reportFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/Contraction.cpp.inc"
      >("contraction", callback, userData);
  reportFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/Control.cpp.inc"
      >("control", callback, userData);
  reportFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/Transforms.cpp.inc"
      >("transforms", callback, userData);
  reportFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/Custom.cpp.inc"
      >("custom", callback, userData);
  reportFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/Kernel.cpp.inc"
      >("kernel", callback, userData);
}

void bmForEachPipeline(MlirStringCallback callback, void *userData) {
  for (llvm::StringRef name : getPipelineNames())
    callback(wrap(name), userData);
}
