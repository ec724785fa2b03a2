//===- Custom.cpp - The rules of the ops of Custom.td ---------------------===//
//
// Derivatives are calls of the user's functions. How they are batched is in
// CustomBatching.cpp.
//
//===----------------------------------------------------------------------===//

#include "CustomRules.h"
#include "bmgrad/Dialect/BM/Control.h"
#include "bmgrad/Dialect/BM/Elementwise.h"
#include "bmgrad/Dialect/BM/Kernel.h"
#include "bmgrad/Dialect/BM/Transforms.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/Interfaces/FunctionInterfaces.h"

using namespace mlir;
using namespace bmgrad::bm;

namespace bmgrad::bm::detail {
/// Replaces a call of a function that is linear in some operands by the call of
/// its transpose.
static LogicalResult transposeFunction(Operation *op, FlatSymbolRefAttr callee,
                                       TransposeFrame &frame);
} // namespace bmgrad::bm::detail

#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Custom.cpp.inc"

void bmgrad::bm::addCustomOps(BMDialect &dialect) {
  dialect.addFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/Custom.cpp.inc"
      >();
}

SmallVector<Type> bmgrad::bm::differentiable(TypeRange types) {
  return llvm::filter_to_vector(
      types, [](Type type) { return isDifferentiable(type); });
}

template <typename... Ranges>
static SmallVector<Type> concat(const Ranges &...ranges) {
  SmallVector<Type> types;
  (llvm::append_range(types, ranges), ...);
  return types;
}

SmallVector<GivenTranspose> bmgrad::bm::givenTransposes(CustomJvpOp op) {
  SmallVector<GivenTranspose> given;
  if (op.getTransposes() && op.getLinear())
    for (auto [linear, function] :
         llvm::zip(*op.getLinear(), *op.getTransposes()))
      given.push_back({cast<DenseI64ArrayAttr>(linear).asArrayRef(),
                       cast<FlatSymbolRefAttr>(function)});
  return given;
}

//===----------------------------------------------------------------------===//
// Verifiers
//===----------------------------------------------------------------------===//

/// `role` says what the op calls the function for.
static LogicalResult verifyFunction(Operation *op, FlatSymbolRefAttr name,
                                    StringRef role, TypeRange arguments,
                                    TypeRange results,
                                    SymbolTableCollection &symbols) {
  auto function =
      symbols.lookupNearestSymbolFrom<FunctionOpInterface>(op, name);
  if (!function)
    return op->emitOpError()
           << "has " << name << " as " << role << ", which is no function";
  auto expected = FunctionType::get(op->getContext(), arguments, results);
  auto found = FunctionType::get(op->getContext(), function.getArgumentTypes(),
                                 function.getResultTypes());
  if (found != expected)
    return op->emitOpError() << "has " << name << " as " << role << " of type "
                             << found << ", expected " << expected;
  return success();
}

LogicalResult CustomJvpOp::verifySymbolUses(SymbolTableCollection &symbols) {
  TypeRange inputs = getInputs().getTypes(), outputs = getResultTypes();
  if (failed(verifyFunction(*this, getPrimalAttr(), "primal", inputs, outputs,
                            symbols)))
    return failure();
  if (getRuleAttr() &&
      failed(verifyFunction(*this, getRuleAttr(), "rule",
                            concat(inputs, differentiable(inputs)),
                            concat(outputs, differentiable(outputs)), symbols)))
    return failure();
  SmallVector<GivenTranspose> transposes = givenTransposes(*this);
  auto count = [](ArrayAttr list) { return list ? list.size() : 0; };
  if (count(getLinearAttr()) != count(getTransposesAttr()))
    return emitOpError("needs a list of linear operands for each transpose");
  for (const GivenTranspose &given : transposes) {
    SmallVector<Type> arguments, results;
    for (auto [index, type] : llvm::enumerate(inputs))
      (given.isLinear(index) ? results : arguments).push_back(type);
    llvm::append_range(arguments, differentiable(outputs));
    if (failed(verifyFunction(*this, given.function, "transpose", arguments,
                              results, symbols)))
      return failure();
  }
  return success();
}

