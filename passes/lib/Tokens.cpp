//===- Tokens.cpp - The order of effects ----------------------------------===//
//
// StableHLO orders what has effects by tokens: values that an op waits for and
// gives on. Loops carry them, branches read them from around.
//
//===----------------------------------------------------------------------===//

#include "Tokens.h"

#include "bmgrad/Dialect/BM/Kernel.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"

using namespace mlir;
using namespace bmgrad::bm;

static constexpr llvm::StringLiteral tokensName = "bm.tokens";

/// The kinds of effects whose order counts, and of each the last token.
using Tokens = llvm::MapVector<StringAttr, Value>;
using Kinds = llvm::SetVector<StringAttr>;

static Type tokenType(MLIRContext *context) {
  return OpaqueType::get(StringAttr::get(context, "stablehlo"), "token");
}

static auto kindsOf(func::CallOp call) {
  auto ordered = call->getAttrOfType<ArrayAttr>(KernelOp::orderedName);
  return (ordered ? ordered : ArrayAttr::get(call.getContext(), {}))
      .getAsRange<StringAttr>();
}

template <typename Place> static Kinds findKinds(Place &place) {
  Kinds kinds;
  place.walk([&](func::CallOp call) {
    for (StringAttr kind : kindsOf(call))
      kinds.insert(kind);
  });
  return kinds;
}

static SmallVector<Value> pick(const Tokens &tokens, const Kinds &kinds) {
  return llvm::map_to_vector(
      kinds, [&](StringAttr kind) { return tokens.lookup(kind); });
}

/// Creates `op` anew with other operands, and with tokens before or after its
/// results; its regions move there. Returns the tokens that it gives.
static ResultRange recreate(Operation *op, ValueRange operands,
                            unsigned numTokens, bool tokensFirst) {
  OpBuilder b(op);
  SmallVector<Type> types(op->getResultTypes());
  unsigned first = tokensFirst ? 0 : types.size();
  types.insert(types.begin() + first, numTokens, tokenType(op->getContext()));
  OperationState state(op->getLoc(), op->getName(), operands, types,
                       op->getAttrs());
  for (Region &region : op->getRegions())
    state.addRegion()->takeBody(region);
  Operation *made = b.create(state);
  ResultRange results = made->getResults();
  op->replaceAllUsesWith(tokensFirst ? results.drop_front(numTokens)
                                     : results.drop_back(numTokens));
  op->erase();
  return results.slice(first, numTokens);
}

static void update(Tokens &tokens, const Kinds &kinds, ValueRange values) {
  for (auto [kind, value] : llvm::zip_equal(kinds, values))
    tokens[kind] = value;
}

/// Puts tokens into the type of a function, if they are not there yet.
static void declareTokens(func::FuncOp function, const Kinds &kinds) {
  if (function->hasAttr(tokensName))
    return;
  SmallVector<Type> types(kinds.size(), tokenType(function.getContext()));
  SmallVector<Type> arguments(types), results(types);
  llvm::append_range(arguments, function.getArgumentTypes());
  llvm::append_range(results, function.getResultTypes());
  function.setFunctionType(
      FunctionType::get(function.getContext(), arguments, results));
  SmallVector<Attribute> names(kinds.begin(), kinds.end());
  function->setAttr(tokensName, ArrayAttr::get(function.getContext(), names));
}

static LogicalResult thread(Block &block, Tokens &tokens);

static void threadCall(func::CallOp call, Tokens &tokens) {
  Kinds kinds;
  kinds.insert(kindsOf(call).begin(), kindsOf(call).end());
  declareTokens(SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(
                    call, call.getCalleeAttr()),
                kinds);
  SmallVector<Value> operands = pick(tokens, kinds);
  llvm::append_range(operands, call.getOperands());
  call->removeAttr(KernelOp::orderedName);
  update(tokens, kinds,
         recreate(call, operands, kinds.size(), /*tokensFirst=*/true));
}

static void yield(Block &block, const Tokens &tokens, const Kinds &kinds) {
  Operation *last = &block.back();
  last->insertOperands(last->getNumOperands(), pick(tokens, kinds));
}

static LogicalResult threadWhile(Operation *loop, const Kinds &kinds,
                                 Tokens &tokens) {
  for (Region &region : loop->getRegions())
    for (unsigned i = 0; i < kinds.size(); ++i)
      region.front().addArgument(tokenType(loop->getContext()), loop->getLoc());
  Block &body = loop->getRegion(1).front();
  Tokens inside;
  update(
      inside, kinds,
      llvm::to_vector_of<Value>(body.getArguments().take_back(kinds.size())));
  if (failed(thread(body, inside)))
    return failure();
  yield(body, inside, kinds);
  SmallVector<Value> operands(loop->getOperands());
  llvm::append_range(operands, pick(tokens, kinds));
  update(tokens, kinds,
         recreate(loop, operands, kinds.size(), /*tokensFirst=*/false));
  return success();
}

static LogicalResult threadCase(Operation *choice, const Kinds &kinds,
                                Tokens &tokens) {
  for (Region &region : choice->getRegions()) {
    Tokens inside = tokens;
    if (failed(thread(region.front(), inside)))
      return failure();
    yield(region.front(), inside, kinds);
  }
  SmallVector<Value> operands(choice->getOperands());
  update(tokens, kinds,
         recreate(choice, operands, kinds.size(), /*tokensFirst=*/false));
  return success();
}

static LogicalResult thread(Block &block, Tokens &tokens) {
  for (Operation &op : llvm::make_early_inc_range(block)) {
    Kinds kinds = findKinds(op);
    if (kinds.empty())
      continue;
    StringRef name = op.getName().getStringRef();
    if (auto call = dyn_cast<func::CallOp>(op))
      threadCall(call, tokens);
    else if (name == "stablehlo.while" && findKinds(op.getRegion(0)).empty()) {
      if (failed(threadWhile(&op, kinds, tokens)))
        return failure();
    } else if (name == "stablehlo.case") {
      if (failed(threadCase(&op, kinds, tokens)))
        return failure();
    } else {
      return op.emitError("no order of effects inside this op");
    }
  }
  return success();
}

LogicalResult bmgrad::bm::threadTokens(func::FuncOp function) {
  Kinds found = findKinds(function);
  if (found.empty())
    return success();
  SmallVector<StringAttr> sorted(found.begin(), found.end());
  llvm::sort(sorted, [](StringAttr a, StringAttr b) {
    return a.getValue() < b.getValue();
  });
  Kinds kinds(sorted.begin(), sorted.end());
  declareTokens(function, kinds);
  Block &body = function.getBody().front();
  Tokens tokens;
  for (auto [index, kind] : llvm::enumerate(kinds))
    tokens[kind] = body.insertArgument(index, tokenType(function.getContext()),
                                       function.getLoc());
  if (failed(thread(body, tokens)))
    return failure();
  body.back().insertOperands(0, pick(tokens, kinds));
  return success();
}
