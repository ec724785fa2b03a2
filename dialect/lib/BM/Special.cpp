//===- Special.cpp - Special functions ------------------------------------===//

#include "bmgrad/Dialect/BM/Special.h"
#include "bmgrad/Dialect/BM/Expr.h"

#include "llvm/ADT/APFloat.h"

using namespace mlir;
using namespace bmgrad;
using namespace bmgrad::bm;

#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Special.cpp.inc"

void bmgrad::bm::addSpecialOps(BMDialect &dialect) {
  dialect.addFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/Special.cpp.inc"
      >();
}

namespace bmgrad::bm::expr {
Expr lgamma(Expr x) {
  return x.with(LgammaOp::create(x.b(), x.type(), x.get()));
}

Expr digamma(Expr x) {
  return x.with(DigammaOp::create(x.b(), x.type(), x.get()));
}

Expr polygamma(Expr order, Expr x) {
  return x.with(PolygammaOp::create(x.b(), x.type(), order.get(), x.get()));
}

Expr zeta(Expr x, Expr q) {
  return x.with(ZetaOp::create(x.b(), x.type(), x.get(), q.get()));
}

Expr igammaGradA(Expr a, Expr x) {
  return x.with(IgammaGradAOp::create(x.b(), x.type(), a.get(), x.get()));
}

Expr gammaDensity(Expr a, Expr x) {
  return exp((a - 1.0) * log(x) - x - lgamma(a));
}

Expr betaDensity(Expr a, Expr b, Expr x) {
  Expr logBeta = lgamma(a) + lgamma(b) - lgamma(a + b);
  return exp((a - 1.0) * log(x) + (b - 1.0) * log1p(-x) - logBeta);
}

Expr besselI1e(Expr x) {
  return x.with(BesselI1eOp::create(x.b(), x.type(), x.get()));
}

Expr besselI1ePartial(Expr x, Expr r) {
  // r/x is 0/0 at 0 and tends to 1/2, which is the derivative there.
  auto element = cast<FloatType>(getElementTypeOrSelf(x.type()));
  const llvm::fltSemantics &semantics = element.getFloatSemantics();
  double epsilon = std::ldexp(
      1.0, 1 - static_cast<int>(APFloat::semanticsPrecision(semantics)));
  Expr notTiny = gt(abs(x), constantLike(x, epsilon));
  Expr safe = select(notTiny, x, constantLike(x, 1.0));
  Expr i0e = x.with(BesselI0eOp::create(x.b(), x.type(), safe.get()));
  return select(notTiny, i0e - r * (sign(safe) + 1.0 / safe),
                constantLike(x, 0.5));
}
} // namespace bmgrad::bm::expr
