//===- CustomBatching.cpp - Batches of calls with custom rules ------------===//
//
// A batched call refers to batched functions, made here as wrappers around
// bm.batch, so that its rule stays custom.
//
//===----------------------------------------------------------------------===//

#include "CustomRules.h"
#include "bmgrad/Dialect/BM/KernelBatching.h"
#include "bmgrad/Dialect/BM/Reduction.h"
#include "bmgrad/Dialect/BM/Shape.h"
#include "bmgrad/Dialect/BM/Transforms.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/Interfaces/FunctionInterfaces.h"

using namespace mlir;
using namespace bmgrad::bm;

namespace {
/// What an argument or a result of a batched function is: one for each element
/// of the batch, or the one that all share; a result may be the sum of theirs,
/// an argument the first one's, where the others have zeros.
enum class Kind : char { Shared = '0', Each = '1', Summed = 's', First = 'f' };
} // namespace

static SmallVector<Kind> each(size_t count) {
  return SmallVector<Kind>(count, Kind::Each);
}

/// The value for the first element of the batch, zeros for the others.
static Value forFirst(ImplicitLocOpBuilder &b, Value value, int64_t size) {
  RankedTensorType type = tensorType(value), batched = batchedType(type, size);
  SmallVector<int64_t> none(batched.getRank(), 0), after(none);
  after[0] = size - 1;
  Value first = ReshapeOp::create(b, batchedType(type, 1), value);
  Value zero = makeZero(b, RankedTensorType::get({}, type.getElementType()));
  return PadOp::create(b, batched, first, zero, none, after, none);
}

/// On a batched function: the function that it applies.
static constexpr StringLiteral kBatchOf("bm.batch_of");
/// On the same: all batches that it is over, innermost first, with the axes of
/// the operands and results of the op.
static constexpr StringLiteral kBatches("bm.batches");

static SmallVector<Type> batchedTypes(TypeRange types, ArrayRef<bool> marks,
                                      int64_t size) {
  SmallVector<Type> batched;
  for (auto [type, mark] : llvm::zip_equal(types, marks))
    batched.push_back(mark ? Type(batchedType(type, size)) : type);
  return batched;
}

static SmallVector<Type> batchedTypes(TypeRange types, int64_t size) {
  return batchedTypes(types, SmallVector<bool>(types.size(), true), size);
}

static SmallVector<int64_t> axes(ArrayRef<bool> flags) {
  return llvm::map_to_vector(
      flags, [](bool flag) -> int64_t { return flag ? 0 : -1; });
}

/// `name` with all that says which batch of it this is. Linking renames
/// functions, so a name alone does not say whose batch it is; an equal one that
/// is there already is `found`.
static FlatSymbolRefAttr nameOfBatch(Operation *op, FlatSymbolRefAttr name,
                                     ArrayRef<Kind> arguments,
                                     ArrayRef<Kind> results, BatchAxis axis,
                                     bool &found) {
  std::string text = name.getValue().str() + ".batched." +
                     std::to_string(axis.size) + axis.suffix();
  for (ArrayRef<Kind> kinds : {arguments, results}) {
    text += '.';
    for (Kind kind : kinds)
      text += static_cast<char>(kind);
  }
  auto made = FlatSymbolRefAttr::get(op->getContext(), text);
  found = false;
  for (unsigned tried = 1;
       auto other = SymbolTable::lookupNearestSymbolFrom(op, made); ++tried) {
    found = other->getAttr(kBatchOf) == name;
    if (found)
      break;
    made = FlatSymbolRefAttr::get(op->getContext(),
                                  text + "_" + std::to_string(tried));
  }
  return made;
}

