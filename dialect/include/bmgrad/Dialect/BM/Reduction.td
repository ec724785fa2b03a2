//===- Reduction.td - Reductions and cumulative ops -*- tablegen -*---------===//
//
// Sums are linear. The derivative of the other reductions is written in terms of
// other ops (Reduction.cpp); that of the cumulative ones in terms of
// `bm.linear_recurrence` or of a scan of pairs (Cumulative.cpp).
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_DIALECT_BM_REDUCTION_TD
#define BMGRAD_DIALECT_BM_REDUCTION_TD

include "bmgrad/Dialect/BM/BMBase.td"

//===----------------------------------------------------------------------===//
// Reductions
//===----------------------------------------------------------------------===//

/// `combine` is the op that joins two elements and `identity` the value that it leaves
/// alone, a C++ expression over a builder `b` and a scalar type `scalar`.
class BM_Reduction<string mnemonic, Type type, string combine, string identity,
                   list<Trait> traits = []>
    : BM_Op<mnemonic, !listconcat([InferTypeOpAdaptor], traits, BM_HasJvp, BM_HasBatching,
                                  BM_HasLowering)> {
  let arguments = (ins type:$x, DenseI64ArrayAttr:$axes);
  let results = (outs type:$r);
  let assemblyFormat = "$x `axes` `=` $axes attr-dict `:` functional-type(operands, results)";
  let hasFolder = 1;
  code jvp = "";
  let definition = !strconcat(jvp, [{
    ::llvm::LogicalResult $cppClass::inferReturnTypes(
        ::mlir::MLIRContext *, ::std::optional<::mlir::Location> location, Adaptor adaptor,
        ::llvm::SmallVectorImpl<::mlir::Type> &types) {
      return inferReduction(location, adaptor.getX(), adaptor.getAxes(), types);
    }
    ::mlir::OpFoldResult $cppClass::fold(FoldAdaptor) { return foldReduction(*this, getAxes()); }
    ::llvm::LogicalResult $cppClass::emitBatch(::bmgrad::bm::BatchFrame &frame) {
      frame.results.push_back(create(frame.b, frame.operands[0], shiftedDims(getAxes())));
      return ::mlir::success();
    }
    ::llvm::LogicalResult $cppClass::emitLowering(::bmgrad::bm::LoweringFrame &frame) {
      auto &b = frame.b;
      auto scalar = ::mlir::RankedTensorType::get({}, tensorType(getX()).getElementType());
      ::mlir::Value result = reduceForeign(b, getX(), }] # identity # [{, getAxes(),
          [&](::mlir::Value x, ::mlir::Value y) -> ::mlir::Value {
            return }] # combine # [{::create(b, scalar, x, y);
          });
      frame.results.push_back(result);
      return ::mlir::success();
    }
  }]);
}

def BM_ReduceSumOp
    : BM_Reduction<"reduce_sum", BM_NumberTensor, "AddOp", "makeZero(b, scalar)", BM_HasTranspose> {
  let summary = "Sum over axes";
  let description = [{
    Linear; the transpose repeats the cotangent along the axes.
    Example: `%1 = bm.reduce_sum %0 axes = [1] : (tensor<2x3xf32>) -> tensor<2xf32>`
  }];
  let jvp = BM_LinearJvp;
  let hasCanonicalizeMethod = 1;
}
def BM_ReduceProdOp
    : BM_Reduction<"reduce_prod", BM_NumberTensor, "MulOp", "makeConstant(b, scalar, 1.0)"> {
  let summary = "Product over axes";
  let description = [{
    The derivative with respect to an element is the product of the others. It is computed as that of a
    product of halves, of quarters and so on: no division, so zeros do no harm at any order.
    Example: `%1 = bm.reduce_prod %0 axes = [1] : (tensor<2x3xf32>) -> tensor<2xf32>`
  }];
}
def BM_ReduceMaxOp
    : BM_Reduction<"reduce_max", BM_Tensor, "MaxOp", "extremeNumber(b, scalar, false)"> {
  let summary = "Maximum over axes";
  let description = [{
    Elements that are equal to the result share its derivative equally. NaN propagates; complex numbers are
    ordered by real, then imaginary part. Of an empty array it is the smallest number of the type.
    Example: `%1 = bm.reduce_max %0 axes = [1] : (tensor<2x3xf32>) -> tensor<2xf32>`
  }];
}
def BM_ReduceMinOp
    : BM_Reduction<"reduce_min", BM_Tensor, "MinOp", "extremeNumber(b, scalar, true)"> {
  let summary = "Minimum over axes";
  let description = [{
    As `bm.reduce_max`, with the order reversed.
    Example: `%1 = bm.reduce_min %0 axes = [1] : (tensor<2x3xf32>) -> tensor<2xf32>`
  }];
}
def BM_ReduceAndOp
    : BM_Reduction<"reduce_and", BM_IntOrBoolTensor, "AndOp", "makeConstant(b, scalar, -1.0)"> {
  let summary = "Bitwise or logical conjunction over axes";
  let description = [{Example: `%1 = bm.reduce_and %0 axes = [1] : (tensor<2x3xi1>) -> tensor<2xi1>`}];
  let jvp = BM_ZeroJvp;
}
def BM_ReduceOrOp
    : BM_Reduction<"reduce_or", BM_IntOrBoolTensor, "OrOp", "makeZero(b, scalar)"> {
  let summary = "Bitwise or logical disjunction over axes";
  let description = [{Example: `%1 = bm.reduce_or %0 axes = [1] : (tensor<2x3xi1>) -> tensor<2xi1>`}];
  let jvp = BM_ZeroJvp;
}
def BM_ReduceXorOp
    : BM_Reduction<"reduce_xor", BM_IntOrBoolTensor, "XorOp", "makeZero(b, scalar)"> {
  let summary = "Bitwise or logical exclusive or over axes";
  let description = [{Example: `%1 = bm.reduce_xor %0 axes = [1] : (tensor<2x3xi1>) -> tensor<2xi1>`}];
  let jvp = BM_ZeroJvp;
}

