//===- ElementwiseCanonical.cpp - Simpler forms of elementwise ops --------===//
//
// Folders, and where signs go: a negation moves towards the results, where it
// meets a sum and turns into a difference.
//
//===----------------------------------------------------------------------===//

#include "bmgrad/Dialect/BM/Elementwise.h"

#include "mlir/IR/Matchers.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace bmgrad;
using namespace bmgrad::bm;

//===----------------------------------------------------------------------===//
// Folders
//===----------------------------------------------------------------------===//

/// The number that a splat of floats or integers holds.
static std::optional<double> splatNumber(Attribute attribute) {
  auto elements = dyn_cast_or_null<DenseElementsAttr>(attribute);
  if (!elements || !elements.isSplat())
    return std::nullopt;
  if (isa<FloatType>(elements.getElementType()))
    return elements.getSplatValue<APFloat>().convertToDouble();
  if (auto type = dyn_cast<IntegerType>(elements.getElementType())) {
    APInt value = elements.getSplatValue<APInt>();
    return type.isUnsigned() || type.getWidth() == 1
               ? value.roundToDouble(false)
               : value.signedRoundToDouble();
  }
  return std::nullopt;
}

static bool isSplat(Attribute attribute, double number) {
  return splatNumber(attribute) == number;
}

/// -0.0 + 0.0 is 0.0: only -0.0 leaves every float as it is, but a sum with the
/// zero of a symbolic tangent is meant as no sum at all.
static bool isZero(Attribute attribute) { return isSplat(attribute, 0.0); }

/// Whether numbers are folded. Narrow types without infinities, NaN, signs or
/// zero say in ways of their own what stands for these, which XLA knows.
static bool isFolded(Type type) {
  auto element = dyn_cast<FloatType>(type);
  if (!element)
    return false;
  const llvm::fltSemantics &semantics = element.getFloatSemantics();
  return APFloat::semanticsHasInf(semantics) &&
         APFloat::semanticsHasNaN(semantics) &&
         APFloat::semanticsHasSignedRepr(semantics) &&
         APFloat::semanticsHasZero(semantics);
}

/// Folds a binary op of two equal-typed float splats.
template <typename Compute>
static Attribute foldSplats(ArrayRef<Attribute> operands, Compute compute) {
  auto x = dyn_cast_or_null<SplatElementsAttr>(operands[0]);
  auto y = dyn_cast_or_null<SplatElementsAttr>(operands[1]);
  if (!x || !y || x.getType() != y.getType() || !isFolded(x.getElementType()))
    return {};
  APFloat value = x.getSplatValue<APFloat>();
  compute(value, y.getSplatValue<APFloat>());
  return DenseElementsAttr::get(x.getType(), value);
}

OpFoldResult ConstantOp::fold(FoldAdaptor) { return getValue(); }

OpFoldResult NegOp::fold(FoldAdaptor adaptor) {
  if (auto inner = getX().getDefiningOp<NegOp>())
    return inner.getX();
  if (auto splat = dyn_cast_or_null<SplatElementsAttr>(adaptor.getX()))
    if (isFolded(splat.getElementType()))
      return DenseElementsAttr::get(splat.getType(),
                                    -splat.getSplatValue<APFloat>());
  return {};
}

OpFoldResult ConvertOp::fold(FoldAdaptor adaptor) {
  if (getX().getType() == getType())
    return getX();
  auto splat = dyn_cast_or_null<SplatElementsAttr>(adaptor.getX());
  auto to =
      dyn_cast<FloatType>(cast<RankedTensorType>(getType()).getElementType());
  if (!splat || !to || !isFolded(to) || !isFolded(splat.getElementType()))
    return {};
  APFloat value = splat.getSplatValue<APFloat>();
  bool losesInfo;
  value.convert(to.getFloatSemantics(), APFloat::rmNearestTiesToEven,
                &losesInfo);
  return DenseElementsAttr::get(cast<RankedTensorType>(getType()), value);
}

OpFoldResult AddOp::fold(FoldAdaptor adaptor) {
  if (isZero(adaptor.getX()))
    return getY();
  if (isZero(adaptor.getY()))
    return getX();
  return foldSplats(adaptor.getOperands(), [](APFloat &x, const APFloat &y) {
    x.add(y, APFloat::rmNearestTiesToEven);
  });
}

OpFoldResult SubOp::fold(FoldAdaptor adaptor) {
  if (isZero(adaptor.getY()))
    return getX();
  return foldSplats(adaptor.getOperands(), [](APFloat &x, const APFloat &y) {
    x.subtract(y, APFloat::rmNearestTiesToEven);
  });
}

OpFoldResult MulOp::fold(FoldAdaptor adaptor) {
  if (tensorType(getX()).getElementType().isInteger(1))
    return {};
  if (isSplat(adaptor.getX(), 1.0))
    return getY();
  if (isSplat(adaptor.getY(), 1.0))
    return getX();
  return foldSplats(adaptor.getOperands(), [](APFloat &x, const APFloat &y) {
    x.multiply(y, APFloat::rmNearestTiesToEven);
  });
}