LogicalResult CustomVjpOp::verifySymbolUses(SymbolTableCollection &symbols) {
  TypeRange inputs = getInputs().getTypes(), outputs = getResultTypes();
  if (failed(verifyFunction(*this, getPrimalAttr(), "primal", inputs, outputs,
                            symbols)))
    return failure();
  auto fwd =
      symbols.lookupNearestSymbolFrom<FunctionOpInterface>(*this, getFwdAttr());
  SmallVector<Type> residuals;
  if (fwd && fwd.getNumResults() == outputs.size() + getNumResiduals())
    residuals = concat(fwd.getResultTypes().drop_front(outputs.size()));
  else if (fwd)
    return emitOpError() << "has " << getFwdAttr() << " as fwd with "
                         << fwd.getNumResults() << " results, expected "
                         << outputs.size() << " outputs and "
                         << getNumResiduals() << " residuals";
  if (failed(verifyFunction(*this, getFwdAttr(), "fwd", inputs,
                            concat(outputs, residuals), symbols)))
    return failure();
  return verifyFunction(*this, getBwdAttr(), "bwd",
                        concat(residuals, differentiable(outputs)),
                        differentiable(inputs), symbols);
}

LogicalResult CustomLinOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return verifyFunction(*this, getBwdAttr(), "bwd",
                        concat(getResiduals().getTypes(), getResultTypes()),
                        getTangents().getTypes(), symbols);
}

LogicalResult LinearSolveOp::verifySymbolUses(SymbolTableCollection &symbols) {
  TypeRange operands = getOperandTypes(), unknowns = getRhs().getTypes();
  if (static_cast<bool>(getTransposeSolveAttr()) !=
      static_cast<bool>(getVecmatAttr()))
    return emitOpError(
        "needs transpose_solve and vecmat, or neither of the two");
  if (failed(verifyFunction(*this, getSolveAttr(), "solve", operands,
                            getResultTypes(), symbols)) ||
      failed(verifyFunction(*this, getMatvecAttr(), "matvec", operands,
                            unknowns, symbols)))
    return failure();
  if (getNumResults() < unknowns.size() ||
      TypeRange(getResultTypes()).take_front(unknowns.size()) != unknowns)
    return emitOpError() << "has results of types " << getResultTypes()
                         << ", expected those of the right-hand side first: "
                         << unknowns;
  if (!getTransposeSolveAttr())
    return success();
  // What the solution of the transposed equation comes with may be something
  // else.
  auto transposed = symbols.lookupNearestSymbolFrom<FunctionOpInterface>(
      *this, getTransposeSolveAttr());
  SmallVector<Type> results(unknowns);
  if (transposed && transposed.getNumResults() > results.size())
    llvm::append_range(results,
                       transposed.getResultTypes().drop_front(results.size()));
  if (failed(verifyFunction(*this, getTransposeSolveAttr(), "transpose_solve",
                            operands, results, symbols)))
    return failure();
  return verifyFunction(*this, getVecmatAttr(), "vecmat", operands, unknowns,
                        symbols);
}

//===----------------------------------------------------------------------===//
// Derivatives
//===----------------------------------------------------------------------===//

/// A tangent for each float or complex input.
static SmallVector<Value> inputTangents(JvpFrame &frame) {
  SmallVector<Value> tangents;
  for (auto [primal, tangent] : llvm::zip_equal(frame.primals, frame.tangents))
    if (isDifferentiable(primal.getType()))
      tangents.push_back(materialize(frame.b, tangent, primal.getType()));
  return tangents;
}

/// Gives the tangents, one a float or complex result, to those results.
static void setResultTangents(JvpFrame &frame, ValueRange tangents) {
  auto next = tangents.begin();
  for (Value result : frame.results)
    frame.resultTangents.push_back(
        isDifferentiable(result.getType()) ? *next++ : Value());
}

/// What a rule that could not be imported has instead of a body.
static constexpr StringLiteral kReason("bm.reason");
/// How the reason begins where the rule is imported once it is asked for.
static constexpr StringLiteral kPutOff("put off rules ");

/// `isPerturbed` says, for a rule that could still be imported, of which
/// operands the derivative is taken.
static LogicalResult
verifyRuleHasBody(Operation *op, FlatSymbolRefAttr rule,
                  llvm::function_ref<bool(unsigned)> isPerturbed = {}) {
  auto function =
      SymbolTable::lookupNearestSymbolFrom<FunctionOpInterface>(op, rule);
  if (!function.isExternal())
    return success();
  InFlightDiagnostic error = op->emitError("derivative rule ")
                             << rule << " has no body";
  if (auto reason = function->getAttrOfType<StringAttr>(kReason)) {
    error << ": " << reason.getValue();
    if (isPerturbed) {
      error << " for ";
      for (unsigned index = 0; index < op->getNumOperands(); ++index)
        error << static_cast<int>(isPerturbed(index));
    }
  }
  return error;
}

