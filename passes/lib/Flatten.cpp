//===- Flatten.cpp - Functions without transforms and calls ---------------===//

#include "Flatten.h"

#include "Derive.h"
#include "bmgrad/Dialect/BM/Control.h"
#include "bmgrad/Dialect/BM/Custom.h"
#include "bmgrad/Dialect/BM/Residuals.h"
#include "bmgrad/Dialect/BM/Transforms.h"
#include "mlir/IR/Dominance.h"
#include "mlir/Transforms/CSE.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "llvm/ADT/ScopeExit.h"

using namespace mlir;
using namespace bmgrad::bm;

static FrozenRewritePatternSet collectCanonicalForms(MLIRContext *context) {
  RewritePatternSet patterns(context);
  for (RegisteredOperationName op :
       context->getRegisteredOperationsByDialect("bm"))
    op.getCanonicalizationPatterns(patterns, context);
  return std::move(patterns);
}

Flattener::Flattener(ModuleOp module)
    : symbols(module),
      canonicalForms(collectCanonicalForms(module.getContext())) {}

FailureOr<func::FuncOp> Flattener::lookup(Operation *user, StringRef name) {
  if (auto function = symbols.lookup<func::FuncOp>(name))
    return function;
  // Batching an op with a custom rule makes functions beside the table.
  if (auto function = dyn_cast_or_null<func::FuncOp>(
          SymbolTable::lookupSymbolIn(symbols.getOp(), name))) {
    symbols.insert(function);
    return function;
  }
  return user->emitError("no function @") << name << " in this module";
}

FailureOr<func::FuncOp> Flattener::adopt(FailureOr<func::FuncOp> made) {
  if (failed(made))
    return failure();
  // Rules of ops with custom derivatives emit calls.
  symbols.insert(*made);
  if (failed(flatten(*made)))
    return failure();
  return made;
}

/// The name of what is at `loc`, with its named scopes, if it is in any.
static NameLoc nameAt(Location loc) {
  auto site = dyn_cast<CallSiteLoc>(loc);
  return site ? dyn_cast<NameLoc>(site.getCallee()) : NameLoc();
}

/// Where an op is from that a call is replaced by. The named scopes of a call
/// are around those in its body.
static Location inlinedAt(Location inner, Location call) {
  // What has no line of its own belongs to the line of the call.
  if (isa<UnknownLoc>(inner))
    return call;
  NameLoc around = nameAt(call);
  if (!around)
    return inner;
  NameLoc named = nameAt(inner);
  std::string name = around.getName().str();
  if (named)
    name += "/" + named.getName().str();
  Location at = named ? named.getChildLoc() : inner;
  return CallSiteLoc::get(
      NameLoc::get(StringAttr::get(call.getContext(), name), at), at);
}

LogicalResult Flattener::replaceByBody(Operation *call, func::FuncOp callee) {
  if (!callee.getBody().hasOneBlock())
    return call->emitError("cannot inline @")
           << callee.getName() << ": its body must be one block";
  Block &body = callee.getBody().front();
  OpBuilder b(call);
  IRMapping mapping;
  mapping.map(body.getArguments(), call->getOperands());
  for (Operation &op : body.without_terminator())
    b.clone(op, mapping)->walk([&](Operation *inner) {
      inner->setLoc(inlinedAt(inner->getLoc(), call->getLoc()));
    });
  for (auto [result, value] :
       llvm::zip_equal(call->getResults(), body.getTerminator()->getOperands()))
    result.replaceAllUsesWith(mapping.lookup(value));
  call->erase();
  return success();
}

LogicalResult Flattener::flatten(func::FuncOp function) {
  if (function.isExternal() || flat.contains(function))
    return success();
  if (!inProgress.insert(function).second)
    return function.emitError(
        "calls itself: a recursive function cannot be transformed");
  auto leave = llvm::make_scope_exit([&] { inProgress.erase(function); });

  SmallVector<Operation *> pending;
  function.walk([&](Operation *op) {
    if (isa<func::CallOp, JvpOp, VjpOp, BatchOp>(op))
      pending.push_back(op);
  });
  for (Operation *op : pending) {
    FailureOr<func::FuncOp> callee;
    if (auto call = dyn_cast<func::CallOp>(op)) {
      callee = lookup(op, call.getCallee());
      if (succeeded(callee) && callee->isExternal())
        continue;
      if (failed(callee) || failed(flatten(*callee)))
        return failure();
    } else {
      callee = derive(op);
    }
    if (failed(callee) || failed(replaceByBody(op, *callee)))
      return failure();
  }
  flat.insert(function);
  return success();
}

void Flattener::simplify(func::FuncOp function) {
  GreedyRewriteConfig config;
  config.setRegionSimplificationLevel(GreedySimplifyRegionLevel::Disabled);
  config.setUseTopDownTraversal();
  (void)applyPatternsGreedily(function.getBody(), canonicalForms, config);
  IRRewriter rewriter(function.getContext());
  DominanceInfo dominance(function);
  eliminateCommonSubExpressions(rewriter, dominance, function);
}

