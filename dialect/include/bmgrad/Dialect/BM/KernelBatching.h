//===- KernelBatching.h - Batching rules of kernels -------------*- C++ -*-===//
//
// The rule of a third party may give a result that all elements of a batch
// share: whether one of them is true, or their sum. Only the rule knows, so
// whoever runs passes says how to ask it.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_DIALECT_BM_KERNELBATCHING_H
#define BMGRAD_DIALECT_BM_KERNELBATCHING_H

#include "bmgrad/Dialect/BM/Kernel.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <functional>
#include <string>

namespace bmgrad::bm {

/// Says of a kernel that is called `symbol` once it is lowered, batches and
/// all, which results have the outermost batch: clears the flags of the others.
/// Returns why it cannot tell, else nothing.
using AskBatchingRule = std::function<std::string(
    llvm::StringRef symbol, llvm::MutableArrayRef<bool> results)>;

/// Makes what the rule makes of a call, known by its number, over `batch`,
/// as `batchSuffix` says it: a module, as text or bytecode, with the
/// function `@main`. Returns why there is none, else nothing.
using MakeBatch = std::function<std::string(
    int64_t number, llvm::StringRef batch, std::string &module)>;

/// Who answers from now on. Without them all results have the batch.
void setBatchingRules(AskBatchingRule ask, MakeBatch make);

/// What a batch of this size of the operands at `axes`, 0 or -1 for none, adds
/// to the name of a kernel.
std::string batchSuffix(int64_t size, llvm::ArrayRef<int64_t> axes);

/// The name of the declaration says all that its type depends on, so one name
/// has one type: the kernel, and each batch's size and batched operands.
/// `@bm_kernel_3_5x0n` is kernel 3 over a batch of 5 of its first operand.
std::string kernelSymbol(KernelOp op);

/// Which results of `op` have a batch of this size over the marked operands;
/// all, where `reason` says why it cannot be told.
llvm::SmallVector<bool> batchedKernelResults(KernelOp op,
                                             llvm::ArrayRef<bool> batched,
                                             int64_t size, std::string &reason);

/// The function that applies what `MakeBatch` makes, which is added to the
/// module around `op` unless it is there.
llvm::FailureOr<mlir::func::FuncOp> functionOverBatch(mlir::Operation *op,
                                                      int64_t number,
                                                      llvm::StringRef name,
                                                      llvm::StringRef batch);

} // namespace bmgrad::bm

#endif // BMGRAD_DIALECT_BM_KERNELBATCHING_H
