//===- Scatter.cpp - Updates of windows at many positions -----------------===//
//
// Six ops that differ in how an update is combined with what is there.
//
//===----------------------------------------------------------------------===//

#include "Windows.h"
#include "bmgrad/Dialect/BM/Elementwise.h"
#include "bmgrad/Dialect/BM/Indexing.h"
#include "bmgrad/Dialect/BM/Shape.h"

#include "bmgrad/Dialect/BM/Expr.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/PatternMatch.h"

using namespace mlir;
using namespace bmgrad::bm;

//===----------------------------------------------------------------------===//
// What all have in common
//===----------------------------------------------------------------------===//

namespace {
template <typename OpTy> LogicalResult verifyScatter(OpTy op) {
  auto operand = tensorType(op.getOperand()),
       updates = tensorType(op.getUpdates());
  if (operand.getElementType() != updates.getElementType())
    return op.emitOpError(
               "operand and updates must have one element type, but they have ")
           << operand.getElementType() << " and " << updates.getElementType();
  return Windows::ofScatter(op).verify(op, operand, tensorType(op.getIndices()),
                                       updates);
}

template <typename OpTy>
LogicalResult batchScatter(OpTy op, BatchFrame &frame) {
  Windows windows = Windows::ofScatter(op);
  if (frame.batched[1])
    windows.batchBoth(frame.size);
  else
    windows.batchOperand(frame.size);
  frame.results.push_back(windows.scatter<OpTy>(
      frame.b, frame.getBatched(0), frame.operands[1], frame.getBatched(2)));
  return success();
}

/// `combine` gets what is there and an update, both scalars, and gives what
/// shall be there.
template <typename OpTy>
LogicalResult lowerScatter(
    OpTy op, LoweringFrame &frame,
    function_ref<Value(ImplicitLocOpBuilder &, Value, Value)> combine) {
  ImplicitLocOpBuilder &b = frame.b;
  auto type = tensorType(op.getOperand()),
       indicesType = tensorType(op.getIndices());
  Windows windows = Windows::ofScatter(op);
  if (windows.mode == IndexMode::Clip) {
    // The lowered op drops windows that are out of bounds.
    Value clamped = windows.clampIndices(b, type, op.getIndices());
    frame.results.push_back(windows.with(IndexMode::FillOrDrop)
                                .template scatter<OpTy>(b, op.getOperand(),
                                                        clamped,
                                                        op.getUpdates()));
    return success();
  }
  SmallVector<NamedAttribute> attributes{
      b.getNamedAttr("indices_are_sorted", b.getBoolAttr(windows.sorted)),
      b.getNamedAttr("scatter_dimension_numbers",
                     windows.scatterNumbers(b, indicesType)),
      b.getNamedAttr("unique_indices", b.getBoolAttr(windows.unique))};
  Operation *lowered = bmgrad::bm::detail::createForeign(
      b, "stablehlo.scatter", op.getType(), op->getOperands(), attributes,
      /*regions=*/1);
  auto scalar = type.clone(ArrayRef<int64_t>());
  Block &body = lowered->getRegion(0).emplaceBlock();
  body.addArguments({scalar, scalar}, {op.getLoc(), op.getLoc()});
  ImplicitLocOpBuilder inner(op.getLoc(), OpBuilder::atBlockEnd(&body));
  Value combined = combine(inner, body.getArgument(0), body.getArgument(1));
  bmgrad::bm::detail::createForeign(inner, "stablehlo.return", {}, combined);
  frame.results.push_back(lowered->getResult(0));
  return lowerBlock(body);
}

template <typename CombineOp>
Value combineBy(ImplicitLocOpBuilder &b, Value there, Value update) {
  return CombineOp::create(b, there.getType(), there, update);
}

/// Sums of complex<f64> by parts: no GPU adds 16 bytes atomically.
template <typename OpTy, typename CombineOp>
LogicalResult lowerSum(OpTy op, LoweringFrame &frame) {
  auto element = dyn_cast<ComplexType>(tensorType(op.getR()).getElementType());
  if (!element || !element.getElementType().isF64())
    return lowerScatter(op, frame, combineBy<CombineOp>);
  ImplicitLocOpBuilder &b = frame.b;
  Windows windows = Windows::ofScatter(op);
  auto part = [&](auto partOp, Value value) -> Value {
    return decltype(partOp)::create(
        b, tensorType(value).clone(element.getElementType()), value);
  };
  auto sum = [&](auto partOp) {
    return windows.scatter<OpTy>(b, part(partOp, op.getOperand()),
                                 op.getIndices(),
                                 part(partOp, op.getUpdates()));
  };
  Value real = sum(RealOp()), imag = sum(ImagOp());
  frame.results.push_back(ComplexOp::create(b, op.getType(), real, imag));
  return success();
}

template <typename OpTy> OpFoldResult foldScatter(OpTy op) {
  return tensorType(op.getUpdates()).getNumElements() == 0
             ? OpFoldResult(op.getOperand())
             : OpFoldResult();
}

/// Constant indices that are in bounds need not be clamped.
template <typename OpTy>
LogicalResult promiseInBounds(OpTy op, PatternRewriter &rewriter) {
  if (op.getMode() != IndexMode::Clip ||
      !Windows::ofScatter(op).provenInBounds(tensorType(op.getOperand()),
                                             op.getIndices()))
    return failure();
  rewriter.modifyOpInPlace(op, [&] { op.setMode(IndexMode::PromiseInBounds); });
  return success();
}
} // namespace

