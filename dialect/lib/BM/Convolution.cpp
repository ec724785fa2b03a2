//===- Convolution.cpp - The rules of the op of Convolution.td ------------===//

#include "bmgrad/Dialect/BM/Convolution.h"
#include "Dims.h"
#include "Spatial.h"
#include "bmgrad/Dialect/BM/Elementwise.h"
#include "bmgrad/Dialect/BM/Expr.h"
#include "bmgrad/Dialect/BM/Shape.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/TypeUtilities.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace bmgrad;
using namespace bmgrad::bm;

#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Convolution.cpp.inc"

void bmgrad::bm::addConvolutionOps(BMDialect &dialect) {
  dialect.addFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/Convolution.cpp.inc"
      >();
}

//===----------------------------------------------------------------------===//
// Dimensions
//===----------------------------------------------------------------------===//

namespace {
/// A convolution to be made. The dimensions are in the order of the record: of
/// lhs and the result batch, feature, space; of rhs feature out, feature in,
/// space.
struct Convolution {
  Value lhs, rhs;
  SmallVector<int64_t> lhsDims, rhsDims, outDims;
  Spatial space;
  int64_t featureGroups, batchGroups;
  ArrayAttr precision;

  static Convolution of(ConvolutionOp op) {
    return {op.getLhs(),
            op.getRhs(),
            llvm::to_vector(op.getLhsDims()),
            llvm::to_vector(op.getRhsDims()),
            llvm::to_vector(op.getOutDims()),
            {llvm::to_vector(op.getStrides()), llvm::to_vector(op.getLow()),
             llvm::to_vector(op.getHigh()),
             llvm::to_vector(op.getLhsDilation()),
             llvm::to_vector(op.getRhsDilation())},
            static_cast<int64_t>(op.getFeatureGroups()),
            static_cast<int64_t>(op.getBatchGroups()),
            op.getPrecisionAttr()};
  }

  static SmallVector<int64_t> sizes(RankedTensorType type,
                                    ArrayRef<int64_t> dims) {
    return llvm::map_to_vector(
        dims, [&](int64_t dim) { return type.getDimSize(dim); });
  }
  SmallVector<int64_t> lhsSpace() const {
    return sizes(tensorType(lhs), ArrayRef(lhsDims).drop_front(2));
  }
  SmallVector<int64_t> rhsSpace() const {
    return sizes(tensorType(rhs), ArrayRef(rhsDims).drop_front(2));
  }

  SmallVector<int64_t> resultShape() const {
    SmallVector<int64_t> shape(outDims.size());
    shape[outDims[0]] = tensorType(lhs).getDimSize(lhsDims[0]) / batchGroups;
    shape[outDims[1]] = tensorType(rhs).getDimSize(rhsDims[0]);
    for (auto [dim, size] :
         llvm::zip_equal(ArrayRef(outDims).drop_front(2),
                         space.resultShape(lhsSpace(), rhsSpace())))
      shape[dim] = size;
    return shape;
  }

  Value create(ImplicitLocOpBuilder &b, Type element) const {
    return ConvolutionOp::create(
        b, RankedTensorType::get(resultShape(), element), lhs, rhs, lhsDims,
        rhsDims, outDims, space.strides, space.low, space.high,
        space.baseDilation, space.windowDilation, featureGroups, batchGroups,
        precision);
  }
};
} // namespace

static LogicalResult verifyOperandDims(ConvolutionOp op, StringRef name,
                                       ArrayRef<int64_t> dims, Value value) {
  int64_t rank = tensorType(value).getRank();
  if (static_cast<int64_t>(dims.size()) != rank || rank < 2)
    return op.emitOpError("dims of ")
           << name << " must list two dimensions and those of space, all of "
           << value.getType();
  return verifyDims(op.getLoc(), ("'bm.convolution' op dims of " + name).str(),
                    dims, rank);
}

