//===- Tokens.cpp - The order of effects ----------------------------------===//
//
// StableHLO orders what has effects by tokens: values that an op waits for and
// gives on. Loops carry them, branches read them from around. What a reference
// holds is threaded in the same way: it is the token of what reads and changes
// the reference.
//
//===----------------------------------------------------------------------===//

#include "Tokens.h"

#include "bmgrad/Dialect/BM/Kernel.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/MapVector.h"

using namespace mlir;
using namespace bmgrad::bm;

static constexpr llvm::StringLiteral tokensName = "bm.tokens";

/// The kinds of effects whose order counts, and of each the type of its tokens
/// or the last one.
using Kinds = llvm::MapVector<StringAttr, Type>;
using Tokens = llvm::MapVector<StringAttr, Value>;

static void addKinds(func::CallOp call, Kinds &kinds) {
  auto ordered = call->getAttrOfType<ArrayAttr>(KernelOp::orderedName);
  if (!ordered)
    return;
  MLIRContext *context = call.getContext();
  Type type = OpaqueType::get(StringAttr::get(context, "stablehlo"), "token");
  if (auto reference = call->getAttrOfType<TypeAttr>(KernelOp::referenceName))
    type = reference.getValue();
  for (StringAttr kind : ordered.getAsRange<StringAttr>())
    kinds[kind] = type;
}

template <typename Place> static Kinds findKinds(Place &place) {
  Kinds kinds;
  place.walk([&](func::CallOp call) { addKinds(call, kinds); });
  return kinds;
}

static SmallVector<Type> typesOf(const Kinds &kinds) {
  return llvm::to_vector(llvm::make_second_range(kinds));
}

static SmallVector<Value> pick(const Tokens &tokens, const Kinds &kinds) {
  return llvm::map_to_vector(
      kinds, [&](const auto &kind) { return tokens.lookup(kind.first); });
}

/// Creates `op` anew with other operands, and with tokens before or after its
/// results; its regions move there. Returns the tokens that it gives.
static ResultRange recreate(Operation *op, ValueRange operands,
                            const Kinds &kinds, bool tokensFirst) {
  OpBuilder b(op);
  SmallVector<Type> types(op->getResultTypes()), tokens = typesOf(kinds);
  unsigned first = tokensFirst ? 0 : types.size(), numTokens = tokens.size();
  types.insert(types.begin() + first, tokens.begin(), tokens.end());
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
    tokens[kind.first] = value;
}

/// Puts tokens into the type of a function, if they are not there yet.
static void declareTokens(func::FuncOp function, const Kinds &kinds) {
  if (function->hasAttr(tokensName))
    return;
  SmallVector<Type> arguments = typesOf(kinds), results(arguments);
  llvm::append_range(arguments, function.getArgumentTypes());
  llvm::append_range(results, function.getResultTypes());
  function.setFunctionType(
      FunctionType::get(function.getContext(), arguments, results));
  auto names = llvm::map_to_vector(
      kinds, [](const auto &kind) -> Attribute { return kind.first; });
  function->setAttr(tokensName, ArrayAttr::get(function.getContext(), names));
}

static LogicalResult thread(Block &block, Tokens &tokens);

static void threadCall(func::CallOp call, Tokens &tokens) {
  Kinds kinds;
  addKinds(call, kinds);
  declareTokens(SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(
                    call, call.getCalleeAttr()),
                kinds);
  SmallVector<Value> operands = pick(tokens, kinds);
  llvm::append_range(operands, call.getOperands());
  call->removeAttr(KernelOp::orderedName);
  call->removeAttr(KernelOp::referenceName);
  update(tokens, kinds, recreate(call, operands, kinds, /*tokensFirst=*/true));
}

static void yield(Block &block, const Tokens &tokens, const Kinds &kinds) {
  Operation *last = &block.back();
  last->insertOperands(last->getNumOperands(), pick(tokens, kinds));
}

static LogicalResult threadWhile(Operation *loop, const Kinds &kinds,
                                 Tokens &tokens) {
  for (Region &region : loop->getRegions())
    for (Type type : typesOf(kinds))
      region.front().addArgument(type, loop->getLoc());
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
  update(tokens, kinds, recreate(loop, operands, kinds, /*tokensFirst=*/false));
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
         recreate(choice, operands, kinds, /*tokensFirst=*/false));
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
  auto names = llvm::to_vector(llvm::make_first_range(found));
  llvm::sort(names, [](StringAttr a, StringAttr b) {
    return a.getValue() < b.getValue();
  });
  Kinds kinds;
  for (StringAttr name : names)
    kinds[name] = found.lookup(name);
  declareTokens(function, kinds);
  Block &body = function.getBody().front();
  Tokens tokens;
  for (auto [index, kind] : llvm::enumerate(kinds))
    tokens[kind.first] =
        body.insertArgument(index, kind.second, function.getLoc());
  if (failed(thread(body, tokens)))
    return failure();
  body.back().insertOperands(0, pick(tokens, kinds));
  return success();
}
