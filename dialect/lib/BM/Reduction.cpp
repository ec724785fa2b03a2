//===- Reduction.cpp - The rules of the reductions of Reduction.td --------===//

#include "bmgrad/Dialect/BM/Reduction.h"
#include "Dims.h"
#include "Reducing.h"
#include "Scans.h"
#include "bmgrad/Dialect/BM/Elementwise.h"
#include "bmgrad/Dialect/BM/Expr.h"
#include "bmgrad/Dialect/BM/Shape.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/PatternMatch.h"

#include <limits>

using namespace mlir;
using namespace bmgrad;
using namespace bmgrad::bm;

//===----------------------------------------------------------------------===//
// What the records call
//===----------------------------------------------------------------------===//

static LogicalResult inferReduction(std::optional<Location> location, Value x,
                                    ArrayRef<int64_t> axes,
                                    SmallVectorImpl<Type> &types) {
  RankedTensorType from = tensorType(x);
  if (failed(verifyDims(location, "axes", axes, from.getRank())))
    return failure();
  types.push_back(from.clone(
      llvm::map_to_vector(otherDims(from.getRank(), axes),
                          [&](int64_t dim) { return from.getDimSize(dim); })));
  return success();
}

static OpFoldResult foldReduction(Operation *op, ArrayRef<int64_t> axes) {
  Value x = op->getOperand(0);
  if (axes.empty())
    return x;
  if (!isa<ReduceSumOp>(op) || !isZeroConstant(x))
    return {};
  SplatElementsAttr zero;
  matchPattern(x, m_Constant(&zero));
  return resizedSplat(zero, op->getResult(0).getType());
}

Value bmgrad::bm::extremeNumber(ImplicitLocOpBuilder &b,
                                RankedTensorType scalar, bool largest) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  auto integer = dyn_cast<IntegerType>(scalar.getElementType());
  if (!integer)
    return makeConstant(b, scalar, largest ? infinity : -infinity);
  unsigned width = integer.getWidth();
  bool isSigned = integer.isSignless() && width > 1;
  APInt most =
      isSigned ? APInt::getSignedMaxValue(width) : APInt::getMaxValue(width);
  APInt least =
      isSigned ? APInt::getSignedMinValue(width) : APInt::getMinValue(width);
  return ConstantOp::create(
      b, scalar, DenseElementsAttr::get(scalar, largest ? most : least));
}

void bmgrad::bm::emitReductionBody(ImplicitLocOpBuilder &b, Region &region,
                                   TypeRange scalars, ReductionBody body) {
  OpBuilder::InsertionGuard guard(b);
  SmallVector<Type> arguments(scalars);
  llvm::append_range(arguments, scalars);
  Block *block =
      b.createBlock(&region, {}, arguments,
                    SmallVector<Location>(arguments.size(), b.getLoc()));
  bm::detail::createForeign(b, "stablehlo.return", {},
                            body(block->getArguments()));
}

Operation *bmgrad::bm::createForeignReduction(
    ImplicitLocOpBuilder &b, StringRef name, TypeRange types, ValueRange xs,
    ValueRange inits, ArrayRef<NamedAttribute> attributes, ReductionBody body) {
  SmallVector<Value> operands(xs);
  llvm::append_range(operands, inits);
  Operation *reduction = bm::detail::createForeign(b, name, types, operands,
                                                   attributes, /*regions=*/1);
  emitReductionBody(b, reduction->getRegion(0), inits.getTypes(), body);
  return reduction;
}

/// A `stablehlo.reduce` over axes.
static Operation *createReduce(ImplicitLocOpBuilder &b, TypeRange types,
                               ValueRange xs, ValueRange identities,
                               ArrayRef<int64_t> axes, ReductionBody body) {
  return createForeignReduction(
      b, "stablehlo.reduce", types, xs, identities,
      b.getNamedAttr("dimensions", b.getDenseI64ArrayAttr(axes)), body);
}

static Value reduceForeign(ImplicitLocOpBuilder &b, Value x, Value identity,
                           ArrayRef<int64_t> axes,
                           function_ref<Value(Value, Value)> combine) {
  RankedTensorType type = tensorType(x);
  auto shape =
      llvm::map_to_vector(otherDims(type.getRank(), axes),
                          [&](int64_t dim) { return type.getDimSize(dim); });
  return createReduce(
             b, type.clone(shape), x, identity, axes,
             [&](ValueRange pair) { return Values{combine(pair[0], pair[1])}; })
      ->getResult(0);
}

