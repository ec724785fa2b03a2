//===- CustomBatching.cpp - Batches of calls with custom rules ------------===//
//
// A batched call refers to batched functions, made here as wrappers around
// bm.batch, so that its rule stays custom.
//
//===----------------------------------------------------------------------===//

#include "CustomRules.h"
#include "bmgrad/Dialect/BM/Indexing.h"
#include "bmgrad/Dialect/BM/Reduction.h"
#include "bmgrad/Dialect/BM/Shape.h"
#include "bmgrad/Dialect/BM/Transforms.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/Interfaces/FunctionInterfaces.h"

using namespace mlir;
using namespace bmgrad::bm;

namespace {
/// What a result of a batched function is: one for each element of the batch,
/// the sum of these, or the one that all elements share.
enum class Kind : char { Each = '0', Summed = '1', Shared = '2' };
} // namespace

static SmallVector<Kind> each(size_t count) {
  return SmallVector<Kind>(count, Kind::Each);
}

/// What the first element of the batch has, where all have the same.
static Value firstOf(ImplicitLocOpBuilder &b, Value value) {
  RankedTensorType type = tensorType(value);
  SmallVector<int64_t> starts(type.getRank(), 0), strides(type.getRank(), 1),
      limits(type.getShape());
  limits[0] = 1;
  Value first =
      SliceOp::create(b, type.clone(limits), value, starts, limits, strides);
  return ReshapeOp::create(b, type.clone(type.getShape().drop_front()), first);
}

/// On a batched function: the function that it applies.
static constexpr StringLiteral kBatchOf("bm.batch_of");
/// On the same: all batches that it is over, innermost first, with the axes of
/// the operands of the op, and of the function's results.
static constexpr StringLiteral kBatches("bm.batches");

/// A function that applies `name` to each element of a batch: marked arguments
/// have a batch dimension. Equal ones are made once, none has a body if `name`
/// has none.
static FlatSymbolRefAttr makeBatched(Operation *op, FlatSymbolRefAttr name,
                                     ArrayRef<bool> batched,
                                     ArrayRef<Kind> kinds,
                                     const BatchFrame &frame) {
  BatchAxis axis = frame.axis;
  int64_t size = axis.size;
  auto function =
      SymbolTable::lookupNearestSymbolFrom<FunctionOpInterface>(op, name);
  std::string text = name.getValue().str() + ".batched." +
                     std::to_string(size) + axis.suffix();
  text += '.';
  for (bool flag : batched)
    text += flag ? '1' : '0';
  text += '.';
  for (Kind kind : kinds)
    text += static_cast<char>(kind);
  // Linking renames functions, so a name alone does not say whose batch it is.
  FlatSymbolRefAttr made = FlatSymbolRefAttr::get(op->getContext(), text);
  for (unsigned tried = 1;
       auto found = SymbolTable::lookupNearestSymbolFrom(op, made); ++tried) {
    if (found->getAttr(kBatchOf) == name)
      return made;
    made = FlatSymbolRefAttr::get(op->getContext(),
                                  text + "_" + std::to_string(tried));
  }

  ImplicitLocOpBuilder b(function.getLoc(), op->getContext());
  b.setInsertionPointAfter(function);
  SmallVector<Type> arguments, batchedResults, results;
  auto axes = [](ArrayRef<bool> flags) {
    return llvm::map_to_vector(
        flags, [](bool flag) -> int64_t { return flag ? 0 : -1; });
  };
  SmallVector<int64_t> inAxes = axes(batched), outAxes;
  for (auto [type, flag] :
       llvm::zip_equal(function.getArgumentTypes(), batched))
    arguments.push_back(flag ? Type(batchedType(type, size)) : type);
  SmallVector<bool> differs =
      batchedCallResults(op, name.getValue(), batched, axis);
  for (auto [type, kind, differ] :
       llvm::zip_equal(function.getResultTypes(), kinds, differs)) {
    bool shared = kind == Kind::Shared && !differ;
    outAxes.push_back(shared ? -1 : 0);
    batchedResults.push_back(shared ? type : Type(batchedType(type, size)));
    results.push_back(kind == Kind::Each ? batchedResults.back() : type);
  }
  auto wrapper = func::FuncOp::create(b, made.getValue(),
                                      b.getFunctionType(arguments, results));
  wrapper.setPrivate();
  StringAttr axisName =
      axis.name.empty() ? StringAttr() : b.getStringAttr(axis.name);
  SmallVector<NamedAttribute> batch{
      b.getNamedAttr("in_axes", b.getDenseI64ArrayAttr(axes(frame.batched))),
      b.getNamedAttr("out_axes", b.getDenseI64ArrayAttr(outAxes)),
      b.getNamedAttr("size", b.getI64IntegerAttr(size))};
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
  auto all = BatchOp::create(b, batchedResults, name.getValue(),
                             ValueRange(wrapper.getArguments()), inAxes,
                             outAxes, size, axisName);
  SmallVector<Value> returned;
  for (auto [value, type, kind] :
       llvm::zip_equal(all->getResults(), results, kinds)) {
    if (kind == Kind::Summed)
      returned.push_back(
          ReduceSumOp::create(b, type, value, b.getDenseI64ArrayAttr({0})));
    else if (value.getType() != type)
      returned.push_back(firstOf(b, value));
    else
      returned.push_back(value);
  }
  func::ReturnOp::create(b, returned);
  return made;
}

