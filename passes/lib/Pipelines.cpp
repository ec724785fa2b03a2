//===- Pipelines.cpp - The order of the passes ----------------------------===//
//
// The one place where it is written. The runtime runs these by name.
//
//===----------------------------------------------------------------------===//

#include "bmgrad/Passes/Passes.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"

#include <array>

using namespace mlir;

/// From what the user wrote to its derivative: stage "adjoint".
static void buildDifferentiate(OpPassManager &manager) {
  // First of all: no other pass knows what a transform means.
  manager.addPass(bmgrad::bm::createExpandTransforms());
  // Expansion inlined every callee; only public functions are still needed.
  manager.addPass(createSymbolDCEPass());
}

/// Forward and adjoint together, still with loops as loops: stage "optimized".
static void buildOptimize(OpPassManager &manager) {
  // Derivatives come with products by one, sums with zero and dead primal
  // results.
  manager.addPass(createCanonicalizerPass());
  // After canonical forms: more ops are equal then. The adjoint repeats much of
  // the primal.
  manager.addPass(createCSEPass());
  // Calls with derivative rules that died leave batches of their rules behind.
  manager.addPass(createSymbolDCEPass());
}

/// To what XLA reads: stage "stablehlo".
static void buildLower(OpPassManager &manager) {
  manager.addPass(bmgrad::bm::createUseReciprocals());
  manager.addPass(bmgrad::bm::createLowerToStablehlo());
  // The very ops that XLA makes kernels of are there now.
  manager.addPass(bmgrad::bm::createKeepShared());
}

namespace {
struct Pipeline {
  llvm::StringLiteral name, description;
  void (*build)(OpPassManager &);
};
constexpr std::array<Pipeline, 3> pipelines{{
    {"bm-differentiate", "Expands transforms and calls", buildDifferentiate},
    {"bm-optimize", "Simplifies forward and adjoint together", buildOptimize},
    {"bm-lower", "Lowers to StableHLO", buildLower},
}};
} // namespace

void bmgrad::bm::registerPipelines() {
  for (const Pipeline &pipeline : pipelines)
    PassPipelineRegistration<>(pipeline.name, pipeline.description,
                               pipeline.build);
}

ArrayRef<llvm::StringLiteral> bmgrad::bm::getPipelineNames() {
  static constexpr auto names = [] {
    return std::array<llvm::StringLiteral, 3>{
        pipelines[0].name, pipelines[1].name, pipelines[2].name};
  }();
  return names;
}