LogicalResult ScatterOp::verify() { return verifyScatter(*this); }
LogicalResult ScatterAddOp::verify() { return verifyScatter(*this); }
LogicalResult ScatterSubOp::verify() { return verifyScatter(*this); }
LogicalResult ScatterMulOp::verify() { return verifyScatter(*this); }
LogicalResult ScatterMinOp::verify() { return verifyScatter(*this); }
LogicalResult ScatterMaxOp::verify() { return verifyScatter(*this); }

LogicalResult ScatterOp::emitBatch(BatchFrame &frame) {
  return batchScatter(*this, frame);
}
LogicalResult ScatterAddOp::emitBatch(BatchFrame &frame) {
  return batchScatter(*this, frame);
}
LogicalResult ScatterSubOp::emitBatch(BatchFrame &frame) {
  return batchScatter(*this, frame);
}
LogicalResult ScatterMulOp::emitBatch(BatchFrame &frame) {
  return batchScatter(*this, frame);
}
LogicalResult ScatterMinOp::emitBatch(BatchFrame &frame) {
  return batchScatter(*this, frame);
}
LogicalResult ScatterMaxOp::emitBatch(BatchFrame &frame) {
  return batchScatter(*this, frame);
}

LogicalResult ScatterOp::emitLowering(LoweringFrame &frame) {
  return lowerScatter(
      *this, frame,
      [](ImplicitLocOpBuilder &, Value, Value update) { return update; });
}
LogicalResult ScatterAddOp::emitLowering(LoweringFrame &frame) {
  return lowerSum<ScatterAddOp, AddOp>(*this, frame);
}
LogicalResult ScatterSubOp::emitLowering(LoweringFrame &frame) {
  return lowerSum<ScatterSubOp, SubOp>(*this, frame);
}
LogicalResult ScatterMulOp::emitLowering(LoweringFrame &frame) {
  return lowerScatter(*this, frame, combineBy<MulOp>);
}
LogicalResult ScatterMinOp::emitLowering(LoweringFrame &frame) {
  return lowerScatter(*this, frame, combineBy<MinOp>);
}
LogicalResult ScatterMaxOp::emitLowering(LoweringFrame &frame) {
  return lowerScatter(*this, frame, combineBy<MaxOp>);
}

OpFoldResult ScatterOp::fold(FoldAdaptor) { return foldScatter(*this); }
OpFoldResult ScatterAddOp::fold(FoldAdaptor) {
  return isZeroConstant(getUpdates()) ? OpFoldResult(getOperand())
                                      : foldScatter(*this);
}
OpFoldResult ScatterSubOp::fold(FoldAdaptor) {
  return isZeroConstant(getUpdates()) ? OpFoldResult(getOperand())
                                      : foldScatter(*this);
}
OpFoldResult ScatterMulOp::fold(FoldAdaptor) { return foldScatter(*this); }
OpFoldResult ScatterMinOp::fold(FoldAdaptor) { return foldScatter(*this); }
OpFoldResult ScatterMaxOp::fold(FoldAdaptor) { return foldScatter(*this); }

void ScatterOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                            MLIRContext *) {
  patterns.add(promiseInBounds<ScatterOp>);
}
void ScatterAddOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                               MLIRContext *) {
  patterns.add(promiseInBounds<ScatterAddOp>);
}
void ScatterSubOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                               MLIRContext *) {
  patterns.add(promiseInBounds<ScatterSubOp>);
}
void ScatterMulOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                               MLIRContext *) {
  patterns.add(promiseInBounds<ScatterMulOp>);
}
void ScatterMinOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                               MLIRContext *) {
  patterns.add(promiseInBounds<ScatterMinOp>);
}
void ScatterMaxOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                               MLIRContext *) {
  patterns.add(promiseInBounds<ScatterMaxOp>);
}

//===----------------------------------------------------------------------===//
// Derivatives of replacement
//===----------------------------------------------------------------------===//

namespace {
/// Where windows overlap, which update stayed is not said. Each index vector's
/// update gets a number from 1 on; scattering those shows it.
struct Winners {
  /// Where no update went, in the shape of the operand.
  Value untouched;
  /// Which updates stayed, in the shape of the updates.
  Value stayed;

