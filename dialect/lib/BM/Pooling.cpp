//===- Pooling.cpp - The rules of the ops of Pooling.td -------------------===//

#include "bmgrad/Dialect/BM/Pooling.h"
#include "Dims.h"
#include "Reducing.h"
#include "Spatial.h"
#include "Windows.h"
#include "bmgrad/Dialect/BM/Elementwise.h"
#include "bmgrad/Dialect/BM/Expr.h"
#include "bmgrad/Dialect/BM/Indexing.h"
#include "bmgrad/Dialect/BM/Shape.h"

#include <limits>

using namespace mlir;
using namespace bmgrad;
using namespace bmgrad::bm;

#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Pooling.cpp.inc"

void bmgrad::bm::addPoolingOps(BMDialect &dialect) {
  dialect.addFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/Pooling.cpp.inc"
      >();
}

//===----------------------------------------------------------------------===//
// Windows
//===----------------------------------------------------------------------===//

LogicalResult Sliding::verify(Operation *op, RankedTensorType base,
                              RankedTensorType windows) const {
  int64_t rank = base.getRank();
  if (static_cast<int64_t>(window.size()) != rank || !space.isValid(rank) ||
      llvm::any_of(window, [](int64_t size) { return size < 1; }))
    return op->emitOpError("needs a positive size, stride and dilations of "
                           "windows, and padding, for each dimension of ")
           << base;
  Spatial::Sizes shape = resultShape(base.getShape());
  if (windows.getShape() != ArrayRef(shape))
    return op->emitOpError("there are [")
           << shape << "] windows, not as many as in " << windows;
  return success();
}

SmallVector<NamedAttribute> Sliding::attributes(OpBuilder &b) const {
  auto list = [&](StringRef name, ArrayRef<int64_t> sizes) {
    return b.getNamedAttr(name, b.getDenseI64ArrayAttr(sizes));
  };
  return {list("window_dimensions", window),
          list("window_strides", space.strides),
          list("base_dilations", space.baseDilation),
          list("window_dilations", space.windowDilation),
          b.getNamedAttr("padding", space.padding(b))};
}

/// The op with these windows: sums, maxima, minima.
template <typename OpTy>
static Value slide(ImplicitLocOpBuilder &b, Value x, const Sliding &by) {
  RankedTensorType type = tensorType(x);
  return OpTy::create(b, type.clone(by.resultShape(type.getShape())), x,
                      by.window, by.space.strides, by.space.low, by.space.high,
                      by.space.baseDilation, by.space.windowDilation);
}

static Value gatherSelected(ImplicitLocOpBuilder &b, Value values,
                            Value operand, const Sliding &by, bool least) {
  RankedTensorType type = tensorType(values);
  return SelectAndGatherAddOp::create(
      b, type.clone(by.resultShape(type.getShape())), values, operand,
      by.window, by.space.strides, by.space.low, by.space.high,
      by.space.baseDilation, by.space.windowDilation, least);
}

static Value scatterSelected(ImplicitLocOpBuilder &b, Value source,
                             Value operand, const Sliding &by, bool least) {
  Type type = tensorType(operand).clone(tensorType(source).getElementType());
  return SelectAndScatterAddOp::create(b, type, source, operand, by.window,
                                       by.space.strides, by.space.low,
                                       by.space.high, least);
}

static RankedTensorType scalarOf(Value x) {
  return RankedTensorType::get({}, tensorType(x).getElementType());
}

static bool allOnes(ArrayRef<int64_t> sizes) {
  return llvm::all_of(sizes, [](int64_t size) { return size == 1; });
}

//===----------------------------------------------------------------------===//
// Sums, maxima and minima
//===----------------------------------------------------------------------===//

LogicalResult ReduceWindowSumOp::verify() {
  return Sliding::of(*this).verify(getOperation(), tensorType(getX()),
                                   tensorType(getR()));
}
LogicalResult ReduceWindowMaxOp::verify() {
  return Sliding::of(*this).verify(getOperation(), tensorType(getX()),
                                   tensorType(getR()));
}
LogicalResult ReduceWindowMinOp::verify() {
  return Sliding::of(*this).verify(getOperation(), tensorType(getX()),
                                   tensorType(getR()));
}

