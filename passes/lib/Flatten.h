//===- Flatten.h - Functions without transforms and calls -------*- C++ -*-===//

#ifndef BMGRAD_PASSES_LIB_FLATTEN_H
#define BMGRAD_PASSES_LIB_FLATTEN_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Rewrite/FrozenRewritePatternSet.h"
#include "llvm/ADT/StringMap.h"

namespace bmgrad::bm {

/// The results of a function that have tangents.
llvm::SmallVector<int64_t> differentiableResults(mlir::func::FuncOp function);

/// Makes functions of one module flat: each transform replaced by the function
/// it stands for, each call by the callee's body. Works from the inside out, so
/// a transform of a function with transforms sees plain ops only.
class Flattener {
public:
  explicit Flattener(mlir::ModuleOp module);

  mlir::FailureOr<mlir::func::FuncOp> lookup(mlir::Operation *user,
                                             llvm::StringRef name);
  llvm::LogicalResult flatten(mlir::func::FuncOp function);

  /// Drops what is of no more use once nothing is left to differentiate: ops
  /// with custom rules become calls of their primal functions, written in
  /// place, and what is kept for reverse mode is settled.
  llvm::LogicalResult dropRules(mlir::func::FuncOp function);

  /// The flat, simplified function of deriveJvp, ready to be split.
  mlir::FailureOr<mlir::func::FuncOp> jvp(mlir::func::FuncOp function,
                                          llvm::ArrayRef<int64_t> wrt,
                                          llvm::ArrayRef<int64_t> of,
                                          llvm::StringRef name);
  mlir::FailureOr<mlir::func::FuncOp> transpose(mlir::func::FuncOp function,
                                                unsigned numPrimalArguments,
                                                unsigned numPrimalResults,
                                                llvm::StringRef name);
  void erase(mlir::func::FuncOp function) {
    // Another function may come to lie where this one was.
    flat.erase(function);
    symbols.erase(function);
  }

private:
  mlir::FailureOr<mlir::func::FuncOp> derive(mlir::Operation *transform);
  mlir::FailureOr<mlir::func::FuncOp> vjp(mlir::func::FuncOp function,
                                          llvm::ArrayRef<int64_t> wrt,
                                          llvm::ArrayRef<int64_t> of,
                                          llvm::StringRef name);
  mlir::FailureOr<mlir::func::FuncOp>
  adopt(mlir::FailureOr<mlir::func::FuncOp> made);
  llvm::LogicalResult replaceByBody(mlir::Operation *call,
                                    mlir::func::FuncOp callee);
  void simplify(mlir::func::FuncOp function);

  mlir::SymbolTable symbols;
  mlir::FrozenRewritePatternSet canonicalForms;
  /// Equal transforms of one function share what is derived.
  llvm::StringMap<mlir::func::FuncOp> derived;
  llvm::DenseSet<mlir::Operation *> flat, inProgress;
};

} // namespace bmgrad::bm

#endif // BMGRAD_PASSES_LIB_FLATTEN_H
