//===- Cumulative.cpp - The rules of the cumulative ops -------------------===//
//
// Each is a scan; the derivative is a linear recurrence, where the maximum's
// has ties to share as well as JAX does.
//
//===----------------------------------------------------------------------===//

#include "Scans.h"
#include "bmgrad/Dialect/BM/Elementwise.h"
#include "bmgrad/Dialect/BM/Indexing.h"
#include "bmgrad/Dialect/BM/Reduction.h"
#include "bmgrad/Dialect/BM/Shape.h"

#include <limits>

using namespace mlir;
using namespace bmgrad;
using namespace bmgrad::bm;

//===----------------------------------------------------------------------===//
// Scans
//===----------------------------------------------------------------------===//

namespace {
/// The tree of a scan along an axis. In reverse, position 0 is the last one:
/// all positions are counted from there, and parts are joined in the other
/// order.
struct ScanTree {
  ImplicitLocOpBuilder &b;
  int64_t axis;
  bool reverse;
  Joiner join;

  int64_t sizeOf(Value x) const { return tensorType(x).getDimSize(axis); }

  /// Every `stride`-th element from `start` to below `limit`.
  Value strided(Value x, int64_t start, int64_t limit, int64_t stride) const {
    RankedTensorType type = tensorType(x);
    SmallVector<int64_t> starts(type.getRank(), 0), limits(type.getShape());
    SmallVector<int64_t> strides(type.getRank(), 1), shape(type.getShape());
    shape[axis] = llvm::divideCeil(limit - start, stride);
    int64_t last = start + stride * (shape[axis] - 1);
    starts[axis] = reverse ? sizeOf(x) - 1 - last : start;
    limits[axis] = reverse ? sizeOf(x) - start : limit;
    strides[axis] = stride;
    return b.createOrFold<SliceOp>(type.clone(shape), x, starts, limits,
                                   strides);
  }

  Values strided(const Values &xs, int64_t start, int64_t limit,
                 int64_t stride) const {
    return llvm::map_to_vector<6>(
        xs, [&](Value x) { return strided(x, start, limit, stride); });
  }

  Value joined(Value first, Value second, int64_t along) const {
    return ConcatenateOp::create(
        b, reverse ? ValueRange{second, first} : ValueRange{first, second},
        along);
  }

  /// The elements of `even` and `odd` by turns; `even` may have one more.
  Value interleaved(Value even, Value odd) const {
    RankedTensorType type = tensorType(odd);
    int64_t pairs = sizeOf(odd), rest = sizeOf(even) - pairs;
    SmallVector<int64_t> column(type.getShape()), both(type.getShape());
    column.insert(column.begin() + axis + 1, 1);
    both[axis] = 2 * pairs;
    auto asColumn = [&](Value x) -> Value {
      return ReshapeOp::create(b, type.clone(column), x);
    };
    Value columns =
        joined(asColumn(strided(even, 0, pairs, 1)), asColumn(odd), axis + 1);
    Value result = ReshapeOp::create(b, type.clone(both), columns);
    return rest ? joined(result, strided(even, pairs, pairs + 1, 1), axis)
                : result;
  }

  Values scan(const Values &xs) const {
    int64_t size = sizeOf(xs.front());
    if (size < 2)
      return xs;
    Values firsts = strided(xs, 0, size - 1, 2);
    Values seconds = strided(xs, 1, size, 2);
    Values odd = scan(join(firsts, seconds));
    Values even = strided(xs, 0, 1, 1);
    if (int64_t between = (size - 1) / 2) {
      Values before = strided(odd, 0, between, 1);
      Values later = join(before, strided(xs, 2, size, 2));
      for (auto [first, rest] : llvm::zip(even, later))
        first = joined(first, rest, axis);
    }
    Values all;
    for (auto [evens, odds] : llvm::zip(even, odd))
      all.push_back(interleaved(evens, odds));
    return all;
  }
};
} // namespace

Values bmgrad::bm::associativeScan(ImplicitLocOpBuilder &b, const Values &xs,
                                   int64_t axis, bool reverse, Joiner join) {
  return ScanTree{b, axis, reverse, join}.scan(xs);
}