LogicalResult ConvolutionOp::verify() {
  if (failed(verifyOperandDims(*this, "lhs", getLhsDims(), getLhs())) ||
      failed(verifyOperandDims(*this, "rhs", getRhsDims(), getRhs())) ||
      failed(verifyOperandDims(*this, "the result", getOutDims(), getR())))
    return failure();
  size_t spaces = getLhsDims().size() - 2;
  Convolution conv = Convolution::of(*this);
  if (getRhsDims().size() != spaces + 2 || getOutDims().size() != spaces + 2 ||
      !conv.space.isValid(spaces))
    return emitOpError("operands and result must have one rank, with a stride, "
                       "padding and dilations for each of ")
           << spaces << " spatial dimensions";
  if (conv.featureGroups < 1 || conv.batchGroups < 1 ||
      (conv.featureGroups > 1 && conv.batchGroups > 1))
    return emitOpError("has groups of features or of the batch, not of both: ")
           << conv.featureGroups << " and " << conv.batchGroups;
  int64_t batch = tensorType(getLhs()).getDimSize(conv.lhsDims[0]),
          features = tensorType(getLhs()).getDimSize(conv.lhsDims[1]),
          made = tensorType(getRhs()).getDimSize(conv.rhsDims[0]),
          read = tensorType(getRhs()).getDimSize(conv.rhsDims[1]);
  if (features != read * conv.featureGroups)
    return emitOpError("lhs has ")
           << features << " features, but rhs reads " << read << " in each of "
           << conv.featureGroups << " groups";
  if (made % (conv.featureGroups * conv.batchGroups) ||
      batch % conv.batchGroups)
    return emitOpError("cannot divide ")
           << made << " features of the result and a batch of " << batch
           << " into " << conv.featureGroups << " and " << conv.batchGroups
           << " groups";
  if (SmallVector<int64_t> shape = conv.resultShape();
      tensorType(getR()).getShape() != ArrayRef(shape))
    return emitOpError("result must have shape [")
           << shape << "], but it is " << getType();
  return success();
}

//===----------------------------------------------------------------------===//
// Groups
//===----------------------------------------------------------------------===//

/// Makes the leading dimension part of dimension `dim` of the rest, inside its
/// outermost `groups` groups: `[n, ..., g d, ...]` becomes `[..., g n d, ...]`.
static Value mergeLeading(ImplicitLocOpBuilder &b, Value value, int64_t dim,
                          int64_t groups) {
  RankedTensorType type = tensorType(value);
  int64_t size = type.getDimSize(dim + 1), leading = type.getDimSize(0);
  SmallVector<int64_t> split(type.getShape());
  split[dim + 1] = size / groups;
  split.insert(split.begin() + dim + 1, groups);
  value = b.createOrFold<ReshapeOp>(type.clone(split), value);
  // Dimension 0 goes between the groups and what is in them.
  auto order = llvm::to_vector(llvm::seq<int64_t>(1, split.size()));
  order.insert(order.begin() + dim + 1, 0);
  value = b.createOrFold<TransposeOp>(value, order);
  SmallVector<int64_t> merged(type.getShape().drop_front());
  merged[dim] = size * leading;
  return b.createOrFold<ReshapeOp>(type.clone(merged), value);
}

/// The inverse: `[..., g n d, ...]` becomes `[n, ..., g d, ...]`.
static Value splitLeading(ImplicitLocOpBuilder &b, Value value, int64_t dim,
                          int64_t leading, int64_t groups) {
  RankedTensorType type = tensorType(value);
  int64_t size = type.getDimSize(dim) / leading;
  SmallVector<int64_t> split(type.getShape());
  split[dim] = size / groups;
  split.insert(split.begin() + dim, {groups, leading});
  value = b.createOrFold<ReshapeOp>(type.clone(split), value);
  int64_t from = dim + 1;
  SmallVector<int64_t> order =
      prepended(from, otherDims(static_cast<int64_t>(split.size()), from));
  value = b.createOrFold<TransposeOp>(value, order);
  SmallVector<int64_t> shape = prepended(leading, type.getShape());
  shape[dim + 1] = size;
  return b.createOrFold<ReshapeOp>(type.clone(shape), value);
}

/// The groups that are the outer part of one dimension become the outer part of
/// another.
static Value moveGroups(ImplicitLocOpBuilder &b, Value value, int64_t from,
                        int64_t to, int64_t groups) {
  if (groups == 1)
    return value;
  return mergeLeading(b, splitLeading(b, value, from, groups, 1), to, 1);
}

//===----------------------------------------------------------------------===//
// Derivative
//===----------------------------------------------------------------------===//

static Value convertTo(ImplicitLocOpBuilder &b, Value value, Type element) {
  return b.createOrFold<ConvertOp>(tensorType(value).clone(element), value);
}

static SmallVector<int64_t> exchanged(ArrayRef<int64_t> dims) {
  SmallVector<int64_t> result(dims);
  std::swap(result[0], result[1]);
  return result;
}

