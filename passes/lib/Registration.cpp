//===- Registration.cpp - What bm-opt and the bindings register -*- C++ -*-===//

#include "bmgrad/Dialect/BM/BMDialect.h"
#include "bmgrad/Passes/Passes.h"
#include "mlir/Dialect/Func/Extensions/InlinerExtension.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Transforms/Passes.h"

void bmgrad::bm::registerDialects(mlir::DialectRegistry &registry) {
  registry.insert<BMDialect, mlir::func::FuncDialect>();
  mlir::func::registerInlinerExtension(registry);
}

void bmgrad::bm::registerPasses() {
  registerBMPasses();
  mlir::registerCanonicalizer();
  mlir::registerCSE();
  mlir::registerInliner();
  mlir::registerStripDebugInfo();
  mlir::registerSymbolDCE();
  registerPipelines();
}
