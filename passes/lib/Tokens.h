//===- Tokens.h - The order of effects ---------------------------*- C++
//-*-===//

#ifndef BMGRAD_LIB_PASSES_TOKENS_H
#define BMGRAD_LIB_PASSES_TOKENS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace bmgrad::bm {

/// Threads tokens through the calls of kernels, in a lowered function, whose
/// effects keep an order: one token for each kind of effect, which the function
/// takes before its arguments and gives before its results. The attribute
/// `bm.tokens` of it, and of the kernels' declarations, names the kinds.
llvm::LogicalResult threadTokens(mlir::func::FuncOp function);

} // namespace bmgrad::bm

#endif // BMGRAD_LIB_PASSES_TOKENS_H
