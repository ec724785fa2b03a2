//===- Derive.h - Functions made from functions -----------------*- C++ -*-===//
//
// What the transform ops and the linearize and transpose passes share. The
// functions given must be flat: without transforms and calls (see Flatten.h).
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_PASSES_LIB_DERIVE_H
#define BMGRAD_PASSES_LIB_DERIVE_H

#include "bmgrad/Dialect/BM/Rules.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace bmgrad::bm {

/// `name(x..., dx of wrt...) -> (y..., dy of the results `of`...)`.
mlir::FailureOr<mlir::func::FuncOp> deriveJvp(mlir::func::FuncOp function,
                                              llvm::ArrayRef<int64_t> wrt,
                                              llvm::ArrayRef<int64_t> of,
                                              llvm::StringRef name);

/// The transpose of the linear part of a function whose arguments after
/// `numPrimalArguments` are tangents and whose results after
/// `numPrimalResults` depend linearly on them:
/// `name(primal arguments..., cotangents...) -> (primal results..., cotangents
/// of the linear arguments...)`. Rewrites `function` on the way.
mlir::FailureOr<mlir::func::FuncOp> deriveTranspose(mlir::func::FuncOp function,
                                                    unsigned numPrimalArguments,
                                                    unsigned numPrimalResults,
                                                    llvm::StringRef name);

/// The two parts of such a function, outlined:
/// `fwdName(primal arguments...) -> (primal results..., residuals...)` and
/// `linName(residuals..., tangents...) -> tangents`. Rewrites `function`.
llvm::LogicalResult deriveSplit(mlir::func::FuncOp function,
                                unsigned numPrimalArguments,
                                unsigned numPrimalResults,
                                llvm::StringRef fwdName,
                                llvm::StringRef linName);

/// The function applied to each element of a batch; axis -1 is no batch axis.
mlir::FailureOr<mlir::func::FuncOp> deriveBatch(mlir::func::FuncOp function,
                                                llvm::ArrayRef<int64_t> inAxes,
                                                llvm::ArrayRef<int64_t> outAxes,
                                                BatchAxis axis,
                                                llvm::StringRef name);

} // namespace bmgrad::bm

#endif // BMGRAD_PASSES_LIB_DERIVE_H