/// A function that applies `name` to each element of a batch. Equal ones are
/// made once, none has a body if `name` has none.
static FlatSymbolRefAttr makeBatched(Operation *op, FlatSymbolRefAttr name,
                                     ArrayRef<Kind> arguments,
                                     ArrayRef<Kind> results,
                                     const BatchFrame &frame) {
  BatchAxis axis = frame.axis;
  bool found;
  FlatSymbolRefAttr made =
      nameOfBatch(op, name, arguments, results, axis, found);
  if (found)
    return made;

  auto function =
      SymbolTable::lookupNearestSymbolFrom<FunctionOpInterface>(op, name);
  ImplicitLocOpBuilder b(function.getLoc(), op->getContext());
  b.setInsertionPointAfter(function);
  auto typesOf = [&](TypeRange types, ArrayRef<Kind> kinds) {
    SmallVector<Type> made;
    for (auto [type, kind] : llvm::zip_equal(types, kinds))
      made.push_back(kind == Kind::Each ? Type(batchedType(type, axis.size))
                                        : type);
    return made;
  };
  FunctionType type =
      b.getFunctionType(typesOf(function.getArgumentTypes(), arguments),
                        typesOf(function.getResultTypes(), results));
  auto wrapper = func::FuncOp::create(b, made.getValue(), type);
  wrapper.setPrivate();
  StringAttr axisName =
      axis.name.empty() ? StringAttr() : b.getStringAttr(axis.name);
  SmallVector<NamedAttribute> batch{
      b.getNamedAttr("in_axes", b.getDenseI64ArrayAttr(axes(frame.batched))),
      b.getNamedAttr("out_axes",
                     b.getDenseI64ArrayAttr(axes(frame.resultBatched))),
      b.getNamedAttr("size", b.getI64IntegerAttr(axis.size))};
  if (axisName)
    batch.push_back(b.getNamedAttr("axis_name", axisName));
  SmallVector<Attribute> batches;
  if (auto before = function->getAttrOfType<ArrayAttr>(kBatches))
    llvm::append_range(batches, before);
  batches.push_back(b.getDictionaryAttr(batch));
  if (function.isExternal())
    wrapper->setDiscardableAttrs(function->getDiscardableAttrDictionary());
  wrapper->setAttr(kBatches, b.getArrayAttr(batches));
  wrapper->setAttr(kBatchOf, name);
  if (function.isExternal())
    return made;

  b.setInsertionPointToStart(wrapper.addEntryBlock());
  SmallVector<Value> operands;
  SmallVector<bool> batched;
  for (auto [argument, kind] :
       llvm::zip_equal(wrapper.getArguments(), arguments)) {
    operands.push_back(kind == Kind::First ? forFirst(b, argument, axis.size)
                                           : Value(argument));
    batched.push_back(kind != Kind::Shared);
  }
  SmallVector<bool> differs =
      batchedCallResults(op, name.getValue(), batched, axis);
  for (auto [differ, kind] : llvm::zip_equal(differs, results))
    differ |= kind == Kind::Each;
  auto all = BatchOp::create(
      b, batchedTypes(function.getResultTypes(), differs, axis.size),
      name.getValue(), operands, axes(batched), axes(differs), axis.size,
      axisName);
  SmallVector<Value> returned;
  for (auto [value, type, kind] :
       llvm::zip_equal(all->getResults(), wrapper.getResultTypes(), results)) {
    if (value.getType() == type)
      returned.push_back(value);
    else if (kind == Kind::Summed)
      returned.push_back(
          ReduceSumOp::create(b, type, value, b.getDenseI64ArrayAttr({0})));
    else
      returned.push_back(firstOfBatch(b, value));
  }
  func::ReturnOp::create(b, returned);
  return made;
}

/// The flags of the values that have tangents.
static SmallVector<bool> differentiableFlags(ValueRange values,
                                             ArrayRef<bool> flags) {
  SmallVector<bool> chosen;
  for (auto [value, flag] : llvm::zip_equal(values, flags))
    if (isDifferentiable(value.getType()))
      chosen.push_back(flag);
  return chosen;
}

/// The cotangent of an input that all elements of the batch share is the sum
/// of theirs.
static SmallVector<Kind> summedUnless(ArrayRef<bool> batched) {
  return llvm::map_to_vector(
      batched, [](bool flag) { return flag ? Kind::Each : Kind::Summed; });
}

static SmallVector<Kind> sharedUnless(ArrayRef<bool> batched) {
  return llvm::map_to_vector(
      batched, [](bool flag) { return flag ? Kind::Each : Kind::Shared; });
}

/// Calls what the batching rule makes of the op, which is differentiated in the
/// place of its rules.
static LogicalResult emitMadeBatch(CustomJvpOp op, BatchFrame &frame) {
  FailureOr<func::FuncOp> made =
      functionOverBatch(op, *op.getBatcher(), getPrimitiveName(op),
                        batchSuffix(frame.size, axes(frame.batched)));
  if (failed(made))
    return failure();
  auto call = func::CallOp::create(frame.b, *made, frame.operands);
  llvm::append_range(frame.results, call.getResults());
  return success();
}

LogicalResult CustomJvpOp::emitBatch(BatchFrame &frame) {
  SmallVector<bool> marks =
      batchedRuleResults(*this, frame.batched, frame.axis);
  frame.resultBatched = marks;
  if (getBatcher())
    return emitMadeBatch(*this, frame);
  SmallVector<Kind> tangents =
      sharedUnless(differentiableFlags(getResults(), marks));
  SmallVector<Kind> kinds = sharedUnless(marks);
  auto primal = makeBatched(*this, getPrimalAttr(), sharedUnless(frame.batched),
                            kinds, frame);
  FlatSymbolRefAttr rule = getRuleAttr();
  if (rule) {
    kinds.append(tangents);
    rule =
        makeBatched(*this, rule,
                    sharedUnless(withInputTangents(getInputs(), frame.batched)),
                    kinds, frame);
  }
  SmallVector<Attribute> transposes;
  for (const GivenTranspose &given : givenTransposes(*this)) {
    SmallVector<bool> others, linear;
    for (auto [index, flag] : llvm::enumerate(frame.batched))
      (given.isLinear(index) ? linear : others).push_back(flag);
    SmallVector<Kind> arguments = sharedUnless(others);
    llvm::append_range(arguments, tangents);
    transposes.push_back(makeBatched(*this, given.function, arguments,
                                     summedUnless(linear), frame));
  }
  ArrayAttr batchedTransposes;
  if (!transposes.empty())
    batchedTransposes = frame.b.getArrayAttr(transposes);
  auto made = CustomJvpOp::create(
      frame.b, batchedTypes(getResultTypes(), marks, frame.size), primal, rule,
      getLinearAttr(), batchedTransposes, /*batcher=*/nullptr,
      getHasSideEffectAttr(), frame.operands);
  llvm::append_range(frame.results, made.getResults());
  return success();
}

