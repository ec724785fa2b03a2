//===- Derive.cpp - Functions made from functions -------------------------===//
//
// Reverse mode is forward mode, split and transposed ("You Only Linearize
// Once", Radul et al., POPL 2023): the ops that depend on a tangent are linear
// in it, and only they need a transpose rule.
//
//===----------------------------------------------------------------------===//

#include "Derive.h"

#include "bmgrad/Dialect/BM/Custom.h"
#include "bmgrad/Dialect/BM/Shape.h"

using namespace mlir;
using namespace bmgrad::bm;

namespace {
/// A private function beside `origin`, with an entry block and a builder in it.
struct NewFunction {
  func::FuncOp function;
  ImplicitLocOpBuilder b;

  NewFunction(func::FuncOp origin, StringRef name, TypeRange arguments,
              TypeRange results)
      : b(origin.getLoc(), origin.getContext()) {
    b.setInsertionPointAfter(origin);
    function =
        func::FuncOp::create(b, name, b.getFunctionType(arguments, results));
    function.setPrivate();
    b.setInsertionPointToStart(function.addEntryBlock());
  }
  BlockArgument argument(unsigned index) { return function.getArgument(index); }
};
} // namespace

/// The name that a value prints with, derived from that of another.
static void nameAfter(Value value, Value origin, StringRef prefix) {
  if (auto named = dyn_cast<NameLoc>(origin.getLoc()))
    value.setLoc(NameLoc::get(
        StringAttr::get(value.getContext(),
                        (prefix + named.getName().getValue()).str()),
        named.getChildLoc()));
}

FailureOr<func::FuncOp> bmgrad::bm::deriveJvp(func::FuncOp function,
                                              ArrayRef<int64_t> wrt,
                                              ArrayRef<int64_t> of,
                                              StringRef name) {
  SmallVector<Type> arguments(function.getArgumentTypes()),
      results(function.getResultTypes());
  for (int64_t index : wrt)
    arguments.push_back(function.getArgumentTypes()[index]);
  for (int64_t index : of)
    results.push_back(function.getResultTypes()[index]);
  NewFunction made(function, name, arguments, results);

  Block &body = function.getBody().front();
  unsigned numPrimals = body.getNumArguments();
  IRMapping mapping;
  for (auto [argument, image] :
       llvm::zip(body.getArguments(), made.function.getArguments())) {
    mapping.map(argument, image);
    image.setLoc(argument.getLoc());
  }
  DenseMap<Value, Value> tangents;
  for (auto [position, index] : llvm::enumerate(wrt)) {
    BlockArgument tangent = made.argument(numPrimals + position);
    nameAfter(tangent, body.getArgument(index), "d.");
    Value &slot = tangents[body.getArgument(index)];
    slot = accumulate(made.b, slot, tangent);
  }
  if (failed(jvpBlock(made.b, body, mapping, tangents)))
    return failure();

  SmallVector<Value> returned;
  ValueRange values = body.getTerminator()->getOperands();
  for (Value value : values)
    returned.push_back(mapping.lookup(value));
  for (int64_t index : of)
    returned.push_back(materialize(made.b, tangents.lookup(values[index]),
                                   values[index].getType()));
  func::ReturnOp::create(made.b, returned);
  return made.function;
}

namespace {
/// The body of a function, its ops told apart.
struct SplitBody {
  Block &block;
  DenseSet<Value> linear;
  SmallVector<Operation *> linearOps;
  ArrayRef<BlockArgument> primalArguments, linearArguments;
  SmallVector<Value> primalResults, linearResults;

  static FailureOr<SplitBody> get(func::FuncOp function,
                                  unsigned numPrimalArguments,
                                  unsigned numPrimalResults) {
    SplitBody body{function.getBody().front(), {}, {}, {}, {}, {}, {}};
    ArrayRef<BlockArgument> arguments = body.block.getArguments();
    body.primalArguments = arguments.take_front(numPrimalArguments);
    body.linearArguments = arguments.drop_front(numPrimalArguments);
    body.linear.insert(body.linearArguments.begin(),
                       body.linearArguments.end());
    auto linearOps = splitBlock(body.block, body.linear);
    if (failed(linearOps))
      return failure();
    body.linearOps = std::move(*linearOps);
    // Read only now: splitting replaces ops and so the returned values.
    OperandRange returned = body.block.getTerminator()->getOperands();
    body.primalResults.assign(returned.begin(),
                              returned.begin() + numPrimalResults);
    body.linearResults.assign(returned.begin() + numPrimalResults,
                              returned.end());
    return body;
  }