/// The primals without the marks of what the rule was told to be unperturbed:
/// once it is asked, a derivative of what it gives may perturb them.
static SmallVector<Value> unmarkedPrimals(JvpFrame &frame) {
  return llvm::map_to_vector(frame.primals, [](Value primal) {
    auto mark = primal.getDefiningOp<UnperturbedOp>();
    return mark ? mark.getX() : primal;
  });
}

StringRef bmgrad::bm::getPrimitiveName(CustomJvpOp op) {
  StringRef name = op.getPrimal();
  auto primal = SymbolTable::lookupNearestSymbolFrom<FunctionOpInterface>(
      op, op.getPrimalAttr());
  if (primal)
    primal->walk([&](KernelOp kernel) {
      if (name.starts_with(kernel.getName()))
        name = kernel.getName();
    });
  return name;
}

LogicalResult CustomJvpOp::emitJvp(JvpFrame &frame) {
  if (!getRuleAttr())
    return emitError("no derivative rule for primitive '")
           << getPrimitiveName(*this) << "'";
  if (failed(verifyRuleHasBody(*this, getRuleAttr(), [&](unsigned index) {
        return static_cast<bool>(frame.tangents[index]);
      })))
    return failure();
  SmallVector<Value> operands = unmarkedPrimals(frame);
  llvm::append_range(operands, inputTangents(frame));
  auto call = func::CallOp::create(
      frame.b, getRuleAttr(),
      concat(getResultTypes(), differentiable(getResultTypes())), operands);
  llvm::append_range(frame.results,
                     call.getResults().take_front(getNumResults()));
  setResultTangents(frame, call.getResults().drop_front(getNumResults()));
  return success();
}

LogicalResult UnperturbedOp::emitJvp(JvpFrame &frame) {
  if (frame.tangents.front())
    return emitError() << getReason();
  frame.results.push_back(
      UnperturbedOp::create(frame.b, frame.primals.front(), getReasonAttr()));
  frame.resultTangents.emplace_back();
  return success();
}

LogicalResult UnperturbedOp::emitTranspose(TransposeFrame &frame) {
  // A function is transposed without its derivative rule.
  frame.operandCotangents.front() = frame.cotangents.front();
  return success();
}

LogicalResult UnperturbedOp::emitLowering(LoweringFrame &frame) {
  frame.results.push_back(getX());
  return success();
}

LogicalResult CustomVjpOp::emitJvp(JvpFrame &frame) {
  for (Value tangent : frame.tangents.take_front(getNumClosedOver()))
    if (tangent)
      return emitError("derivative with respect to a value that a function "
                       "with a custom VJP rule closes over; pass the value to "
                       "the function as an argument");
  SmallVector<Value> primals = unmarkedPrimals(frame);
  auto fwd = SymbolTable::lookupNearestSymbolFrom<FunctionOpInterface>(
      *this, getFwdAttr());
  auto call = func::CallOp::create(frame.b, getFwdAttr(), fwd.getResultTypes(),
                                   primals);
  // Where the residuals are made when they are needed, what is run before that
  // need not make them.
  ValueRange results = call.getResults().take_front(getNumResults());
  if (getOptimizeRemat() && (*this)->getParentOfType<RematOp>())
    results = func::CallOp::create(frame.b, getPrimalAttr(), getResultTypes(),
                                   primals)
                  .getResults();
  llvm::append_range(frame.results, results);
  auto tangent = CustomLinOp::create(
      frame.b, differentiable(getResultTypes()), getBwdAttr(),
      getHasSideEffectAttr(), call.getResults().drop_front(getNumResults()),
      inputTangents(frame));
  setResultTangents(frame, tangent.getResults());
  return success();
}

/// Calls a transpose that the op brings, with respect to the operands that are
/// linear and maybe others.
static LogicalResult callTranspose(CustomJvpOp op, const GivenTranspose &given,
                                   TransposeFrame &frame) {
  if (failed(verifyRuleHasBody(op, given.function, [&](unsigned index) {
        return frame.isLinear(index);
      })))
    return failure();
  SmallVector<Value> operands;
  for (auto [index, operand] : llvm::enumerate(frame.operands))
    if (!given.isLinear(index))
      operands.push_back(operand);
  for (auto [cotangent, type] :
       llvm::zip_equal(frame.cotangents, op.getResultTypes()))
    if (isDifferentiable(type))
      operands.push_back(materialize(frame.b, cotangent, type));
  SmallVector<Type> types;
  for (int64_t index : given.linear)
    types.push_back(op.getInputs()[index].getType());
  auto call = func::CallOp::create(frame.b, given.function, types, operands);
  for (auto [index, cotangent] :
       llvm::zip_equal(given.linear, call.getResults()))
    if (frame.isLinear(index))
      frame.operandCotangents[index] = cotangent;
  return success();
}

