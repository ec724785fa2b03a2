//===- ControlCanonical.cpp - Canonical forms of ops with regions ---------===//
//
// Derivatives leave loops with parts that nobody reads, zeros that are carried,
// and constants that could be seen inside. Two patterns an op: one replaces
// arguments and results by what they are known to be, in place; the other drops
// what is then unused.
//
//===----------------------------------------------------------------------===//

#include "ControlUtils.h"
#include "bmgrad/Dialect/BM/Control.h"
#include "bmgrad/Dialect/BM/Elementwise.h"
#include "bmgrad/Dialect/BM/Indexing.h"
#include "bmgrad/Dialect/BM/Shape.h"
#include "mlir/IR/Matchers.h"
#include <map>

using namespace mlir;
using namespace bmgrad::bm;
using namespace bmgrad::bm::control;

namespace {
/// Replaces arguments and results, and knows whether it did.
class Replacer {
public:
  Replacer(PatternRewriter &rewriter) : rewriter(rewriter) {}

  /// Nothing is done where nobody reads the value: the other pattern drops it.
  void replace(Value value, function_ref<Value()> make) {
    if (value.use_empty())
      return;
    rewriter.replaceAllUsesWith(value, make());
    changed = true;
  }
  void replace(Value value, Value other) {
    replace(value, [&] { return other; });
  }

  /// A splat constant is made again inside the block.
  void replaceBySplat(BlockArgument argument, ElementsAttr splat) {
    replace(argument, [&] {
      OpBuilder::InsertionGuard guard(rewriter);
      rewriter.setInsertionPointToStart(argument.getOwner());
      return makeSplat(rewriter, argument.getLoc(), splat, argument.getType());
    });
  }

  /// Arguments that are constant or equal to one before them.
  void replaceKnown(Block::BlockArgListType arguments, ValueRange operands) {
    DenseMap<Value, BlockArgument> seen;
    for (auto [argument, operand] : llvm::zip_equal(arguments, operands)) {
      auto [first, isNew] = seen.try_emplace(operand, argument);
      if (ElementsAttr splat = splatOf(operand))
        replaceBySplat(argument, splat);
      else if (!isNew)
        replace(argument, first->second);
    }
  }

  LogicalResult result() const { return success(changed); }

private:
  PatternRewriter &rewriter;
  bool changed = false;
};
} // namespace

/// The splat that a carry always is: its first value and what each step yields.
static ElementsAttr constantCarry(Value init, Value yielded) {
  ElementsAttr first = splatOf(init);
  return first && first == splatOf(yielded) ? first : ElementsAttr();
}

/// Marks from liveness: what is not live can be dropped.
static SmallVector<bool> liveFlags(Block::BlockArgListType arguments,
                                   const DenseSet<Value> &live) {
  return llvm::map_to_vector(arguments, [&](BlockArgument argument) {
    return live.contains(argument);
  });
}

/// Erases the arguments, and what only they fed, and yields the values that are
/// kept.
static void shrinkBlock(PatternRewriter &rewriter, Block &block,
                        const DenseSet<Value> &live, ArrayRef<Value> yielded,
                        ArrayRef<bool> keepArguments) {
  rewriter.modifyOpInPlace(block.getTerminator(), [&] {
    block.getTerminator()->setOperands(yielded);
  });
  eraseDeadOps(rewriter, block, live);
  block.eraseArguments([&](BlockArgument argument) {
    return !keepArguments[argument.getArgNumber()];
  });
}

/// Replaces the kept results of `op`, in order, by those of `made`.
static void replaceKept(PatternRewriter &rewriter, Operation *op,
                        ArrayRef<bool> keep, Operation *made) {
  unsigned next = 0;
  for (auto [result, kept] : llvm::zip_equal(op->getResults(), keep))
    if (kept)
      rewriter.replaceAllUsesWith(result, made->getResult(next++));
  rewriter.eraseOp(op);
}

static SmallVector<bool> usedResults(Operation *op) {
  return llvm::map_to_vector(
      op->getResults(), [](OpResult result) { return !result.use_empty(); });
}

//===----------------------------------------------------------------------===//
// Scan
//===----------------------------------------------------------------------===//

