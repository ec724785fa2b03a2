//===- Spatial.h - Windows that slide over an array -------------*- C++ -*-===//
//
// What convolutions and window reductions share: how windows lie over a base
// array, how many there are, and how the transposes slide.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_LIB_BM_SPATIAL_H
#define BMGRAD_LIB_BM_SPATIAL_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"

namespace bmgrad::bm {

/// One entry a dimension. The base is dilated, then padded; windows, dilated as
/// well, begin at every `strides`-th place of it.
struct Spatial {
  using Sizes = llvm::SmallVector<int64_t>;
  Sizes strides, low, high, baseDilation, windowDilation;

  static int64_t dilated(int64_t size, int64_t dilation) {
    return size == 0 ? 0 : 1 + dilation * (size - 1);
  }

  /// Windows without dilation.
  static Spatial plain(llvm::ArrayRef<int64_t> strides,
                       llvm::ArrayRef<int64_t> low,
                       llvm::ArrayRef<int64_t> high) {
    Sizes ones(strides.size(), 1);
    return {Sizes(strides), Sizes(low), Sizes(high), ones, ones};
  }

  /// Whether there are this many dimensions, with strides and dilations that
  /// are positive.
  bool isValid(size_t rank) const {
    for (const Sizes *sizes : {&strides, &baseDilation, &windowDilation})
      if (llvm::any_of(*sizes, [](int64_t size) { return size < 1; }))
        return false;
    return llvm::all_of(
        llvm::ArrayRef{&strides, &low, &high, &baseDilation, &windowDilation},
        [&](const Sizes *sizes) { return sizes->size() == rank; });
  }

  /// How many windows there are.
  Sizes resultShape(llvm::ArrayRef<int64_t> base,
                    llvm::ArrayRef<int64_t> window) const {
    Sizes shape;
    for (auto [dim, size] : llvm::enumerate(base)) {
      int64_t padded = low[dim] + dilated(size, baseDilation[dim]) + high[dim];
      int64_t covered = dilated(window[dim], windowDilation[dim]);
      shape.push_back(padded < covered ? 0
                                       : (padded - covered) / strides[dim] + 1);
    }
    return shape;
  }

  /// How the transpose with respect to the base slides the reversed window over
  /// the results: strides and dilation of the base change places.
  Spatial towardsBase(llvm::ArrayRef<int64_t> base,
                      llvm::ArrayRef<int64_t> window) const {
    Spatial back{baseDilation, {}, {}, strides, windowDilation};
    Sizes windows = resultShape(base, window);
    for (auto [dim, size] : llvm::enumerate(base)) {
      int64_t covered = dilated(window[dim], windowDilation[dim]);
      int64_t before = covered - low[dim] - 1;
      back.low.push_back(before);
      back.high.push_back(dilated(size, baseDilation[dim]) + covered - 1 -
                          dilated(windows[dim], strides[dim]) - before);
    }
    return back;
  }

  /// How the transpose with respect to the window slides the results over the
  /// base: strides and dilation of the window change places.
  Spatial towardsWindow(llvm::ArrayRef<int64_t> base,
                        llvm::ArrayRef<int64_t> window) const {
    Spatial back{windowDilation, low, {}, baseDilation, strides};
    Sizes windows = resultShape(base, window);
    for (auto [dim, size] : llvm::enumerate(base))
      back.high.push_back(dilated(windows[dim], strides[dim]) -
                          dilated(size, baseDilation[dim]) +
                          dilated(window[dim], windowDilation[dim]) - low[dim] -
                          1);
    return back;
  }

  /// The padding as StableHLO has it: pairs of low and high.
  mlir::Attribute padding(mlir::OpBuilder &b) const {
    Sizes pairs;
    for (auto [before, after] : llvm::zip_equal(low, high))
      pairs.append({before, after});
    auto type = mlir::RankedTensorType::get(
        {static_cast<int64_t>(low.size()), 2}, b.getI64Type());
    return mlir::DenseIntElementsAttr::get(type, pairs);
  }
};

/// Windows of a size that slide over all dimensions of an array.
struct Sliding {
  Spatial::Sizes window;
  Spatial space;

  /// Of an op that says so.
  template <typename OpTy> static Sliding of(OpTy op) {
    return {llvm::to_vector(op.getWindow()),
            {llvm::to_vector(op.getStrides()), llvm::to_vector(op.getLow()),
             llvm::to_vector(op.getHigh()),
             llvm::to_vector(op.getBaseDilation()),
             llvm::to_vector(op.getWindowDilation())}};
  }

  Spatial::Sizes resultShape(llvm::ArrayRef<int64_t> base) const {
    return space.resultShape(base, window);
  }

  /// The same with a batch dimension in front.
  Sliding batched() const {
    Sliding more(*this);
    more.window.insert(more.window.begin(), 1);
    for (Spatial::Sizes *sizes : {&more.space.strides, &more.space.baseDilation,
                                  &more.space.windowDilation})
      sizes->insert(sizes->begin(), 1);
    for (Spatial::Sizes *sizes : {&more.space.low, &more.space.high})
      sizes->insert(sizes->begin(), 0);
    return more;
  }

  /// Checks an op's windows over `base`, and that there are as many as it has
  /// results of the type `windows`.
  mlir::LogicalResult verify(mlir::Operation *op, mlir::RankedTensorType base,
                             mlir::RankedTensorType windows) const;

  /// As StableHLO has it.
  llvm::SmallVector<mlir::NamedAttribute> attributes(mlir::OpBuilder &b) const;
};

} // namespace bmgrad::bm

#endif // BMGRAD_LIB_BM_SPATIAL_H
