//===- KernelBatching.h - Batching rules of kernels -------------*- C++ -*-===//
//
// The rule of a third party may give a result that all elements of a batch
// share: whether one of them is true, say. Only the rule knows, so whoever runs
// passes says how to ask.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_DIALECT_BM_KERNELBATCHING_H
#define BMGRAD_DIALECT_BM_KERNELBATCHING_H

#include "bmgrad/Dialect/BM/Kernel.h"

#include <functional>
#include <string>

namespace bmgrad::bm {

/// Says of a kernel that is called `symbol` once it is lowered, batches and
/// all, which results have the outermost batch: clears the flags of the others.
/// Returns why it cannot tell, else nothing.
using AskBatchingRule = std::function<std::string(
    llvm::StringRef symbol, llvm::MutableArrayRef<bool> results)>;

/// What is asked from now on. Without it all results have the batch.
void setAskBatchingRule(AskBatchingRule ask);

/// Which results of `op` have a batch of this size over the marked operands;
/// all, where `reason` says why it cannot be told.
llvm::SmallVector<bool> batchedKernelResults(KernelOp op,
                                             llvm::ArrayRef<bool> batched,
                                             int64_t size, std::string &reason);

} // namespace bmgrad::bm

#endif // BMGRAD_DIALECT_BM_KERNELBATCHING_H
