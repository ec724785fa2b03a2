//===- While.cpp - Derivatives and batching of bm.while -------------------===//

#include "ControlUtils.h"
#include "bmgrad/Dialect/BM/Control.h"
#include "bmgrad/Dialect/BM/Kernel.h"
#include "bmgrad/Dialect/BM/Reduction.h"

using namespace mlir;
using namespace bmgrad::bm;
using namespace bmgrad::bm::control;

namespace {
/// What marked operands of a while reach: arguments of the body, and the
/// predicate.
struct WhileMarks {
  SmallVector<bool> arguments, carries;
  bool predicate;
};

/// A while being made.
struct NewWhile {
  Region condRegion, bodyRegion;
  SmallVector<Value> condConsts, bodyConsts, inits, carries;
  Value predicate;

  NewWhile() {
    condRegion.emplaceBlock();
    bodyRegion.emplaceBlock();
  }
  Block &cond() { return condRegion.front(); }
  Block &body() { return bodyRegion.front(); }

  WhileOp create(ImplicitLocOpBuilder &b) {
    auto condBuilder = builderAt(b.getLoc(), cond());
    YieldOp::create(condBuilder, predicate);
    auto bodyBuilder = builderAt(b.getLoc(), body());
    YieldOp::create(bodyBuilder, carries);
    auto made = WhileOp::create(b, ValueRange(inits).getTypes(), condConsts,
                                bodyConsts, inits);
    made.getCond().takeBody(condRegion);
    made.getBody().takeBody(bodyRegion);
    return made;
  }
};
} // namespace

static WhileMarks markWhile(WhileOp op, ArrayRef<bool> operands,
                            BlockFlow flow) {
  unsigned numCondConsts = op.getCondConsts().size();
  unsigned numBodyConsts = op.getBodyConsts().size();
  SmallVector<bool> bodyOperands(operands.drop_front(numCondConsts));
  while (true) {
    LoopMarks loop = markLoop(op.getBodyBlock(), bodyOperands, numBodyConsts,
                              op.getNumCarries(), flow);
    SmallVector<bool> condOperands(operands.take_front(numCondConsts));
    llvm::append_range(condOperands, loop.yields);
    bool predicate = flow(op.getCondBlock(), condOperands).front();
    if (!predicate || !llvm::is_contained(loop.yields, false))
      return {loop.arguments, loop.yields, predicate};
    // How many steps a carry has made depends on the predicate.
    std::fill(bodyOperands.begin() + numBodyConsts, bodyOperands.end(), true);
  }
}

SmallVector<bool> WhileOp::flowResults(ArrayRef<bool> marked, BlockFlow flow) {
  return markWhile(*this, marked, flow).carries;
}

//===----------------------------------------------------------------------===//
// Forward
//===----------------------------------------------------------------------===//