namespace {
struct FoldScan : OpRewritePattern<ScanOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(ScanOp op,
                                PatternRewriter &rewriter) const override {
    Replacer replacer(rewriter);
    foldCarries(op, rewriter, replacer);
    foldRepeatedXs(op, rewriter, replacer);
    hoistPieces(op, rewriter, replacer);
    replacer.replaceKnown(op.getConstArgs(), op.getConsts());
    replacer.replaceKnown(op.getXArgs(), op.getXs());
    foldYs(op, rewriter, replacer);
    return replacer.result();
  }

private:
  static BlockArgument addConst(ScanOp op, PatternRewriter &rewriter,
                                Value operand) {
    BlockArgument argument;
    rewriter.modifyOpInPlace(op, [&] {
      argument = op.getBlock().insertArgument(
          op.getNumConsts(), operand.getType(), operand.getLoc());
      op.getConstsMutable().append(operand);
    });
    return argument;
  }

  /// A carry that each step passes on, or that is one constant.
  static void foldCarries(ScanOp op, PatternRewriter &rewriter,
                          Replacer &replacer) {
    for (unsigned carry = 0; carry < op.getNumCarries(); ++carry) {
      Value init = op.getInits()[carry],
            yielded = op.getYieldedCarries()[carry];
      BlockArgument argument = op.getCarryArgs()[carry];
      if (ElementsAttr splat = constantCarry(init, yielded)) {
        replacer.replaceBySplat(argument, splat);
        replacer.replace(op.getFinalCarries()[carry], init);
      } else if (yielded == argument) {
        replacer.replace(op.getFinalCarries()[carry], init);
        // Its own yield is a use that stays until the carry is dropped.
        if (!argument.hasOneUse())
          replacer.replace(argument,
                           [&] { return addConst(op, rewriter, init); });
      }
    }
  }

  /// Slices of an array that is broadcast along its leading axis are all the
  /// same.
  static void foldRepeatedXs(ScanOp op, PatternRewriter &rewriter,
                             Replacer &replacer) {
    for (unsigned x = 0; x < op.getXs().size(); ++x) {
      auto broadcast = op.getXs()[x].getDefiningOp<BroadcastInDimOp>();
      if (!broadcast ||
          llvm::is_contained(broadcast.getBroadcastDimensions(), 0))
        continue;
      replacer.replace(op.getXArgs()[x], [&]() -> Value {
        OpBuilder::InsertionGuard guard(rewriter);
        Value source = addConst(op, rewriter, broadcast.getX());
        rewriter.setInsertionPointToStart(&op.getBlock());
        SmallVector<int64_t> dims(broadcast.getBroadcastDimensions());
        for (int64_t &dim : dims)
          --dim;
        BlockArgument argument = op.getXArgs()[x];
        return rewriter.createOrFold<BroadcastInDimOp>(
            argument.getLoc(), argument.getType(), source,
            rewriter.getDenseI64ArrayAttr(dims));
      });
    }
  }

  /// Pieces of a constant that together are no larger than it are taken once,
  /// before the loop. So their cotangents are summed over the steps, and put
  /// together after it: a transposed loop would do that in each step.
  static void hoistPieces(ScanOp op, PatternRewriter &rewriter,
                          Replacer &replacer) {
    for (unsigned index = 0, count = op.getNumConsts(); index < count;
         ++index) {
      SmallVector<Operation *> pieces;
      int64_t size = 0;
      BlockArgument argument = op.getConstArgs()[index];
      for (Operation *user : argument.getUsers())
        if (user->getBlock() == &op.getBlock() && isPieceOf(argument, user)) {
          pieces.push_back(user);
          for (Value piece : user->getResults())
            size += tensorType(piece).getNumElements();
        }
      Value constant = op.getConsts()[index];
      if (size > tensorType(constant).getNumElements())
        continue;
      for (Operation *piece : llvm::reverse(pieces)) {
        IRMapping mapping;
        mapping.map(piece->getOperand(0), constant);
        for (Value operand : llvm::drop_begin(piece->getOperands()))
          if (!mapping.contains(operand))
            rewriter.clone(*operand.getDefiningOp(), mapping);
        Operation *before = rewriter.clone(*piece, mapping);
        for (auto [inside, outside] :
             llvm::zip_equal(piece->getResults(), before->getResults()))
          replacer.replace(inside,
                           [&] { return addConst(op, rewriter, outside); });
      }
    }
  }

  /// Whether `op` takes elements of `whole`, at places that are known.
  static bool isPieceOf(Value whole, Operation *op) {
    return isa<SliceOp, SplitOp, DynamicSliceOp, GatherOp>(op) &&
           op->getOperand(0) == whole && !op->use_empty() &&
           llvm::all_of(llvm::drop_begin(op->getOperands()), [](Value operand) {
             return operand.getDefiningOp<ConstantOp>();
           });
  }