LogicalResult ReduceWindowSumOp::emitTranspose(TransposeFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Sliding by = Sliding::of(*this);
  ArrayRef<int64_t> base = tensorType(getX()).getShape();
  Spatial back = by.space.towardsBase(base, by.window);
  SmallVector<int64_t> between, none(base.size(), 0);
  for (int64_t dilation : back.baseDilation)
    between.push_back(dilation - 1);
  Value cotangent = frame.cotangents[0];
  // An element without windows has the cotangent zero.
  if (tensorType(cotangent).getNumElements() == 0)
    return success();
  Value spread =
      b.createOrFold<PadOp>(cotangent, makeZero(b, scalarOf(cotangent)),
                            back.low, back.high, between);
  // A sum is the same in both directions.
  SmallVector<int64_t> ones(base.size(), 1);
  Sliding over{by.window,
               {back.strides, none, none, ones, back.windowDilation}};
  frame.operandCotangents[0] = slide<ReduceWindowSumOp>(b, spread, over);
  return success();
}

LogicalResult ReduceWindowMaxOp::emitJvp(JvpFrame &frame) {
  Sliding by = Sliding::of(*this);
  frame.results.push_back(
      slide<ReduceWindowMaxOp>(frame.b, frame.primals[0], by));
  frame.resultTangents.push_back(gatherSelected(
      frame.b, frame.tangents[0], frame.primals[0], by, /*least=*/false));
  return success();
}

LogicalResult ReduceWindowMinOp::emitJvp(JvpFrame &frame) {
  Sliding by = Sliding::of(*this);
  frame.results.push_back(
      slide<ReduceWindowMinOp>(frame.b, frame.primals[0], by));
  frame.resultTangents.push_back(gatherSelected(
      frame.b, frame.tangents[0], frame.primals[0], by, /*least=*/true));
  return success();
}

template <typename OpTy>
static LogicalResult batchSlide(OpTy op, BatchFrame &frame) {
  frame.results.push_back(
      slide<OpTy>(frame.b, frame.operands[0], Sliding::of(op).batched()));
  return success();
}

LogicalResult ReduceWindowSumOp::emitBatch(BatchFrame &frame) {
  return batchSlide(*this, frame);
}
LogicalResult ReduceWindowMaxOp::emitBatch(BatchFrame &frame) {
  return batchSlide(*this, frame);
}
LogicalResult ReduceWindowMinOp::emitBatch(BatchFrame &frame) {
  return batchSlide(*this, frame);
}

/// `CombineOp` joins two elements and leaves `identity` alone.
template <typename CombineOp, typename OpTy>
static LogicalResult lowerSlide(OpTy op, Value identity, LoweringFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Operation *lowered = createForeignReduction(
      b, "stablehlo.reduce_window", op.getType(), op.getX(), identity,
      Sliding::of(op).attributes(b), [&](ValueRange pair) {
        return SmallVector<Value>{
            CombineOp::create(b, identity.getType(), pair[0], pair[1])};
      });
  frame.results.push_back(lowered->getResult(0));
  return success();
}

LogicalResult ReduceWindowSumOp::emitLowering(LoweringFrame &frame) {
  return lowerSlide<AddOp>(*this, makeZero(frame.b, scalarOf(getX())), frame);
}
LogicalResult ReduceWindowMaxOp::emitLowering(LoweringFrame &frame) {
  Value least = extremeNumber(frame.b, scalarOf(getX()), /*largest=*/false);
  return lowerSlide<MaxOp>(*this, least, frame);
}
LogicalResult ReduceWindowMinOp::emitLowering(LoweringFrame &frame) {
  Value most = extremeNumber(frame.b, scalarOf(getX()), /*largest=*/true);
  return lowerSlide<MinOp>(*this, most, frame);
}

//===----------------------------------------------------------------------===//
// Gathering beside the extreme elements
//===----------------------------------------------------------------------===//

