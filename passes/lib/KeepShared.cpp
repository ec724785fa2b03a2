//===- KeepShared.cpp - Keeps values that many kernels would repeat -------===//
//
// XLA on CPUs computes a cheap value again in each kernel that reads it, with
// all cheap ops before it, and again for each index by which one kernel reads
// it. In a step that was unrolled k times, as a leaky integrator or Runge-Kutta
// written as a Python loop, the k-th kernel then holds k steps: minutes of
// compilation for a hundred steps. Here such values are cut off from what
// reads them. What cuts is a call that is not inlined: barriers are gone when
// XLA fuses.
//
//===----------------------------------------------------------------------===//

#include "bmgrad/Dialect/BM/BMDialect.h"
#include "bmgrad/Passes/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringSwitch.h"

namespace bmgrad::bm {
#define GEN_PASS_DEF_KEEPSHARED
#include "bmgrad/Passes/Passes.h.inc"
} // namespace bmgrad::bm

using namespace mlir;

namespace {
/// What XLA does with an op where it makes kernels.
enum class Fusion {
  Free,      // Computed at compile time, or without reading anything.
  Cheap,     // Repeated in each kernel that reads it.
  Moving,    // Also, and it reads its operands at other indices.
  Expensive, // A part of a kernel, but never repeated.
  Kernel     // Ends kernels: what it reads and gives is in memory.
};
} // namespace

/// XLA multiplies instead.
static bool isOuterProduct(Operation *op) {
  auto count = [](Value value) {
    auto type = dyn_cast<RankedTensorType>(value.getType());
    return type ? type.getNumElements() : 0;
  };
  return op->getNumOperands() == 2 &&
         count(op->getOperand(0)) * count(op->getOperand(1)) ==
             count(op->getResult(0));
}

static Fusion classify(Operation *op) {
  if (op->getNumResults() != 1 || op->getNumRegions() != 0)
    return Fusion::Kernel;
  StringRef name = op->getName().getStringRef();
  if (name.consume_front("chlo."))
    return name == "top_k" ? Fusion::Kernel : Fusion::Expensive;
  if (!name.consume_front("stablehlo."))
    return Fusion::Kernel;
  return llvm::StringSwitch<Fusion>(name)
      .Cases({"constant", "iota"}, Fusion::Free)
      .Cases({"abs", "add", "and", "bitcast_convert", "ceil", "clamp"},
             Fusion::Cheap)
      .Cases({"compare", "complex", "convert", "count_leading_zeros", "floor"},
             Fusion::Cheap)
      .Cases({"imag", "is_finite", "maximum", "minimum", "multiply", "negate"},
             Fusion::Cheap)
      .Cases({"not", "or", "popcnt", "real", "reduce_precision"}, Fusion::Cheap)
      .Cases({"round_nearest_afz", "round_nearest_even", "select"},
             Fusion::Cheap)
      .Cases({"shift_left", "shift_right_arithmetic", "shift_right_logical"},
             Fusion::Cheap)
      .Cases({"sign", "subtract", "xor"}, Fusion::Cheap)
      .Cases({"broadcast_in_dim", "concatenate", "dynamic_slice", "gather"},
             Fusion::Moving)
      .Cases({"pad", "reshape", "reverse", "slice", "transpose"},
             Fusion::Moving)
      .Cases({"atan2", "cbrt", "cosine", "divide", "exponential"},
             Fusion::Expensive)
      .Cases({"exponential_minus_one", "log", "log_plus_one", "logistic"},
             Fusion::Expensive)
      .Cases({"power", "remainder", "rsqrt", "sine", "sqrt", "tan", "tanh"},
             Fusion::Expensive)
      .Case("dot_general", isOuterProduct(op) ? Fusion::Moving : Fusion::Kernel)
      .Default(Fusion::Kernel);
}

/// What becomes of one: XLA converts short floats around it, and complex
/// numbers have parts.
static int64_t countOps(Operation *op) {
  Type type = getElementTypeOrSelf(op->getResult(0));
  if (isa<ComplexType>(type))
    return 6;
  auto number = dyn_cast<FloatType>(type);
  return number && number.getWidth() < 32 ? 4 : 1;
}

namespace {
/// The kernels that XLA would make of a block, as far as that matters here.
///
/// Each value is in the group of the one value that everything which reads it
/// leads to. Where that is more than one, it is a group of its own: it would be
/// computed again in each of those.
class Kernels {
public:
  Kernels(Block &block, int64_t maxOps) : block(block) {
    findGroups();
    splitLarge(maxOps);
  }

