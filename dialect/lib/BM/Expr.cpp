//===- Expr.cpp - Formulas that emit bm ops -------------------------------===//

#include "bmgrad/Dialect/BM/Expr.h"

#include "bmgrad/Dialect/BM/Elementwise.h"

#include <limits>

using namespace mlir;
using namespace bmgrad::bm;

namespace {
template <typename OpTy> Expr unary(Expr x) {
  return x.with(x.b().createOrFold<OpTy>(x.type(), x.get()));
}

template <typename OpTy> Expr binary(Expr x, Expr y) {
  return x.with(x.b().createOrFold<OpTy>(x.type(), x.get(), y.get()));
}

Expr compare(Expr x, Expr y, CompareDirection direction) {
  auto type = tensorType(x.get()).clone(x.b().getI1Type());
  return x.with(CompareOp::create(x.b(), type, x.get(), y.get(), direction,
                                  /*total_order=*/false));
}

/// Complex numbers are ordered by real, then imaginary part.
Expr ordered(Expr x, Expr y, CompareDirection direction) {
  auto type = tensorType(x.get());
  auto complex = dyn_cast<ComplexType>(type.getElementType());
  if (!complex)
    return compare(x, y, direction);
  Type part = type.clone(complex.getElementType());
  auto re = [&](Expr v) {
    return v.with(RealOp::create(v.b(), part, v.get()));
  };
  auto im = [&](Expr v) {
    return v.with(ImagOp::create(v.b(), part, v.get()));
  };
  return expr::select(compare(re(x), re(y), CompareDirection::EQ),
                      compare(im(x), im(y), direction),
                      compare(re(x), re(y), direction));
}
} // namespace

namespace bmgrad::bm::expr {
Expr constantLike(Expr x, double value) {
  return x.with(makeConstant(x.b(), x.type(), value));
}
Expr add(Expr x, Expr y) { return binary<AddOp>(x, y); }
Expr sub(Expr x, Expr y) { return binary<SubOp>(x, y); }
Expr mul(Expr x, Expr y) { return binary<MulOp>(x, y); }
Expr div(Expr x, Expr y) { return binary<DivOp>(x, y); }
Expr neg(Expr x) { return unary<NegOp>(x); }
Expr abs(Expr x) { return unary<AbsOp>(x); }
Expr exp(Expr x) { return unary<ExpOp>(x); }
Expr log(Expr x) { return unary<LogOp>(x); }
Expr log1p(Expr x) { return unary<Log1pOp>(x); }
Expr sin(Expr x) { return unary<SinOp>(x); }
Expr cos(Expr x) { return unary<CosOp>(x); }
Expr sinh(Expr x) { return unary<SinhOp>(x); }
Expr cosh(Expr x) { return unary<CoshOp>(x); }
Expr rsqrt(Expr x) { return unary<RsqrtOp>(x); }
Expr sign(Expr x) { return unary<SignOp>(x); }
Expr floor(Expr x) { return unary<FloorOp>(x); }
Expr pow(Expr x, Expr y) { return binary<PowOp>(x, y); }

Expr integerPow(Expr x, int64_t exponent) {
  if (exponent == 0)
    return constantLike(x, 1.0);
  if (exponent == 1)
    return x;
  return x.with(x.b().create<IntegerPowOp>(x.type(), x.get(), exponent));
}

Expr eq(Expr x, Expr y) { return compare(x, y, CompareDirection::EQ); }
Expr lt(Expr x, Expr y) { return ordered(x, y, CompareDirection::LT); }
Expr gt(Expr x, Expr y) { return ordered(x, y, CompareDirection::GT); }
Expr both(Expr p, Expr q) { return binary<AndOp>(p, q); }

Expr select(Expr predicate, Expr onTrue, Expr onFalse) {
  return onTrue.with(onTrue.b().createOrFold<SelectOp>(
      onTrue.type(), predicate.get(), onTrue.get(), onFalse.get()));
}

Expr mask(Expr predicate, Expr like) {
  return select(predicate, constantLike(like, 1.0), constantLike(like, 0.0));
}

Expr winner(Expr wins, Expr ties, Expr like) {
  return select(wins, constantLike(like, 1.0),
                select(ties, constantLike(like, 0.5), constantLike(like, 0.0)));
}

Expr integerPowPartial(Expr x, int64_t exponent) {
  if (exponent == 0)
    return constantLike(x, 0.0);
  return static_cast<double>(exponent) * integerPow(x, exponent - 1);
}

/// Where 1 / x is infinite.
static Expr isNearZero(Expr x) {
  auto type = dyn_cast<FloatType>(getElementTypeOrSelf(x.type()));
  if (!type)
    return eq(x, constantLike(x, 0.0));
  double least = APFloat::getSmallestNormalized(type.getFloatSemantics())
                     .convertToDouble();
  return both(lt(x, constantLike(x, least)), gt(x, constantLike(x, -least)));
}

Expr powPartialBase(Expr x, Expr y) {
  // At y = 0 the power is constant in x, but x^(y-1) may be infinite: such
  // places take a base that is harmless, then the mask. A derivative for y
  // follows elsewhere, 1 / x, which a mask of all places with y = 0 would lose.
  if (x.type() == y.type()) {
    Expr isConstant = both(eq(y, constantLike(y, 0.0)), isNearZero(x));
    Expr safe = select(isConstant, constantLike(x, 1.0), x);
    return select(isConstant, constantLike(x, 0.0), y * pow(safe, y - 1.0));
  }
  // The exponent is an integer array: the formula wants it in the base's type.
  Expr e = x.with(ConvertOp::create(x.b(), x.type(), y.get()));
  Expr isZero = eq(e, constantLike(e, 0.0));
  Expr safe = select(isZero, constantLike(e, 1.0), e);
  return select(isZero, constantLike(x, 0.0), e * pow(x, safe - 1.0));
}

Expr powPartialExponent(Expr x, Expr y, Expr r) {
  // At x = 0 the power is constant in y for y > 0; log would be infinite.
  Expr isZero = eq(x, constantLike(x, 0.0));
  Expr logarithm = log(select(isZero, constantLike(x, 1.0), x));
  if (isa<ComplexType>(getElementTypeOrSelf(x.type())))
    return r * logarithm;
  Expr atZero =
      select(gt(y, constantLike(y, 0.0)), constantLike(x, 0.0),
             constantLike(x, -std::numeric_limits<double>::infinity()));
  return select(isZero, atZero, r * logarithm);
}
} // namespace bmgrad::bm::expr