  void clonePrimal(ImplicitLocOpBuilder &b, IRMapping &mapping) {
    DenseSet<Operation *> skipped(linearOps.begin(), linearOps.end());
    for (Operation &op : block.without_terminator())
      if (!skipped.contains(&op))
        b.clone(op, mapping);
  }
};
} // namespace

template <typename Range>
static SmallVector<Type> typesOf(const Range &values) {
  return llvm::map_to_vector(values,
                             [](Value value) { return value.getType(); });
}

FailureOr<func::FuncOp> bmgrad::bm::deriveTranspose(func::FuncOp function,
                                                    unsigned numPrimalArguments,
                                                    unsigned numPrimalResults,
                                                    StringRef name) {
  auto body = SplitBody::get(function, numPrimalArguments, numPrimalResults);
  if (failed(body))
    return failure();
  SmallVector<Type> arguments = typesOf(body->primalArguments);
  llvm::append_range(arguments, typesOf(body->linearResults));
  SmallVector<Type> results = typesOf(body->primalResults);
  llvm::append_range(results, typesOf(body->linearArguments));
  NewFunction made(function, name, arguments, results);

  IRMapping mapping;
  for (auto [index, argument] : llvm::enumerate(body->primalArguments)) {
    mapping.map(argument, made.argument(index));
    made.argument(index).setLoc(argument.getLoc());
  }
  body->clonePrimal(made.b, mapping);

  DenseMap<Value, Value> cotangents;
  for (auto [index, value] : llvm::enumerate(body->linearResults)) {
    BlockArgument cotangent = made.argument(numPrimalArguments + index);
    cotangent.setLoc(
        NameLoc::get(made.b.getStringAttr("ct." + std::to_string(index)),
                     function.getLoc()));
    if (!body->linear.contains(value))
      continue; // A tangent that is zero, whatever the arguments.
    Value &slot = cotangents[value];
    slot = accumulate(made.b, slot, cotangent);
  }
  if (failed(transposeOps(made.b, body->linearOps, body->linear, mapping,
                          cotangents)))
    return failure();

  SmallVector<Value> returned;
  for (Value value : body->primalResults)
    returned.push_back(mapping.lookup(value));
  for (BlockArgument argument : body->linearArguments)
    returned.push_back(
        materialize(made.b, cotangents.lookup(argument), argument.getType()));
  made.b.setLoc(function.getLoc());
  func::ReturnOp::create(made.b, returned);
  return made.function;
}

LogicalResult bmgrad::bm::deriveSplit(func::FuncOp function,
                                      unsigned numPrimalArguments,
                                      unsigned numPrimalResults,
                                      StringRef fwdName, StringRef linName) {
  auto body = SplitBody::get(function, numPrimalArguments, numPrimalResults);
  if (failed(body))
    return failure();
  SmallVector<Value> residuals =
      collectResiduals(body->linearOps, body->linear);

  SmallVector<Type> fwdResults = typesOf(body->primalResults);
  llvm::append_range(fwdResults, typesOf(residuals));
  NewFunction fwd(function, fwdName, typesOf(body->primalArguments),
                  fwdResults);
  IRMapping mapping;
  for (auto [argument, image] :
       llvm::zip(body->primalArguments, fwd.function.getArguments())) {
    mapping.map(argument, image);
    image.setLoc(argument.getLoc());
  }
  body->clonePrimal(fwd.b, mapping);
  SmallVector<Value> returned;
  for (Value value : llvm::concat<Value>(body->primalResults, residuals))
    returned.push_back(mapping.lookup(value));
  func::ReturnOp::create(fwd.b, returned);

  SmallVector<Type> linArguments = typesOf(residuals);
  llvm::append_range(linArguments, typesOf(body->linearArguments));
  NewFunction lin(fwd.function, linName, linArguments,
                  typesOf(body->linearResults));
  IRMapping linMapping;
  for (auto [index, value] : llvm::enumerate(residuals))
    linMapping.map(value, lin.argument(index));
  for (auto [index, value] : llvm::enumerate(body->linearArguments)) {
    linMapping.map(value, lin.argument(residuals.size() + index));
    lin.argument(residuals.size() + index).setLoc(value.getLoc());
  }
  // What is cheaper to make again than to keep is no residual: it is cloned
  // here.
  for (Operation *op : body->linearOps) {
    for (Value operand : op->getOperands())
      cloneFreeInto(lin.b, operand, body->linear, linMapping);
    lin.b.clone(*op, linMapping);
  }
  SmallVector<Value> tangents;
  for (Value value : body->linearResults)
    tangents.push_back(body->linear.contains(value)
                           ? linMapping.lookup(value)
                           : makeZero(lin.b, value.getType()));
  func::ReturnOp::create(lin.b, tangents);
  return success();
}

