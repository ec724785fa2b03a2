//===- Control.cpp - The ops of Control.td: verifiers, common parts -------===//

#include "bmgrad/Dialect/BM/Control.h"
#include "ControlUtils.h"
#include "bmgrad/Dialect/BM/Elementwise.h"
#include "bmgrad/Dialect/BM/Folding.h"
#include "bmgrad/Dialect/BM/Residuals.h"
#include "bmgrad/Dialect/BM/Shape.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace bmgrad::bm;

#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Control.cpp.inc"

void bmgrad::bm::addControlOps(BMDialect &dialect) {
  dialect.addFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/Control.cpp.inc"
      >();
}

//===----------------------------------------------------------------------===//
// Verifiers
//===----------------------------------------------------------------------===//

static LogicalResult verifyTerminator(Operation *op, Block &block,
                                      const Twine &where) {
  if (block.empty() || !isa<YieldOp>(block.back()))
    return op->emitOpError() << where << " must end with bm.yield";
  return success();
}

/// `what` says where in the region the types come from, `name` what they are.
static LogicalResult verifyTypes(Operation *op, TypeRange found,
                                 TypeRange expected, const Twine &what,
                                 StringRef name) {
  if (found.size() != expected.size()) {
    std::string plural = name.str();
    if (name.ends_with("y"))
      plural.replace(plural.size() - 1, 1, "ies");
    else
      plural += 's';
    return op->emitOpError() << what << " " << found.size() << " " << plural
                             << ", expected " << expected.size();
  }
  for (auto [index, types] : llvm::enumerate(llvm::zip_equal(found, expected)))
    if (std::get<0>(types) != std::get<1>(types))
      return op->emitOpError()
             << what << " " << std::get<0>(types) << " as " << name << " "
             << index << ", expected " << std::get<1>(types);
  return success();
}

static SmallVector<Type> typesOf(ArrayRef<BlockArgument> arguments) {
  return llvm::map_to_vector(
      arguments, [](BlockArgument argument) { return argument.getType(); });
}

LogicalResult ScanOp::verifyRegions() {
  auto length = static_cast<int64_t>(getLength());
  if (length < 0)
    return emitOpError() << "length " << length << " is negative";
  if (failed(verifyTerminator(*this, getBlock(), "body")))
    return failure();
  unsigned numArguments = getNumOperands();
  if (getBlock().getNumArguments() != numArguments)
    return emitOpError() << "body takes " << getBlock().getNumArguments()
                         << " arguments, expected " << numArguments << ": "
                         << getNumConsts() << " constants, " << getNumCarries()
                         << " carries and " << getXs().size() << " slices";
  if (failed(verifyTypes(*this, typesOf(getConstArgs()), getConsts().getTypes(),
                         "body takes", "constant")) ||
      failed(verifyTypes(*this, typesOf(getCarryArgs()), getInits().getTypes(),
                         "body takes", "carry")))
    return failure();
  for (auto [index, x] : llvm::enumerate(getXs())) {
    auto type = cast<RankedTensorType>(x.getType());
    if (type.getRank() == 0 || type.getDimSize(0) != length)
      return emitOpError() << "x " << index << " is " << type
                           << ", expected a leading axis of length " << length;
  }
  if (failed(verifyTypes(*this, typesOf(getXArgs()),
                         llvm::map_to_vector(getXs().getTypes(),
                                             [](Type type) -> Type {
                                               return control::sliceType(type);
                                             }),
                         "body takes", "slice")))
    return failure();
  unsigned numCarries = getNumCarries();
  if (getYield().getNumOperands() < numCarries)
    return emitOpError() << "body yields " << getYield().getNumOperands()
                         << " values, expected at least its " << numCarries
                         << " carries";
  if (getNumResults() < numCarries)
    return emitOpError() << "has " << getNumResults()
                         << " results, expected at least its " << numCarries
                         << " carries";
  if (failed(verifyTypes(*this, getYieldedCarries().getTypes(),
                         getInits().getTypes(), "body yields", "carry")) ||
      failed(verifyTypes(*this, getFinalCarries().getTypes(),
                         getInits().getTypes(), "gives", "final carry")))
    return failure();
  return verifyTypes(*this, getYs().getTypes(),
                     llvm::map_to_vector(getYieldedYs().getTypes(),
                                         [&](Type type) -> Type {
                                           return control::stackedType(type,
                                                                       length);
                                         }),
                     "gives", "stacked result");
}