Value bmgrad::bm::scan(ImplicitLocOpBuilder &b, Value x, int64_t axis,
                       bool reverse, function_ref<Expr(Expr, Expr)> join) {
  return associativeScan(
             b, {x}, axis, reverse,
             [&](const Values &first, const Values &second) {
               return Values{join(Expr(b, first[0]), Expr(b, second[0])).get()};
             })
      .front();
}

//===----------------------------------------------------------------------===//
// What is scanned
//===----------------------------------------------------------------------===//

static bool isComplex(Value value) {
  return isa<ComplexType>(getElementTypeOrSelf(value.getType()));
}

/// The part of numbers that says whether they are infinite.
static Expr realPart(Expr x) {
  auto complex = dyn_cast<ComplexType>(getElementTypeOrSelf(x.type()));
  if (!complex)
    return x;
  auto type = cast<RankedTensorType>(x.type()).clone(complex.getElementType());
  return x.with(x.b().createOrFold<RealOp>(type, x.get()));
}

Expr bmgrad::bm::larger(Expr x, Expr y) {
  return x.with(MaxOp::create(x.b(), x.type(), x.get(), y.get()));
}

Expr bmgrad::bm::smaller(Expr x, Expr y) {
  return x.with(MinOp::create(x.b(), x.type(), x.get(), y.get()));
}

Expr bmgrad::bm::logAddExp(Expr x, Expr y) {
  ImplicitLocOpBuilder &b = x.b();
  Expr most = larger(x, y);
  auto log1p = [](Expr v) {
    return v.with(Log1pOp::create(v.b(), v.type(), v.get()));
  };
  if (!isComplex(x.get())) {
    // Of infinities of the same sign, and of NaN, the difference is NaN.
    Expr delta = x - y;
    return expr::select(expr::eq(delta, delta),
                        most + log1p(expr::exp(-expr::abs(delta))), x + y);
  }
  Expr sum = most + log1p(expr::exp(x + y - 2.0 * most));
  Expr re = realPart(sum);
  Value im = ImagOp::create(b, re.type(), sum.get());
  Value angle = Atan2Op::create(b, re.type(), SinOp::create(b, re.type(), im),
                                CosOp::create(b, re.type(), im));
  return x.with(ComplexOp::create(b, x.type(), re.get(), angle));
}

/// Each element's predecessor in the direction of a scan, `fill` for the first.
static Value predecessors(ImplicitLocOpBuilder &b, Value x, int64_t axis,
                          bool reverse, double fill) {
  RankedTensorType type = tensorType(x);
  SmallVector<int64_t> low(type.getRank(), 0), high(low), interior(low);
  low[axis] = reverse ? -1 : 1;
  high[axis] = -low[axis];
  Value padding =
      makeConstant(b, RankedTensorType::get({}, type.getElementType()), fill);
  return PadOp::create(b, x, padding, low, high, interior);
}

//===----------------------------------------------------------------------===//
// Derivatives
//===----------------------------------------------------------------------===//

LogicalResult CumsumOp::emitTranspose(TransposeFrame &frame) {
  frame.operandCotangents[0] =
      CumsumOp::create(frame.b, frame.cotangents[0], getAxis(), !getReverse());
  return success();
}

LogicalResult CumprodOp::emitJvp(JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Value x = frame.primals[0], dx = frame.tangents[0];
  Value r = CumprodOp::create(b, x, getAxis(), getReverse());
  Value before = predecessors(b, r, getAxis(), getReverse(), 1.0);
  Value added = MulOp::create(b, r.getType(), before, dx);
  frame.results.push_back(r);
  frame.resultTangents.push_back(
      LinearRecurrenceOp::create(b, x, added, getAxis(), getReverse()));
  return success();
}

