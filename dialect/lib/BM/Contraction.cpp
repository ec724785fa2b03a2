//===- Contraction.cpp - The rules of the ops of Contraction.td -----------===//

#include "bmgrad/Dialect/BM/Contraction.h"
#include "Dims.h"
#include "bmgrad/Dialect/BM/Elementwise.h"
#include "bmgrad/Dialect/BM/Shape.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/PatternMatch.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace bmgrad;
using namespace bmgrad::bm;

#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Contraction.cpp.inc"

void bmgrad::bm::addContractionOps(BMDialect &dialect) {
  dialect.addFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/Contraction.cpp.inc"
      >();
}

//===----------------------------------------------------------------------===//
// Dimensions
//===----------------------------------------------------------------------===//

namespace {
/// One operand of a contraction.
struct Side {
  Value value;
  SmallVector<int64_t> batch, contract;

  RankedTensorType type() const { return tensorType(value); }

  /// The dimensions that the result gets from this operand alone.
  SmallVector<int64_t> free(int64_t rank) const {
    SmallVector<int64_t> taken(batch);
    llvm::append_range(taken, contract);
    return otherDims(rank, taken);
  }
  SmallVector<int64_t> free() const { return free(type().getRank()); }
};

/// A contraction to be made.
struct Contraction {
  Side lhs, rhs;
  ArrayAttr precision;
  DotAlgorithmAttr algorithm;

  static Contraction of(DotGeneralOp op) {
    return {{op.getLhs(), llvm::to_vector(op.getLhsBatch()),
             llvm::to_vector(op.getLhsContract())},
            {op.getRhs(), llvm::to_vector(op.getRhsBatch()),
             llvm::to_vector(op.getRhsContract())},
            op.getPrecisionAttr(),
            op.getAlgorithmAttr()};
  }

  /// The same with the operands, and what belongs to them, exchanged: the
  /// result's free dimensions change places.
  Contraction swapped() const {
    Contraction other{rhs, lhs, precision, algorithm};
    if (precision)
      other.precision =
          ArrayAttr::get(precision.getContext(), {precision[1], precision[0]});
    return other;
  }

  SmallVector<int64_t> resultShape() const {
    SmallVector<int64_t> shape;
    for (int64_t dim : lhs.batch)
      shape.push_back(lhs.type().getDimSize(dim));
    for (const Side *side : {&lhs, &rhs})
      for (int64_t dim : side->free())
        shape.push_back(side->type().getDimSize(dim));
    return shape;
  }

  Value create(ImplicitLocOpBuilder &b, Type element) const {
    return DotGeneralOp::create(
        b, RankedTensorType::get(resultShape(), element), lhs.value, rhs.value,
        lhs.batch, rhs.batch, lhs.contract, rhs.contract, precision, algorithm);
  }
};
} // namespace

LogicalResult DotGeneralOp::verify() {
  Contraction dot = Contraction::of(*this);
  if (dot.lhs.batch.size() != dot.rhs.batch.size() ||
      dot.lhs.contract.size() != dot.rhs.contract.size())
    return emitOpError(
        "pairs dimensions of lhs and rhs, but the lists differ in length");
  for (auto [name, side] :
       {std::pair("lhs", &dot.lhs), std::pair("rhs", &dot.rhs)}) {
    SmallVector<int64_t> taken(side->batch);
    llvm::append_range(taken, side->contract);
    if (failed(verifyDims(
            getLoc(),
            ("'bm.dot_general' op dimensions of " + Twine(name)).str(), taken,
            side->type().getRank())))
      return failure();
  }
  auto paired = [&](ArrayRef<int64_t> lhs,
                    ArrayRef<int64_t> rhs) -> LogicalResult {
    for (auto [left, right] : llvm::zip(lhs, rhs))
      if (dot.lhs.type().getDimSize(left) != dot.rhs.type().getDimSize(right))
        return emitOpError("pairs dimension ")
               << left << " of lhs with " << right
               << " of rhs, but their sizes are "
               << dot.lhs.type().getDimSize(left) << " and "
               << dot.rhs.type().getDimSize(right);
    return success();
  };
  if (failed(paired(dot.lhs.batch, dot.rhs.batch)) ||
      failed(paired(dot.lhs.contract, dot.rhs.contract)))
    return failure();
  SmallVector<int64_t> shape = dot.resultShape();
  if (tensorType(getR()).getShape() != ArrayRef(shape))
    return emitOpError("result must have shape [")
           << shape << "]: batch, free lhs, then free rhs dimensions; it is "
           << getType();
  return success();
}

