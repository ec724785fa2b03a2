//===- Rules.cpp - Rules that op families share ---------------------------===//

#include "bmgrad/Dialect/BM/Rules.h"

#include "bmgrad/Dialect/BM/Elementwise.h"
#include "bmgrad/Dialect/BM/Expr.h"
#include "bmgrad/Dialect/BM/Indexing.h"
#include "bmgrad/Dialect/BM/Shape.h"
#include "mlir/IR/Matchers.h"

#include <cmath>

using namespace mlir;
using namespace bmgrad;
using namespace bmgrad::bm;

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

bool bmgrad::bm::isDifferentiable(Type type) {
  return isa<FloatType, ComplexType>(getElementTypeOrSelf(type));
}

RankedTensorType bmgrad::bm::tensorType(Value value) {
  return cast<RankedTensorType>(value.getType());
}

RankedTensorType bmgrad::bm::batchedType(Type type, int64_t size) {
  auto tensor = cast<RankedTensorType>(type);
  SmallVector<int64_t> shape{size};
  llvm::append_range(shape, tensor.getShape());
  return tensor.clone(shape);
}

/// `number` in `type`. Where a narrow type has no infinity it is the largest
/// number, where it has no zero or no negative ones NaN, and for want of that
/// zero.
static APFloat asFloat(FloatType type, double number) {
  const llvm::fltSemantics &semantics = type.getFloatSemantics();
  if (std::isinf(number) && !APFloat::semanticsHasInf(semantics) &&
      APFloat::semanticsHasSignedRepr(semantics))
    return APFloat::getLargest(semantics, /*Negative=*/number < 0);
  if (std::isnan(number) && !APFloat::semanticsHasNaN(semantics))
    number = 0;
  if ((number == 0 && !APFloat::semanticsHasZero(semantics)) ||
      (number < 0 && !APFloat::semanticsHasSignedRepr(semantics)))
    return APFloat::getNaN(semantics);
  APFloat result(number);
  bool losesInfo;
  result.convert(semantics, APFloat::rmNearestTiesToEven, &losesInfo);
  return result;
}

Value bmgrad::bm::makeConstant(ImplicitLocOpBuilder &b, Type type,
                               double value) {
  auto tensor = cast<RankedTensorType>(type);
  Type element = tensor.getElementType();
  DenseElementsAttr splat;
  if (auto floatType = dyn_cast<FloatType>(element)) {
    splat = DenseElementsAttr::get(tensor, asFloat(floatType, value));
  } else if (auto complexType = dyn_cast<ComplexType>(element)) {
    auto part = cast<FloatType>(complexType.getElementType());
    splat = DenseElementsAttr::get(
        tensor,
        std::complex<APFloat>(asFloat(part, value), asFloat(part, 0.0)));
  } else {
    auto integerType = cast<IntegerType>(element);
    splat = DenseElementsAttr::get(tensor, APInt(integerType.getWidth(),
                                                 static_cast<int64_t>(value),
                                                 /*isSigned=*/true,
                                                 /*implicitTrunc=*/true));
  }
  return ConstantOp::create(b, tensor, splat);
}

Value bmgrad::bm::makeZero(ImplicitLocOpBuilder &b, Type type) {
  return makeConstant(b, type, 0.0);
}

bool bmgrad::bm::isZeroConstant(Value value) {
  DenseElementsAttr elements;
  if (!value || !matchPattern(value, m_Constant(&elements)) ||
      !elements.isSplat())
    return false;
  Type element = elements.getElementType();
  if (isa<FloatType>(element))
    return elements.getSplatValue<APFloat>().isZero();
  if (isa<ComplexType>(element)) {
    auto number = elements.getSplatValue<std::complex<APFloat>>();
    return number.real().isZero() && number.imag().isZero();
  }
  return elements.getSplatValue<APInt>().isZero();
}

Value bmgrad::bm::materialize(ImplicitLocOpBuilder &b, Value value, Type type) {
  return value ? value : makeZero(b, type);
}

Value bmgrad::bm::broadcastBatch(ImplicitLocOpBuilder &b, Value value,
                                 int64_t size) {
  RankedTensorType type = tensorType(value);
  auto dims = llvm::to_vector(llvm::seq<int64_t>(1, type.getRank() + 1));
  return b.createOrFold<BroadcastInDimOp>(batchedType(type, size), value,
                                          b.getDenseI64ArrayAttr(dims));
}

Value bmgrad::bm::firstOfBatch(ImplicitLocOpBuilder &b, Value value) {
  RankedTensorType type = tensorType(value);
  SmallVector<int64_t> starts(type.getRank(), 0), strides(type.getRank(), 1),
      limits(type.getShape());
  limits[0] = 1;
  Value first =
      SliceOp::create(b, type.clone(limits), value, starts, limits, strides);
  return ReshapeOp::create(b, type.clone(type.getShape().drop_front()), first);
}

