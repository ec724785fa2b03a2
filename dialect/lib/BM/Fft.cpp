//===- Fft.cpp - The rules of the op of Fft.td ----------------------------===//

#include "bmgrad/Dialect/BM/Fft.h"
#include "bmgrad/Dialect/BM/Elementwise.h"
#include "bmgrad/Dialect/BM/Shape.h"

#include "mlir/IR/Builders.h"

#include <numeric>

using namespace mlir;
using namespace bmgrad;
using namespace bmgrad::bm;

#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Fft.cpp.inc"

void bmgrad::bm::addFftOps(BMDialect &dialect) {
  dialect.addFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/Fft.cpp.inc"
      >();
}

//===----------------------------------------------------------------------===//
// Shapes
//===----------------------------------------------------------------------===//

/// The type of the half of the frequencies that a real signal has.
static RankedTensorType halfType(RankedTensorType real) {
  SmallVector<int64_t> shape(real.getShape());
  shape.back() = shape.back() / 2 + 1;
  return RankedTensorType::get(shape, ComplexType::get(real.getElementType()));
}

/// Of the two sides the one that has the signal's full lengths.
static RankedTensorType signalType(FftOp op) {
  return tensorType(op.getKind() == FftKind::Irfft ? op.getR() : op.getX());
}

LogicalResult FftOp::verify() {
  RankedTensorType x = tensorType(getX()), r = tensorType(getR()),
                   signal = signalType(*this);
  ArrayRef<int64_t> lengths = getLengths();
  if (lengths.empty() || lengths.size() > 3)
    return emitOpError("transforms 1 to 3 dimensions, not ") << lengths.size();
  if (static_cast<int64_t>(lengths.size()) > signal.getRank() ||
      signal.getShape().take_back(lengths.size()) != lengths)
    return emitOpError("has lengths [")
           << lengths
           << "], but the last dimensions of the signal are those of "
           << signal;
  switch (getKind()) {
  case FftKind::Fft:
  case FftKind::Ifft:
    if (!isa<ComplexType>(x.getElementType()) || x != r)
      return emitOpError("has operand and result of one complex type, not ")
             << x << " and " << r;
    return success();
  case FftKind::Rfft:
  case FftKind::Irfft:
    RankedTensorType other = getKind() == FftKind::Rfft ? r : x;
    if (!isa<FloatType>(signal.getElementType()) || other != halfType(signal))
      return emitOpError("pairs a real signal with its frequencies up to half "
                         "the last length, not ")
             << signal << " with " << other;
    return success();
  }
  llvm_unreachable("all kinds are listed");
}

//===----------------------------------------------------------------------===//
// Derivative and batching
//===----------------------------------------------------------------------===//

/// One for frequencies that stand for themselves, two for those that stand for
/// their mirror images as well, spread over `type`; divided by `scale`, or
/// `scale` over them.
static Value frequencyWeights(ImplicitLocOpBuilder &b, RankedTensorType type,
                              int64_t length, double scale, bool inverse) {
  int64_t size = type.getShape().back();
  auto weight = [&](double stands) {
    return inverse ? scale / stands : scale * stands;
  };
  auto constant = [&](int64_t count, double value) {
    return makeConstant(
        b, RankedTensorType::get({count}, type.getElementType()), value);
  };
  bool hasHalf = length % 2 == 0 && size > 1;
  SmallVector<Value> parts{constant(1, weight(1.0))};
  if (int64_t doubled = size - 1 - hasHalf)
    parts.push_back(constant(doubled, weight(2.0)));
  if (hasHalf)
    parts.push_back(constant(1, weight(1.0)));
  Value weights = b.createOrFold<ConcatenateOp>(
      RankedTensorType::get({size}, type.getElementType()), parts, 0);
  return b.createOrFold<BroadcastInDimOp>(
      type, weights, b.getDenseI64ArrayAttr({type.getRank() - 1}));
}

