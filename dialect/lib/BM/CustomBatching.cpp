//===- CustomBatching.cpp - Batches of calls with custom rules ------------===//
//
// A batched call refers to batched functions, made here as wrappers around
// bm.batch, so that its rule stays custom.
//
//===----------------------------------------------------------------------===//

#include "CustomRules.h"
#include "bmgrad/Dialect/BM/Reduction.h"
#include "bmgrad/Dialect/BM/Transforms.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/Interfaces/FunctionInterfaces.h"

using namespace mlir;
using namespace bmgrad::bm;

/// A function that applies `name` to each element of a batch: marked arguments
/// have a batch dimension, and all results but those in `summed`, which are
/// summed over the batch. Equal ones are made once, none has a body if `name`
/// has none.
static FlatSymbolRefAttr makeBatched(Operation *op, FlatSymbolRefAttr name,
                                     ArrayRef<bool> batched,
                                     ArrayRef<bool> summed, int64_t size) {
  auto function =
      SymbolTable::lookupNearestSymbolFrom<FunctionOpInterface>(op, name);
  std::string text = name.getValue().str() + ".batched." + std::to_string(size);
  for (ArrayRef<bool> flags : {batched, summed}) {
    text += '.';
    for (bool flag : flags)
      text += flag ? '1' : '0';
  }
  auto made = FlatSymbolRefAttr::get(op->getContext(), text);
  if (SymbolTable::lookupNearestSymbolFrom(op, made))
    return made;

  ImplicitLocOpBuilder b(function.getLoc(), op->getContext());
  b.setInsertionPointAfter(function);
  SmallVector<Type> arguments, batchedResults, results;
  SmallVector<int64_t> inAxes, outAxes(summed.size(), 0);
  for (auto [type, flag] :
       llvm::zip_equal(function.getArgumentTypes(), batched)) {
    arguments.push_back(flag ? Type(batchedType(type, size)) : type);
    inAxes.push_back(flag ? 0 : -1);
  }
  for (auto [type, flag] : llvm::zip_equal(function.getResultTypes(), summed)) {
    batchedResults.push_back(batchedType(type, size));
    results.push_back(flag ? type : batchedResults.back());
  }
  auto wrapper =
      func::FuncOp::create(b, text, b.getFunctionType(arguments, results));
  wrapper.setPrivate();
  if (function.isExternal()) {
    wrapper->setDiscardableAttrs(function->getDiscardableAttrDictionary());
    return made;
  }
  b.setInsertionPointToStart(wrapper.addEntryBlock());
  auto all = BatchOp::create(b, batchedResults, name.getValue(),
                             ValueRange(wrapper.getArguments()), inAxes,
                             outAxes, size);
  SmallVector<Value> returned;
  for (auto [value, type, flag] :
       llvm::zip_equal(all->getResults(), results, summed))
    returned.push_back(flag ? Value(ReduceSumOp::create(
                                  b, type, value, b.getDenseI64ArrayAttr({0})))
                            : value);
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

static SmallVector<bool> negated(ArrayRef<bool> flags) {
  return llvm::map_to_vector(flags, [](bool flag) { return !flag; });
}

static SmallVector<Type> batchedTypes(TypeRange types, int64_t size) {
  return llvm::map_to_vector(
      types, [&](Type type) -> Type { return batchedType(type, size); });
}

LogicalResult CustomJvpOp::emitBatch(BatchFrame &frame) {
  SmallVector<bool> ruleFlags(frame.batched);
  llvm::append_range(ruleFlags,
                     differentiableFlags(getInputs(), frame.batched));
  unsigned numTangents = differentiable(getResultTypes()).size();
  auto primal =
      makeBatched(*this, getPrimalAttr(), frame.batched,
                  SmallVector<bool>(getNumResults(), false), frame.size);
  FlatSymbolRefAttr rule = getRuleAttr();
  if (rule)
    rule = makeBatched(*this, rule, ruleFlags,
                       SmallVector<bool>(getNumResults() + numTangents, false),
                       frame.size);
  SmallVector<Attribute> transposes;
  for (const GivenTranspose &given : givenTransposes(*this)) {
    SmallVector<bool> flags, summed;
    for (auto [index, flag] : llvm::enumerate(frame.batched)) {
      if (given.isLinear(index))
        summed.push_back(!flag);
      else
        flags.push_back(flag);
    }
    flags.append(numTangents, true);
    transposes.push_back(
        makeBatched(*this, given.function, flags, summed, frame.size));
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
  unsigned numResults = getNumResults(), numResiduals = getNumResiduals();
  unsigned numCotangents = differentiable(getResultTypes()).size();
  auto primal = makeBatched(*this, getPrimalAttr(), frame.batched,
                            SmallVector<bool>(numResults, false), frame.size);
  auto fwd = makeBatched(*this, getFwdAttr(), frame.batched,
                         SmallVector<bool>(numResults + numResiduals, false),
                         frame.size);
  // The cotangent of an input that all elements of the batch share is the sum
  // of theirs.
  auto bwd = makeBatched(
      *this, getBwdAttr(),
      SmallVector<bool>(numResiduals + numCotangents, true),
      negated(differentiableFlags(getInputs(), frame.batched)), frame.size);
  auto made = CustomVjpOp::create(
      frame.b, batchedTypes(getResultTypes(), frame.size), primal, fwd, bwd,
      frame.b.getI64IntegerAttr(numResiduals), getNumClosedOverAttr(),
      getHasSideEffectAttr(), frame.operands);
  llvm::append_range(frame.results, made.getResults());
  return success();
}

LogicalResult CustomLinOp::emitBatch(BatchFrame &frame) {
  unsigned numResiduals = getResiduals().size();
  SmallVector<bool> flags(frame.batched.take_front(numResiduals));
  flags.append(getNumResults(), true);
  auto bwd =
      makeBatched(*this, getBwdAttr(), flags,
                  negated(frame.batched.drop_front(numResiduals)), frame.size);
  auto made =
      CustomLinOp::create(frame.b, batchedTypes(getResultTypes(), frame.size),
                          bwd, frame.operands.take_front(numResiduals),
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
    return makeBatched(*this, name, flags,
                       SmallVector<bool>(function.getNumResults(), false),
                       frame.size);
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
