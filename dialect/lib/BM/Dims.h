//===- Dims.h - Lists of dimensions -----------------------------*- C++ -*-===//
//
// What the rules of ops with dimension attributes (Shape, Reduction,
// Contraction) do with them: check them, complement them, make room for a batch
// dimension.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_LIB_BM_DIMS_H
#define BMGRAD_LIB_BM_DIMS_H

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Diagnostics.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"

namespace bmgrad::bm {

/// The dimensions below `rank` that are not in `taken`, in order.
inline llvm::SmallVector<int64_t> otherDims(int64_t rank,
                                            llvm::ArrayRef<int64_t> taken) {
  return llvm::filter_to_vector(llvm::seq<int64_t>(rank), [&](int64_t dim) {
    return !llvm::is_contained(taken, dim);
  });
}

/// The dimensions after a batch dimension was put in front.
inline llvm::SmallVector<int64_t> shiftedDims(llvm::ArrayRef<int64_t> dims) {
  return llvm::map_to_vector(dims, [](int64_t dim) { return dim + 1; });
}

inline llvm::SmallVector<int64_t> prepended(int64_t first,
                                            llvm::ArrayRef<int64_t> rest) {
  llvm::SmallVector<int64_t> all{first};
  llvm::append_range(all, rest);
  return all;
}

/// Checks that the dimensions are distinct and below the rank.
inline mlir::LogicalResult verifyDims(std::optional<mlir::Location> location,
                                      llvm::StringRef name,
                                      llvm::ArrayRef<int64_t> dims,
                                      int64_t rank) {
  for (auto [index, dim] : llvm::enumerate(dims)) {
    if (dim < 0 || dim >= rank)
      return mlir::emitOptionalError(
          location, name, " has ", dim,
          ", which is no dimension of an operand of rank ", rank);
    if (llvm::is_contained(dims.take_front(index), dim))
      return mlir::emitOptionalError(location, name, " has ", dim, " twice");
  }
  return mlir::success();
}

/// The splat with another shape, or null if the attribute is no splat.
inline mlir::SplatElementsAttr resizedSplat(mlir::Attribute attribute,
                                            mlir::Type type) {
  auto splat = llvm::dyn_cast_or_null<mlir::SplatElementsAttr>(attribute);
  return splat ? llvm::cast<mlir::SplatElementsAttr>(
                     splat.resizeSplat(llvm::cast<mlir::ShapedType>(type)))
               : nullptr;
}

} // namespace bmgrad::bm

#endif // BMGRAD_LIB_BM_DIMS_H