  Winners(ImplicitLocOpBuilder &b, const Windows &windows,
          RankedTensorType operand, Value indices, RankedTensorType updates) {
    SmallVector<int64_t> dims, shape;
    for (auto [dim, size] : llvm::enumerate(updates.getShape()))
      if (!llvm::is_contained(windows.offsetDims, static_cast<int64_t>(dim))) {
        dims.push_back(dim);
        shape.push_back(size);
      }
    int64_t count = llvm::product_of(shape);
    Type element =
        b.getIntegerType(count < std::numeric_limits<int32_t>::max() ? 32 : 64);
    auto list = RankedTensorType::get({count}, element);
    Value numbers = IotaOp::create(b, list, /*dimension=*/0);
    numbers = AddOp::create(b, list, numbers, makeConstant(b, list, 1.0));
    numbers = b.createOrFold<ReshapeOp>(list.clone(shape), numbers);
    numbers = b.createOrFold<BroadcastInDimOp>(updates.clone(element), numbers,
                                               b.getDenseI64ArrayAttr(dims));
    auto field = operand.clone(element);
    Value zeros = makeZero(b, field);
    Value scattered = windows.scatter<ScatterOp>(b, zeros, indices, numbers);
    // A dropped update finds another's number, wherever it looks.
    Value found = windows.with(IndexMode::Clip).gather(b, scattered, indices);
    untouched = expr::eq(Expr(b, scattered), Expr(b, zeros)).get();
    stayed = expr::eq(Expr(b, numbers), Expr(b, found)).get();
  }
};

Value keepWhere(ImplicitLocOpBuilder &b, Value predicate, Value value) {
  return SelectOp::create(b, value.getType(), predicate, value,
                          makeZero(b, value.getType()));
}
} // namespace

LogicalResult ScatterOp::emitJvp(JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Value operand = frame.primals[0], indices = frame.primals[1],
        updates = frame.primals[2];
  Value operandTangent = frame.tangents[0], updatesTangent = frame.tangents[2];
  Windows windows = Windows::ofScatter(*this);
  // If only the operand has a tangent, it does not matter which update stays.
  if (!updatesTangent || windows.areDisjoint(tensorType(indices))) {
    frame.results.push_back(
        windows.scatter<ScatterOp>(b, operand, indices, updates));
    frame.resultTangents.push_back(windows.scatter<ScatterOp>(
        b, materialize(b, operandTangent, getType()), indices,
        materialize(b, updatesTangent, updates.getType())));
    return success();
  }
  // Value and tangent must come from the same update, and two scatters need not
  // agree on it. So the losers are zeroed and both become sums.
  Winners winners(b, windows, tensorType(operand), indices,
                  tensorType(updates));
  auto combine = [&](Value base, Value added) {
    base =
        base ? keepWhere(b, winners.untouched, base) : makeZero(b, getType());
    return windows.scatter<ScatterAddOp>(b, base, indices,
                                         keepWhere(b, winners.stayed, added));
  };
  frame.results.push_back(combine(operand, updates));
  frame.resultTangents.push_back(combine(operandTangent, updatesTangent));
  return success();
}