/// Whether a transpose has a body, or can be imported. The rules of users raise
/// for most operands that they are asked for together.
static bool isAtHand(CustomJvpOp op, FlatSymbolRefAttr function) {
  Operation *found = SymbolTable::lookupNearestSymbolFrom(op, function);
  auto reason = found->getAttrOfType<StringAttr>(kReason);
  return !reason || reason.getValue().starts_with(kPutOff);
}

/// Calls the transpose that the op brings for the operands that are linear.
static LogicalResult transposeAsGiven(CustomJvpOp op, TransposeFrame &frame) {
  SmallVector<GivenTranspose> transposes = givenTransposes(op);
  std::optional<GivenTranspose> ofMore;
  for (const GivenTranspose &given : transposes) {
    bool isExact = true, hasAll = true;
    for (unsigned index = 0; index < op->getNumOperands(); ++index) {
      isExact &= given.isLinear(index) == frame.isLinear(index);
      hasAll &= given.isLinear(index) || !frame.isLinear(index);
    }
    if (isExact)
      return callTranspose(op, given, frame);
    // A function that is linear in some operands together is so in each of
    // them: what the others are adds a constant.
    bool isLess = !ofMore || given.linear.size() < ofMore->linear.size();
    if (hasAll && isLess && isAtHand(op, given.function))
      ofMore = given;
  }
  if (ofMore)
    return callTranspose(op, *ofMore, frame);
  // Rules that were put off may have one.
  if (op.getRuleAttr() &&
      failed(verifyRuleHasBody(op, op.getRuleAttr(), [&](unsigned index) {
        return frame.isLinear(index);
      })))
    return failure();
  return op.emitError("no transpose rule for primitive '")
         << getPrimitiveName(op) << "' with respect to these operands";
}

LogicalResult bmgrad::bm::detail::transposeFunction(Operation *op,
                                                    FlatSymbolRefAttr callee,
                                                    TransposeFrame &frame) {
  if (auto custom = dyn_cast<CustomJvpOp>(op); custom && custom.getTransposes())
    return transposeAsGiven(custom, frame);
  ImplicitLocOpBuilder &b = frame.b;
  SmallVector<Value> operands;
  SmallVector<int64_t> wrt, of;
  SmallVector<Type> results(op->getResultTypes());
  for (auto [index, operand] : llvm::enumerate(op->getOperands())) {
    if (!frame.isLinear(index)) {
      operands.push_back(frame.operands[index]);
      continue;
    }
    // The derivative of a linear function is the function, at any point.
    operands.push_back(makeZero(b, operand.getType()));
    wrt.push_back(index);
    results.push_back(operand.getType());
  }
  for (auto [index, cotangent] : llvm::enumerate(frame.cotangents))
    if (cotangent) {
      operands.push_back(cotangent);
      of.push_back(index);
    }
  auto vjp = VjpOp::create(b, results, callee.getValue(), operands, wrt, of);
  for (auto [index, cotangent] :
       llvm::zip_equal(wrt, vjp.getResults().drop_front(op->getNumResults())))
    frame.operandCotangents[index] = cotangent;
  return success();
}

static LogicalResult reportForwardMode(Operation *op) {
  return op->emitError(
      "forward-mode derivative of a function with a custom VJP rule; use "
      "reverse mode, or give the function a custom JVP rule");
}

LogicalResult CustomLinOp::emitJvp(JvpFrame &frame) {
  unsigned numResiduals = getResiduals().size();
  if (llvm::any_of(frame.tangents.take_front(numResiduals),
                   [](Value tangent) { return static_cast<bool>(tangent); }))
    return reportForwardMode(*this);
  ValueRange residuals = frame.primals.take_front(numResiduals);
  auto emit = [&](ValueRange tangents) {
    return CustomLinOp::create(frame.b, getResultTypes(), getBwdAttr(),
                               getHasSideEffectAttr(), residuals, tangents)
        .getResults();
  };
  llvm::append_range(frame.results,
                     emit(frame.primals.drop_front(numResiduals)));
  SmallVector<Value> tangents;
  for (auto [tangent, like] :
       llvm::zip_equal(frame.tangents.drop_front(numResiduals), getTangents()))
    tangents.push_back(materialize(frame.b, tangent, like.getType()));
  llvm::append_range(frame.resultTangents, emit(tangents));
  return success();
}