/// Without space and groups a convolution is the product `[n, c] [c, o]`. The
/// cotangent of lhs is `[n, o] [o, c]`; with groups, `g` beside what they
/// divide:
///   feature groups   [n, gc] [c, go] -> [n, go]   gives   [n, go] [o, gc]
///   batch groups     [gn, c] [c, go] -> [n, go]   gives   [n, go] [o, gc]
/// so both are feature groups, those of rhs moved from what it makes to what it
/// reads; and those of the batch move back to it afterwards.
static Value transposeLhs(ImplicitLocOpBuilder &b, const Convolution &conv,
                          Value cotangent, Value rhs) {
  Convolution back = conv;
  int64_t groups = conv.featureGroups * conv.batchGroups;
  rhs = moveGroups(b, rhs, conv.rhsDims[0], conv.rhsDims[1], groups);
  back.lhs = cotangent;
  back.rhs = b.createOrFold<ReverseOp>(rhs.getType(), rhs,
                                       ArrayRef(conv.rhsDims).drop_front(2));
  back.lhsDims = conv.outDims;
  back.rhsDims = exchanged(conv.rhsDims);
  back.outDims = conv.lhsDims;
  back.space = conv.space.towardsBase(conv.lhsSpace(), conv.rhsSpace());
  back.featureGroups = groups;
  back.batchGroups = 1;
  Value result = back.create(b, tensorType(cotangent).getElementType());
  return moveGroups(b, result, conv.lhsDims[1], conv.lhsDims[0],
                    conv.batchGroups);
}

/// The cotangent of rhs is `[c, n] [n, o]`, and with groups
///   feature groups   [gc, n] [n, go] -> [c, go]: batch groups
///   batch groups     [c, gn] [n, go] -> [c, go]: feature groups.
static Value transposeRhs(ImplicitLocOpBuilder &b, const Convolution &conv,
                          Value cotangent, Value lhs) {
  Convolution back = conv;
  back.lhs = lhs;
  back.rhs = cotangent;
  back.lhsDims = exchanged(conv.lhsDims);
  back.rhsDims = exchanged(conv.outDims);
  back.outDims = exchanged(conv.rhsDims);
  back.space = conv.space.towardsWindow(conv.lhsSpace(), conv.rhsSpace());
  std::swap(back.featureGroups, back.batchGroups);
  return back.create(b, tensorType(cotangent).getElementType());
}

LogicalResult ConvolutionOp::emitTranspose(TransposeFrame &frame) {
  if (frame.isLinear(0) && frame.isLinear(1))
    return emitOpError("is linear in one operand at a time");
  ImplicitLocOpBuilder &b = frame.b;
  Value cotangent = frame.cotangents[0];
  // No elements: a symbolic zero, instead of a convolution by an empty window.
  if (tensorType(cotangent).getNumElements() == 0)
    return success();
  unsigned wanted = frame.isLinear(0) ? 0 : 1;
  Type element = tensorType(cotangent).getElementType(),
       wantedElement = tensorType(getOperand(wanted)).getElementType();
  Value held = convertTo(b, frame.operands[1 - wanted], element);
  Convolution conv = Convolution::of(*this);
  Value result = wanted == 0 ? transposeLhs(b, conv, cotangent, held)
                             : transposeRhs(b, conv, cotangent, held);
  frame.operandCotangents[wanted] = convertTo(b, result, wantedElement);
  return success();
}

//===----------------------------------------------------------------------===//
// Batching
//===----------------------------------------------------------------------===//

/// There is one batch dimension only, so that of the frame becomes part of
/// another: more of the batch, more features made, or, where both operands have
/// it, more groups.
LogicalResult ConvolutionOp::emitBatch(BatchFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  RankedTensorType type = batchedType(getType(), frame.size);
  if (type.getNumElements() == 0) {
    frame.results.push_back(makeZero(b, type));
    return success();
  }
  Convolution conv = Convolution::of(*this);
  conv.lhs = frame.operands[0];
  conv.rhs = frame.operands[1];
  int64_t groups = conv.featureGroups * conv.batchGroups,
          resultDim = conv.outDims[1], resultGroups = 1;
  if (!frame.batched[1]) {
    conv.lhs = mergeLeading(b, conv.lhs, conv.lhsDims[0], conv.batchGroups);
    resultDim = conv.outDims[0];
  } else if (!frame.batched[0]) {
    conv.rhs = mergeLeading(b, conv.rhs, conv.rhsDims[0], groups);
    resultGroups = groups;
  } else {
    bool byBatch = conv.batchGroups > 1;
    conv.lhs = mergeLeading(b, conv.lhs, conv.lhsDims[byBatch ? 0 : 1], 1);
    conv.rhs = mergeLeading(b, conv.rhs, conv.rhsDims[0], 1);
    (byBatch ? conv.batchGroups : conv.featureGroups) *= frame.size;
  }
  Value result = conv.create(b, type.getElementType());
  frame.results.push_back(
      splitLeading(b, result, resultDim, frame.size, resultGroups));
  return success();
}