LogicalResult SelectAndGatherAddOp::verify() {
  RankedTensorType values = tensorType(getValues()),
                   operand = tensorType(getOperand());
  if (values.getShape() != operand.getShape())
    return emitOpError("values and operand must have one shape, not those of ")
           << values << " and " << operand;
  if (tensorType(getR()).getElementType() != values.getElementType())
    return emitOpError("result must have the element type of ") << values;
  return Sliding::of(*this).verify(getOperation(), operand, tensorType(getR()));
}

LogicalResult SelectAndGatherAddOp::emitJvp(JvpFrame &frame) {
  Sliding by = Sliding::of(*this);
  auto at = [&](Value values) {
    return gatherSelected(frame.b, values, frame.primals[1], by, getLeast());
  };
  frame.results.push_back(at(frame.primals[0]));
  // Which element is extreme does not change.
  Value tangent = frame.tangents[0];
  frame.resultTangents.push_back(tangent ? at(tangent) : Value());
  return success();
}

/// Cotangents at the places that the windows select: what StableHLO has no op
/// for where windows are dilated.
static Value scatterAtPlaces(ImplicitLocOpBuilder &b, Value cotangent,
                             Value operand, const Sliding &by, bool least) {
  RankedTensorType type = tensorType(operand), result = tensorType(cotangent);
  int64_t size = type.getNumElements(), count = result.getNumElements();
  bool wide = size >= std::numeric_limits<int32_t>::max();
  auto index = b.getIntegerType(wide ? 64 : 32);
  auto line = RankedTensorType::get({size}, index);
  // Places count from 1, for windows of padding have 0 and scatter nowhere.
  Value places = AddOp::create(b, line, IotaOp::create(b, line, 0),
                               makeConstant(b, line, 1.0));
  places = ReshapeOp::create(b, type.clone(index), places);
  places = gatherSelected(b, places, operand, by, least);
  auto column = RankedTensorType::get({count, 1}, index);
  places = ReshapeOp::create(b, column, places);
  places = SubOp::create(b, column, places, makeConstant(b, column, 1.0));
  Windows windows;
  windows.collapsedDims = windows.indexMap = {0};
  windows.sliceSizes = {1};
  windows.mode = IndexMode::FillOrDrop;
  Type element = result.getElementType();
  Value sums = windows.scatter<ScatterAddOp>(
      b, makeZero(b, line.clone(element)), places,
      ReshapeOp::create(b, RankedTensorType::get({count}, element), cotangent));
  return ReshapeOp::create(b, type.clone(element), sums);
}

LogicalResult SelectAndGatherAddOp::emitTranspose(TransposeFrame &frame) {
  if (frame.isLinear(1))
    return emitOpError("is not linear in the operand that it selects by");
  ImplicitLocOpBuilder &b = frame.b;
  Value cotangent = frame.cotangents[0], operand = frame.operands[1];
  Sliding by = Sliding::of(*this);
  RankedTensorType type = tensorType(operand);
  if (tensorType(cotangent).getNumElements() == 0)
    return success();
  Value &result = frame.operandCotangents[0];
  if (!allOnes(by.space.windowDilation)) {
    result = scatterAtPlaces(b, cotangent, operand, by, getLeast());
    return success();
  }
  if (allOnes(by.space.baseDilation)) {
    result = scatterSelected(b, cotangent, operand, by, getLeast());
    return success();
  }
  // The dilation is written out, and cut out of what comes back.
  SmallVector<int64_t> none(type.getRank(), 0), between;
  for (int64_t dilation : by.space.baseDilation)
    between.push_back(dilation - 1);
  Value least = extremeNumber(b, scalarOf(operand), getLeast());
  Value dilated = b.createOrFold<PadOp>(operand, least, none, none, between);
  Value sums = scatterSelected(b, cotangent, dilated, by, getLeast());
  result = b.createOrFold<SliceOp>(
      tensorType(getValues()), sums, b.getDenseI64ArrayAttr(none),
      b.getDenseI64ArrayAttr(tensorType(sums).getShape()),
      b.getDenseI64ArrayAttr(by.space.baseDilation));
  return success();
}