LogicalResult WhileOp::verifyRegions() {
  if (failed(verifyTerminator(*this, getCondBlock(), "condition")) ||
      failed(verifyTerminator(*this, getBodyBlock(), "body")))
    return failure();
  SmallVector<Type> condTypes(getCondConsts().getTypes());
  llvm::append_range(condTypes, getInits().getTypes());
  SmallVector<Type> bodyTypes(getBodyConsts().getTypes());
  llvm::append_range(bodyTypes, getInits().getTypes());
  Type predicate = RankedTensorType::get({}, IntegerType::get(getContext(), 1));
  if (failed(verifyTypes(*this, getCondBlock().getArgumentTypes(), condTypes,
                         "condition takes", "argument")) ||
      failed(verifyTypes(*this, getBodyBlock().getArgumentTypes(), bodyTypes,
                         "body takes", "argument")) ||
      failed(verifyTypes(*this, getCondYield().getOperandTypes(), predicate,
                         "condition yields", "predicate")) ||
      failed(verifyTypes(*this, getBodyYield().getOperandTypes(),
                         getInits().getTypes(), "body yields", "carry")))
    return failure();
  return verifyTypes(*this, getResultTypes(), getInits().getTypes(), "gives",
                     "final carry");
}

LogicalResult CondOp::verifyRegions() {
  if (getBranches().empty())
    return emitOpError() << "has no branches";
  for (unsigned index = 0; index < getBranches().size(); ++index) {
    std::string branch = ("branch " + Twine(index)).str();
    Block &block = getBranchBlock(index);
    if (failed(verifyTerminator(*this, block, branch)) ||
        failed(verifyTypes(*this, block.getArgumentTypes(),
                           getInputs().getTypes(), branch + " takes",
                           "input")) ||
        failed(verifyTypes(*this, getBranchYield(index).getOperandTypes(),
                           getResultTypes(), branch + " yields", "result")))
      return failure();
  }
  return success();
}

LogicalResult RematOp::verifyRegions() {
  if (failed(verifyTerminator(*this, getBlock(), "body")) ||
      failed(verifyTypes(*this, getBlock().getArgumentTypes(),
                         getInputs().getTypes(), "body takes", "input")))
    return failure();
  return verifyTypes(*this, getYield().getOperandTypes(), getResultTypes(),
                     "body yields", "result");
}

//===----------------------------------------------------------------------===//
// Marks
//===----------------------------------------------------------------------===//

SmallVector<bool> control::flagsOf(ValueRange values,
                                   const DenseSet<Value> &set) {
  return llvm::map_to_vector(values,
                             [&](Value value) { return set.contains(value); });
}

SmallVector<bool> control::nonNull(ArrayRef<Value> values) {
  return llvm::map_to_vector(
      values, [](Value value) { return static_cast<bool>(value); });
}

SmallVector<Value> control::pick(ValueRange values, ArrayRef<bool> flags,
                                 bool wanted) {
  SmallVector<Value> picked;
  for (auto [value, flag] : llvm::zip_equal(values, flags))
    if (flag == wanted)
      picked.push_back(value);
  return picked;
}

control::LoopMarks control::markLoop(Block &body, ArrayRef<bool> operands,
                                     unsigned firstCarry, unsigned numCarries,
                                     BlockFlow flow) {
  LoopMarks marks;
  marks.arguments.assign(operands.begin(), operands.end());
  // What a step yields marks what the next one reads; marks are never taken
  // back.
  for (bool changed = true; changed;) {
    marks.yields = flow(body, marks.arguments);
    changed = false;
    for (unsigned carry = 0; carry < numCarries; ++carry) {
      bool &argument = marks.arguments[firstCarry + carry];
      changed |= marks.yields[carry] && !argument;
      argument |= marks.yields[carry];
      marks.yields[carry] = argument;
    }
  }
  return marks;
}

//===----------------------------------------------------------------------===//
// Types and arguments
//===----------------------------------------------------------------------===//

RankedTensorType control::sliceType(Type type) {
  auto tensor = cast<RankedTensorType>(type);
  return tensor.clone(tensor.getShape().drop_front());
}

RankedTensorType control::stackedType(Type type, int64_t length) {
  return batchedType(type, length);
}

ImplicitLocOpBuilder control::builderAt(Location loc, Block &block) {
  ImplicitLocOpBuilder b(loc, loc.getContext());
  b.setInsertionPointToEnd(&block);
  return b;
}