Value BatchFrame::getBatched(unsigned index) {
  return batched[index] ? operands[index]
                        : broadcastBatch(b, operands[index], size);
}

//===----------------------------------------------------------------------===//
// Masked cotangents
//===----------------------------------------------------------------------===//

std::optional<Masked> Masked::match(Value value) {
  auto select = value ? value.getDefiningOp<SelectOp>() : SelectOp();
  if (!select)
    return std::nullopt;
  if (isZeroConstant(select.getOnFalse()))
    return Masked{select.getPredicate(), select.getOnTrue(), true};
  if (isZeroConstant(select.getOnTrue()))
    return Masked{select.getPredicate(), select.getOnFalse(), false};
  return std::nullopt;
}

Value Masked::build(ImplicitLocOpBuilder &b) const {
  Value zero = makeZero(b, value.getType());
  return b.createOrFold<SelectOp>(value.getType(), predicate,
                                  keepsTrue ? value : zero,
                                  keepsTrue ? zero : value);
}

/// Where the value is kept.
static Value whereKept(ImplicitLocOpBuilder &b, const Masked &masked) {
  Value predicate = masked.predicate;
  return masked.keepsTrue
             ? predicate
             : b.createOrFold<NotOp>(predicate.getType(), predicate);
}

Masked Masked::joined(ImplicitLocOpBuilder &b) const {
  auto inner = match(value);
  if (!inner || inner->predicate.getType() != predicate.getType())
    return *this;
  Value both = b.createOrFold<AndOp>(predicate.getType(), whereKept(b, *this),
                                     whereKept(b, *inner));
  return Masked{both, inner->value, true};
}

Value bmgrad::bm::accumulate(ImplicitLocOpBuilder &b, Value lhs, Value rhs) {
  if (!lhs || !rhs)
    return lhs ? lhs : rhs;
  Type type = lhs.getType();
  auto left = Masked::match(lhs), right = Masked::match(rhs);
  bool areMasked = left && right;
  if (areMasked && left->predicate == right->predicate) {
    if (left->keepsTrue == right->keepsTrue)
      return Masked{left->predicate,
                    b.createOrFold<AddOp>(type, left->value, right->value),
                    left->keepsTrue}
          .build(b);
    return b.createOrFold<SelectOp>(
        type, left->predicate, left->keepsTrue ? left->value : right->value,
        left->keepsTrue ? right->value : left->value);
  }
  Value sum = b.createOrFold<AddOp>(type, lhs, rhs);
  Type predicate = areMasked ? left->predicate.getType() : Type();
  if (!areMasked || predicate != right->predicate.getType())
    return sum;
  Value either = b.createOrFold<OrOp>(predicate, whereKept(b, *left),
                                      whereKept(b, *right));
  return Masked{either, sum, true}.build(b);
}

Value bmgrad::bm::reshapeMasked(ImplicitLocOpBuilder &b, Value cotangent,
                                RankedTensorType type) {
  auto masked = Masked::match(cotangent);
  if (!masked)
    return b.createOrFold<ReshapeOp>(type, cotangent);
  auto reshaped = [&](Value value) -> Value {
    Type element = tensorType(value).getElementType();
    return b.createOrFold<ReshapeOp>(type.clone(element), value);
  };
  bool isOneForAll = tensorType(masked->predicate).getRank() == 0;
  Value predicate =
      isOneForAll ? masked->predicate : reshaped(masked->predicate);
  return Masked{predicate, reshaped(masked->value), masked->keepsTrue}.build(b);
}

Value bmgrad::bm::scaleMasked(ImplicitLocOpBuilder &b, Value cotangent,
                              function_ref<Value(Value)> scale) {
  if (auto masked = Masked::match(cotangent))
    return Masked{masked->predicate, scale(masked->value), masked->keepsTrue}
        .build(b);
  return scale(cotangent);
}

//===----------------------------------------------------------------------===//
// Derivative rules
//===----------------------------------------------------------------------===//

Operation *bm::detail::cloneWith(ImplicitLocOpBuilder &b, Operation *op,
                                 ValueRange operands, TypeRange resultTypes) {
  OperationState state(op->getLoc(), op->getName(), operands, resultTypes,
                       llvm::to_vector(op->getDiscardableAttrs()));
  state.propertiesAttr = op->getPropertiesAsAttribute();
  return b.create(state);
}

Operation *bm::detail::cloneWith(ImplicitLocOpBuilder &b, Operation *op,
                                 ValueRange operands) {
  return cloneWith(b, op, operands, op->getResultTypes());
}

