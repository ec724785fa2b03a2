//===- Passes.h - The passes and pipelines of bmgrad ------------*- C++ -*-===//
//
// Each pass is declared in Passes.td, where its description says what it is
// for; pipelines are in Pipelines.cpp.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_PASSES_PASSES_H
#define BMGRAD_PASSES_PASSES_H

#include "mlir/Pass/Pass.h"
#include "llvm/ADT/ArrayRef.h"

namespace mlir {
class DialectRegistry;
} // namespace mlir

namespace bmgrad::bm {

#define GEN_PASS_DECL
#include "bmgrad/Passes/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "bmgrad/Passes/Passes.h.inc"

/// The dialects that a program may hold, and how calls in it are inlined.
void registerDialects(mlir::DialectRegistry &registry);

/// The passes above, the upstream passes that pipelines and tests name, and the
/// pipelines.
void registerPasses();

/// Registers the pipelines; called by registerPasses.
void registerPipelines();

/// The names that registerPipelines registers.
llvm::ArrayRef<llvm::StringLiteral> getPipelineNames();

} // namespace bmgrad::bm

#endif // BMGRAD_PASSES_PASSES_H