Value control::addArgument(Block &block, Value like) {
  return addArgument(block, like, like.getType());
}

Value control::addArgument(Block &block, Value like, Type type) {
  return block.addArgument(type, like.getLoc());
}

//===----------------------------------------------------------------------===//
// Linear parts of blocks
//===----------------------------------------------------------------------===//

void control::moveLinearOps(Block &block, ArrayRef<Operation *> ops,
                            const DenseSet<Value> &linear, IRMapping &mapping) {
  for (Operation *op : ops) {
    ImplicitLocOpBuilder b = builderAt(op->getLoc(), block);
    for (OpOperand &operand : op->getOpOperands()) {
      cloneFreeInto(b, operand.get(), linear, mapping);
      operand.set(mapping.lookupOrDefault(operand.get()));
    }
    op->moveBefore(&block, block.end());
  }
}

Value control::yieldLinear(ImplicitLocOpBuilder &b, Value value,
                           const DenseSet<Value> &linear, IRMapping &mapping) {
  return linear.contains(value) ? mapping.lookupOrDefault(value)
                                : makeZero(b, value.getType());
}

SmallVector<Operation *> control::findLinearOps(Block &block,
                                                DenseSet<Value> &linear) {
  SmallVector<Operation *> ops;
  for (Operation &op : block.without_terminator())
    if (llvm::is_contained(flagsOf(op.getOperands(), linear), true)) {
      linear.insert(op.result_begin(), op.result_end());
      ops.push_back(&op);
    }
  return ops;
}

void control::clonePrimalOps(ImplicitLocOpBuilder &b, Block &block,
                             const DenseSet<Value> &linear,
                             IRMapping &mapping) {
  for (Operation &op : block.without_terminator())
    if (!llvm::is_contained(flagsOf(op.getOperands(), linear), true))
      b.clone(op, mapping);
}

bool control::isSaveable(Value value) {
  return value.getDefiningOp<SaveableOp>() ||
         llvm::any_of(value.getUsers(), llvm::IsaPred<SaveableOp>);
}

Value control::markSaveable(ImplicitLocOpBuilder &b, Value value, bool wanted) {
  return wanted ? SaveableOp::create(b, value).getResult() : value;
}

void control::reachBackward(ArrayRef<Operation *> linearOps,
                            const DenseSet<Value> &linear,
                            DenseSet<Value> &reached) {
  for (Operation *op : llvm::reverse(linearOps))
    if (llvm::is_contained(flagsOf(op->getResults(), reached), true))
      for (Value operand : op->getOperands())
        if (linear.contains(operand))
          reached.insert(operand);
}

Value control::selectLanes(ImplicitLocOpBuilder &b, Value predicate,
                           Value onTrue, Value onFalse) {
  RankedTensorType type = tensorType(onTrue);
  if (type.getRank() > 1)
    predicate = BroadcastInDimOp::create(
        b, type.clone(b.getI1Type()), predicate, b.getDenseI64ArrayAttr({0}));
  return b.createOrFold<SelectOp>(type, predicate, onTrue, onFalse);
}

//===----------------------------------------------------------------------===//
// Blocks that run once
//===----------------------------------------------------------------------===//

FailureOr<SmallVector<Value>> control::jvpInto(Location loc, Block &source,
                                               ArrayRef<Value> tangents,
                                               Block &target,
                                               SmallVector<Value> &yields) {
  IRMapping mapping;
  DenseMap<Value, Value> mapped;
  for (BlockArgument argument : source.getArguments())
    mapping.map(argument, addArgument(target, argument));
  for (auto [argument, tangent] :
       llvm::zip_equal(source.getArguments(), tangents))
    if (tangent)
      mapped[argument] = addArgument(target, argument);
  ImplicitLocOpBuilder inner = builderAt(loc, target);
  if (failed(jvpBlock(inner, source, mapping, mapped)))
    return failure();
  SmallVector<Value> resultTangents;
  for (Value value : source.getTerminator()->getOperands()) {
    yields.push_back(mapping.lookup(value));
    resultTangents.push_back(mapped.lookup(value));
  }
  return resultTangents;
}

