//===- bm-opt.cpp - Runs passes on the text of a module ---------*- C++ -*-===//

#include "bmgrad/Passes/Passes.h"
#include "mlir/IR/DialectRegistry.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "llvm/Support/CrashRecoveryContext.h"
#include "llvm/Support/WithColor.h"

int main(int argc, char **argv) {
  bmgrad::bm::registerPasses();
  mlir::DialectRegistry registry;
  bmgrad::bm::registerDialects(registry);

  // MLIR's own parser asserts on some texts (`array<index: 0>`): that is told
  // as what it is, and is no text's fault.
  llvm::CrashRecoveryContext::Enable();
  llvm::CrashRecoveryContext guard;
  llvm::LogicalResult result = llvm::failure();
  if (!guard.RunSafely([&] {
        result = mlir::MlirOptMain(argc, argv,
                                   "bmgrad: bm dialect and passes\n", registry);
      }))
    llvm::WithColor::error(llvm::errs(), "bm-opt")
        << "internal error; please report it with this input\n";
  return mlir::asMainReturnCode(result);
}