LogicalResult CumlogsumexpOp::emitJvp(JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Value r =
      CumlogsumexpOp::create(b, frame.primals[0], getAxis(), getReverse());
  double infinity = std::numeric_limits<double>::infinity();
  Expr before(b, predecessors(b, r, getAxis(), getReverse(), -infinity));
  // Of a sum that is infinite, the infinite parts count as the whole; as long
  // as nothing was added, the weights are 0 and 1.
  auto tamed = [&](Expr v) {
    Expr re = realPart(v);
    return expr::select(expr::eq(re, expr::constantLike(re, infinity)),
                        expr::constantLike(v, 0.0), v);
  };
  auto weight = [&](Expr part, double atFirst) {
    Expr re = realPart(before);
    Expr first = expr::eq(re, expr::constantLike(re, -infinity));
    return expr::exp(expr::select(first, expr::constantLike(part, atFirst),
                                  tamed(part) - tamed(Expr(b, r))));
  };
  Expr kept = weight(before, -infinity),
       added = weight(Expr(b, frame.primals[0]), 0.0);
  frame.results.push_back(r);
  frame.resultTangents.push_back(LinearRecurrenceOp::create(
      b, kept.get(), (added * Expr(b, frame.tangents[0])).get(), getAxis(),
      getReverse()));
  return success();
}

/// How equal elements share the derivative depends on the order in which they
/// meet, so the tangents go through the very tree of the scan.
static LogicalResult jvpExtremum(JvpFrame &frame, int64_t axis, bool reverse,
                                 bool isMax) {
  ImplicitLocOpBuilder &b = frame.b;
  Values results = associativeScan(
      b, {frame.primals[0], frame.tangents[0]}, axis, reverse,
      [&](const Values &first, const Values &second) {
        Expr x(b, first[0]), dx(b, first[1]), y(b, second[0]), dy(b, second[1]);
        Expr wins = isMax ? expr::gt(x, y) : expr::lt(x, y);
        Expr loses = isMax ? expr::lt(x, y) : expr::gt(x, y);
        Expr ties = expr::eq(x, y);
        Expr tangent = expr::winner(wins, ties, x) * dx +
                       expr::winner(loses, ties, x) * dy;
        return Values{(isMax ? larger(x, y) : smaller(x, y)).get(),
                      tangent.get()};
      });
  frame.results.push_back(results[0]);
  frame.resultTangents.push_back(results[1]);
  return success();
}

LogicalResult CummaxOp::emitJvp(JvpFrame &frame) {
  return jvpExtremum(frame, getAxis(), getReverse(), /*isMax=*/true);
}

LogicalResult CumminOp::emitJvp(JvpFrame &frame) {
  return jvpExtremum(frame, getAxis(), getReverse(), /*isMax=*/false);
}

//===----------------------------------------------------------------------===//
// linear_recurrence
//===----------------------------------------------------------------------===//

LogicalResult LinearRecurrenceOp::emitJvp(JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Value a = frame.primals[0], da = frame.tangents[0], added = frame.tangents[1];
  Value r = LinearRecurrenceOp::create(b, a, frame.primals[1], getAxis(),
                                       getReverse());
  if (da) {
    Value before = predecessors(b, r, getAxis(), getReverse(), 0.0);
    added = accumulate(b, added, MulOp::create(b, r.getType(), before, da));
  }
  frame.results.push_back(r);
  frame.resultTangents.push_back(
      LinearRecurrenceOp::create(b, a, added, getAxis(), getReverse()));
  return success();
}

LogicalResult LinearRecurrenceOp::emitTranspose(TransposeFrame &frame) {
  if (frame.isLinear(0))
    return emitOpError("is not linear in its first operand");
  Value a =
      predecessors(frame.b, frame.operands[0], getAxis(), !getReverse(), 0.0);
  frame.operandCotangents[1] = LinearRecurrenceOp::create(
      frame.b, a, frame.cotangents[0], getAxis(), !getReverse());
  return success();
}

LogicalResult LinearRecurrenceOp::emitBatch(BatchFrame &frame) {
  frame.results.push_back(LinearRecurrenceOp::create(
      frame.b, frame.getBatched(0), frame.getBatched(1), getAxis() + 1,
      getReverse()));
  return success();
}

LogicalResult LinearRecurrenceOp::emitLowering(LoweringFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  // A pair stands for the map r -> a r + b; joining is composition.
  frame.results.push_back(
      associativeScan(b, {getA(), getB()}, getAxis(), getReverse(),
                      [&](const Values &first, const Values &second) {
                        Expr a1(b, first[0]), b1(b, first[1]), a2(b, second[0]),
                            b2(b, second[1]);
                        return Values{(a2 * a1).get(), (a2 * b1 + b2).get()};
                      })[1]);
  return success();
}