/// The value with its axis `from` moved to `to`.
static Value moveAxis(ImplicitLocOpBuilder &b, Value value, int64_t from,
                      int64_t to) {
  if (from == to)
    return value;
  RankedTensorType type = tensorType(value);
  auto permutation = llvm::to_vector(llvm::seq<int64_t>(0, type.getRank()));
  permutation.erase(permutation.begin() + from);
  permutation.insert(permutation.begin() + to, from);
  auto shape = llvm::map_to_vector(
      permutation, [&](int64_t axis) { return type.getDimSize(axis); });
  return TransposeOp::create(b, type.clone(shape), value, permutation);
}

FailureOr<func::FuncOp> bmgrad::bm::deriveBatch(func::FuncOp function,
                                                ArrayRef<int64_t> inAxes,
                                                ArrayRef<int64_t> outAxes,
                                                BatchAxis axis,
                                                StringRef name) {
  auto withAxis = [&](TypeRange types, ArrayRef<int64_t> axes) {
    SmallVector<Type> batched;
    for (auto [type, position] : llvm::zip_equal(types, axes)) {
      auto tensor = cast<RankedTensorType>(type);
      SmallVector<int64_t> shape(tensor.getShape());
      if (position >= 0)
        shape.insert(shape.begin() + position, axis.size);
      batched.push_back(tensor.clone(shape));
    }
    return batched;
  };
  NewFunction made(function, name,
                   withAxis(function.getArgumentTypes(), inAxes),
                   withAxis(function.getResultTypes(), outAxes));
  Block &body = function.getBody().front();
  IRMapping mapping;
  DenseSet<Value> batched;
  for (auto [index, argument] : llvm::enumerate(body.getArguments())) {
    made.argument(index).setLoc(argument.getLoc());
    bool isBatched = inAxes[index] >= 0;
    mapping.map(argument, isBatched ? moveAxis(made.b, made.argument(index),
                                               inAxes[index], 0)
                                    : Value(made.argument(index)));
    if (isBatched)
      batched.insert(argument);
  }
  if (failed(batchBlock(made.b, body, axis, mapping, batched)))
    return failure();
  SmallVector<bool> flags = llvm::map_to_vector(
      inAxes, [](int64_t position) { return position >= 0; });
  SmallVector<bool> differs(outAxes.size(), true);
  if (llvm::is_contained(outAxes, -1))
    differs = batchedValues(body, flags, axis);
  SmallVector<Value> returned;
  for (auto [value, position, differ] :
       llvm::zip_equal(body.getTerminator()->getOperands(), outAxes, differs)) {
    Value image = mapping.lookup(value);
    if (position < 0) {
      StringRef error =
          "a result depends on a batched argument but has no batch axis";
      if (batched.contains(value) && differ)
        return function.emitError(error);
      // Only its tangent does, so a derivative of it is what is an error.
      returned.push_back(
          batched.contains(value)
              ? UnperturbedOp::create(made.b, firstOfBatch(made.b, image),
                                      made.b.getStringAttr(error))
              : image);
      continue;
    }
    if (!batched.contains(value))
      image = broadcastBatch(made.b, image, axis.size);
    returned.push_back(moveAxis(made.b, image, 0, position));
  }
  made.b.setLoc(function.getLoc());
  func::ReturnOp::create(made.b, returned);
  return made.function;
}
