//===- Elementwise.cpp - The rules of the ops of Elementwise.td -----------===//
//
// Most rules are the records' own (`partials`, one-to-one lowering). Here is
// the rest: transposes of the linear ops, ops whose rule depends on the element
// type, lowerings that take more than one op, verifiers.
//
//===----------------------------------------------------------------------===//

#include "bmgrad/Dialect/BM/Elementwise.h"
#include "bmgrad/Dialect/BM/Expr.h"
#include "bmgrad/Dialect/BM/Shape.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace bmgrad;
using namespace bmgrad::bm;

//===----------------------------------------------------------------------===//
// Assembly
//===----------------------------------------------------------------------===//

static ParseResult parseDirection(OpAsmParser &parser,
                                  CompareDirectionAttr &attribute) {
  SMLoc location = parser.getCurrentLocation();
  StringRef keyword;
  if (parser.parseKeyword(&keyword))
    return failure();
  auto direction = symbolizeCompareDirection(keyword);
  if (!direction)
    return parser.emitError(location,
                            "expected one of eq, ne, lt, le, gt, ge, got '")
           << keyword << "'";
  attribute = CompareDirectionAttr::get(parser.getContext(), *direction);
  return success();
}

static void printDirection(OpAsmPrinter &printer, Operation *,
                           CompareDirectionAttr attribute) {
  printer << stringifyCompareDirection(attribute.getValue());
}

#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Elementwise.cpp.inc"

void bmgrad::bm::addElementwiseOps(BMDialect &dialect) {
  dialect.addFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/Elementwise.cpp.inc"
      >();
}

//===----------------------------------------------------------------------===//
// Verifiers
//===----------------------------------------------------------------------===//

LogicalResult SelectOp::verify() {
  auto predicate = cast<RankedTensorType>(getPredicate().getType());
  auto result = cast<RankedTensorType>(getR().getType());
  if (predicate.getRank() == 0 || predicate.getShape() == result.getShape())
    return success();
  return emitOpError(
             "predicate must have rank 0 or the shape of the cases, but it is ")
         << predicate << " and they are " << result;
}

//===----------------------------------------------------------------------===//
// Derivatives that depend on the element type
//===----------------------------------------------------------------------===//

LogicalResult SignOp::emitJvp(JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Value x = frame.primals[0], r = SignOp::create(b, getType(), x);
  frame.results.push_back(r);
  auto type = tensorType(x);
  auto complex = dyn_cast<ComplexType>(type.getElementType());
  if (!complex) {
    frame.resultTangents.push_back(Value());
    return success();
  }
  // By how much the angle turns. At zero r is zero, and so is the tangent.
  Type real = type.clone(complex.getElementType());
  Value along = MulOp::create(b, ConjOp::create(b, type, r), frame.tangents[0]);
  Expr across(b, ImagOp::create(b, real, along)),
      size(b, AbsOp::create(b, real, x));
  Expr one = expr::constantLike(size, 1.0);
  Expr turn =
      across /
      expr::select(expr::gt(size, expr::constantLike(size, 0.0)), size, one);
  Value direction = ComplexOp::create(b, type, makeZero(b, real), turn.get());
  frame.resultTangents.push_back(MulOp::create(b, r, direction));
  return success();
}

LogicalResult AbsOp::emitJvp(JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Value x = frame.primals[0], tangent = frame.tangents[0];
  Value result = AbsOp::create(b, getType(), x);
  frame.results.push_back(result);
  if (!isa<ComplexType>(tensorType(x).getElementType())) {
    // 1 at zero, as in JAX, where a sign would lose the derivative.
    Expr at(b, x), one = expr::constantLike(at, 1.0);
    Expr slope =
        expr::select(expr::lt(at, expr::constantLike(at, 0.0)), -one, one);
    frame.resultTangents.push_back(
        MulOp::create(b, x.getType(), tangent, slope.get()));
    return success();
  }
  // Re(conj(x) dx) / |x|, with 1 for |x| at zero: the numerator is zero there.
  Expr r(b, result);
  Expr modulus = expr::select(expr::eq(r, expr::constantLike(r, 0.0)),
                              expr::constantLike(r, 1.0), r);
  Value scale =
      ComplexOp::create(b, x.getType(), modulus.get(), makeZero(b, getType()));
  Value direction =
      DivOp::create(b, x.getType(), ConjOp::create(b, x.getType(), x), scale);
  Value product = MulOp::create(b, x.getType(), tangent, direction);
  frame.resultTangents.push_back(RealOp::create(b, getType(), product));
  return success();
}