OpFoldResult DivOp::fold(FoldAdaptor adaptor) {
  if (isSplat(adaptor.getY(), 1.0))
    return getX();
  return foldSplats(adaptor.getOperands(), [](APFloat &x, const APFloat &y) {
    x.divide(y, APFloat::rmNearestTiesToEven);
  });
}

OpFoldResult CompareOp::fold(FoldAdaptor adaptor) {
  auto x = dyn_cast_or_null<SplatElementsAttr>(adaptor.getX());
  auto y = dyn_cast_or_null<SplatElementsAttr>(adaptor.getY());
  if (!x || !y || getTotalOrder() || !isa<FloatType>(x.getElementType()))
    return {};
  auto order = x.getSplatValue<APFloat>().compare(y.getSplatValue<APFloat>());
  bool less = order == APFloat::cmpLessThan, equal = order == APFloat::cmpEqual,
       greater = order == APFloat::cmpGreaterThan, result = false;
  switch (getDirection()) {
  case CompareDirection::EQ:
    result = equal;
    break;
  case CompareDirection::NE:
    result = !equal;
    break;
  case CompareDirection::LT:
    result = less;
    break;
  case CompareDirection::LE:
    result = less || equal;
    break;
  case CompareDirection::GT:
    result = greater;
    break;
  case CompareDirection::GE:
    result = greater || equal;
    break;
  }
  return DenseElementsAttr::get(cast<RankedTensorType>(getType()), result);
}

OpFoldResult SelectOp::fold(FoldAdaptor adaptor) {
  if (getOnTrue() == getOnFalse())
    return getOnTrue();
  // Symbolic zeros on both sides are one zero.
  if (adaptor.getOnTrue() && adaptor.getOnTrue() == adaptor.getOnFalse())
    return adaptor.getOnTrue();
  if (auto predicate =
          dyn_cast_or_null<SplatElementsAttr>(adaptor.getPredicate()))
    return predicate.getSplatValue<bool>() ? getOnTrue() : getOnFalse();
  return {};
}

//===----------------------------------------------------------------------===//
// Signs
//===----------------------------------------------------------------------===//

/// What a negation that nobody else reads negates. Only of real numbers does a
/// sign commute with products exactly: complex ones have signed zeros.
static Value negated(Value x) {
  auto neg = x.getDefiningOp<NegOp>();
  bool movable = neg && x.hasOneUse() &&
                 !isa<ComplexType>(getElementTypeOrSelf(x.getType()));
  return movable ? neg.getX() : Value();
}

/// `(-x) . y` and `x . (-y)` become `-(x . y)`.
template <typename OpTy>
static LogicalResult moveSignOut(OpTy op, PatternRewriter &rewriter) {
  Value x = negated(op.getX()), y = negated(op.getY());
  if (!x && !y)
    return failure();
  ImplicitLocOpBuilder b(op.getLoc(), rewriter);
  Value unsignedResult =
      bm::detail::cloneWith(b, op, {x ? x : op.getX(), y ? y : op.getY()})
          ->getResult(0);
  if (x && y)
    rewriter.replaceOp(op, unsignedResult);
  else
    rewriter.replaceOpWithNewOp<NegOp>(op, op.getType(), unsignedResult);
  return success();
}

/// Whether this is a constant of real minus ones.
static bool isMinusOne(Value x) {
  Attribute constant;
  return matchPattern(x, m_Constant(&constant)) && isSplat(constant, -1.0);
}

LogicalResult MulOp::canonicalize(MulOp op, PatternRewriter &rewriter) {
  for (auto [factor, other] :
       {std::pair(op.getX(), op.getY()), std::pair(op.getY(), op.getX())})
    if (isMinusOne(factor)) {
      rewriter.replaceOpWithNewOp<NegOp>(op, op.getType(), other);
      return success();
    }
  return moveSignOut(op, rewriter);
}

LogicalResult DivOp::canonicalize(DivOp op, PatternRewriter &rewriter) {
  // Of integers, the least one over -1 overflows where its negative does not.
  if (!isa<FloatType>(getElementTypeOrSelf(op.getType())))
    return failure();
  return moveSignOut(op, rewriter);
}

/// `x + (-y)` and `(-y) + x` become `x - y`.
LogicalResult AddOp::canonicalize(AddOp op, PatternRewriter &rewriter) {
  for (auto [kept, other] :
       {std::pair(op.getX(), op.getY()), std::pair(op.getY(), op.getX())})
    if (Value subtracted = negated(other)) {
      rewriter.replaceOpWithNewOp<SubOp>(op, op.getType(), kept, subtracted);
      return success();
    }
  return failure();
}

/// `x - (-y)` becomes `x + y`.
LogicalResult SubOp::canonicalize(SubOp op, PatternRewriter &rewriter) {
  Value added = negated(op.getY());
  if (!added)
    return failure();
  rewriter.replaceOpWithNewOp<AddOp>(op, op.getType(), op.getX(), added);
  return success();
}