  /// How many ops they repeat in all.
  int64_t countRepeated();
  /// Adds values, so that none repeats more than `maxRepeated` ops of another.
  void keepShared(SetVector<Operation *> &kept, int64_t maxRepeated);
  /// Adds values, so that those which read more than `maxReads` are in pieces.
  void keepPieces(SetVector<Operation *> &kept, int64_t maxReads,
                  int64_t maxReadsOfPiece);

private:
  Operation *groupOf(Operation *op) { return groups.lookup(op); }
  bool isShared(Operation *op) { return groupOf(op) == op; }
  bool isFree(Value value) {
    Operation *op = value.getDefiningOp();
    return kinds.contains(op) && kinds.lookup(op) == Fusion::Free;
  }
  void findGroups();
  void findGroup(Operation *op);
  void splitLarge(int64_t maxOps);
  void walkCosts(function_ref<bool(Operation *, int64_t)> stops);

  Block &block;
  DenseMap<Operation *, Fusion> kinds;
  DenseMap<Operation *, Operation *> groups;
  /// How many groups read a shared value.
  DenseMap<Operation *, int64_t> readers;
  /// Those that are shared because their group was large.
  DenseSet<Operation *> split;
};
} // namespace

/// Where counting stops, for sums that double with each op.
static constexpr int64_t maxCount = 64;

void Kernels::findGroups() {
  for (Operation &op : llvm::reverse(block)) {
    Fusion kind = classify(&op);
    kinds[&op] = kind;
    if (kind != Fusion::Kernel && kind != Fusion::Free)
      findGroup(&op);
  }
}

void Kernels::findGroup(Operation *op) {
  llvm::SmallDenseSet<Operation *, 4> reading;
  for (Operation *user : op->getUsers()) {
    Operation *at = block.findAncestorOpInBlock(*user);
    switch (at == user ? kinds.lookup(at) : Fusion::Kernel) {
    case Fusion::Cheap:
    case Fusion::Expensive:
      reading.insert(groupOf(at));
      break;
    case Fusion::Moving:
      reading.insert(at);
      break;
    default:
      // It is in memory for this one, whatever else is read there.
      reading.insert(nullptr);
    }
  }
  if (reading.size() == 1 && *reading.begin()) {
    groups[op] = *reading.begin();
  } else {
    groups[op] = op;
    readers[op] = reading.size();
  }
}

/// Beyond some size XLA makes several kernels of a group, which repeat most of
/// it. So what is read twice in such a group is a group of its own.
void Kernels::splitLarge(int64_t maxOps) {
  DenseMap<Operation *, int64_t> sizes;
  for (auto [op, group] : groups)
    sizes[group] += countOps(op);
  if (llvm::all_of(sizes, [&](auto size) { return size.second <= maxOps; }))
    return;
  for (Operation &op : llvm::reverse(block)) {
    Operation *group = groupOf(&op);
    if (!group || group == &op || sizes.lookup(group) <= maxOps)
      continue;
    if (op.hasOneUse()) {
      Operation *user = *op.user_begin();
      groups[&op] = user == group ? group : groupOf(user);
      continue;
    }
    groups[&op] = &op;
    readers[&op] = std::distance(op.user_begin(), op.user_end());
    split.insert(&op);
  }
}

/// Gives `stops` each value that several groups repeat, with how many ops they
/// do. If it says true, nothing after it repeats those.
void Kernels::walkCosts(function_ref<bool(Operation *, int64_t)> stops) {
  DenseMap<Operation *, int64_t> costs;
  DenseSet<std::pair<Operation *, Operation *>> counted;
  auto add = [&](Operation *group, int64_t cost) {
    int64_t &sum = costs[group];
    sum = std::min(sum + cost, maxCount);
  };
  for (Operation &op : block) {
    Fusion kind = kinds.lookup(&op);
    if (kind == Fusion::Kernel || kind == Fusion::Free)
      continue;
    bool shared = isShared(&op), moves = kind == Fusion::Moving;
    Operation *group = moves ? &op : groupOf(&op);
    for (Value operand : op.getOperands()) {
      Operation *from = operand.getDefiningOp();
      if (from && from->getBlock() == &block && groups.contains(from) &&
          isShared(from) && counted.insert({group, from}).second)
        add(group, costs.lookup(from));
    }
    // What constants give is a constant.
    bool computed = costs.lookup(group) > 0 ||
                    !llvm::all_of(op.getOperands(), [&](Value operand) {
                      return isFree(operand);
                    });
    if (computed)
      add(group, 1);
    bool inMemory = kind == Fusion::Expensive && !split.contains(&op);
    if (shared && (inMemory || stops(&op, costs.lookup(&op))))
      costs[&op] = 0;
    else if (!shared && moves)
      add(groupOf(&op), costs.lookup(&op));
  }
}