LogicalResult SelectAndGatherAddOp::emitBatch(BatchFrame &frame) {
  frame.results.push_back(
      gatherSelected(frame.b, frame.getBatched(0), frame.getBatched(1),
                     Sliding::of(*this).batched(), getLeast()));
  return success();
}

namespace {
/// Elements to select by, and what lies beside them.
struct Pairs {
  Value keys, values;
};

/// Selects along one dimension after the other. The first of equal elements is
/// the one in the first row that has it: rows are searched before columns.
struct SelectingSlide {
  ImplicitLocOpBuilder &b;
  bool least;

  /// Where keys tie, those on the left stay.
  Pairs better(const Pairs &left, const Pairs &right) const {
    Expr x(b, left.keys), y(b, right.keys);
    Value keep = CompareOp::create(
        b, tensorType(left.keys).clone(b.getI1Type()), left.keys, right.keys,
        least ? CompareDirection::LE : CompareDirection::GE);
    auto select = [&](Value onTrue, Value onFalse) -> Value {
      return SelectOp::create(b, onTrue.getType(), keep, onTrue, onFalse);
    };
    return {select(left.keys, right.keys), select(left.values, right.values)};
  }

  /// `count` elements from `start` on, `stride` apart.
  Pairs cut(const Pairs &x, int64_t dim, int64_t start, int64_t count,
            int64_t stride) const {
    auto one = [&](Value value) {
      RankedTensorType type = tensorType(value);
      SmallVector<int64_t> starts(type.getRank(), 0), limits(type.getShape()),
          strides(type.getRank(), 1), shape(type.getShape());
      starts[dim] = start;
      limits[dim] = start + (count - 1) * stride + 1;
      strides[dim] = stride;
      shape[dim] = count;
      return b.createOrFold<SliceOp>(type.clone(shape), value, starts, limits,
                                     strides);
    };
    return {one(x.keys), one(x.values)};
  }

  Pairs along(Pairs x, int64_t dim, int64_t window, int64_t dilation,
              int64_t stride, int64_t count) const {
    // Few elements: one after the other, at the places where windows begin.
    constexpr int64_t few = 8;
    if (window <= few) {
      Pairs best = cut(x, dim, 0, count, stride);
      for (int64_t k = 1; k < window; ++k)
        best = better(best, cut(x, dim, k * dilation, count, stride));
      return best;
    }
    // Many: windows at every place, of twice the size each time. The last two
    // may overlap.
    int64_t covered = 1;
    while (covered < window) {
      int64_t step = std::min(covered, window - covered);
      int64_t rest = tensorType(x.keys).getDimSize(dim) - step * dilation;
      x = better(cut(x, dim, 0, rest, 1),
                 cut(x, dim, step * dilation, rest, 1));
      covered += step;
    }
    return cut(x, dim, 0, count, stride);
  }
};
} // namespace

LogicalResult SelectAndGatherAddOp::emitLowering(LoweringFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  RankedTensorType type = tensorType(getR());
  if (type.getNumElements() == 0) {
    frame.results.push_back(makeZero(b, type));
    return success();
  }
  // Not every backend reduces pairs over windows; where one does it is slow.
  Sliding by = Sliding::of(*this);
  SmallVector<int64_t> between;
  for (int64_t dilation : by.space.baseDilation)
    between.push_back(dilation - 1);
  auto padded = [&](Value x, Value padding) {
    return b.createOrFold<PadOp>(x, padding, by.space.low, by.space.high,
                                 between);
  };
  Value worst = extremeNumber(b, scalarOf(getOperand()), getLeast());
  Pairs pairs{padded(getOperand(), worst),
              padded(getValues(), makeZero(b, scalarOf(getValues())))};
  SelectingSlide slide{b, getLeast()};
  for (int64_t dim = type.getRank() - 1; dim >= 0; --dim)
    pairs =
        slide.along(pairs, dim, by.window[dim], by.space.windowDilation[dim],
                    by.space.strides[dim], type.getDimSize(dim));
  frame.results.push_back(pairs.values);
  return success();
}

