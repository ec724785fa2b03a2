//===- Expr.h - Formulas that emit bm ops -----------------------*- C++ -*-===//
//
// Partial derivatives are written as formulas: `r * (1.0 - r)`. An Expr is a
// value together with the builder that its operators emit ops with.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_DIALECT_BM_EXPR_H
#define BMGRAD_DIALECT_BM_EXPR_H

#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace bmgrad::bm {

class Expr {
public:
  Expr() = default;
  Expr(mlir::ImplicitLocOpBuilder &b, mlir::Value value)
      : builder(&b), value(value) {}

  mlir::ImplicitLocOpBuilder &b() const { return *builder; }
  mlir::Value get() const { return value; }
  mlir::Type type() const { return value.getType(); }
  Expr with(mlir::Value other) const { return Expr(*builder, other); }

private:
  mlir::ImplicitLocOpBuilder *builder = nullptr;
  mlir::Value value;
};

namespace expr {
/// A constant of the operand's type.
Expr constantLike(Expr x, double value);
Expr add(Expr x, Expr y);
Expr sub(Expr x, Expr y);
Expr mul(Expr x, Expr y);
Expr div(Expr x, Expr y);
Expr neg(Expr x);
Expr abs(Expr x);
Expr exp(Expr x);
Expr log(Expr x);
Expr log1p(Expr x);
Expr sin(Expr x);
Expr cos(Expr x);
Expr sinh(Expr x);
Expr cosh(Expr x);
Expr rsqrt(Expr x);
Expr oneMinusSquare(Expr x);
Expr asinhPartial(Expr x);
Expr acoshPartial(Expr x);
Expr sign(Expr x);
Expr floor(Expr x);
/// No derivative: not a number, nor an op.
inline Expr undefined() { return {}; }
Expr lgamma(Expr x);
Expr digamma(Expr x);
Expr polygamma(Expr order, Expr x);
Expr zeta(Expr x, Expr q);
Expr igammaGradA(Expr a, Expr x);
/// `x^(a-1) e^-x / Gamma(a)`.
Expr gammaDensity(Expr a, Expr x);
/// `x^(a-1) (1-x)^(b-1) / B(a, b)`.
Expr betaDensity(Expr a, Expr b, Expr x);
Expr besselI1e(Expr x);
Expr besselI1ePartial(Expr x, Expr r);
Expr pow(Expr x, Expr y);
Expr integerPow(Expr x, int64_t exponent);
Expr eq(Expr x, Expr y);
Expr lt(Expr x, Expr y);
Expr gt(Expr x, Expr y);
Expr both(Expr p, Expr q);
Expr select(Expr predicate, Expr onTrue, Expr onFalse);
/// 1 where the predicate holds, else 0, of the type of `like`.
Expr mask(Expr predicate, Expr like);
/// 1 for the winner, 1/2 for a tie, else 0, of the type of `like`.
Expr winner(Expr wins, Expr ties, Expr like);
Expr integerPowPartial(Expr x, int64_t exponent);
Expr powPartialBase(Expr x, Expr y);
Expr powPartialExponent(Expr x, Expr y, Expr r);
} // namespace expr

inline Expr operator+(Expr x, Expr y) { return expr::add(x, y); }
inline Expr operator-(Expr x, Expr y) { return expr::sub(x, y); }
inline Expr operator*(Expr x, Expr y) { return expr::mul(x, y); }
inline Expr operator/(Expr x, Expr y) { return expr::div(x, y); }
inline Expr operator&(Expr p, Expr q) { return expr::both(p, q); }
inline Expr operator-(Expr x) { return expr::neg(x); }
inline Expr operator+(Expr x, double c) { return x + expr::constantLike(x, c); }
inline Expr operator-(Expr x, double c) { return x - expr::constantLike(x, c); }
inline Expr operator-(double c, Expr x) { return expr::constantLike(x, c) - x; }
inline Expr operator*(double c, Expr x) { return expr::constantLike(x, c) * x; }
inline Expr operator*(Expr x, double c) { return x * expr::constantLike(x, c); }
inline Expr operator/(double c, Expr x) { return expr::constantLike(x, c) / x; }

} // namespace bmgrad::bm

#endif // BMGRAD_DIALECT_BM_EXPR_H
