//===- Expr.cpp - Formulas that emit bm ops -------------------------------===//

#include "bmgrad/Dialect/BM/Expr.h"

#include "bmgrad/Dialect/BM/Elementwise.h"

#include <cmath>
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

/// The type of the parts of complex numbers of this type; none for others.
Type typeOfParts(Type type) {
  auto tensor = cast<RankedTensorType>(type);
  auto complex = dyn_cast<ComplexType>(tensor.getElementType());
  return complex ? tensor.clone(complex.getElementType()) : Type();
}

template <typename OpTy> Expr partOf(Expr x) {
  return x.with(OpTy::create(x.b(), typeOfParts(x.type()), x.get()));
}

/// Complex numbers are ordered by real, then imaginary part.
Expr ordered(Expr x, Expr y, CompareDirection direction) {
  if (!typeOfParts(x.type()))
    return compare(x, y, direction);
  Expr re = partOf<RealOp>(x), otherRe = partOf<RealOp>(y);
  return expr::select(compare(re, otherRe, CompareDirection::EQ),
                      compare(partOf<ImagOp>(x), partOf<ImagOp>(y), direction),
                      compare(re, otherRe, direction));
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
Expr oneMinusSquare(Expr x) { return unary<OneMinusSquareOp>(x); }
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

/// `near`, but the reciprocal of `size` where that is so large that its square
/// is infinite.
static Expr reciprocalIfLarge(Expr size, Expr near) {
  auto type = cast<FloatType>(getElementTypeOrSelf(size.type()));
  double limit = std::ldexp(
      1.0, APFloat::semanticsMaxExponent(type.getFloatSemantics()) / 2);
  return select(gt(size, constantLike(size, limit)), 1.0 / size, near);
}

Expr asinhPartial(Expr x) {
  // 1 / sqrt(x^2 + 1), of complex numbers by parts: a sum with the number 1
  // loses the sign of a zero, which says on which side of a cut x is.
  if (typeOfParts(x.type())) {
    Expr re = partOf<RealOp>(x), im = partOf<ImagOp>(x);
    Expr sum = re * re + oneMinusSquare(im), cross = 2.0 * (re * im);
    return rsqrt(
        x.with(ComplexOp::create(x.b(), x.type(), sum.get(), cross.get())));
  }
  return reciprocalIfLarge(abs(x), rsqrt(x * x + 1.0));
}

Expr acoshPartial(Expr x) {
  // Of complex numbers the root of the product would be on another branch.
  if (typeOfParts(x.type()))
    return rsqrt(x - 1.0) * rsqrt(x + 1.0);
  // Below 1, where acosh is NaN, so is this: two factors below 0 are not met.
  return reciprocalIfLarge(x, rsqrt((x - 1.0) * abs(x + 1.0)));
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
  // At x = 0 the power is constant in y for y > 0 and taken as such for y = 0;
  // log would be infinite.
  Expr isZero = eq(x, constantLike(x, 0.0));
  Expr partial = r * log(select(isZero, constantLike(x, 1.0), x));
  if (isa<ComplexType>(getElementTypeOrSelf(x.type())))
    return partial;
  return select(both(isZero, lt(y, constantLike(y, 0.0))),
                constantLike(x, -std::numeric_limits<double>::infinity()),
                partial);
}
} // namespace bmgrad::bm::expr