SmallVector<int64_t> bmgrad::bm::differentiableResults(func::FuncOp function) {
  SmallVector<int64_t> indices;
  for (auto [index, type] : llvm::enumerate(function.getResultTypes()))
    if (isDifferentiable(type))
      indices.push_back(index);
  return indices;
}

FailureOr<func::FuncOp> Flattener::jvp(func::FuncOp function,
                                       ArrayRef<int64_t> wrt,
                                       ArrayRef<int64_t> of, StringRef name) {
  auto made = adopt(deriveJvp(function, wrt, of, name));
  if (succeeded(made))
    simplify(*made);
  return made;
}

FailureOr<func::FuncOp> Flattener::transpose(func::FuncOp function,
                                             unsigned numPrimalArguments,
                                             unsigned numPrimalResults,
                                             StringRef name) {
  return adopt(
      deriveTranspose(function, numPrimalArguments, numPrimalResults, name));
}

FailureOr<func::FuncOp> Flattener::vjp(func::FuncOp function,
                                       ArrayRef<int64_t> wrt,
                                       ArrayRef<int64_t> of, StringRef name) {
  unsigned numArguments = function.getNumArguments(),
           numResults = function.getNumResults();
  auto forward = jvp(function, wrt, of, (name + ".jvp").str());
  if (failed(forward))
    return failure();
  auto made = transpose(*forward, numArguments, numResults, name);
  erase(*forward);
  return made;
}

static std::string spell(ArrayRef<int64_t> numbers) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  llvm::interleave(numbers, stream, "_");
  return text;
}

static BatchAxis axisOf(BatchOp op) {
  return {static_cast<int64_t>(op.getSize()), op.getAxisName().value_or(""),
          !llvm::is_contained(op.getOutAxes(), -1)};
}

FailureOr<func::FuncOp> Flattener::derive(Operation *transform) {
  auto callee =
      lookup(transform,
             transform->getAttrOfType<FlatSymbolRefAttr>("callee").getValue());
  if (failed(callee) || failed(flatten(*callee)))
    return failure();
  std::string base = callee->getName().str();
  FailureOr<func::FuncOp> made;
  std::string name;
  if (auto op = dyn_cast<JvpOp>(transform))
    name = base + ".jvp." + spell(op.getWrt());
  else if (auto op = dyn_cast<VjpOp>(transform))
    name = base + ".vjp." + spell(op.getWrt()) + "." + spell(op.getOf());
  else if (auto op = dyn_cast<BatchOp>(transform))
    name = base + ".batch." + std::to_string(op.getSize()) + "." +
           spell(op.getInAxes()) + "." + spell(op.getOutAxes()) +
           axisOf(op).suffix();
  if (auto known = derived.find(name); known != derived.end())
    return known->second;
  if (auto op = dyn_cast<JvpOp>(transform))
    made = jvp(*callee, op.getWrt(), differentiableResults(*callee), name);
  else if (auto op = dyn_cast<VjpOp>(transform))
    made = vjp(*callee, op.getWrt(), op.getOf(), name);
  else if (auto op = dyn_cast<BatchOp>(transform))
    made = adopt(deriveBatch(*callee, op.getInAxes(), op.getOutAxes(),
                             axisOf(op), name));
  if (succeeded(made))
    derived[name] = *made;
  else
    transform->emitRemark("while expanding this transform");
  return made;
}

/// Drops marks, and replaces each `bm.remat` in which nothing is run again by
/// its body.
static void dropRemats(func::FuncOp function) {
  IRRewriter rewriter(function.getContext());
  function.walk([&](Operation *op) {
    if (isa<SaveableOp, UnperturbedOp>(op)) {
      rewriter.replaceOp(op, op->getOperands());
    } else if (auto remat = dyn_cast<RematOp>(op);
               remat && !remat.getDifferentiated()) {
      Operation *yield = remat.getBlock().getTerminator();
      rewriter.inlineBlockBefore(&remat.getBlock(), op, remat.getInputs());
      rewriter.replaceOp(op, yield->getOperands());
      rewriter.eraseOp(yield);
    }
  });
}

LogicalResult Flattener::dropRules(func::FuncOp function) {
  // A primal function may itself hold ops with custom rules: until none is
  // left.
  while (true) {
    SmallVector<CustomRuleOpInterface> pending;
    function.walk([&](CustomRuleOpInterface op) { pending.push_back(op); });
    if (pending.empty()) {
      dropRemats(function);
      return success();
    }
    for (CustomRuleOpInterface op : pending) {
      auto primal = lookup(op, op.getPrimalSymbol());
      if (failed(primal) || failed(flatten(*primal)) ||
          failed(replaceByBody(op, *primal)))
        return failure();
    }
  }
}
