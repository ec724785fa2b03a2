//===- Cond.cpp - Derivatives and batching of bm.cond ---------------------===//

#include "ControlUtils.h"
#include "bmgrad/Dialect/BM/Control.h"
#include "bmgrad/Dialect/BM/Elementwise.h"
#include "bmgrad/Dialect/BM/Kernel.h"
#include "llvm/ADT/MapVector.h"

using namespace mlir;
using namespace bmgrad::bm;
using namespace bmgrad::bm::control;

namespace {
/// A cond being made. The regions lack their terminators until `create`.
struct NewCond {
  Value index;
  SmallVector<Value> inputs;
  SmallVector<std::unique_ptr<Region>> regions;
  /// For each branch what it will yield.
  SmallVector<SmallVector<Value>> yields;

  NewCond(Value index, unsigned numBranches)
      : index(index), yields(numBranches) {
    for (unsigned branch = 0; branch < numBranches; ++branch) {
      regions.push_back(std::make_unique<Region>());
      regions.back()->emplaceBlock();
    }
  }
  Block &block(unsigned branch) { return regions[branch]->front(); }

  CondOp create(ImplicitLocOpBuilder &b) {
    for (unsigned branch = 0; branch < regions.size(); ++branch) {
      auto end = builderAt(b.getLoc(), block(branch));
      YieldOp::create(end, yields[branch]);
    }
    auto made = CondOp::create(b, ValueRange(yields.front()).getTypes(), index,
                               inputs, regions.size());
    for (auto [region, source] : llvm::zip_equal(made.getBranches(), regions))
      region.takeBody(*source);
    return made;
  }
};
} // namespace

/// Marks of the results: a result depends on what any branch makes it depend
/// on.
static SmallVector<bool> markBranches(CondOp op, ArrayRef<bool> inputs,
                                      BlockFlow flow) {
  SmallVector<bool> results(op.getNumResults(), false);
  for (unsigned branch = 0; branch < op.getBranches().size(); ++branch)
    for (auto [result, mark] :
         llvm::zip_equal(results, flow(op.getBranchBlock(branch), inputs)))
      result |= mark;
  return results;
}

SmallVector<bool> CondOp::flowResults(ArrayRef<bool> marked, BlockFlow flow) {
  if (marked.front())
    return SmallVector<bool>(getNumResults(), true);
  return markBranches(*this, marked.drop_front(), flow);
}

//===----------------------------------------------------------------------===//
// Forward
//===----------------------------------------------------------------------===//