/// The flags of the inputs that have tangents.
static SmallVector<bool> differentiableFlags(ValueRange inputs,
                                             ArrayRef<bool> flags) {
  SmallVector<bool> chosen;
  for (auto [input, flag] : llvm::zip_equal(inputs, flags))
    if (isDifferentiable(input.getType()))
      chosen.push_back(flag);
  return chosen;
}

/// The cotangent of an input that all elements of the batch share is the sum
/// of theirs.
static SmallVector<Kind> summedUnless(ArrayRef<bool> batched) {
  return llvm::map_to_vector(
      batched, [](bool flag) { return flag ? Kind::Each : Kind::Summed; });
}

static SmallVector<Type> batchedTypes(TypeRange types, int64_t size) {
  return llvm::map_to_vector(
      types, [&](Type type) -> Type { return batchedType(type, size); });
}

static SmallVector<Kind> sharedUnless(ArrayRef<bool> batched) {
  return llvm::map_to_vector(
      batched, [](bool flag) { return flag ? Kind::Each : Kind::Shared; });
}

LogicalResult CustomJvpOp::emitBatch(BatchFrame &frame) {
  SmallVector<bool> ruleFlags(frame.batched);
  llvm::append_range(ruleFlags,
                     differentiableFlags(getInputs(), frame.batched));
  unsigned numTangents = differentiable(getResultTypes()).size();
  auto primal = makeBatched(*this, getPrimalAttr(), frame.batched,
                            each(getNumResults()), frame);
  FlatSymbolRefAttr rule = getRuleAttr();
  if (rule)
    rule = makeBatched(*this, rule, ruleFlags,
                       each(getNumResults() + numTangents), frame);
  SmallVector<Attribute> transposes;
  for (const GivenTranspose &given : givenTransposes(*this)) {
    SmallVector<bool> flags, linear;
    for (auto [index, flag] : llvm::enumerate(frame.batched))
      (given.isLinear(index) ? linear : flags).push_back(flag);
    flags.append(numTangents, true);
    transposes.push_back(
        makeBatched(*this, given.function, flags, summedUnless(linear), frame));
  }
  ArrayAttr batchedTransposes;
  if (!transposes.empty())
    batchedTransposes = frame.b.getArrayAttr(transposes);
  auto made =
      CustomJvpOp::create(frame.b, batchedTypes(getResultTypes(), frame.size),
                          primal, rule, getLinearAttr(), batchedTransposes,
                          getHasSideEffectAttr(), frame.operands);
  llvm::append_range(frame.results, made.getResults());
  return success();
}

LogicalResult CustomVjpOp::emitBatch(BatchFrame &frame) {
  unsigned numResiduals = getNumResiduals();
  SmallVector<bool> marks =
      batchedCallResults(*this, getPrimal(), frame.batched, frame.axis);
  SmallVector<Kind> kinds = sharedUnless(marks);
  auto primal =
      makeBatched(*this, getPrimalAttr(), frame.batched, kinds, frame);
  kinds.append(each(numResiduals));
  auto fwd = makeBatched(*this, getFwdAttr(), frame.batched, kinds, frame);
  SmallVector<bool> flags(numResiduals, true);
  SmallVector<Type> types;
  for (auto [type, mark] : llvm::zip_equal(getResultTypes(), marks)) {
    types.push_back(mark ? Type(batchedType(type, frame.size)) : type);
    if (isDifferentiable(type))
      flags.push_back(mark);
  }
  auto bwd = makeBatched(
      *this, getBwdAttr(), flags,
      summedUnless(differentiableFlags(getInputs(), frame.batched)), frame);
  auto made = CustomVjpOp::create(
      frame.b, types, primal, fwd, bwd, frame.b.getI64IntegerAttr(numResiduals),
      getNumClosedOverAttr(), getOptimizeRematAttr(), getHasSideEffectAttr(),
      frame.operands);
  llvm::append_range(frame.results, made.getResults());
  frame.resultBatched = marks;
  return success();
}

LogicalResult CustomLinOp::emitBatch(BatchFrame &frame) {
  unsigned numResiduals = getResiduals().size();
  SmallVector<bool> flags(frame.batched.take_front(numResiduals));
  flags.append(getNumResults(), true);
  auto bwd =
      makeBatched(*this, getBwdAttr(), flags,
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
  // One equation for each element, though the operator may be shared.
  SmallVector<bool> flags(frame.batched.take_front(numParams));
  flags.append(numUnknowns, true);
  auto batched = [&](FlatSymbolRefAttr name) -> FlatSymbolRefAttr {
    if (!name)
      return {};
    auto function =
        SymbolTable::lookupNearestSymbolFrom<FunctionOpInterface>(*this, name);
    return makeBatched(*this, name, flags, each(function.getNumResults()),
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