//===----------------------------------------------------------------------===//
// Derivative and batching
//===----------------------------------------------------------------------===//

/// Cotangents have the result's element type, which may differ from the
/// operand's.
static Value convertTo(ImplicitLocOpBuilder &b, Value value, Type element) {
  RankedTensorType type = tensorType(value);
  auto complex = dyn_cast<ComplexType>(type.getElementType());
  if (complex && !isa<ComplexType>(element)) {
    type = type.clone(complex.getElementType());
    value = RealOp::create(b, type, value);
  }
  return b.createOrFold<ConvertOp>(type.clone(element), value);
}

LogicalResult DotGeneralOp::emitTranspose(TransposeFrame &frame) {
  if (frame.isLinear(0) && frame.isLinear(1))
    return emitOpError("is linear in one operand at a time");
  ImplicitLocOpBuilder &b = frame.b;
  bool toLhs = frame.isLinear(0);
  Contraction dot = Contraction::of(*this);
  const Side &wanted = toLhs ? dot.lhs : dot.rhs,
             &held = toLhs ? dot.rhs : dot.lhs;
  RankedTensorType type = wanted.type();
  SmallVector<int64_t> wantedFree = wanted.free(), heldFree = held.free();

  // The cotangent's dimensions are batch, free of lhs, free of rhs: those of
  // the held operand are contracted with it.
  int64_t batches = wanted.batch.size();
  Side cotangent{
      frame.cotangents[0], llvm::to_vector(llvm::seq<int64_t>(batches)), {}};
  int64_t start = batches + (toLhs ? wantedFree.size() : 0);
  for (int64_t index = 0; index < static_cast<int64_t>(heldFree.size());
       ++index)
    cotangent.contract.push_back(start + index);
  Side other{frame.operands[toLhs ? 1 : 0], held.batch, heldFree};
  Contraction back{cotangent, other, dot.precision, dot.algorithm};

  // What comes out are the wanted operand's dimensions: batch, free, and the
  // contracted ones in the order of the held operand's.
  SmallVector<std::pair<int64_t, int64_t>> pairs;
  for (auto [heldDim, wantedDim] : llvm::zip(held.contract, wanted.contract))
    pairs.emplace_back(heldDim, wantedDim);
  llvm::sort(pairs);
  SmallVector<int64_t> contracted(llvm::make_second_range(pairs)),
      dims(wanted.batch);
  // Whichever operand comes first, the sum is the same: the order that needs no
  // transposition afterwards is taken, where there is one.
  bool heldFirst = !wantedFree.empty() && !contracted.empty() &&
                   contracted[0] < wantedFree[0];
  if (heldFirst)
    back = back.swapped();
  llvm::append_range(dims, heldFirst ? contracted : wantedFree);
  llvm::append_range(dims, heldFirst ? wantedFree : contracted);
  SmallVector<int64_t> permutation(dims.size());
  for (auto [index, dim] : llvm::enumerate(dims))
    permutation[dim] = index;

  Value result = back.create(b, tensorType(getR()).getElementType());
  result = b.createOrFold<TransposeOp>(result, permutation);
  frame.operandCotangents[toLhs ? 0 : 1] =
      convertTo(b, result, type.getElementType());
  return success();
}