LogicalResult ConvertOp::emitJvp(JvpFrame &frame) {
  frame.results.push_back(
      ConvertOp::create(frame.b, getType(), frame.primals[0]));
  Value tangent = frame.tangents[0];
  frame.resultTangents.push_back(
      isDifferentiable(getType())
          ? Value(ConvertOp::create(frame.b, getType(), tangent))
          : Value());
  return success();
}

LogicalResult DivOp::emitJvp(JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Value y = frame.primals[1];
  Value result =
      DivOp::create(b, getType(), frame.primals[0], y, getAllowReciprocal());
  frame.results.push_back(result);
  auto divide = [&](Value x) {
    return DivOp::create(b, getType(), x, y, /*allow_reciprocal=*/true);
  };
  Value tangent;
  if (Value dx = frame.tangents[0])
    tangent = divide(dx);
  if (Value dy = frame.tangents[1]) {
    Value slope = NegOp::create(b, getType(), divide(result));
    tangent = accumulate(b, tangent, MulOp::create(b, getType(), dy, slope));
  }
  frame.resultTangents.push_back(tangent);
  return success();
}

LogicalResult SelectOp::emitJvp(JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  frame.results.push_back(SelectOp::create(b, getType(), frame.primals[0],
                                           frame.primals[1], frame.primals[2]));
  frame.resultTangents.push_back(
      SelectOp::create(b, getType(), frame.primals[0],
                       materialize(b, frame.tangents[1], getType()),
                       materialize(b, frame.tangents[2], getType())));
  return success();
}

//===----------------------------------------------------------------------===//
// Transposes
//===----------------------------------------------------------------------===//

LogicalResult NegOp::emitTranspose(TransposeFrame &frame) {
  frame.operandCotangents[0] =
      scaleMasked(frame.b, frame.cotangents[0], [&](Value ct) {
        return frame.b.createOrFold<NegOp>(getType(), ct);
      });
  return success();
}

LogicalResult ConjOp::emitTranspose(TransposeFrame &frame) {
  frame.operandCotangents[0] =
      ConjOp::create(frame.b, getType(), frame.cotangents[0]);
  return success();
}

LogicalResult ReducePrecisionOp::emitTranspose(TransposeFrame &frame) {
  frame.operandCotangents[0] =
      ReducePrecisionOp::create(frame.b, getType(), frame.cotangents[0],
                                getExponentBits(), getMantissaBits());
  return success();
}

// With the plain (not conjugating) pairing <x, y> = Re(x y), as in JAX.
LogicalResult RealOp::emitTranspose(TransposeFrame &frame) {
  frame.operandCotangents[0] =
      ComplexOp::create(frame.b, getX().getType(), frame.cotangents[0],
                        makeZero(frame.b, getType()));
  return success();
}

LogicalResult ImagOp::emitTranspose(TransposeFrame &frame) {
  Value negated = NegOp::create(frame.b, getType(), frame.cotangents[0]);
  frame.operandCotangents[0] = ComplexOp::create(
      frame.b, getX().getType(), makeZero(frame.b, getType()), negated);
  return success();
}

LogicalResult ComplexOp::emitTranspose(TransposeFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Value cotangent = frame.cotangents[0];
  if (frame.isLinear(0))
    frame.operandCotangents[0] = RealOp::create(b, getX().getType(), cotangent);
  if (frame.isLinear(1))
    frame.operandCotangents[1] = NegOp::create(
        b, getY().getType(), ImagOp::create(b, getY().getType(), cotangent));
  return success();
}