LogicalResult WhileOp::emitJvp(JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  unsigned numCondConsts = getCondConsts().size();
  SmallVector<bool> active =
      markWhile(*this, nonNull(frame.tangents), activeResults).arguments;
  auto isActive = [&](BlockArgument argument) {
    return active[argument.getArgNumber()];
  };
  ArrayRef<Value> primals = frame.primals.drop_front(numCondConsts);
  ArrayRef<Value> bodyTangents = frame.tangents.drop_front(numCondConsts);

  NewWhile made;
  made.condConsts.assign(frame.primals.begin(),
                         frame.primals.begin() + numCondConsts);
  IRMapping mapping;
  DenseMap<Value, Value> tangents;
  auto addGroup = [&](Block::BlockArgListType arguments,
                      SmallVector<Value> &operands) {
    for (BlockArgument argument : arguments) {
      mapping.map(argument, addArgument(made.body(), argument));
      operands.push_back(primals[argument.getArgNumber()]);
    }
    for (BlockArgument argument :
         llvm::make_filter_range(arguments, isActive)) {
      tangents[argument] = addArgument(made.body(), argument);
      operands.push_back(materialize(b, bodyTangents[argument.getArgNumber()],
                                     argument.getType()));
    }
  };
  addGroup(getBodyBlock().getArguments().take_front(getBodyConsts().size()),
           made.bodyConsts);
  addGroup(getBodyCarryArgs(), made.inits);

  for (BlockArgument argument : getCondBlock().getArguments())
    mapping.map(argument, addArgument(made.cond(), argument));
  for (BlockArgument argument :
       llvm::make_filter_range(getBodyCarryArgs(), isActive))
    addArgument(made.cond(), argument);
  auto condBuilder = builderAt(getLoc(), made.cond());
  for (Operation &op : getCondBlock().without_terminator())
    condBuilder.clone(op, mapping);
  made.predicate = mapping.lookup(getCondYield().getOperand(0));

  auto bodyBuilder = builderAt(getLoc(), made.body());
  if (failed(jvpBlock(bodyBuilder, getBodyBlock(), mapping, tangents)))
    return failure();
  bodyBuilder.setLoc(getLoc());
  for (Value value : getBodyYield().getValues())
    made.carries.push_back(mapping.lookup(value));
  for (auto [argument, value] :
       llvm::zip_equal(getBodyCarryArgs(), getBodyYield().getValues()))
    if (isActive(argument))
      made.carries.push_back(
          materialize(bodyBuilder, tangents.lookup(value), value.getType()));
  WhileOp loop = made.create(b);

  unsigned next = getNumCarries();
  for (auto [argument, result] : llvm::zip_equal(
           getBodyCarryArgs(), loop.getResults().take_front(getNumCarries()))) {
    frame.results.push_back(result);
    frame.resultTangents.push_back(isActive(argument) ? loop.getResult(next++)
                                                      : Value());
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Splitting
//===----------------------------------------------------------------------===//

// The tangents of a step need its values, of which nobody knows how many there
// will be to keep. So the linear part is the whole loop once more, values
// included: it can be run forward, not transposed.
LogicalResult WhileOp::emitSplit(SplitFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Block &cond = getCondBlock(), &body = getBodyBlock();
  SmallVector<bool> marks =
      markWhile(*this, flagsOf(getOperands(), frame.linear), dependentResults)
          .arguments;
  DenseSet<Value> linear;
  for (auto [argument, mark] : llvm::zip_equal(body.getArguments(), marks))
    if (mark)
      linear.insert(argument);
  SmallVector<bool> linearCarries = flagsOf(
      SmallVector<Value>(getBodyCarryArgs().begin(), getBodyCarryArgs().end()),
      linear);
  SmallVector<Value> tangents = pick(getResults(), linearCarries, true);
  if (llvm::any_of(tangents, [](Value v) { return !v.use_empty(); })) {
    auto whole = cast<WhileOp>(b.clone(*getOperation()));
    // What was noted in the first run is not in the second.
    whole.walk([](KernelOp op) {
      if (op.getNumResults() == 0)
        op.erase();
    });
    for (auto [value, again] : llvm::zip_equal(
             tangents, pick(whole.getResults(), linearCarries, true))) {
      value.replaceAllUsesWith(again);
      frame.linear.insert(again);
    }
  }
  FailureOr<SmallVector<Operation *>> linearOps = splitBlock(body, linear);
  if (failed(linearOps))
    return failure();

  NewWhile made;
  llvm::append_range(made.condConsts, getCondConsts());
  llvm::append_range(made.bodyConsts,
                     pick(getBodyConsts(),
                          ArrayRef(marks).take_front(getBodyConsts().size()),
                          false));
  made.inits = pick(getInits(), linearCarries, false);
  made.carries = pick(getBodyYield().getValues(), linearCarries, false);
  made.predicate = getCondYield().getOperand(0);
  SmallVector<Value> kept = pick(getResults(), linearCarries, false);

  cond.getTerminator()->erase();
  body.getTerminator()->erase();
  for (Operation *op : llvm::reverse(*linearOps))
    op->erase();
  body.eraseArguments(
      [&](BlockArgument argument) { return linear.contains(argument); });
  unsigned firstCarry = getCondConsts().size();
  auto condBuilder = ImplicitLocOpBuilder::atBlockBegin(getLoc(), &cond);
  auto isLinearInCond = [&](BlockArgument argument) {
    return argument.getArgNumber() >= firstCarry &&
           linearCarries[argument.getArgNumber() - firstCarry];
  };
  for (BlockArgument argument : cond.getArguments())
    if (isLinearInCond(argument) && !argument.use_empty())
      argument.replaceAllUsesWith(makeZero(condBuilder, argument.getType()));
  cond.eraseArguments(isLinearInCond);
  made.condRegion.takeBody(getCond());
  made.bodyRegion.takeBody(getBody());
  WhileOp loop = made.create(b);
  for (auto [value, result] : llvm::zip_equal(kept, loop.getResults()))
    value.replaceAllUsesWith(result);
  erase();
  return success();
}

LogicalResult WhileOp::emitTranspose(TransposeFrame &) {
  return emitError(
      "reverse-mode derivative of a while loop whose trip count is not known; "
      "use scan or jax.lax.fori_loop with constant bounds");
}

//===----------------------------------------------------------------------===//
// Batching
//===----------------------------------------------------------------------===//

/// Maps the arguments to values, with the batch dimension where marked.
static void mapArguments(Block::BlockArgListType arguments, ValueRange values,
                         ArrayRef<bool> marks, IRMapping &mapping,
                         DenseSet<Value> &batched) {
  for (auto [argument, value, mark] :
       llvm::zip_equal(arguments, values, marks)) {
    mapping.map(argument, value);
    if (mark)
      batched.insert(argument);
  }
}

/// Adds an argument for each of the values.
static SmallVector<Value> addArguments(Block &block, ValueRange values) {
  return llvm::map_to_vector(
      values, [&](Value value) { return addArgument(block, value); });
}

// Where the predicate is batched the loop runs while it holds for any element
// of the batch, and the carries of those that are done are held. The predicates
// are carried, so that each is computed once a step.
LogicalResult WhileOp::emitBatch(BatchFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  unsigned numCondConsts = getCondConsts().size(),
           numBodyConsts = getBodyConsts().size();
  WhileMarks marks = markWhile(*this, frame.batched, flowOf(frame.axis));
  SmallVector<bool> condMarks(frame.batched.take_front(numCondConsts));
  llvm::append_range(condMarks, marks.carries);
  ArrayRef<Value> condConsts = frame.operands.take_front(numCondConsts);
  ArrayRef<Value> bodyConsts =
      frame.operands.slice(numCondConsts, numBodyConsts);
  SmallVector<Value> inits;
  for (auto [index, mark] : llvm::enumerate(marks.carries)) {
    unsigned operand = numCondConsts + numBodyConsts + index;
    inits.push_back(mark ? frame.getBatched(operand) : frame.operands[operand]);
  }

  // The predicate of these constants and carries.
  auto emitPredicate = [&](ImplicitLocOpBuilder &at, ValueRange consts,
                           ValueRange carries) -> FailureOr<Value> {
    IRMapping mapping;
    DenseSet<Value> batched;
    SmallVector<Value> values(consts);
    llvm::append_range(values, carries);
    mapArguments(getCondBlock().getArguments(), values, condMarks, mapping,
                 batched);
    if (failed(batchBlock(at, getCondBlock(), frame.axis, mapping, batched)))
      return failure();
    at.setLoc(getLoc());
    Value yielded = getCondYield().getOperand(0);
    Value predicate = mapping.lookup(yielded);
    if (marks.predicate && !batched.contains(yielded))
      return broadcastBatch(at, predicate, frame.size);
    return predicate;
  };

  NewWhile made;
  auto condBuilder = builderAt(getLoc(), made.cond());
  auto bodyBuilder = builderAt(getLoc(), made.body());
  SmallVector<Value> condConstArgs;
  Value active;
  if (marks.predicate) {
    condConstArgs = addArguments(made.body(), condConsts);
    made.bodyConsts.assign(condConsts.begin(), condConsts.end());
    FailureOr<Value> first = emitPredicate(b, condConsts, inits);
    if (failed(first))
      return failure();
    made.inits.push_back(*first);
    Value any = addArguments(made.cond(), *first).front();
    addArguments(made.cond(), inits);
    made.predicate = ReduceOrOp::create(
        condBuilder, RankedTensorType::get({}, b.getI1Type()), any,
        b.getDenseI64ArrayAttr({0}));
  } else {
    made.condConsts.assign(condConsts.begin(), condConsts.end());
    SmallVector<Value> consts = addArguments(made.cond(), condConsts);
    SmallVector<Value> carries = addArguments(made.cond(), inits);
    FailureOr<Value> predicate = emitPredicate(condBuilder, consts, carries);
    if (failed(predicate))
      return failure();
    made.predicate = *predicate;
  }
  llvm::append_range(made.bodyConsts, bodyConsts);
  llvm::append_range(made.inits, inits);

  SmallVector<Value> arguments = addArguments(made.body(), bodyConsts);
  if (marks.predicate)
    active = addArguments(made.body(), made.inits.front()).front();
  SmallVector<Value> carries = addArguments(made.body(), inits);
  llvm::append_range(arguments, carries);
  IRMapping mapping;
  DenseSet<Value> batched;
  mapArguments(getBodyBlock().getArguments(), arguments, marks.arguments,
               mapping, batched);
  if (failed(batchBlock(bodyBuilder, getBodyBlock(), frame.axis, mapping,
                        batched)))
    return failure();
  bodyBuilder.setLoc(getLoc());
  SmallVector<Value> next;
  for (auto [value, carry, mark] :
       llvm::zip_equal(getBodyYield().getValues(), carries, marks.carries)) {
    Value stepped = mapping.lookup(value);
    if (mark && !batched.contains(value))
      stepped = broadcastBatch(bodyBuilder, stepped, frame.size);
    next.push_back(active ? selectLanes(bodyBuilder, active, stepped, carry)
                          : stepped);
  }
  if (marks.predicate) {
    FailureOr<Value> predicate =
        emitPredicate(bodyBuilder, condConstArgs, next);
    if (failed(predicate))
      return failure();
    made.carries.push_back(*predicate);
  }
  llvm::append_range(made.carries, next);
  WhileOp loop = made.create(b);
  llvm::append_range(frame.results,
                     loop.getResults().take_back(getNumCarries()));
  frame.resultBatched = marks.carries;
  return success();
}