LogicalResult CustomVjpOp::emitBatch(BatchFrame &frame) {
  unsigned numResiduals = getNumResiduals();
  SmallVector<bool> marks =
      batchedRuleResults(*this, frame.batched, frame.axis);
  frame.resultBatched = marks;
  SmallVector<Kind> arguments = sharedUnless(frame.batched);
  SmallVector<Kind> kinds = sharedUnless(marks);
  auto primal = makeBatched(*this, getPrimalAttr(), arguments, kinds, frame);
  SmallVector<Kind> ofBwd = sharedUnless(
      ArrayRef(batchedCallResults(*this, getFwd(), frame.batched, frame.axis))
          .take_back(numResiduals));
  kinds.append(ofBwd);
  auto fwd = makeBatched(*this, getFwdAttr(), arguments, kinds, frame);

  SmallVector<bool> inputs = differentiableFlags(getInputs(), frame.batched);
  SmallVector<bool> reached =
      reachedCallResults(*this, getPrimal(), frame.batched, frame.axis);
  for (auto [result, mark, reach] :
       llvm::zip_equal(getResults(), marks, reached)) {
    if (!isDifferentiable(result.getType()))
      continue;
    // What does not depend on the batch is computed once, so its cotangent
    // counts once in a sum over the batch.
    bool once = !reach && llvm::is_contained(inputs, false);
    ofBwd.push_back(mark ? Kind::Each : once ? Kind::First : Kind::Shared);
  }
  auto bwd =
      makeBatched(*this, getBwdAttr(), ofBwd, summedUnless(inputs), frame);
  auto made = CustomVjpOp::create(
      frame.b, batchedTypes(getResultTypes(), marks, frame.size), primal, fwd,
      bwd, frame.b.getI64IntegerAttr(numResiduals), getNumClosedOverAttr(),
      getOptimizeRematAttr(), getHasSideEffectAttr(), frame.operands);
  llvm::append_range(frame.results, made.getResults());
  return success();
}

LogicalResult CustomLinOp::emitBatch(BatchFrame &frame) {
  unsigned numResiduals = getResiduals().size();
  frame.resultBatched.assign(getNumResults(), true);
  SmallVector<Kind> arguments =
      sharedUnless(frame.batched.take_front(numResiduals));
  arguments.append(each(getNumResults()));
  auto bwd =
      makeBatched(*this, getBwdAttr(), arguments,
                  summedUnless(frame.batched.drop_front(numResiduals)), frame);
  auto made = CustomLinOp::create(
      frame.b, batchedTypes(getResultTypes(), frame.size), bwd,
      getHasSideEffectAttr(), frame.operands.take_front(numResiduals),
      frame.operands.drop_front(numResiduals));
  llvm::append_range(frame.results, made.getResults());
  return success();
}

LogicalResult LinearSolveOp::emitBatch(BatchFrame &frame) {
  unsigned numParams = getParams().size(), numUnknowns = getRhs().size();
  frame.resultBatched.assign(getNumResults(), true);
  // One equation for each element, though the operator may be shared.
  SmallVector<Kind> arguments =
      sharedUnless(frame.batched.take_front(numParams));
  arguments.append(each(numUnknowns));
  auto batched = [&](FlatSymbolRefAttr name) -> FlatSymbolRefAttr {
    if (!name)
      return {};
    auto function =
        SymbolTable::lookupNearestSymbolFrom<FunctionOpInterface>(*this, name);
    return makeBatched(*this, name, arguments, each(function.getNumResults()),
                       frame);
  };
  SmallVector<Value> rhs;
  for (unsigned index = 0; index < numUnknowns; ++index)
    rhs.push_back(frame.getBatched(numParams + index));
  auto made = LinearSolveOp::create(
      frame.b, batchedTypes(getResultTypes(), frame.size),
      batched(getSolveAttr()), batched(getMatvecAttr()),
      batched(getTransposeSolveAttr()), batched(getVecmatAttr()),
      getHasSideEffectAttr(), frame.operands.take_front(numParams), rhs);
  llvm::append_range(frame.results, made.getResults());
  return success();
}