  /// Stacked results that need no loop, or are stacked already.
  static void foldYs(ScanOp op, PatternRewriter &rewriter, Replacer &replacer) {
    Block &body = op.getBlock();
    unsigned firstX = op.getNumConsts() + op.getNumCarries();
    DenseMap<Value, Value> seen;
    for (auto [y, value] : llvm::zip_equal(op.getYs(), op.getYieldedYs())) {
      auto [first, isNew] = seen.try_emplace(value, y);
      auto argument = dyn_cast<BlockArgument>(value);
      if (!isNew) {
        replacer.replace(y, first->second);
      } else if (ElementsAttr splat = splatOf(value)) {
        replacer.replace(y, [&] {
          return makeSplat(rewriter, op.getLoc(), splat, y.getType());
        });
      } else if (argument && argument.getOwner() == &body) {
        unsigned index = argument.getArgNumber();
        if (index >= firstX)
          replacer.replace(y, op.getOperand(index));
        else if (index < op.getNumConsts())
          replacer.replace(y, [&]() -> Value {
            auto dims = llvm::to_vector(llvm::seq<int64_t>(
                1, cast<RankedTensorType>(y.getType()).getRank()));
            return BroadcastInDimOp::create(rewriter, op.getLoc(), y.getType(),
                                            op.getOperand(index), dims);
          });
      }
    }
  }
};

struct ShrinkScan : OpRewritePattern<ScanOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(ScanOp op,
                                PatternRewriter &rewriter) const override {
    unsigned numConsts = op.getNumConsts(), numCarries = op.getNumCarries();
    SmallVector<bool> keep = usedResults(op);
    DenseSet<Value> live;
    SmallVector<Value> yielded;
    // A carry is live if it is read, or feeds one that is.
    for (bool changed = true; changed;) {
      yielded = pick(op.getYield().getValues(), keep);
      findLive(op.getBlock(), yielded, live);
      changed = false;
      for (auto [argument, kept] : llvm::zip(op.getCarryArgs(), keep))
        if (live.contains(argument) && !kept)
          changed = kept = true;
    }
    SmallVector<bool> keepArguments =
        liveFlags(op.getBlock().getArguments(), live);
    std::copy_n(keep.begin(), numCarries, keepArguments.begin() + numConsts);
    if (!llvm::is_contained(keep, false) &&
        !llvm::is_contained(keepArguments, false))
      return failure();

    ArrayRef<bool> flags = keepArguments;
    shrinkBlock(rewriter, op.getBlock(), live, yielded, keepArguments);
    auto made = ScanOp::create(
        rewriter, op.getLoc(),
        ValueRange(pick(op.getResults(), keep)).getTypes(),
        pick(op.getConsts(), flags.take_front(numConsts)),
        pick(op.getInits(), flags.slice(numConsts, numCarries)),
        pick(op.getXs(), flags.drop_front(numConsts + numCarries)),
        op.getLength(), op.getReverse(), op.getUnroll());
    rewriter.inlineRegionBefore(op.getBody(), made.getBody(),
                                made.getBody().end());
    replaceKept(rewriter, op, keep, made);
    return success();
  }
};
} // namespace

void ScanOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                         MLIRContext *context) {
  patterns.add<FoldScan, ShrinkScan>(context);
}

//===----------------------------------------------------------------------===//
// While
//===----------------------------------------------------------------------===//