//===----------------------------------------------------------------------===//
// Scattering to the extreme elements
//===----------------------------------------------------------------------===//

static Sliding slidingOf(SelectAndScatterAddOp op) {
  return {llvm::to_vector(op.getWindow()),
          Spatial::plain(op.getStrides(), op.getLow(), op.getHigh())};
}

LogicalResult SelectAndScatterAddOp::verify() {
  RankedTensorType source = tensorType(getSource()),
                   operand = tensorType(getOperand()), r = tensorType(getR());
  if (r != operand || source.getElementType() != operand.getElementType())
    return emitOpError("operand and result must be of one type, and source of "
                       "its element type: not ")
           << operand << ", " << r << " and " << source;
  return slidingOf(*this).verify(getOperation(), operand, source);
}

LogicalResult SelectAndScatterAddOp::emitJvp(JvpFrame &frame) {
  Sliding by = slidingOf(*this);
  auto of = [&](Value source) {
    return scatterSelected(frame.b, source, frame.primals[1], by, getLeast());
  };
  frame.results.push_back(of(frame.primals[0]));
  Value tangent = frame.tangents[0];
  frame.resultTangents.push_back(tangent ? of(tangent) : Value());
  return success();
}

LogicalResult SelectAndScatterAddOp::emitTranspose(TransposeFrame &frame) {
  if (frame.isLinear(1))
    return emitOpError("is not linear in the operand that it selects by");
  frame.operandCotangents[0] =
      gatherSelected(frame.b, frame.cotangents[0], frame.operands[1],
                     slidingOf(*this), getLeast());
  return success();
}

LogicalResult SelectAndScatterAddOp::emitBatch(BatchFrame &frame) {
  frame.results.push_back(
      scatterSelected(frame.b, frame.getBatched(0), frame.getBatched(1),
                      slidingOf(*this).batched(), getLeast()));
  return success();
}

LogicalResult SelectAndScatterAddOp::emitLowering(LoweringFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  RankedTensorType type = tensorType(getR());
  if (tensorType(getSource()).getNumElements() == 0) {
    frame.results.push_back(makeZero(b, type));
    return success();
  }
  // XLA's backends crash on padding: it is written out.
  Sliding by = slidingOf(*this);
  SmallVector<int64_t> none(type.getRank(), 0), back, backHigh;
  for (auto [low, high] : llvm::zip_equal(by.space.low, by.space.high)) {
    back.push_back(-low);
    backHigh.push_back(-high);
  }
  Value worst = extremeNumber(b, scalarOf(getOperand()), getLeast());
  Value keys = b.createOrFold<PadOp>(getOperand(), worst, by.space.low,
                                     by.space.high, none);
  Value zero = makeZero(b, scalarOf(getSource()));
  SmallVector<NamedAttribute> attributes{
      b.getNamedAttr("window_dimensions", b.getDenseI64ArrayAttr(by.window)),
      b.getNamedAttr("window_strides",
                     b.getDenseI64ArrayAttr(by.space.strides))};
  Operation *scatter = bm::detail::createForeign(
      b, "stablehlo.select_and_scatter", keys.getType(),
      {keys, getSource(), zero}, attributes, /*regions=*/2);
  Type scalar = zero.getType(), flag = RankedTensorType::get({}, b.getI1Type());
  emitReductionBody(b, scatter->getRegion(0), scalar, [&](ValueRange pair) {
    return SmallVector<Value>{CompareOp::create(
        b, flag, pair[0], pair[1],
        getLeast() ? CompareDirection::LE : CompareDirection::GE)};
  });
  emitReductionBody(b, scatter->getRegion(1), scalar, [&](ValueRange pair) {
    return SmallVector<Value>{AddOp::create(b, scalar, pair[0], pair[1])};
  });
  frame.results.push_back(
      b.createOrFold<PadOp>(scatter->getResult(0), zero, back, backHigh, none));
  return success();
}