LogicalResult DotGeneralOp::emitBatch(BatchFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Contraction dot = Contraction::of(*this);
  // An unbatched operand needs no copies: the batch dimension of the other one
  // is a free dimension, its first.
  bool both = frame.batched[0] && frame.batched[1];
  for (auto [index, side] :
       {std::pair(0u, &dot.lhs), std::pair(1u, &dot.rhs)}) {
    side->value = frame.operands[index];
    if (!frame.batched[index])
      continue;
    side->batch = both ? prepended(0, shiftedDims(side->batch))
                       : shiftedDims(side->batch);
    side->contract = shiftedDims(side->contract);
  }
  Value result = dot.create(b, tensorType(getR()).getElementType());
  int64_t at = both ? 0 : dot.lhs.batch.size();
  if (!frame.batched[0])
    at += dot.lhs.free().size();
  SmallVector<int64_t> permutation =
      prepended(at, otherDims(tensorType(result).getRank(), at));
  frame.results.push_back(b.createOrFold<TransposeOp>(result, permutation));
  return success();
}

//===----------------------------------------------------------------------===//
// Lowering
//===----------------------------------------------------------------------===//

namespace {
/// What an algorithm multiplies and sums in, and in how many steps.
struct AlgorithmFacts {
  StringLiteral storage, product, sum;
  int steps;
};
} // namespace

static AlgorithmFacts factsOf(DotAlgorithm algorithm) {
  switch (algorithm) {
  case DotAlgorithm::F16_F16_F16:
    return {"f16", "f16", "f16", 1};
  case DotAlgorithm::F16_F16_F32:
    return {"f16", "f16", "f32", 1};
  case DotAlgorithm::BF16_BF16_BF16:
    return {"bf16", "bf16", "bf16", 1};
  case DotAlgorithm::BF16_BF16_F32:
    return {"bf16", "bf16", "f32", 1};
  case DotAlgorithm::BF16_BF16_F32_X3:
    return {"f32", "bf16", "f32", 3};
  case DotAlgorithm::BF16_BF16_F32_X6:
    return {"f32", "bf16", "f32", 6};
  case DotAlgorithm::BF16_BF16_F32_X9:
    return {"f32", "bf16", "f32", 9};
  case DotAlgorithm::TF32_TF32_F32:
    return {"f32", "tf32", "f32", 1};
  case DotAlgorithm::TF32_TF32_F32_X3:
    return {"f32", "tf32", "f32", 3};
  case DotAlgorithm::F32_F32_F32:
    return {"f32", "f32", "f32", 1};
  case DotAlgorithm::F64_F64_F64:
    return {"f64", "f64", "f64", 1};
  }
  llvm_unreachable("all algorithms are listed");
}

static Type floatTypeNamed(OpBuilder &b, StringRef name) {
  return llvm::StringSwitch<Type>(name)
      .Case("f16", b.getF16Type())
      .Case("bf16", b.getBF16Type())
      .Case("f32", b.getF32Type())
      .Default(b.getF64Type());
}