class BM_ArgReduction<string mnemonic>
    : BM_Op<mnemonic, !listconcat(BM_HasJvp, BM_HasBatching, BM_HasLowering)> {
  let arguments = (ins BM_OrderedTensor:$x, I64Attr:$axis);
  let results = (outs BM_IntTensor:$r);
  let assemblyFormat = "$x `axis` `=` $axis attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
  let definition = !strconcat(BM_ZeroJvp, [{
    ::llvm::LogicalResult $cppClass::verify() {
      return verifyArgReduction(*this, tensorType(getX()), getAxis());
    }
    ::llvm::LogicalResult $cppClass::emitBatch(::bmgrad::bm::BatchFrame &frame) {
      frame.results.push_back(create(frame.b, batchedType(getType(), frame.size),
                                     frame.operands[0], getAxis() + 1));
      return ::mlir::success();
    }
    ::llvm::LogicalResult $cppClass::emitLowering(::bmgrad::bm::LoweringFrame &frame) {
      frame.results.push_back(reduceToIndex(frame.b, getX(), tensorType(getR()), getAxis(),
                                            isa<ArgmaxOp>(**this)));
      return ::mlir::success();
    }
  }]);
}
def BM_ArgmaxOp : BM_ArgReduction<"argmax"> {
  let summary = "Index of the maximum along an axis";
  let description = [{
    Of the first one where several are equal, or of the first NaN. The result's element type is the index
    type. Example: `%1 = bm.argmax %0 axis = 1 : (tensor<2x3xf32>) -> tensor<2xi32>`
  }];
}
def BM_ArgminOp : BM_ArgReduction<"argmin"> {
  let summary = "Index of the minimum along an axis";
  let description = [{
    Of the first one where several are equal, or of the first NaN. The result's element type is the index
    type. Example: `%1 = bm.argmin %0 axis = 1 : (tensor<2x3xf32>) -> tensor<2xi32>`
  }];
}

//===----------------------------------------------------------------------===//
// Cumulative ops
//===----------------------------------------------------------------------===//

/// `combine` is a function in Cumulative.cpp that joins two elements.
class BM_Cumulative<string mnemonic, Type type, string combine, list<Trait> traits = []>
    : BM_Op<mnemonic, !listconcat([AllTypesMatch<["x", "r"]>], traits, BM_HasJvp, BM_HasBatching,
                                  BM_HasLowering)> {
  let arguments = (ins type:$x, I64Attr:$axis, UnitAttr:$reverse);
  let results = (outs type:$r);
  let assemblyFormat = "$x `axis` `=` $axis (`reverse` $reverse^)? attr-dict `:` type($r)";
  let hasVerifier = 1;
  let hasFolder = 1;
  code jvp = "";
  let definition = !strconcat(jvp, [{
    ::llvm::LogicalResult $cppClass::verify() {
      return verifyCumulative(*this, getAxis());
    }
    ::mlir::OpFoldResult $cppClass::fold(FoldAdaptor) {
      return tensorType(getX()).getDimSize(getAxis()) <= 1 ? getX() : ::mlir::Value();
    }
    ::llvm::LogicalResult $cppClass::emitBatch(::bmgrad::bm::BatchFrame &frame) {
      frame.results.push_back(create(frame.b, frame.operands[0], getAxis() + 1, getReverse()));
      return ::mlir::success();
    }
    ::llvm::LogicalResult $cppClass::emitLowering(::bmgrad::bm::LoweringFrame &frame) {
      frame.results.push_back(scan(frame.b, getX(), getAxis(), getReverse(), }] # combine # [{));
      return ::mlir::success();
    }
  }]);
}

