//===- ControlUtils.h - What rules of ops with regions share ----*- C++ -*-===//
//
// Private to Control.cpp, Scan.cpp, While.cpp, Cond.cpp, Remat.cpp and their
// canonical forms.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_LIB_BM_CONTROLUTILS_H
#define BMGRAD_LIB_BM_CONTROLUTILS_H

#include "bmgrad/Dialect/BM/BMDialect.h"
#include "mlir/IR/PatternMatch.h"

namespace bmgrad::bm::control {

/// For each value, whether it is in the set.
llvm::SmallVector<bool> flagsOf(mlir::ValueRange values,
                                const llvm::DenseSet<mlir::Value> &set);

/// For each value, whether it is one, not a symbolic zero.
llvm::SmallVector<bool> nonNull(llvm::ArrayRef<mlir::Value> values);

/// The values whose flag is `wanted`.
llvm::SmallVector<mlir::Value>
pick(mlir::ValueRange values, llvm::ArrayRef<bool> flags, bool wanted = true);

/// The arguments of a loop body that marks of the operands reach, over all
/// steps, and the yielded values that depend on them. Carries begin at argument
/// `firstCarry`.
struct LoopMarks {
  llvm::SmallVector<bool> arguments, yields;
};
LoopMarks markLoop(mlir::Block &body, llvm::ArrayRef<bool> operands,
                   unsigned firstCarry, unsigned numCarries, BlockFlow flow);

/// One step's part of a stacked array, and the array of `length` such parts.
mlir::RankedTensorType sliceType(mlir::Type type);
mlir::RankedTensorType stackedType(mlir::Type type, int64_t length);

/// A builder at the end of a block, which may be in no op yet.
mlir::ImplicitLocOpBuilder builderAt(mlir::Location loc, mlir::Block &block);

/// A block argument of the type, and with the location (its name), of `like`.
mlir::Value addArgument(mlir::Block &block, mlir::Value like);

/// A block argument of this type with the location of `like`.
mlir::Value addArgument(mlir::Block &block, mlir::Value like, mlir::Type type);

/// Moves linear ops to the end of `block`. `mapping` gives what stands there
/// for the primal values they read and for block arguments; constants and what
/// spreads them are made again.
void moveLinearOps(mlir::Block &block, llvm::ArrayRef<mlir::Operation *> ops,
                   const llvm::DenseSet<mlir::Value> &linear,
                   mlir::IRMapping &mapping);

/// What linear values of a moved block are yielded as: a value that does not
/// depend on a linear one is zero, or the block were not linear.
mlir::Value yieldLinear(mlir::ImplicitLocOpBuilder &b, mlir::Value value,
                        const llvm::DenseSet<mlir::Value> &linear,
                        mlir::IRMapping &mapping);

/// The ops of a block that read linear values, in order. `linear` is seeded
/// with block arguments and extended.
llvm::SmallVector<mlir::Operation *>
findLinearOps(mlir::Block &block, llvm::DenseSet<mlir::Value> &linear);

/// Clones the ops of a block that read no linear values.
void clonePrimalOps(mlir::ImplicitLocOpBuilder &b, mlir::Block &block,
                    const llvm::DenseSet<mlir::Value> &linear,
                    mlir::IRMapping &mapping);

/// Adds to `reached` the linear values to which the transposes of `linearOps`
/// bring a cotangent, given those in it.
void reachBackward(llvm::ArrayRef<mlir::Operation *> linearOps,
                   const llvm::DenseSet<mlir::Value> &linear,
                   llvm::DenseSet<mlir::Value> &reached);

/// Writes the JVP of `source` into the empty block `target`, whose arguments
/// are the primals and then the tangents that are not null. Adds the primal
/// results to `yields` and returns the tangents, null for zero.
llvm::FailureOr<llvm::SmallVector<mlir::Value>>
jvpInto(mlir::Location loc, mlir::Block &source,
        llvm::ArrayRef<mlir::Value> tangents, mlir::Block &target,
        llvm::SmallVector<mlir::Value> &yields);

/// Writes the transpose of `source`, linear where `inputs` are null, into the
/// empty block `target`, whose arguments are the other inputs and then the
/// cotangents that are not null, masked ones as what they are made of:
/// `operands` becomes the list of all that. Returns the cotangents of all
/// arguments of `source`.
llvm::FailureOr<llvm::SmallVector<mlir::Value>>
transposeInto(mlir::Location loc, mlir::Block &source,
              llvm::ArrayRef<mlir::Value> inputs,
              llvm::ArrayRef<mlir::Value> cotangents, mlir::Block &target,
              llvm::SmallVector<mlir::Value> &operands);

/// Writes the batched `source` into the empty block `target`, which takes
/// `inputs`. Adds the results to `yields` and returns which are batched.
llvm::FailureOr<llvm::SmallVector<bool>>
batchInto(mlir::Location loc, mlir::Block &source, mlir::ValueRange inputs,
          llvm::ArrayRef<bool> batched, BatchAxis axis, mlir::Block &target,
          llvm::SmallVector<mlir::Value> &yields);

/// Moves the ops of `source` to `where` in `target`, its arguments replaced by
/// `values`, and returns what it yields.
llvm::SmallVector<mlir::Value> inlineBlock(mlir::Block &source,
                                           mlir::Block &target,
                                           mlir::Block::iterator where,
                                           mlir::ValueRange values);

/// Whether a `bm.remat` around may keep this value.
bool isSaveable(mlir::Value value);

/// Marks `value` as `isSaveable`, if it is `wanted`.
mlir::Value markSaveable(mlir::ImplicitLocOpBuilder &b, mlir::Value value,
                         bool wanted);

/// `onTrue` or `onFalse` for each element of a batch: all have the batch
/// dimension.
mlir::Value selectLanes(mlir::ImplicitLocOpBuilder &b, mlir::Value predicate,
                        mlir::Value onTrue, mlir::Value onFalse);

//===----------------------------------------------------------------------===//
// Canonical forms
//===----------------------------------------------------------------------===//

/// Adds to `live` the values that the values in `roots` depend on, within a
/// block. Ops with side effects, calls among them, are live.
void findLive(mlir::Block &block, llvm::ArrayRef<mlir::Value> roots,
              llvm::DenseSet<mlir::Value> &live);

/// Erases the pure ops of a block whose results are not in `live`.
void eraseDeadOps(mlir::RewriterBase &rewriter, mlir::Block &block,
                  const llvm::DenseSet<mlir::Value> &live);

/// The value if it is a constant with one element repeated, else null.
mlir::ElementsAttr splatOf(mlir::Value value);

/// A constant splat of this type with the element of `splat`.
mlir::Value makeSplat(mlir::OpBuilder &b, mlir::Location loc,
                      mlir::ElementsAttr splat, mlir::Type type);

} // namespace bmgrad::bm::control

#endif // BMGRAD_LIB_BM_CONTROLUTILS_H