int64_t Kernels::countRepeated() {
  int64_t repeated = 0;
  walkCosts([&](Operation *op, int64_t cost) {
    repeated += cost * (readers.lookup(op) - 1);
    return false;
  });
  return repeated;
}

void Kernels::keepShared(SetVector<Operation *> &kept, int64_t maxRepeated) {
  walkCosts([&](Operation *op, int64_t cost) {
    if (cost <= maxRepeated || readers.lookup(op) < 2)
      return false;
    return kept.insert(op);
  });
}

/// A sum of what all steps of a loop contribute is one kernel, which takes LLVM
/// more than linear time in what it reads: of such kernels, pieces.
void Kernels::keepPieces(SetVector<Operation *> &kept, int64_t maxReads,
                         int64_t maxReadsOfPiece) {
  DenseMap<Operation *, int64_t> reads;
  auto count = [&](Operation *op) {
    int64_t sum = 0;
    for (Value operand : op->getOperands()) {
      Operation *from = operand.getDefiningOp();
      if (operand.hasOneUse() && reads.contains(from))
        sum += reads.lookup(from);
      else if (!isFree(operand) && (!reads.contains(from) || isShared(from)))
        ++sum;
    }
    return sum;
  };
  for (Operation &op : block)
    if (groups.contains(&op))
      reads[&op] = kept.contains(&op) ? 1 : count(&op);
  DenseSet<Operation *> inLong;
  for (Operation &op : llvm::reverse(block)) {
    Operation *into = op.hasOneUse() ? *op.user_begin() : nullptr;
    bool last = !reads.contains(into) || kept.contains(into);
    if (last ? reads.lookup(&op) > maxReads : inLong.contains(into))
      inLong.insert(&op);
  }
  for (Operation &op : block) {
    if (!inLong.contains(&op) || kept.contains(&op))
      continue;
    reads[&op] = count(&op);
    if (reads[&op] > maxReadsOfPiece && op.hasOneUse()) {
      kept.insert(&op);
      reads[&op] = 1;
    }
  }
}

/// Whether XLA makes kernels of the ops in `op`; otherwise they are part of
/// one, as what a reduction does with two numbers.
static bool isComputation(Operation *op) {
  StringRef name = op->getName().getStringRef();
  return isa<func::FuncOp>(op) || name == "stablehlo.while" ||
         name == "stablehlo.case";
}

namespace {
struct KeepShared : bmgrad::bm::impl::KeepSharedBase<KeepShared> {
  using KeepSharedBase::KeepSharedBase;

  void runOnOperation() override {
    SetVector<Operation *> kept;
    getOperation().walk([&](Block *block) {
      if (!isComputation(block->getParentOp()))
        return;
      Kernels kernels(*block, maxOps);
      if (kernels.countRepeated() > maxRepeatedInAll)
        kernels.keepShared(kept, maxRepeated);
      kernels.keepPieces(kept, maxReads, maxReadsOfPiece);
    });
    for (Operation *op : kept)
      keep(op->getResult(0));
  }

private:
  /// Lets what reads `value` read the result of a call instead.
  void keep(Value value) {
    ImplicitLocOpBuilder b(value.getLoc(), value.getContext());
    b.setInsertionPointAfterValue(value);
    auto call = func::CallOp::create(b, identity(value.getType()), value);
    NamedAttribute inlineable =
        b.getNamedAttr("inlineable", b.getStringAttr("false"));
    call->setAttr("mhlo.frontend_attributes", b.getDictionaryAttr(inlineable));
    value.replaceAllUsesExcept(call.getResult(0), call);
  }

  func::FuncOp identity(Type type) {
    func::FuncOp &function = identities[type];
    if (function)
      return function;
    ImplicitLocOpBuilder b(UnknownLoc::get(&getContext()), &getContext());
    function = func::FuncOp::create(b, "kept", b.getFunctionType(type, type));
    function.setPrivate();
    SymbolTable(getOperation()).insert(function);
    b.setInsertionPointToStart(function.addEntryBlock());
    func::ReturnOp::create(b, function.getArgument(0));
    return function;
  }

  DenseMap<Type, func::FuncOp> identities;
};
} // namespace