LogicalResult DotGeneralOp::emitLowering(LoweringFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Contraction dot = Contraction::of(*this);
  RankedTensorType type = tensorType(getR()), sumType = type;
  auto foreign = [&](const Twine &text) {
    return bm::detail::foreignAttr(b, "stablehlo", text.str());
  };
  auto dims = [](ArrayRef<int64_t> list) {
    return llvm::make_range(list.begin(), list.end());
  };
  std::string dimensions =
      llvm::formatv("dot<lhs_batching_dimensions = [{0:$[, ]}], "
                    "rhs_batching_dimensions = [{1:$[, ]}], "
                    "lhs_contracting_dimensions = [{2:$[, ]}], "
                    "rhs_contracting_dimensions = [{3:$[, ]}]>",
                    dims(dot.lhs.batch), dims(dot.rhs.batch),
                    dims(dot.lhs.contract), dims(dot.rhs.contract));
  SmallVector<NamedAttribute> attributes;
  attributes.push_back(
      b.getNamedAttr("dot_dimension_numbers", foreign(dimensions)));

  SmallVector<Attribute> precisions(2, foreign("precision DEFAULT"));
  if (dot.precision)
    for (auto [text, precision] :
         llvm::zip(precisions, dot.precision.getAsRange<PrecisionAttr>()))
      text = foreign("precision " +
                     stringifyPrecision(precision.getValue()).upper());
  attributes.push_back(
      b.getNamedAttr("precision_config", b.getArrayAttr(precisions)));

  if (dot.algorithm) {
    AlgorithmFacts facts = factsOf(dot.algorithm.getValue());
    Type storage = floatTypeNamed(b, facts.storage);
    for (Side *side : {&dot.lhs, &dot.rhs})
      // Products of bf16 may be asked of f32 arrays too.
      if (facts.product != "bf16" || !side->type().getElementType().isF32())
        side->value = convertTo(b, side->value, storage);
    sumType = type.clone(floatTypeNamed(b, facts.sum));
    std::string algorithm = llvm::formatv(
        "dot_algorithm<lhs_precision_type = {0}, rhs_precision_type = {0}, "
        "accumulation_type = {1}, lhs_component_count = 1, rhs_component_count "
        "= 1, "
        "num_primitive_operations = {2}, allow_imprecise_accumulation = false>",
        facts.product, facts.sum, facts.steps);
    attributes.push_back(b.getNamedAttr("algorithm", foreign(algorithm)));
  } else if (dot.lhs.type().getElementType() !=
             dot.rhs.type().getElementType()) {
    // Not every backend multiplies arrays of different types.
    for (Side *side : {&dot.lhs, &dot.rhs})
      side->value = convertTo(b, side->value, type.getElementType());
  }
  Value result =
      bm::detail::createForeign(b, getStablehloName(), sumType,
                                {dot.lhs.value, dot.rhs.value}, attributes)
          ->getResult(0);
  frame.results.push_back(convertTo(b, result, type.getElementType()));
  return success();
}

//===----------------------------------------------------------------------===//
// Canonical forms
//===----------------------------------------------------------------------===//

namespace {
/// A transposition of an operand that keeps the order of the free dimensions
/// only renames the others.
struct AbsorbOperandTranspose : OpRewritePattern<DotGeneralOp> {
  using OpRewritePattern::OpRewritePattern;

  static bool absorb(Side &side) {
    auto transpose = side.value.getDefiningOp<TransposeOp>();
    if (!transpose)
      return false;
    auto before = [&](ArrayRef<int64_t> dims) {
      return llvm::map_to_vector(
          dims, [&](int64_t dim) { return transpose.getPermutation()[dim]; });
    };
    if (!llvm::is_sorted(before(side.free())))
      return false;
    side = {transpose.getX(), before(side.batch), before(side.contract)};
    return true;
  }

  LogicalResult matchAndRewrite(DotGeneralOp op,
                                PatternRewriter &rewriter) const override {
    Contraction dot = Contraction::of(op);
    bool left = absorb(dot.lhs), right = absorb(dot.rhs);
    if (!left && !right)
      return failure();
    ImplicitLocOpBuilder b(op.getLoc(), rewriter);
    rewriter.replaceOp(op,
                       dot.create(b, tensorType(op.getR()).getElementType()));
    return success();
  }
};

/// A transposition of the result that exchanges what comes from lhs and from
/// rhs is the product with the operands exchanged.
struct AbsorbResultTranspose : OpRewritePattern<TransposeOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(TransposeOp op,
                                PatternRewriter &rewriter) const override {
    auto inner = op.getX().getDefiningOp<DotGeneralOp>();
    if (!inner || !op.getX().hasOneUse())
      return failure();
    Contraction dot = Contraction::of(inner);
    int64_t batches = dot.lhs.batch.size(), left = dot.lhs.free().size();
    int64_t rank = tensorType(op.getX()).getRank();
    SmallVector<int64_t> exchanged = llvm::to_vector(llvm::seq<int64_t>(rank));
    std::rotate(exchanged.begin() + batches, exchanged.begin() + batches + left,
                exchanged.end());
    if (op.getPermutation() != ArrayRef(exchanged))
      return failure();
    ImplicitLocOpBuilder b(inner.getLoc(), rewriter);
    rewriter.replaceOp(
        op, dot.swapped().create(b, tensorType(op.getR()).getElementType()));
    return success();
  }
};
} // namespace

void DotGeneralOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                               MLIRContext *context) {
  patterns.add<AbsorbOperandTranspose, AbsorbResultTranspose>(context);
}
