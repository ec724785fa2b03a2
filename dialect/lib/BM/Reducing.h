//===- Reducing.h - What reductions of all families are made of -*- C++ -*-===//

#ifndef BMGRAD_LIB_BM_REDUCING_H
#define BMGRAD_LIB_BM_REDUCING_H

#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "llvm/ADT/SmallVector.h"

namespace bmgrad::bm {

/// Emits what joins elements, given the accumulated ones and then as many new
/// ones; returns the joined ones.
using ReductionBody =
    llvm::function_ref<llvm::SmallVector<mlir::Value>(mlir::ValueRange)>;

/// A StableHLO op that joins the elements of `xs`, beginning with `inits`.
mlir::Operation *createForeignReduction(
    mlir::ImplicitLocOpBuilder &b, llvm::StringRef name, mlir::TypeRange types,
    mlir::ValueRange xs, mlir::ValueRange inits,
    llvm::ArrayRef<mlir::NamedAttribute> attributes, ReductionBody body);

/// Fills an empty region of an op in StableHLO with such a body.
void emitReductionBody(mlir::ImplicitLocOpBuilder &b, mlir::Region &region,
                       mlir::TypeRange scalars, ReductionBody body);

/// The largest or smallest number of the type, where there are infinities
/// those.
mlir::Value extremeNumber(mlir::ImplicitLocOpBuilder &b,
                          mlir::RankedTensorType scalar, bool largest);

} // namespace bmgrad::bm

#endif // BMGRAD_LIB_BM_REDUCING_H
