//===- CustomRules.h - What functions with custom rules share ---*- C++ -*-===//
//
// Custom.cpp differentiates calls of such functions, CustomBatching.cpp batches
// them with their rules.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_LIB_BM_CUSTOMRULES_H
#define BMGRAD_LIB_BM_CUSTOMRULES_H

#include "bmgrad/Dialect/BM/Custom.h"

namespace bmgrad::bm {

/// The types of those that have tangents.
llvm::SmallVector<mlir::Type> differentiable(mlir::TypeRange types);

/// A transpose that comes with an op, with respect to some operands.
struct GivenTranspose {
  llvm::ArrayRef<int64_t> linear;
  mlir::FlatSymbolRefAttr function;

  bool isLinear(unsigned index) const {
    return llvm::is_contained(linear, static_cast<int64_t>(index));
  }
};

llvm::SmallVector<GivenTranspose> givenTransposes(CustomJvpOp op);

/// The name of the primitive that the function is, for messages; that of the
/// function has a number where there are several.
llvm::StringRef getPrimitiveName(CustomJvpOp op);

/// The flags of the inputs, then those of their tangents, which are the same.
llvm::SmallVector<bool> withInputTangents(mlir::ValueRange inputs,
                                          llvm::ArrayRef<bool> flags);

/// Which results of `op` are batched when the marked inputs are, each with its
/// tangent, unless the rules of the batch are others.
llvm::SmallVector<bool> batchedRuleResults(CustomJvpOp op,
                                           llvm::ArrayRef<bool> batched,
                                           BatchAxis axis);

/// The same, each with its cotangents.
llvm::SmallVector<bool> batchedRuleResults(CustomVjpOp op,
                                           llvm::ArrayRef<bool> batched,
                                           BatchAxis axis);

/// Which results of `callee` depend on the batch at all, though all elements
/// may share what is made of it.
llvm::SmallVector<bool> reachedCallResults(mlir::Operation *op,
                                           llvm::StringRef callee,
                                           llvm::ArrayRef<bool> batched,
                                           BatchAxis axis);

} // namespace bmgrad::bm

#endif // BMGRAD_LIB_BM_CUSTOMRULES_H