/// Reduces elements together with their indices along the axis. The first of
/// equal elements wins; so does NaN, over all numbers.
static Value reduceToIndex(ImplicitLocOpBuilder &b, Value x,
                           RankedTensorType result, int64_t axis, bool isMax) {
  RankedTensorType type = tensorType(x);
  auto scalar = RankedTensorType::get({}, type.getElementType());
  auto index = RankedTensorType::get({}, result.getElementType());
  Value indices = IotaOp::create(b, type.clone(result.getElementType()), axis);
  Value worst = extremeNumber(b, scalar, !isMax), first = makeZero(b, index);
  auto body = [&](ValueRange pairs) {
    Expr value(b, pairs[0]), at(b, pairs[1]), newValue(b, pairs[2]),
        newAt(b, pairs[3]);
    auto either = [](Expr p, Expr q) {
      return p.with(OrOp::create(p.b(), p.type(), p.get(), q.get()));
    };
    Expr isNaN = value.with(
        CompareOp::create(b, RankedTensorType::get({}, b.getI1Type()), pairs[0],
                          pairs[0], CompareDirection::NE, false));
    Expr keep = either(
        isMax ? expr::gt(value, newValue) : expr::lt(value, newValue), isNaN);
    Expr keepAt = either(keep, expr::eq(value, newValue) & expr::lt(at, newAt));
    return Values{expr::select(keep, value, newValue).get(),
                  expr::select(keepAt, at, newAt).get()};
  };
  return createReduce(b, {type.clone(result.getShape()), result}, {x, indices},
                      {worst, first}, axis, body)
      ->getResult(1);
}

static LogicalResult verifyArgReduction(Operation *op, RankedTensorType from,
                                        int64_t axis) {
  std::string name = "'" + op->getName().getStringRef().str() + "' op axis";
  if (failed(verifyDims(op->getLoc(), name, axis, from.getRank())))
    return failure();
  if (from.getDimSize(axis) == 0)
    return op->emitOpError("needs at least one element along axis ")
           << axis << " of " << from;
  auto to = cast<RankedTensorType>(op->getResult(0).getType());
  SmallVector<int64_t> shape(from.getShape());
  shape.erase(shape.begin() + axis);
  if (to.getShape() != ArrayRef(shape))
    return op->emitOpError("result must have the shape of ")
           << from << " without axis " << axis << ", but is " << to;
  return success();
}

static LogicalResult verifyCumulative(Operation *op, int64_t axis) {
  std::string name = "'" + op->getName().getStringRef().str() + "' op axis";
  return verifyDims(op->getLoc(), name, axis,
                    tensorType(op->getOperand(0)).getRank());
}

#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Reduction.cpp.inc"

void bmgrad::bm::addReductionOps(BMDialect &dialect) {
  dialect.addFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/Reduction.cpp.inc"
      >();
}

//===----------------------------------------------------------------------===//
// Sum
//===----------------------------------------------------------------------===//

LogicalResult ReduceSumOp::canonicalize(ReduceSumOp op,
                                        PatternRewriter &rewriter) {
  RankedTensorType from = tensorType(op.getX());
  if (llvm::all_of(op.getAxes(),
                   [&](int64_t axis) { return from.getDimSize(axis) == 1; })) {
    rewriter.replaceOpWithNewOp<ReshapeOp>(op, op.getType(), op.getX());
    return success();
  }
  if (!op.getX().hasOneUse())
    return failure();
  if (auto neg = op.getX().getDefiningOp<NegOp>()) {
    Value sum =
        ReduceSumOp::create(rewriter, op.getLoc(), neg.getX(), op.getAxes());
    rewriter.replaceOpWithNewOp<NegOp>(op, op.getType(), sum);
    return success();
  }
  auto inner = op.getX().getDefiningOp<ReduceSumOp>();
  if (!inner)
    return failure();
  SmallVector<int64_t> kept =
      otherDims(tensorType(inner.getX()).getRank(), inner.getAxes());
  SmallVector<int64_t> axes(inner.getAxes());
  for (int64_t axis : op.getAxes())
    axes.push_back(kept[axis]);
  llvm::sort(axes);
  rewriter.replaceOpWithNewOp<ReduceSumOp>(op, inner.getX(), axes);
  return success();
}