LogicalResult CustomLinOp::emitTranspose(TransposeFrame &frame) {
  if (failed(verifyRuleHasBody(*this, getBwdAttr())))
    return failure();
  unsigned numResiduals = getResiduals().size();
  SmallVector<Value> operands(frame.operands.take_front(numResiduals));
  for (auto [cotangent, type] :
       llvm::zip_equal(frame.cotangents, getResultTypes()))
    operands.push_back(materialize(frame.b, cotangent, type));
  auto call = func::CallOp::create(frame.b, getBwdAttr(),
                                   getTangents().getTypes(), operands);
  for (auto [index, cotangent] : llvm::enumerate(call.getResults()))
    if (frame.isLinear(numResiduals + index))
      frame.operandCotangents[numResiduals + index] = cotangent;
  return success();
}

LogicalResult LinearSolveOp::emitJvp(JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  unsigned numParams = getParams().size(), numUnknowns = getRhs().size();
  ArrayRef<Value> params = frame.primals.take_front(numParams);
  auto solve = [&](ValueRange rhs) {
    return LinearSolveOp::create(b, getResultTypes(), getSolveAttr(),
                                 getMatvecAttr(), getTransposeSolveAttr(),
                                 getVecmatAttr(), getHasSideEffectAttr(),
                                 params, rhs)
        .getResults();
  };
  ValueRange primal = solve(frame.primals.drop_front(numParams));
  llvm::append_range(frame.results, primal);
  frame.resultTangents.assign(getNumResults(), Value());

  // A x = b, so A dx = db - dA x.
  SmallVector<Value> rhs(frame.tangents.drop_front(numParams));
  SmallVector<int64_t> wrt;
  SmallVector<Value> operands(params), tangents;
  for (auto [index, tangent] :
       llvm::enumerate(frame.tangents.take_front(numParams)))
    if (tangent) {
      wrt.push_back(index);
      tangents.push_back(tangent);
    }
  TypeRange types = getRhs().getTypes();
  if (!wrt.empty()) {
    llvm::append_range(operands, primal.take_front(numUnknowns));
    llvm::append_range(operands, tangents);
    auto product =
        JvpOp::create(b, concat(types, types), getMatvec(), operands, wrt);
    for (auto [slot, moved] :
         llvm::zip_equal(rhs, product.getResults().drop_front(numUnknowns)))
      slot = accumulate(b, slot,
                        b.createOrFold<NegOp>(moved.getType(), Value(moved)));
  }
  if (llvm::none_of(rhs, [](Value v) { return static_cast<bool>(v); }))
    return success();
  for (auto [slot, type] : llvm::zip_equal(rhs, types))
    slot = materialize(b, slot, type);
  ValueRange moved = solve(rhs);
  llvm::copy(moved.take_front(numUnknowns), frame.resultTangents.begin());
  return success();
}

LogicalResult LinearSolveOp::emitTranspose(TransposeFrame &frame) {
  if (!getTransposeSolveAttr())
    return emitError("reverse-mode derivative of a custom_linear_solve without "
                     "transpose_solve; give it one, or symmetric=True");
  unsigned numParams = getParams().size(), numUnknowns = getRhs().size();
  auto solve = SymbolTable::lookupNearestSymbolFrom<FunctionOpInterface>(
      *this, getTransposeSolveAttr());
  SmallVector<Value> rhs;
  for (auto [cotangent, like] : llvm::zip(frame.cotangents, getRhs()))
    rhs.push_back(materialize(frame.b, cotangent, like.getType()));
  auto made = LinearSolveOp::create(
      frame.b, solve.getResultTypes(), getTransposeSolveAttr(), getVecmatAttr(),
      getSolveAttr(), getMatvecAttr(), getHasSideEffectAttr(),
      frame.operands.take_front(numParams), rhs);
  llvm::copy(made.getResults().take_front(numUnknowns),
             frame.operandCotangents.begin() + numParams);
  return success();
}

//===----------------------------------------------------------------------===//
// Lowering
//===----------------------------------------------------------------------===//

LogicalResult bmgrad::bm::detail::lowerToCall(Operation *op,
                                              FlatSymbolRefAttr callee,
                                              LoweringFrame &frame) {
  auto call = func::CallOp::create(frame.b, callee, op->getResultTypes(),
                                   op->getOperands());
  llvm::append_range(frame.results, call.getResults());
  return success();
}

LogicalResult CustomLinOp::emitLowering(LoweringFrame &) {
  return reportForwardMode(*this);
}
