//===- UseReciprocals.cpp - Multiplies by what divisors repeat ------------===//

#include "bmgrad/Dialect/BM/Elementwise.h"
#include "bmgrad/Dialect/BM/Rules.h"
#include "bmgrad/Dialect/BM/Shape.h"
#include "bmgrad/Passes/Passes.h"
#include "llvm/ADT/DenseMap.h"

namespace bmgrad::bm {
#define GEN_PASS_DEF_USERECIPROCALS
#include "bmgrad/Passes/Passes.h.inc"
} // namespace bmgrad::bm

using namespace mlir;
using namespace bmgrad::bm;

/// Of shorter floats the rounding of a reciprocal would show, and those of f16
/// are infinite too soon.
static bool isPrecise(Type type) {
  auto element = dyn_cast<FloatType>(getElementTypeOrSelf(type));
  return element && element.getFPMantissaWidth() >= 24;
}

/// What repeats fewer numbers than it has elements.
static BroadcastInDimOp repeating(Value y) {
  auto op = y.getDefiningOp<BroadcastInDimOp>();
  bool repeats = op && tensorType(op.getX()).getNumElements() <
                           tensorType(y).getNumElements();
  return repeats ? op : BroadcastInDimOp();
}

/// `1 / y`, or `1 / y^2`, of the numbers that `y` repeats if it does.
static Value reciprocal(Value y, BroadcastInDimOp repeated, bool squared) {
  ImplicitLocOpBuilder b(y.getLoc(), y.getContext());
  b.setInsertionPointAfterValue(y);
  Value divisor = repeated ? repeated.getX() : y;
  Type type = divisor.getType();
  if (squared)
    divisor = MulOp::create(b, type, divisor, divisor);
  Value once = DivOp::create(b, type, makeConstant(b, type, 1.0), divisor);
  return repeated
             ? bmgrad::bm::detail::cloneWith(b, repeated, once)->getResult(0)
             : once;
}

/// `op` as a product of `x` and `factor`. Where `op` scales something, the
/// factor comes first: XLA joins it with a constant that did the same.
static void multiply(DivOp op, Value x, Value factor) {
  auto times = [&](Operation *at, Value lhs, Value rhs) -> Value {
    OpBuilder b(at);
    return MulOp::create(b, at->getLoc(), op.getType(), lhs, rhs);
  };
  auto scaled = op->hasOneUse() ? dyn_cast<MulOp>(*op->user_begin()) : MulOp();
  if (scaled && scaled->getBlock() == op->getBlock()) {
    Value other = scaled.getX() == op ? scaled.getY() : scaled.getX();
    scaled.replaceAllUsesWith(times(scaled, times(scaled, other, factor), x));
    scaled.erase();
  } else {
    op.replaceAllUsesWith(times(op, x, factor));
  }
  op.erase();
}

namespace {
struct UseReciprocals : bmgrad::bm::impl::UseReciprocalsBase<UseReciprocals> {
  void runOnOperation() override {
    SmallVector<DivOp> allowed;
    getOperation().walk([&](DivOp op) {
      if (op.getAllowReciprocal() && isPrecise(op.getType()))
        allowed.push_back(op);
    });
    DenseMap<std::pair<Value, unsigned>, Value> reciprocals;
    for (DivOp op : allowed) {
      Value y = op.getY();
      BroadcastInDimOp repeated = repeating(y);
      auto quotient = op.getX().getDefiningOp<DivOp>();
      bool squared = quotient && quotient.getY() == y;
      if (!repeated && !squared)
        continue;
      Value &factor = reciprocals[{y, squared}];
      if (!factor)
        factor = reciprocal(y, repeated, squared);
      multiply(op, squared ? quotient.getX() : op.getX(), factor);
    }
  }
};
} // namespace