namespace {
struct FoldWhile : OpRewritePattern<WhileOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(WhileOp op,
                                PatternRewriter &rewriter) const override {
    Replacer replacer(rewriter);
    for (unsigned carry = 0; carry < op.getNumCarries(); ++carry) {
      Value init = op.getInits()[carry];
      Value yielded = op.getBodyYield().getValues()[carry];
      BlockArgument inCond = op.getCondCarryArgs()[carry];
      BlockArgument inBody = op.getBodyCarryArgs()[carry];
      if (ElementsAttr splat = constantCarry(init, yielded)) {
        replacer.replaceBySplat(inCond, splat);
        replacer.replaceBySplat(inBody, splat);
        replacer.replace(op.getResult(carry), init);
      } else if (yielded == inBody) {
        replacer.replace(op.getResult(carry), init);
        replacer.replace(inCond, [&] {
          return addConst(op, rewriter, op.getCondBlock(),
                          op.getCondConstsMutable(), init);
        });
        if (!inBody.hasOneUse())
          replacer.replace(inBody, [&] {
            return addConst(op, rewriter, op.getBodyBlock(),
                            op.getBodyConstsMutable(), init);
          });
      }
    }
    replacer.replaceKnown(
        op.getCondBlock().getArguments().take_front(op.getCondConsts().size()),
        op.getCondConsts());
    replacer.replaceKnown(
        op.getBodyBlock().getArguments().take_front(op.getBodyConsts().size()),
        op.getBodyConsts());
    return replacer.result();
  }

private:
  static BlockArgument addConst(WhileOp op, PatternRewriter &rewriter,
                                Block &block, MutableOperandRange consts,
                                Value operand) {
    BlockArgument argument;
    rewriter.modifyOpInPlace(op, [&] {
      argument = block.insertArgument(consts.size(), operand.getType(),
                                      operand.getLoc());
      consts.append(operand);
    });
    return argument;
  }
};

struct ShrinkWhile : OpRewritePattern<WhileOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(WhileOp op,
                                PatternRewriter &rewriter) const override {
    unsigned numCondConsts = op.getCondConsts().size();
    unsigned numBodyConsts = op.getBodyConsts().size();
    SmallVector<bool> keep = usedResults(op);
    DenseSet<Value> liveInCond, live;
    SmallVector<Value> predicate(op.getCondYield().getValues()), yielded;
    findLive(op.getCondBlock(), predicate, liveInCond);
    for (auto [argument, kept] : llvm::zip_equal(op.getCondCarryArgs(), keep))
      kept |= liveInCond.contains(argument);
    for (bool changed = true; changed;) {
      yielded = pick(op.getBodyYield().getValues(), keep);
      findLive(op.getBodyBlock(), yielded, live);
      changed = false;
      for (auto [argument, kept] : llvm::zip_equal(op.getBodyCarryArgs(), keep))
        if (live.contains(argument) && !kept)
          changed = kept = true;
    }
    SmallVector<bool> keepInCond =
        liveFlags(op.getCondBlock().getArguments(), liveInCond);
    SmallVector<bool> keepInBody =
        liveFlags(op.getBodyBlock().getArguments(), live);
    llvm::copy(keep, keepInCond.begin() + numCondConsts);
    llvm::copy(keep, keepInBody.begin() + numBodyConsts);
    if (!llvm::is_contained(keepInCond, false) &&
        !llvm::is_contained(keepInBody, false))
      return failure();

    shrinkBlock(rewriter, op.getCondBlock(), liveInCond, predicate, keepInCond);
    shrinkBlock(rewriter, op.getBodyBlock(), live, yielded, keepInBody);
    auto made =
        WhileOp::create(rewriter, op.getLoc(),
                        ValueRange(pick(op.getResults(), keep)).getTypes(),
                        pick(op.getCondConsts(),
                             ArrayRef(keepInCond).take_front(numCondConsts)),
                        pick(op.getBodyConsts(),
                             ArrayRef(keepInBody).take_front(numBodyConsts)),
                        pick(op.getInits(), keep));
    rewriter.inlineRegionBefore(op.getCond(), made.getCond(),
                                made.getCond().end());
    rewriter.inlineRegionBefore(op.getBody(), made.getBody(),
                                made.getBody().end());
    replaceKept(rewriter, op, keep, made);
    return success();
  }
};
} // namespace

void WhileOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                          MLIRContext *context) {
  patterns.add<FoldWhile, ShrinkWhile>(context);
}

//===----------------------------------------------------------------------===//
// Cond and remat
//===----------------------------------------------------------------------===//

static CondOp createLike(PatternRewriter &rewriter, CondOp op, TypeRange types,
                         ValueRange inputs) {
  return CondOp::create(rewriter, op.getLoc(), types, op.getIndex(), inputs,
                        op.getBranches().size());
}

static RematOp createLike(PatternRewriter &rewriter, RematOp op,
                          TypeRange types, ValueRange inputs) {
  return RematOp::create(rewriter, op.getLoc(), types, inputs,
                         op.getDifferentiated(), op.getPreventCse());
}