static Value conjugate(ImplicitLocOpBuilder &b, Value x) {
  return ConjOp::create(b, x.getType(), x);
}

LogicalResult FftOp::emitTranspose(TransposeFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Value ct = frame.cotangents[0];
  RankedTensorType from = tensorType(getX());
  auto transformed = [&](Value x, RankedTensorType type,
                         FftKind kind) -> Value {
    return FftOp::create(b, type, x, kind, getLengths());
  };
  double count = 1;
  for (int64_t length : getLengths())
    count *= static_cast<double>(length);
  int64_t last = getLengths().back();
  Value result;
  switch (getKind()) {
  case FftKind::Fft:
  case FftKind::Ifft:
    result = transformed(ct, from, getKind());
    break;
  case FftKind::Rfft: {
    // sum over k <= n/2 of ct[k] e^(-2 pi i j k / n), of which the real part is
    // kept: the inverse transform of conj(ct), whose inner frequencies count
    // twice there.
    RankedTensorType half = tensorType(ct);
    Value weights = frequencyWeights(b, half, last, count, /*inverse=*/true);
    Value scaled = MulOp::create(b, half, conjugate(b, ct), weights);
    result = transformed(scaled, from, FftKind::Irfft);
    break;
  }
  case FftKind::Irfft: {
    Value weights =
        frequencyWeights(b, from, last, 1 / count, /*inverse=*/false);
    Value frequencies = transformed(ct, from, FftKind::Rfft);
    result = conjugate(b, MulOp::create(b, from, frequencies, weights));
    break;
  }
  }
  frame.operandCotangents[0] = result;
  return success();
}

LogicalResult FftOp::emitBatch(BatchFrame &frame) {
  frame.results.push_back(
      FftOp::create(frame.b, batchedType(getType(), frame.size),
                    frame.operands[0], getKind(), getLengths()));
  return success();
}

//===----------------------------------------------------------------------===//
// Lowering
//===----------------------------------------------------------------------===//

/// The inverse transform of all but the last dimension, then of that one: of
/// frequencies that no real signal has cuFFT makes something else otherwise.
static Value invertInTwo(ImplicitLocOpBuilder &b, FftOp op) {
  RankedTensorType type = tensorType(op.getX());
  ArrayRef<int64_t> outer = op.getLengths().drop_back();
  int64_t rank = type.getRank(), first = rank - 1 - outer.size();
  auto order = llvm::to_vector(llvm::seq<int64_t>(rank));
  std::rotate(order.begin() + first, order.end() - 1, order.end());
  Value moved = TransposeOp::create(b, op.getX(), order);
  Value inverted =
      FftOp::create(b, moved.getType(), moved, FftKind::Ifft, outer);
  std::iota(order.begin(), order.end(), 0);
  std::rotate(order.begin() + first, order.begin() + first + 1, order.end());
  return FftOp::create(b, op.getType(), TransposeOp::create(b, inverted, order),
                       FftKind::Irfft, op.getLengths().take_back());
}

LogicalResult FftOp::emitLowering(LoweringFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  // Backends fail where there is nothing to transform.
  if (tensorType(getX()).getNumElements() == 0 ||
      tensorType(getR()).getNumElements() == 0) {
    frame.results.push_back(makeZero(b, getType()));
    return success();
  }
  if (getKind() == FftKind::Irfft && getLengths().size() > 1) {
    frame.results.push_back(invertInTwo(b, *this));
    return success();
  }
  SmallVector<NamedAttribute> attributes{
      b.getNamedAttr("fft_type",
                     bm::detail::foreignAttr(
                         b, "stablehlo",
                         "fft_type " + stringifyFftKind(getKind()).upper())),
      b.getNamedAttr("fft_length", b.getDenseI64ArrayAttr(getLengths()))};
  frame.results.push_back(bm::detail::createForeign(
                              b, "stablehlo.fft", getType(), getX(), attributes)
                              ->getResult(0));
  return success();
}