/// `tangent` times `partial`. A reciprocal divides: one op instead of two, and
/// its residual is the divisor, which is there already.
static Value scale(ImplicitLocOpBuilder &b, Value tangent, Expr partial) {
  auto quotient = partial.get().getDefiningOp<DivOp>();
  if (quotient && matchPattern(quotient.getX(), m_OneFloat()))
    return b.createOrFold<DivOp>(partial.type(), tangent, quotient.getY());
  return b.createOrFold<MulOp>(partial.type(), tangent, partial.get());
}

LogicalResult bm::detail::jvpFromPartials(Operation *op, JvpFrame &frame,
                                          ArrayRef<Partial> partials) {
  ImplicitLocOpBuilder &b = frame.b;
  Operation *primal = cloneWith(b, op, frame.primals);
  Value result = primal->getResult(0);
  frame.results.push_back(result);
  Value tangent;
  if (isDifferentiable(result.getType())) {
    Expr operands[3];
    for (auto [operand, value] : llvm::zip(operands, frame.primals))
      operand = Expr(b, value);
    for (auto [partial, operandTangent] : llvm::zip(partials, frame.tangents)) {
      if (!operandTangent)
        continue;
      Expr factor =
          partial(operands[0], operands[1], operands[2], Expr(b, result));
      if (!factor.get())
        return op->emitError("no derivative rule for primitive '")
               << op->getName().stripDialect()
               << "' with respect to its argument "
               << &partial - partials.begin();
      tangent = accumulate(b, tangent, scale(b, operandTangent, factor));
    }
  }
  frame.resultTangents.push_back(tangent);
  return success();
}

LogicalResult bm::detail::jvpZero(Operation *op, JvpFrame &frame) {
  Operation *primal = cloneWith(frame.b, op, frame.primals);
  llvm::append_range(frame.results, primal->getResults());
  frame.resultTangents.assign(op->getNumResults(), Value());
  return success();
}

LogicalResult bm::detail::jvpLinear(Operation *op, JvpFrame &frame) {
  Operation *primal = cloneWith(frame.b, op, frame.primals);
  llvm::append_range(frame.results, primal->getResults());
  SmallVector<Value> operands;
  for (auto [value, tangent] : llvm::zip(frame.primals, frame.tangents))
    operands.push_back(isDifferentiable(value.getType())
                           ? materialize(frame.b, tangent, value.getType())
                           : value);
  // Folding matters: a sum with a symbolic zero is the other summand.
  SmallVector<Value> tangents;
  Operation *tangent = cloneWith(frame.b, op, operands);
  if (tangent->getNumResults() == 1 &&
      succeeded(frame.b.tryFold(tangent, tangents)) && !tangents.empty())
    tangent->erase();
  else
    tangents.assign(tangent->result_begin(), tangent->result_end());
  llvm::append_range(frame.resultTangents, tangents);
  return success();
}

LogicalResult bm::detail::jvpMultilinear(Operation *op, JvpFrame &frame) {
  Operation *primal = cloneWith(frame.b, op, frame.primals);
  frame.results.push_back(primal->getResult(0));
  Value sum;
  for (auto [index, tangent] : llvm::enumerate(frame.tangents)) {
    if (!tangent)
      continue;
    SmallVector<Value> operands(frame.primals);
    operands[index] = tangent;
    sum = accumulate(frame.b, sum,
                     cloneWith(frame.b, op, operands)->getResult(0));
  }
  frame.resultTangents.push_back(sum);
  return success();
}

//===----------------------------------------------------------------------===//
// Batching and lowering
//===----------------------------------------------------------------------===//

LogicalResult bm::detail::batchLeading(Operation *op, BatchFrame &frame) {
  SmallVector<Value> operands;
  for (unsigned index = 0; index < op->getNumOperands(); ++index)
    operands.push_back(frame.getBatched(index));
  SmallVector<Type> types;
  for (Type type : op->getResultTypes())
    types.push_back(batchedType(type, frame.size));
  llvm::append_range(frame.results,
                     cloneWith(frame.b, op, operands, types)->getResults());
  return success();
}

Operation *bm::detail::createForeign(ImplicitLocOpBuilder &b, StringRef name,
                                     TypeRange results, ValueRange operands,
                                     ArrayRef<NamedAttribute> attributes,
                                     unsigned regions) {
  OperationState state(b.getLoc(), name, operands, results, attributes);
  for (unsigned index = 0; index < regions; ++index)
    state.addRegion();
  return b.create(state);
}

Attribute bm::detail::foreignAttr(OpBuilder &b, StringRef dialect,
                                  StringRef text) {
  return OpaqueAttr::get(b.getStringAttr(dialect), text, b.getNoneType());
}

LogicalResult bm::detail::lowerOneToOne(Operation *op, StringRef name,
                                        LoweringFrame &frame) {
  SmallVector<NamedAttribute> attributes(op->getAttrs());
  Operation *lowered = createForeign(frame.b, name, op->getResultTypes(),
                                     op->getOperands(), attributes);
  llvm::append_range(frame.results, lowered->getResults());
  return success();
}