LogicalResult CondOp::emitJvp(JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  ArrayRef<Value> inputTangents = frame.tangents.drop_front();
  NewCond made(frame.primals.front(), getBranches().size());
  llvm::append_range(made.inputs, frame.primals.drop_front());
  for (Value tangent : inputTangents)
    if (tangent)
      made.inputs.push_back(tangent);

  // The tangents that each branch gives, and which results have one in any.
  SmallVector<SmallVector<Value>> branchTangents(getBranches().size());
  SmallVector<bool> active(getNumResults(), false);
  for (unsigned branch = 0; branch < getBranches().size(); ++branch) {
    auto tangents = jvpInto(getLoc(), getBranchBlock(branch), inputTangents,
                            made.block(branch), made.yields[branch]);
    if (failed(tangents))
      return failure();
    branchTangents[branch] = std::move(*tangents);
    for (auto [index, tangent] : llvm::enumerate(branchTangents[branch]))
      active[index] |= static_cast<bool>(tangent);
  }
  for (unsigned branch = 0; branch < getBranches().size(); ++branch) {
    auto inner = builderAt(getLoc(), made.block(branch));
    for (auto [index, tangent] : llvm::enumerate(branchTangents[branch]))
      if (active[index])
        made.yields[branch].push_back(
            materialize(inner, tangent, getResult(index).getType()));
  }
  CondOp op = made.create(b);
  unsigned next = getNumResults();
  for (unsigned index = 0; index < getNumResults(); ++index) {
    frame.results.push_back(op.getResult(index));
    frame.resultTangents.push_back(active[index] ? op.getResult(next++)
                                                 : Value());
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Splitting
//===----------------------------------------------------------------------===//

namespace {
/// Where the linear branches find the residuals of the primal ones: each branch
/// fills its own, and branches share a place where the types agree.
class ResidualPlaces {
public:
  /// The first places are the primal results that there are anyway.
  explicit ResidualPlaces(TypeRange primalTypes) : types(primalTypes) {}

  /// The place of a residual of the branch whose results are in `filled`.
  unsigned assign(Value residual, SmallVector<Value> &filled) {
    filled.resize(types.size());
    if (auto *same = llvm::find(filled, residual); same != filled.end())
      return same - filled.begin();
    for (auto [place, type] : llvm::enumerate(types))
      if (!filled[place] && type == residual.getType()) {
        filled[place] = residual;
        return place;
      }
    types.push_back(residual.getType());
    filled.push_back(residual);
    return types.size() - 1;
  }
  ArrayRef<Type> getTypes() const { return types; }

private:
  SmallVector<Type> types;
};
} // namespace

LogicalResult CondOp::emitSplit(SplitFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  unsigned numBranches = getBranches().size();
  SmallVector<bool> linearInputs = flagsOf(getInputs(), frame.linear);
  SmallVector<bool> linearResults =
      markBranches(*this, linearInputs, dependentResults);

  // Split each branch and give its residuals a place. Residuals that are inputs
  // are passed to the linear branches as they are.
  SmallVector<Value> primalResults = pick(getResults(), linearResults, false);
  ResidualPlaces places(ValueRange(primalResults).getTypes());
  SmallVector<DenseSet<Value>> linear(numBranches);
  SmallVector<SmallVector<Operation *>> linearOps(numBranches);
  SmallVector<SmallVector<Value>> filled(numBranches);
  SmallVector<llvm::MapVector<Value, unsigned>> residualPlaces(numBranches);
  SmallVector<bool> readInputs(getInputs().size(), false);
  for (unsigned branch = 0; branch < numBranches; ++branch) {
    Block &block = getBranchBlock(branch);
    for (auto [argument, isLinear] :
         llvm::zip_equal(block.getArguments(), linearInputs))
      if (isLinear)
        linear[branch].insert(argument);
    FailureOr<SmallVector<Operation *>> ops = splitBlock(block, linear[branch]);
    if (failed(ops))
      return failure();
    linearOps[branch] = *ops;
    filled[branch] =
        pick(getBranchYield(branch).getValues(), linearResults, false);
    for (Value residual : collectResiduals(*ops, linear[branch])) {
      if (auto argument = dyn_cast<BlockArgument>(residual))
        readInputs[argument.getArgNumber()] = true;
      else
        residualPlaces[branch][residual] =
            places.assign(residual, filled[branch]);
    }
  }
  ArrayRef<Type> placeTypes = places.getTypes();
  // The places, beyond the results there are anyway, that the linear branches
  // read.
  llvm::SmallSetVector<unsigned, 8> readPlaces;
  SmallVector<bool> saveable(placeTypes.size(), false);
  for (auto &residuals : residualPlaces)
    for (auto &[residual, place] : residuals) {
      readPlaces.insert(place);
      saveable[place] |= isSaveable(residual);
    }

  NewCond tangent(getIndex(), numBranches);
  llvm::append_range(tangent.inputs, pick(getInputs(), readInputs));
  for (unsigned branch = 0; branch < numBranches; ++branch) {
    IRMapping mapping;
    Block &block = tangent.block(branch);
    for (auto [argument, read] :
         llvm::zip_equal(getBranchBlock(branch).getArguments(), readInputs))
      if (read)
        mapping.map(argument, addArgument(block, argument));
    SmallVector<Value> placeArguments(placeTypes.size());
    for (unsigned place : readPlaces)
      placeArguments[place] = block.addArgument(placeTypes[place], getLoc());
    for (auto &[residual, place] : residualPlaces[branch])
      mapping.map(residual, placeArguments[place]);
    for (BlockArgument argument : getBranchBlock(branch).getArguments())
      if (linear[branch].contains(argument))
        mapping.map(argument, addArgument(block, argument));
    moveLinearOps(block, linearOps[branch], linear[branch], mapping);
    auto inner = builderAt(getLoc(), block);
    for (Value value : pick(getBranchYield(branch).getValues(), linearResults))
      tangent.yields[branch].push_back(
          yieldLinear(inner, value, linear[branch], mapping));
  }

  NewCond primal(getIndex(), numBranches);
  primal.inputs = pick(getInputs(), linearInputs, false);
  for (unsigned branch = 0; branch < numBranches; ++branch) {
    Block &block = getBranchBlock(branch);
    block.getTerminator()->erase();
    block.eraseArguments([&](BlockArgument argument) {
      return linearInputs[argument.getArgNumber()];
    });
    primal.regions[branch]->takeBody(getBranches()[branch]);
    auto inner = builderAt(getLoc(), block);
    filled[branch].resize(placeTypes.size());
    for (auto [value, type] : llvm::zip_equal(filled[branch], placeTypes))
      primal.yields[branch].push_back(materialize(inner, value, type));
  }

  SmallVector<Value> replacements;
  if (!placeTypes.empty()) {
    CondOp made = primal.create(b);
    for (unsigned place : readPlaces)
      tangent.inputs.push_back(
          markSaveable(b, made.getResult(place), saveable[place]));
    llvm::append_range(replacements, made.getResults());
  }
  llvm::append_range(tangent.inputs, pick(getInputs(), linearInputs));
  SmallVector<Value> linearReplacements;
  if (llvm::is_contained(linearResults, true)) {
    CondOp made = tangent.create(b);
    llvm::append_range(linearReplacements, made.getResults());
    frame.linear.insert(linearReplacements.begin(), linearReplacements.end());
  }
  auto nextPrimal = replacements.begin(),
       nextLinear = linearReplacements.begin();
  for (auto [result, isLinear] : llvm::zip_equal(getResults(), linearResults))
    result.replaceAllUsesWith(isLinear ? *nextLinear++ : *nextPrimal++);
  erase();
  return success();
}

//===----------------------------------------------------------------------===//
// Reverse
//===----------------------------------------------------------------------===//

LogicalResult CondOp::emitTranspose(TransposeFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  ArrayRef<Value> inputs = frame.operands.drop_front();
  unsigned numBranches = getBranches().size();
  NewCond made(frame.operands.front(), numBranches);

  // The cotangents that each branch gives, and which inputs get one from any.
  SmallVector<SmallVector<Value>> branchCotangents(numBranches);
  SmallVector<bool> active(inputs.size(), false);
  for (unsigned branch = 0; branch < numBranches; ++branch) {
    auto cotangents =
        transposeInto(getLoc(), getBranchBlock(branch), inputs,
                      frame.cotangents, made.block(branch), made.inputs);
    if (failed(cotangents))
      return failure();
    branchCotangents[branch] = std::move(*cotangents);
    for (auto [index, cotangent] : llvm::enumerate(branchCotangents[branch]))
      active[index] |= static_cast<bool>(cotangent);
  }
  if (!llvm::is_contained(active, true))
    return success();
  for (unsigned branch = 0; branch < numBranches; ++branch) {
    auto inner = builderAt(getLoc(), made.block(branch));
    for (auto [index, cotangent] : llvm::enumerate(branchCotangents[branch]))
      if (active[index])
        made.yields[branch].push_back(
            materialize(inner, cotangent, getInputs()[index].getType()));
  }
  CondOp op = made.create(b);
  unsigned next = 0;
  for (auto [index, isActive] : llvm::enumerate(active))
    if (isActive)
      frame.operandCotangents[index + 1] = op.getResult(next++);
  return success();
}

//===----------------------------------------------------------------------===//
// Batching
//===----------------------------------------------------------------------===//

/// Whether `op`, or a function with a rule of its own in it, uses a reference.
static bool usesReference(Operation *op) {
  return op
      ->walk([](Operation *inner) {
        bool uses = false;
        if (auto kernel = dyn_cast<KernelOp>(inner))
          uses = kernel.getReference().has_value();
        else if (auto custom = dyn_cast<CustomRuleOpInterface>(inner))
          uses = usesReference(SymbolTable::lookupNearestSymbolFrom(
              inner,
              StringAttr::get(inner->getContext(), custom.getPrimalSymbol())));
        return uses ? WalkResult::interrupt() : WalkResult::advance();
      })
      .wasInterrupted();
}

/// All branches run, and each element of the batch selects its own.
static LogicalResult batchByIndex(CondOp op, BatchFrame &frame) {
  if (usesReference(op))
    return op.emitError("branches that read or change a reference, of which "
                        "each element of a batch takes its own; State effect "
                        "not supported in vmap-of-cond");
  ImplicitLocOpBuilder &b = frame.b;
  Value index = frame.operands.front();
  unsigned numBranches = op.getBranches().size();
  SmallVector<Value> chosen;
  // The last branch is what no other takes; an index below zero is the first's.
  for (unsigned branch = numBranches; branch-- > 0;) {
    IRMapping mapping;
    DenseSet<Value> batched;
    for (BlockArgument argument : op.getBranchBlock(branch).getArguments()) {
      mapping.map(argument, frame.operands[argument.getArgNumber() + 1]);
      if (frame.batched[argument.getArgNumber() + 1])
        batched.insert(argument);
    }
    if (failed(batchBlock(b, op.getBranchBlock(branch), frame.axis, mapping,
                          batched)))
      return failure();
    b.setLoc(op.getLoc());
    SmallVector<Value> values;
    for (Value value : op.getBranchYield(branch).getValues()) {
      Value mapped = mapping.lookup(value);
      values.push_back(batched.contains(value)
                           ? mapped
                           : broadcastBatch(b, mapped, frame.size));
    }
    if (branch + 1 == numBranches) {
      chosen = values;
      continue;
    }
    Value number = makeConstant(b, index.getType(), branch);
    Value takes = CompareOp::create(
        b, tensorType(index).clone(b.getI1Type()), index, number,
        branch == 0 ? CompareDirection::LE : CompareDirection::EQ);
    for (auto [slot, value] : llvm::zip_equal(chosen, values))
      slot = selectLanes(b, takes, value, slot);
  }
  llvm::append_range(frame.results, chosen);
  return success();
}

LogicalResult CondOp::emitBatch(BatchFrame &frame) {
  if (frame.batched.front())
    return batchByIndex(*this, frame);
  ImplicitLocOpBuilder &b = frame.b;
  ArrayRef<bool> inputBatched = frame.batched.drop_front();
  NewCond made(frame.operands.front(), getBranches().size());
  llvm::append_range(made.inputs, frame.operands.drop_front());
  SmallVector<SmallVector<bool>> yieldBatched(getBranches().size());
  frame.resultBatched.assign(getNumResults(), false);
  for (unsigned branch = 0; branch < getBranches().size(); ++branch) {
    auto flags =
        batchInto(getLoc(), getBranchBlock(branch), made.inputs, inputBatched,
                  frame.axis, made.block(branch), made.yields[branch]);
    if (failed(flags))
      return failure();
    yieldBatched[branch] = std::move(*flags);
    for (auto [index, flag] : llvm::enumerate(yieldBatched[branch]))
      frame.resultBatched[index] |= flag;
  }
  // A result is batched in all branches if it is in one.
  for (unsigned branch = 0; branch < getBranches().size(); ++branch) {
    auto inner = builderAt(getLoc(), made.block(branch));
    for (auto [value, has, wanted] : llvm::zip_equal(
             made.yields[branch], yieldBatched[branch], frame.resultBatched))
      if (wanted && !has)
        value = broadcastBatch(inner, value, frame.size);
  }
  llvm::append_range(frame.results, made.create(b).getResults());
  return success();
}