def BM_CumsumOp : BM_Cumulative<"cumsum", BM_NumberTensor, "expr::add", BM_HasTranspose> {
  let summary = "Running sum along an axis";
  let description = [{
    `r[k] = sum of x[i] over i <= k`, or `i >= k` in reverse. Linear; the transpose runs the other way.
    Example: `%1 = bm.cumsum %0 axis = 0 reverse : tensor<3xf32>`
  }];
  let jvp = BM_LinearJvp;
}
def BM_CumprodOp : BM_Cumulative<"cumprod", BM_NumberTensor, "expr::mul"> {
  let summary = "Running product along an axis";
  let description = [{
    `r[k] = x[k] r[k-1]`, so the tangent obeys `dr[k] = x[k] dr[k-1] + r[k-1] dx[k]`: exact where `x` is zero.
    Example: `%1 = bm.cumprod %0 axis = 0 : tensor<3xf32>`
  }];
}
def BM_CummaxOp : BM_Cumulative<"cummax", BM_NumberTensor, "larger"> {
  let summary = "Running maximum along an axis";
  let description = [{
    The derivative is that of the scan by pairs which JAX differentiates: equal elements share it by halves
    where they meet. Example: `%1 = bm.cummax %0 axis = 0 : tensor<3xf32>`
  }];
}
def BM_CumminOp : BM_Cumulative<"cummin", BM_NumberTensor, "smaller"> {
  let summary = "Running minimum along an axis";
  let description = [{
    As `bm.cummax`, with the order reversed. Example: `%1 = bm.cummin %0 axis = 0 : tensor<3xf32>`
  }];
}
def BM_CumlogsumexpOp : BM_Cumulative<"cumlogsumexp", BM_InexactTensor, "logAddExp"> {
  let summary = "Running logarithm of the sum of exponentials along an axis";
  let description = [{
    `r[k] = log(e^r[k-1] + e^x[k])`, so `dr[k] = e^(r[k-1] - r[k]) dr[k-1] + e^(x[k] - r[k]) dx[k]`.
    Example: `%1 = bm.cumlogsumexp %0 axis = 0 : tensor<3xf32>`
  }];
}

def BM_LinearRecurrenceOp
    : BM_Op<"linear_recurrence", !listconcat([AllTypesMatch<["a", "b", "r"]>], BM_HasJvp,
                                             BM_HasTranspose, BM_HasBatching, BM_HasLowering)> {
  let summary = "First-order linear recurrence along an axis";
  let description = [{
    `r[k] = a[k] r[k-1] + b[k]`, with `r[-1] = 0`; in reverse `r[k] = a[k] r[k+1] + b[k]`. Linear in `b`: the
    transpose is the recurrence that runs the other way with `a` shifted by one. Its tangent,
    `dr[k] = a[k] dr[k-1] + (r[k-1] da[k] + db[k])`, is one again, so derivatives of cumulative ops of any
    order are made of it. Computed as a scan of pairs in logarithmic depth. Example:
    ```mlir
    %2 = bm.linear_recurrence %a, %b axis = 0 reverse : tensor<3xf32>
    ```
  }];
  let primitives = [];
  let arguments = (ins BM_InexactTensor:$a, BM_InexactTensor:$b, I64Attr:$axis, UnitAttr:$reverse);
  let results = (outs BM_InexactTensor:$r);
  let assemblyFormat = "$a `,` $b `axis` `=` $axis (`reverse` $reverse^)? attr-dict `:` type($r)";
  let hasVerifier = 1;
  let hasFolder = 1;
  let definition = [{
    ::llvm::LogicalResult $cppClass::verify() { return verifyCumulative(*this, getAxis()); }
    ::mlir::OpFoldResult $cppClass::fold(FoldAdaptor) {
      return tensorType(getB()).getDimSize(getAxis()) <= 1 ? getB() : ::mlir::Value();
    }
  }];
}

#endif // BMGRAD_DIALECT_BM_REDUCTION_TD
