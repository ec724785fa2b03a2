//===- Windows.h - What gather and scatter share ----------------*- C++ -*-===//
//
// A gather reads windows of an array at the positions that its indices say; the
// scatter that reverses it writes windows of the same shape there. Both are
// described by one record, in the names of the gather, so that shapes, batching
// and the way from one to the other are written once.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_LIB_BM_WINDOWS_H
#define BMGRAD_LIB_BM_WINDOWS_H

#include "bmgrad/Dialect/BM/Indexing.h"

namespace bmgrad::bm {

struct Windows {
  /// Dimensions of the gathered windows that come from within a window.
  llvm::SmallVector<int64_t> offsetDims;
  /// Operand dimensions of window size 1 that the gathered windows lack.
  llvm::SmallVector<int64_t> collapsedDims;
  /// The operand dimension that each entry of an index vector indexes.
  llvm::SmallVector<int64_t> indexMap;
  /// Dimensions of operand and indices that run together.
  llvm::SmallVector<int64_t> operandBatchingDims;
  llvm::SmallVector<int64_t> indicesBatchingDims;
  /// Of a window, one an operand dimension.
  llvm::SmallVector<int64_t> sliceSizes;
  IndexMode mode = IndexMode::PromiseInBounds;
  bool sorted = false;
  bool unique = false;

  static Windows of(GatherOp op);

  template <typename ScatterOpTy> static Windows ofScatter(ScatterOpTy op) {
    Windows w{llvm::to_vector(op.getUpdateWindowDims()),
              llvm::to_vector(op.getInsertedWindowDims()),
              llvm::to_vector(op.getScatterDimsToOperandDims()),
              llvm::to_vector(op.getOperandBatchingDims()),
              llvm::to_vector(op.getScatterIndicesBatchingDims()),
              {},
              op.getMode(),
              op.getIndicesAreSorted(),
              op.getUniqueIndices()};
    w.setSliceSizes(tensorType(op.getOperand()), tensorType(op.getUpdates()));
    return w;
  }

  /// The type of all windows together: a gather's result, a scatter's updates.
  mlir::RankedTensorType type(mlir::RankedTensorType operand,
                              mlir::RankedTensorType indices) const;

  mlir::Value gather(mlir::ImplicitLocOpBuilder &b, mlir::Value operand,
                     mlir::Value indices,
                     mlir::ElementsAttr fillValue = {}) const;

  template <typename ScatterOpTy>
  mlir::Value scatter(mlir::ImplicitLocOpBuilder &b, mlir::Value operand,
                      mlir::Value indices, mlir::Value updates) const {
    return ScatterOpTy::create(b, operand.getType(), operand, indices, updates,
                               offsetDims, collapsedDims, indexMap,
                               operandBatchingDims, indicesBatchingDims, mode,
                               sorted, unique);
  }

  /// The same with another mode.
  Windows with(IndexMode mode) const;

  /// The dimension numbers as StableHLO attributes.
  mlir::Attribute gatherNumbers(mlir::OpBuilder &b,
                                mlir::RankedTensorType indices) const;
  mlir::Attribute scatterNumbers(mlir::OpBuilder &b,
                                 mlir::RankedTensorType indices) const;

  /// The operand, and with it the windows, get a batch dimension in front.
  void batchOperand(int64_t size);
  /// The indices, and with them the windows, get one.
  void batchIndices();
  /// Operand and indices have one, along which they run together.
  void batchBoth(int64_t size);

  /// The largest index vector at which a window still lies inside the operand.
  llvm::SmallVector<int64_t>
  lastPositions(mlir::RankedTensorType operand) const;

  /// Whether constant indices say that every window lies inside the operand.
  bool provenInBounds(mlir::RankedTensorType operand,
                      mlir::Value indices) const;

  /// Whether no two windows overlap, as promised or because there is one only.
  bool areDisjoint(mlir::RankedTensorType indices) const;

  /// The indices, clamped so that each window lies inside the operand.
  mlir::Value clampIndices(mlir::ImplicitLocOpBuilder &b,
                           mlir::RankedTensorType operand,
                           mlir::Value indices) const;

  mlir::LogicalResult verify(mlir::Operation *op,
                             mlir::RankedTensorType operand,
                             mlir::RankedTensorType indices,
                             mlir::RankedTensorType windows) const;

private:
  /// From the shape of a scatter's updates; wrong dimension numbers, which the
  /// verifier reports, leave sizes of 1.
  void setSliceSizes(mlir::RankedTensorType operand,
                     mlir::RankedTensorType updates);
};

/// A tensor of the shape of `like` that holds `values` along the last
/// dimension; a value that the element type cannot hold becomes the nearest one
/// that it can.
mlir::Value constantAlongLast(mlir::ImplicitLocOpBuilder &b,
                              mlir::RankedTensorType like,
                              llvm::ArrayRef<int64_t> values);

} // namespace bmgrad::bm

#endif // BMGRAD_LIB_BM_WINDOWS_H