LogicalResult ReduceSumOp::emitTranspose(TransposeFrame &frame) {
  RankedTensorType from = tensorType(getX());
  frame.operandCotangents[0] = frame.b.createOrFold<BroadcastInDimOp>(
      from, frame.cotangents[0], otherDims(from.getRank(), getAxes()));
  return success();
}

//===----------------------------------------------------------------------===//
// Product
//===----------------------------------------------------------------------===//

LogicalResult ReduceProdOp::emitJvp(JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  RankedTensorType from = tensorType(getX()), to = tensorType(getR());
  SmallVector<int64_t> kept = otherDims(from.getRank(), getAxes());
  SmallVector<int64_t> order(getAxes());
  llvm::append_range(order, kept);
  int64_t size = 1;
  for (int64_t axis : getAxes())
    size *= from.getDimSize(axis);
  if (size == 0) {
    frame.results.push_back(
        ReduceProdOp::create(b, frame.primals[0], getAxes()));
    frame.resultTangents.push_back(Value());
    return success();
  }
  auto flattened = [&](Value v) {
    return b.createOrFold<ReshapeOp>(to.clone(prepended(size, to.getShape())),
                                     b.createOrFold<TransposeOp>(v, order));
  };
  Value x = flattened(frame.primals[0]), dx = flattened(frame.tangents[0]);
  // Halves are multiplied with one another; the second is filled up to the size
  // of the first with a factor 1.
  auto halves = [&](Value v, double filling) {
    int64_t first = llvm::divideCeil(size, 2), second = size - first;
    auto split = SplitOp::create(b, v, {first, second}, 0);
    RankedTensorType type = tensorType(split.getPieces()[1]);
    SmallVector<int64_t> none(type.getRank(), 0), high(none);
    high[0] = first - second;
    Value padding = makeConstant(
        b, RankedTensorType::get({}, type.getElementType()), filling);
    Value filled =
        b.createOrFold<PadOp>(split.getPieces()[1], padding, none, high, none);
    return std::pair(Expr(b, split.getPieces()[0]), Expr(b, filled));
  };
  while (size > 1) {
    auto [x1, x2] = halves(x, 1.0);
    auto [dx1, dx2] = halves(dx, 0.0);
    x = (x1 * x2).get();
    dx = (x2 * dx1 + x1 * dx2).get();
    size = llvm::divideCeil(size, 2);
  }
  frame.results.push_back(b.createOrFold<ReshapeOp>(to, x));
  frame.resultTangents.push_back(b.createOrFold<ReshapeOp>(to, dx));
  return success();
}

//===----------------------------------------------------------------------===//
// Maximum and minimum
//===----------------------------------------------------------------------===//

/// The mean of the tangents of the elements that are equal to the result. Where
/// that is NaN, of all elements, times NaN.
template <typename OpTy>
static LogicalResult jvpExtremum(OpTy op, JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Expr x(b, frame.primals[0]), dx(b, frame.tangents[0]);
  Expr r(b, OpTy::create(b, x.get(), op.getAxes()));
  SmallVector<int64_t> kept =
      otherDims(tensorType(x.get()).getRank(), op.getAxes());
  auto sum = [&](Expr v) {
    return v.with(ReduceSumOp::create(b, v.get(), op.getAxes()));
  };
  Expr spread =
      x.with(b.createOrFold<BroadcastInDimOp>(x.type(), r.get(), kept));
  Expr isOther = expr::gt(expr::eq(spread, spread), expr::eq(x, spread));
  Expr none = expr::constantLike(x, 0.0), one = expr::constantLike(x, 1.0);
  Expr share = 1.0 / sum(expr::select(isOther, none, one));
  share = expr::select(expr::eq(r, r), share, r);
  frame.results.push_back(r.get());
  frame.resultTangents.push_back(
      (sum(expr::select(isOther, none, dx)) * share).get());
  return success();
}

LogicalResult ReduceMaxOp::emitJvp(JvpFrame &frame) {
  return jvpExtremum(*this, frame);
}

LogicalResult ReduceMinOp::emitJvp(JvpFrame &frame) {
  return jvpExtremum(*this, frame);
}