namespace {
/// The branch is known: it takes the place of the op.
struct ChooseBranch : OpRewritePattern<CondOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(CondOp op,
                                PatternRewriter &rewriter) const override {
    int64_t last = op.getBranches().size() - 1;
    DenseIntElementsAttr index;
    if (last != 0 && !matchPattern(op.getIndex(), m_Constant(&index)))
      return failure();
    int64_t branch =
        last == 0 ? 0
                  : std::clamp<int64_t>(
                        index.getSplatValue<APInt>().getSExtValue(), 0, last);
    Block &block = op.getBranchBlock(branch);
    Operation *yield = block.getTerminator();
    rewriter.inlineBlockBefore(&block, op, op.getInputs());
    rewriter.replaceOp(op, yield->getOperands());
    rewriter.eraseOp(yield);
    return success();
  }
};

/// Of a cond, or of a remat, which is like a cond of one branch.
template <typename Op> struct FoldBranches : OpRewritePattern<Op> {
  using OpRewritePattern<Op>::OpRewritePattern;

  LogicalResult matchAndRewrite(Op op,
                                PatternRewriter &rewriter) const override {
    Replacer replacer(rewriter);
    for (unsigned branch = 0; branch < op.getBranches().size(); ++branch)
      replacer.replaceKnown(op.getBranchBlock(branch).getArguments(),
                            op.getInputs());
    // A result that every branch makes of the same input, or as the same
    // constant, or that equals a result before it.
    std::map<SmallVector<void *>, Value> seen;
    for (OpResult result : op->getResults()) {
      auto yielded = [&](unsigned branch) {
        return op.getBranchYield(branch).getOperand(result.getResultNumber());
      };
      bool sameInput = true, sameSplat = true;
      auto argument = dyn_cast<BlockArgument>(yielded(0));
      ElementsAttr splat = splatOf(yielded(0));
      SmallVector<void *> key;
      for (unsigned branch = 0; branch < op.getBranches().size(); ++branch) {
        Value value = yielded(branch);
        auto other = dyn_cast<BlockArgument>(value);
        sameInput &= argument && other &&
                     other.getArgNumber() == argument.getArgNumber();
        sameSplat &= splat && splat == splatOf(value);
        key.push_back(value.getAsOpaquePointer());
      }
      auto [first, isNew] = seen.try_emplace(key, result);
      if (sameInput)
        replacer.replace(result, op.getInputs()[argument.getArgNumber()]);
      else if (sameSplat)
        replacer.replace(result, [&] {
          return makeSplat(rewriter, op.getLoc(), splat, result.getType());
        });
      else if (!isNew)
        replacer.replace(result, first->second);
    }
    return replacer.result();
  }
};

template <typename Op> struct ShrinkBranches : OpRewritePattern<Op> {
  using OpRewritePattern<Op>::OpRewritePattern;

  LogicalResult matchAndRewrite(Op op,
                                PatternRewriter &rewriter) const override {
    SmallVector<bool> keep = usedResults(op);
    SmallVector<bool> keepInputs(op.getInputs().size(), false);
    SmallVector<DenseSet<Value>> live(op.getBranches().size());
    for (auto [branch, inBranch] : llvm::enumerate(live)) {
      findLive(op.getBranchBlock(branch),
               pick(op.getBranchYield(branch).getValues(), keep), inBranch);
      for (auto [kept, flag] : llvm::zip_equal(
               keepInputs,
               liveFlags(op.getBranchBlock(branch).getArguments(), inBranch)))
        kept |= flag;
    }
    if (!llvm::is_contained(keep, false) &&
        !llvm::is_contained(keepInputs, false))
      return failure();

    auto made = createLike(rewriter, op,
                           ValueRange(pick(op.getResults(), keep)).getTypes(),
                           pick(op.getInputs(), keepInputs));
    for (auto [branch, inBranch] : llvm::enumerate(live)) {
      shrinkBlock(rewriter, op.getBranchBlock(branch), inBranch,
                  pick(op.getBranchYield(branch).getValues(), keep),
                  keepInputs);
      Region &region = made.getBranches()[branch];
      rewriter.inlineRegionBefore(op.getBranches()[branch], region,
                                  region.end());
    }
    replaceKept(rewriter, op, keep, made);
    return success();
  }
};
} // namespace

void CondOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                         MLIRContext *context) {
  patterns.add<ChooseBranch, FoldBranches<CondOp>, ShrinkBranches<CondOp>>(
      context);
}

void RematOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                          MLIRContext *context) {
  patterns.add<FoldBranches<RematOp>, ShrinkBranches<RematOp>>(context);
}