LogicalResult ScatterOp::emitTranspose(TransposeFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Value cotangent = frame.cotangents[0], indices = frame.operands[1];
  auto updates = tensorType(getUpdates());
  Windows windows = Windows::ofScatter(*this);
  if (frame.isLinear(0))
    frame.operandCotangents[0] =
        windows.scatter<ScatterOp>(b, cotangent, indices, makeZero(b, updates));
  if (frame.isLinear(2)) {
    Value gathered = windows.gather(b, cotangent, indices);
    if (!windows.areDisjoint(tensorType(indices))) {
      Winners winners(b, windows, tensorType(cotangent), indices, updates);
      gathered = keepWhere(b, winners.stayed, gathered);
    }
    frame.operandCotangents[2] = gathered;
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Derivatives of sums
//===----------------------------------------------------------------------===//

namespace {
template <typename OpTy> LogicalResult jvpSum(OpTy op, JvpFrame &frame) {
  Windows windows = Windows::ofScatter(op);
  ImplicitLocOpBuilder &b = frame.b;
  Value indices = frame.primals[1];
  frame.results.push_back(
      windows.scatter<OpTy>(b, frame.primals[0], indices, frame.primals[2]));
  Value tangent = frame.tangents[0];
  if (Value updatesTangent = frame.tangents[2])
    tangent = windows.scatter<OpTy>(b, materialize(b, tangent, op.getType()),
                                    indices, updatesTangent);
  frame.resultTangents.push_back(tangent);
  return success();
}

template <typename OpTy> void transposeSum(OpTy op, TransposeFrame &frame) {
  if (frame.isLinear(0))
    frame.operandCotangents[0] = frame.cotangents[0];
  if (frame.isLinear(2))
    frame.operandCotangents[2] = Windows::ofScatter(op).gather(
        frame.b, frame.cotangents[0], frame.operands[1]);
}
} // namespace

LogicalResult ScatterAddOp::emitJvp(JvpFrame &frame) {
  return jvpSum(*this, frame);
}
LogicalResult ScatterSubOp::emitJvp(JvpFrame &frame) {
  return jvpSum(*this, frame);
}

LogicalResult ScatterAddOp::emitTranspose(TransposeFrame &frame) {
  transposeSum(*this, frame);
  return success();
}

LogicalResult ScatterSubOp::emitTranspose(TransposeFrame &frame) {
  transposeSum(*this, frame);
  if (Value &cotangent = frame.operandCotangents[2])
    cotangent = NegOp::create(frame.b, cotangent.getType(), cotangent);
  return success();
}

//===----------------------------------------------------------------------===//
// Derivatives of products
//===----------------------------------------------------------------------===//

LogicalResult ScatterMulOp::emitJvp(JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Value operand = frame.primals[0], indices = frame.primals[1],
        updates = frame.primals[2];
  Windows windows = Windows::ofScatter(*this);
  frame.results.push_back(
      windows.scatter<ScatterMulOp>(b, operand, indices, updates));
  Value tangent;
  if (Value dx = frame.tangents[0])
    tangent = windows.scatter<ScatterMulOp>(b, dx, indices, updates);
  if (Value du = frame.tangents[2]) {
    if (!windows.areDisjoint(tensorType(indices)))
      return emitError(
          "no derivative rule for primitive 'scatter-mul' with respect to its "
          "updates, unless unique_indices=True says that no two of them meet");
    Value spread =
        windows.scatter<ScatterAddOp>(b, makeZero(b, getType()), indices, du);
    tangent =
        accumulate(b, tangent, MulOp::create(b, getType(), operand, spread));
  }
  frame.resultTangents.push_back(tangent);
  return success();
}

LogicalResult ScatterMulOp::emitTranspose(TransposeFrame &frame) {
  if (frame.isLinear(2))
    return emitOpError("is not linear in its updates");
  frame.operandCotangents[0] = Windows::ofScatter(*this).scatter<ScatterMulOp>(
      frame.b, frame.cotangents[0], frame.operands[1], frame.operands[2]);
  return success();
}

//===----------------------------------------------------------------------===//
// Derivatives of extrema
//===----------------------------------------------------------------------===//

/// The candidates for a place, the operand's element and the updates that go
/// there, share the derivative equally if they are equal to the result.
template <typename OpTy>
static LogicalResult jvpExtremum(OpTy op, JvpFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Value operand = frame.primals[0], indices = frame.primals[1],
        updates = frame.primals[2];
  Windows windows = Windows::ofScatter(op);
  // Where a dropped update looks is of no matter, as it is dropped again.
  Windows inside = windows.with(IndexMode::Clip);
  Value value = windows.scatter<OpTy>(b, operand, indices, updates);
  frame.results.push_back(value);

  Expr result(b, value);
  Expr one = expr::constantLike(result, 1.0);
  Expr kept = expr::eq(Expr(b, operand), result);
  Expr attained =
      expr::eq(Expr(b, updates), result.with(inside.gather(b, value, indices)));
  Expr counted = expr::mask(attained, Expr(b, updates));
  Value winners = windows.scatter<ScatterAddOp>(
      b, expr::mask(kept, result).get(), indices, counted.get());
  Expr share = one / result.with(winners);

  Value tangent;
  if (Value dx = frame.tangents[0]) {
    Expr slope = expr::select(kept, share, expr::constantLike(result, 0.0));
    tangent = MulOp::create(b, op.getType(), dx, slope.get());
  }
  if (Value du = frame.tangents[2]) {
    // Whichever are fewer are divided, places or updates.
    bool divideLater =
        cast<RankedTensorType>(updates.getType()).getNumElements() <
        op.getType().getNumElements();
    Expr shares = result.with(
        inside.gather(b, divideLater ? winners : share.get(), indices));
    if (divideLater)
      shares = expr::constantLike(shares, 1.0) / shares;
    Expr slope =
        expr::select(attained, shares, expr::constantLike(shares, 0.0));
    Value scaled = MulOp::create(b, du.getType(), du, slope.get());
    tangent = windows.scatter<ScatterAddOp>(
        b, materialize(b, tangent, op.getType()), indices, scaled);
  }
  frame.resultTangents.push_back(tangent);
  return success();
}

LogicalResult ScatterMinOp::emitJvp(JvpFrame &frame) {
  return jvpExtremum(*this, frame);
}
LogicalResult ScatterMaxOp::emitJvp(JvpFrame &frame) {
  return jvpExtremum(*this, frame);
}