FailureOr<SmallVector<Value>>
control::transposeInto(Location loc, Block &source, ArrayRef<Value> inputs,
                       ArrayRef<Value> cotangents, Block &target,
                       SmallVector<Value> &operands) {
  operands.clear();
  auto take = [&](Value operand, Value like) {
    operands.push_back(operand);
    return addArgument(target, like, operand.getType());
  };
  IRMapping mapping;
  DenseSet<Value> linear;
  DenseMap<Value, Value> mapped;
  for (auto [argument, input] :
       llvm::zip_equal(source.getArguments(), inputs)) {
    if (input)
      mapping.map(argument, take(input, argument));
    else
      linear.insert(argument);
  }
  SmallVector<Operation *> linearOps = findLinearOps(source, linear);
  ImplicitLocOpBuilder inner = builderAt(loc, target);
  for (auto [value, cotangent] :
       llvm::zip_equal(source.getTerminator()->getOperands(), cotangents)) {
    if (!cotangent)
      continue;
    Value argument;
    if (auto masked = Masked::match(cotangent)) {
      masked->value = take(masked->value, cotangent);
      masked->predicate = take(masked->predicate, cotangent);
      argument = masked->build(inner);
    } else {
      argument = take(cotangent, cotangent);
    }
    if (linear.contains(value)) {
      Value &slot = mapped[value];
      slot = accumulate(inner, slot, argument);
    }
  }
  clonePrimalOps(inner, source, linear, mapping);
  if (failed(transposeOps(inner, linearOps, linear, mapping, mapped)))
    return failure();
  SmallVector<Value> results;
  for (BlockArgument argument : source.getArguments())
    results.push_back(mapped.lookup(argument));
  return results;
}

FailureOr<SmallVector<bool>> control::batchInto(Location loc, Block &source,
                                                ValueRange inputs,
                                                ArrayRef<bool> batched,
                                                BatchAxis axis, Block &target,
                                                SmallVector<Value> &yields) {
  IRMapping mapping;
  DenseSet<Value> mapped;
  for (auto [argument, input, flag] :
       llvm::zip_equal(source.getArguments(), inputs, batched)) {
    mapping.map(argument, addArgument(target, argument, input.getType()));
    if (flag)
      mapped.insert(argument);
  }
  ImplicitLocOpBuilder inner = builderAt(loc, target);
  if (failed(batchBlock(inner, source, axis, mapping, mapped)))
    return failure();
  for (Value value : source.getTerminator()->getOperands())
    yields.push_back(mapping.lookup(value));
  return flagsOf(source.getTerminator()->getOperands(), mapped);
}

SmallVector<Value> control::inlineBlock(Block &source, Block &target,
                                        Block::iterator where,
                                        ValueRange values) {
  for (auto [argument, value] : llvm::zip_equal(source.getArguments(), values))
    argument.replaceAllUsesWith(value);
  Operation *terminator = source.getTerminator();
  SmallVector<Value> yielded(terminator->getOperands());
  terminator->erase();
  target.getOperations().splice(where, source.getOperations());
  return yielded;
}

//===----------------------------------------------------------------------===//
// Parts of canonical forms
//===----------------------------------------------------------------------===//

void control::findLive(Block &block, ArrayRef<Value> roots,
                       DenseSet<Value> &live) {
  live.insert(roots.begin(), roots.end());
  for (Operation &op : llvm::reverse(block.without_terminator()))
    if (!isMemoryEffectFree(&op) ||
        llvm::is_contained(flagsOf(op.getResults(), live), true)) {
      live.insert(op.result_begin(), op.result_end());
      live.insert(op.operand_begin(), op.operand_end());
    }
}

void control::eraseDeadOps(RewriterBase &rewriter, Block &block,
                           const DenseSet<Value> &live) {
  SmallVector<Operation *> dead;
  for (Operation &op : block.without_terminator())
    if (isMemoryEffectFree(&op) &&
        !llvm::is_contained(flagsOf(op.getResults(), live), true))
      dead.push_back(&op);
  for (Operation *op : llvm::reverse(dead))
    rewriter.eraseOp(op);
}

ElementsAttr control::splatOf(Value value) {
  DenseElementsAttr elements;
  if (matchPattern(value, m_Constant(&elements)) && elements.isSplat())
    return elements;
  return {};
}

Value control::makeSplat(OpBuilder &b, Location loc, ElementsAttr splat,
                         Type type) {
  return ConstantOp::create(
      b, loc, type,
      cast<DenseElementsAttr>(splat).resizeSplat(cast<ShapedType>(type)));
}