LogicalResult ConvertOp::emitTranspose(TransposeFrame &frame) {
  Type type = getX().getType();
  if (!isDifferentiable(type))
    return success();
  ImplicitLocOpBuilder &b = frame.b;
  bool toComplex =
      isa<ComplexType>(tensorType(frame.cotangents[0]).getElementType()) &&
      !isa<ComplexType>(getElementTypeOrSelf(type));
  frame.operandCotangents[0] =
      scaleMasked(b, frame.cotangents[0], [&](Value ct) -> Value {
        if (toComplex) {
          auto complexType = cast<ComplexType>(tensorType(ct).getElementType());
          ct = RealOp::create(
              b, tensorType(ct).clone(complexType.getElementType()), ct);
        }
        return ct.getType() == type ? ct : b.createOrFold<ConvertOp>(type, ct);
      });
  return success();
}

LogicalResult AddOp::emitTranspose(TransposeFrame &frame) {
  for (unsigned index : {0, 1})
    if (frame.isLinear(index))
      frame.operandCotangents[index] = frame.cotangents[0];
  return success();
}

LogicalResult SubOp::emitTranspose(TransposeFrame &frame) {
  if (frame.isLinear(0))
    frame.operandCotangents[0] = frame.cotangents[0];
  if (frame.isLinear(1))
    frame.operandCotangents[1] =
        scaleMasked(frame.b, frame.cotangents[0], [&](Value ct) {
          return frame.b.createOrFold<NegOp>(getType(), ct);
        });
  return success();
}

LogicalResult MulOp::emitTranspose(TransposeFrame &frame) {
  if (frame.isLinear(0) && frame.isLinear(1))
    return emitOpError("is linear in one operand at a time");
  unsigned index = frame.isLinear(0) ? 0 : 1;
  Value factor = frame.operands[1 - index];
  frame.operandCotangents[index] =
      scaleMasked(frame.b, frame.cotangents[0], [&](Value ct) {
        return frame.b.createOrFold<MulOp>(getType(), ct, factor);
      });
  return success();
}

LogicalResult DivOp::emitTranspose(TransposeFrame &frame) {
  if (frame.isLinear(1))
    return emitOpError("is not linear in the denominator");
  frame.operandCotangents[0] =
      scaleMasked(frame.b, frame.cotangents[0], [&](Value ct) {
        return frame.b.createOrFold<DivOp>(getType(), ct, frame.operands[1],
                                           getAllowReciprocal());
      });
  return success();
}

LogicalResult SelectOp::emitTranspose(TransposeFrame &frame) {
  for (unsigned index : {1, 2})
    if (frame.isLinear(index))
      frame.operandCotangents[index] =
          Masked{frame.operands[0], frame.cotangents[0], index == 1}
              .joined(frame.b)
              .build(frame.b);
  return success();
}

//===----------------------------------------------------------------------===//
// Batching
//===----------------------------------------------------------------------===//

LogicalResult SelectOp::emitBatch(BatchFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Type type = batchedType(getType(), frame.size);
  Value predicate = frame.operands[0];
  auto predicateType = tensorType(predicate);
  bool scalar = tensorType(getPredicate()).getRank() == 0;
  if (scalar && frame.batched[0] && tensorType(getR()).getRank() > 0) {
    // One choice for each element of the batch: spread it over the rest.
    auto spread =
        cast<RankedTensorType>(type).clone(predicateType.getElementType());
    predicate = BroadcastInDimOp::create(b, spread, predicate,
                                         b.getDenseI64ArrayAttr({0}));
  } else if (!scalar) {
    predicate = frame.getBatched(0);
  }
  frame.results.push_back(SelectOp::create(
      b, type, predicate, frame.getBatched(1), frame.getBatched(2)));
  return success();
}

//===----------------------------------------------------------------------===//
// Lowerings of more than one op
//===----------------------------------------------------------------------===//

LogicalResult ConstantOp::emitLowering(LoweringFrame &frame) {
  frame.results.push_back(
      bm::detail::createForeign(frame.b, "stablehlo.constant", getType(), {},
                                {frame.b.getNamedAttr("value", getValue())})
          ->getResult(0));
  return success();
}

