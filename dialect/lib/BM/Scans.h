//===- Scans.h - Scans of associative functions -----------------*- C++ -*-===//
//
// Running sums, products, maxima: all are one scan, and so are the derivatives
// of the recurrences behind them. What the records of the cumulative ops in
// Reduction.td call; implemented in Cumulative.cpp.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_LIB_BM_SCANS_H
#define BMGRAD_LIB_BM_SCANS_H

#include "bmgrad/Dialect/BM/Expr.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "llvm/ADT/SmallVector.h"

namespace bmgrad::bm {

using Values = llvm::SmallVector<mlir::Value>;

/// Joins elements with those that come after them.
using Joiner = llvm::function_ref<Values(const Values &, const Values &)>;

/// `r[k] = x[0] . x[1] . ... . x[k]` along the axis, where the joiner computes
/// `.` for all positions of several arrays of one shape at once; in reverse
/// from the other end. Joins neighbours, scans the half as many results, and
/// fills in the positions between: twice as many joins as elements, in
/// logarithmic depth. The tree is the one of `jax.lax.associative_scan`.
Values associativeScan(mlir::ImplicitLocOpBuilder &b, const Values &xs,
                       int64_t axis, bool reverse, Joiner join);

/// The scan of one array.
mlir::Value scan(mlir::ImplicitLocOpBuilder &b, mlir::Value x, int64_t axis,
                 bool reverse, llvm::function_ref<Expr(Expr, Expr)> join);

Expr larger(Expr x, Expr y);
Expr smaller(Expr x, Expr y);
/// `log(e^x + e^y)`, without overflow.
Expr logAddExp(Expr x, Expr y);

} // namespace bmgrad::bm

#endif // BMGRAD_LIB_BM_SCANS_H
