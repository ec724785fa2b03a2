//===- bm-opt.cpp - Runs passes on the text of a module ---------*- C++ -*-===//

#include "bmgrad/Passes/Passes.h"
#include "mlir/IR/DialectRegistry.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"

int main(int argc, char **argv) {
  bmgrad::bm::registerPasses();
  mlir::DialectRegistry registry;
  bmgrad::bm::registerDialects(registry);
  return mlir::asMainReturnCode(mlir::MlirOptMain(
      argc, argv, "bmgrad: bm dialect and passes\n", registry));
}