LogicalResult ConvertOp::emitLowering(LoweringFrame &frame) {
  Type from = getElementTypeOrSelf(getX().getType());
  // XLA's conversion of booleans takes more than twice the time on CPUs.
  if (!from.isInteger(1) || !isa<FloatType>(getElementTypeOrSelf(getType())))
    return bm::detail::lowerOneToOne(*this, getStablehloName(), frame);
  Expr x(frame.b, getX());
  frame.results.push_back(
      expr::select(x, x.with(makeConstant(frame.b, getType(), 1.0)),
                   x.with(makeConstant(frame.b, getType(), 0.0)))
          .get());
  return success();
}

LogicalResult StopGradientOp::emitLowering(LoweringFrame &frame) {
  frame.results.push_back(getX());
  return success();
}

LogicalResult Exp2Op::emitLowering(LoweringFrame &frame) {
  Expr x(frame.b, getX());
  frame.results.push_back(expr::exp(x * 0.693147180559945309417).get());
  return success();
}

LogicalResult OneMinusSquareOp::emitLowering(LoweringFrame &frame) {
  Expr x(frame.b, getX());
  frame.results.push_back(((x + 1.0) * (1.0 - x)).get());
  return success();
}

LogicalResult SquareOp::emitLowering(LoweringFrame &frame) {
  frame.results.push_back(MulOp::create(frame.b, getType(), getX(), getX()));
  return success();
}

LogicalResult IntegerPowOp::emitLowering(LoweringFrame &frame) {
  Expr base(frame.b, getX());
  uint64_t exponent = std::abs(static_cast<int64_t>(getExponent()));
  if (exponent == 0) {
    frame.results.push_back(makeConstant(frame.b, getType(), 1.0));
    return success();
  }
  // By repeated squaring: as many products as the exponent has bits.
  Expr product;
  while (true) {
    if (exponent & 1)
      product = product.get() ? product * base : base;
    exponent >>= 1;
    if (!exponent)
      break;
    base = base * base;
  }
  if (static_cast<int64_t>(getExponent()) < 0)
    product = 1.0 / product;
  frame.results.push_back(product.get());
  return success();
}

LogicalResult PowOp::emitLowering(LoweringFrame &frame) {
  Value exponent = getY();
  if (exponent.getType() != getType())
    exponent = ConvertOp::create(frame.b, getType(), exponent);
  frame.results.push_back(bm::detail::createForeign(frame.b, getStablehloName(),
                                                    getType(),
                                                    {getX(), exponent})
                              ->getResult(0));
  return success();
}

/// StableHLO has no order of complex numbers.
template <typename OpTy>
static LogicalResult lowerExtremum(OpTy op, LoweringFrame &frame,
                                   Expr (*wins)(Expr, Expr)) {
  if (!isa<ComplexType>(getElementTypeOrSelf(op.getType())))
    return bm::detail::lowerOneToOne(op, op.getStablehloName(), frame);
  Expr x(frame.b, op.getX()), y(frame.b, op.getY());
  frame.results.push_back(expr::select(wins(x, y), x, y).get());
  return success();
}

LogicalResult MaxOp::emitLowering(LoweringFrame &frame) {
  return lowerExtremum(*this, frame, expr::gt);
}

LogicalResult MinOp::emitLowering(LoweringFrame &frame) {
  return lowerExtremum(*this, frame, expr::lt);
}

LogicalResult CompareOp::emitLowering(LoweringFrame &frame) {
  Type element = tensorType(getX()).getElementType();
  StringRef kind = "SIGNED";
  if (isa<FloatType, ComplexType>(element))
    kind = getTotalOrder() ? "TOTALORDER" : "FLOAT";
  else if (element.isUnsignedInteger() || element.isInteger(1))
    kind = "UNSIGNED";
  std::string direction = stringifyCompareDirection(getDirection()).upper();
  OpBuilder &b = frame.b;
  SmallVector<NamedAttribute> attributes{
      b.getNamedAttr("comparison_direction",
                     bm::detail::foreignAttr(
                         b, "stablehlo", "comparison_direction " + direction)),
      b.getNamedAttr("compare_type",
                     bm::detail::foreignAttr(
                         b, "stablehlo", ("comparison_type " + kind).str()))};
  frame.results.push_back(
      bm::detail::createForeign(frame.b, "stablehlo.compare", getType(),
                                {getX(), getY()}, attributes)
          ->getResult(0));
  return success();
}