//===----------------------------------------------------------------------===//
// Lowering
//===----------------------------------------------------------------------===//

/// Neither XLA's CPU nor its GPU backend convolves complex numbers well: three
/// real products by Gauss's scheme.
static Value convolveComplex(ImplicitLocOpBuilder &b, const Convolution &conv,
                             ComplexType element) {
  auto part = [&](Value x, bool imaginary) {
    Type type = tensorType(x).clone(
        cast<ComplexType>(getElementTypeOrSelf(x)).getElementType());
    return Expr(b, imaginary ? ImagOp::create(b, type, x).getResult()
                             : RealOp::create(b, type, x).getResult());
  };
  auto product = [&](Expr x, Expr y) {
    Convolution real = conv;
    real.lhs = x.get();
    real.rhs = y.get();
    return Expr(b, real.create(b, element.getElementType()));
  };
  Expr xRe = part(conv.lhs, false), xIm = part(conv.lhs, true),
       yRe = part(conv.rhs, false), yIm = part(conv.rhs, true);
  Expr k1 = product(xRe + xIm, yRe), k2 = product(xRe, yIm - yRe),
       k3 = product(xIm, yRe + yIm);
  auto type = RankedTensorType::get(conv.resultShape(), element);
  return ComplexOp::create(b, type, (k1 - k3).get(), (k1 + k2).get());
}

/// `[b, 0, 1, f]`: what each dimension of an operand is.
static std::string layoutText(ArrayRef<int64_t> dims, StringRef first,
                              StringRef second) {
  SmallVector<std::string> names(dims.size());
  for (auto [index, dim] : llvm::enumerate(dims))
    names[dim] = index == 0   ? first.str()
                 : index == 1 ? second.str()
                              : std::to_string(index - 2);
  return "[" + llvm::join(names, ", ") + "]";
}

LogicalResult ConvolutionOp::emitLowering(LoweringFrame &frame) {
  ImplicitLocOpBuilder &b = frame.b;
  Convolution conv = Convolution::of(*this);
  RankedTensorType type = tensorType(getR());
  if (auto complex = dyn_cast<ComplexType>(type.getElementType())) {
    frame.results.push_back(convolveComplex(b, conv, complex));
    return success();
  }
  auto foreign = [&](const Twine &text) {
    return bm::detail::foreignAttr(b, "stablehlo", text.str());
  };
  SmallVector<Attribute> precisions(2, foreign("precision DEFAULT"));
  if (conv.precision)
    for (auto [text, precision] :
         llvm::zip(precisions, conv.precision.getAsRange<PrecisionAttr>()))
      text = foreign("precision " +
                     stringifyPrecision(precision.getValue()).upper());
  SmallVector<NamedAttribute> attributes;
  auto add = [&](StringRef name, Attribute attribute) {
    attributes.push_back(b.getNamedAttr(name, attribute));
  };
  add("window_strides", b.getDenseI64ArrayAttr(conv.space.strides));
  add("lhs_dilation", b.getDenseI64ArrayAttr(conv.space.baseDilation));
  add("rhs_dilation", b.getDenseI64ArrayAttr(conv.space.windowDilation));
  add("padding", conv.space.padding(b));
  add("dimension_numbers",
      foreign("conv<" + layoutText(conv.lhsDims, "b", "f") + "x" +
              layoutText(conv.rhsDims, "o", "i") + "->" +
              layoutText(conv.outDims, "b", "f") + ">"));
  add("feature_group_count", b.getI64IntegerAttr(conv.featureGroups));
  add("batch_group_count", b.getI64IntegerAttr(conv.batchGroups));
  add("precision_config", b.getArrayAttr(precisions));
  frame.results.push_back(bm::detail::createForeign(b, getStablehloName(), type,
                                                    {conv.lhs, conv.rhs},
                                                    attributes)
                              ->getResult(0));
  return success();
}
