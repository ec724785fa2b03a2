//===- Pooling.td - Reductions over windows -*- tablegen -*-----------------===//
//
// Sums, maxima and minima over windows that slide over an array, and the two
// linear ops that their derivatives are made of. With a computation of one's own:
// `bm.reduce_window` in Folding.td.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_DIALECT_BM_POOLING_TD
#define BMGRAD_DIALECT_BM_POOLING_TD

include "bmgrad/Dialect/BM/BMBase.td"

/// How windows lie over an array, one entry a dimension. The array is dilated, then padded;
/// windows of `window` elements, dilated as well, begin at every `strides`-th place.
defvar BM_WindowArguments = (ins
    DenseI64ArrayAttr:$window, DenseI64ArrayAttr:$strides, DenseI64ArrayAttr:$low,
    DenseI64ArrayAttr:$high, DenseI64ArrayAttr:$base_dilation, DenseI64ArrayAttr:$window_dilation);
defvar BM_WindowFormat = [{
  `window` `=` $window `strides` `=` $strides `low` `=` $low `high` `=` $high
  `dilations` `=` $base_dilation `x` $window_dilation
}];

class BM_Pooling<string mnemonic, list<Trait> traits = []>
    : BM_Op<mnemonic, !listconcat(traits, BM_HasJvp, BM_HasBatching, BM_HasLowering)> {
  let hasVerifier = 1;
}

class BM_WindowReduction<string mnemonic, Type type, list<Trait> traits = []>
    : BM_Pooling<mnemonic, traits> {
  let arguments = !con((ins type:$x), BM_WindowArguments);
  let results = (outs type:$r);
  let assemblyFormat = !strconcat("$x ", BM_WindowFormat,
                                  " attr-dict `:` functional-type(operands, results)");
}

def BM_ReduceWindowSumOp
    : BM_WindowReduction<"reduce_window_sum", BM_NumberTensor, BM_HasTranspose> {
  let summary = "Sum over windows";
  let description = [{
    `r[p] = sum over k of x[s p + e k - low]`, with `k` below `window`, strides `s` and the window's dilation `e`; padding is zero. Linear:
    the transpose is a sum over windows of the cotangent, whose elements lie `s` apart. Example:
    ```mlir
    %1 = bm.reduce_window_sum %0 window = [2] strides = [2] low = [0] high = [0] dilations = [1] x [1]
        : (tensor<6xf32>) -> tensor<3xf32>
    ```
  }];
  let definition = BM_LinearJvp;
}
def BM_ReduceWindowMaxOp : BM_WindowReduction<"reduce_window_max", BM_OrderedTensor> {
  let summary = "Maximum over windows";
  let description = [{
    As `bm.reduce_window_sum`; padding is the smallest number of the type. The tangent is that of the first element in the window that is
    as large as the result (`bm.select_and_gather_add`). Example:
    ```mlir
    %1 = bm.reduce_window_max %0 window = [2] strides = [2] low = [0] high = [0] dilations = [1] x [1]
        : (tensor<6xf32>) -> tensor<3xf32>
    ```
  }];
}
def BM_ReduceWindowMinOp : BM_WindowReduction<"reduce_window_min", BM_OrderedTensor> {
  let summary = "Minimum over windows";
  let description = [{
    As `bm.reduce_window_max`, with the order reversed. Example:
    ```mlir
    %1 = bm.reduce_window_min %0 window = [2] strides = [2] low = [0] high = [0] dilations = [1] x [1]
        : (tensor<6xf32>) -> tensor<3xf32>
    ```
  }];
}

def BM_SelectAndGatherAddOp : BM_Pooling<"select_and_gather_add", BM_HasTranspose> {
  let summary = "What lies beside the extreme element of each window";
  let description = [{
    Of each window of `operand` the first element that is largest (with `least`: smallest) is found; the result is the element of
    `values` at its place, and zero where the whole window is padding. Linear in `values`: the transpose is
    `bm.select_and_scatter_add`. Example:
    ```mlir
    %2 = bm.select_and_gather_add %values by %operand window = [2] strides = [2] low = [0] high = [0]
        dilations = [1] x [1] : (tensor<6xf32>, tensor<6xf32>) -> tensor<3xf32>
    ```
  }];
  let arguments = !con((ins BM_Tensor:$values, BM_RealTensor:$operand), BM_WindowArguments,
                       (ins UnitAttr:$least));
  let results = (outs BM_Tensor:$r);
  let assemblyFormat = !strconcat("$values `by` $operand ", BM_WindowFormat, [{
    (`least` $least^)? attr-dict `:` functional-type(operands, results)
  }]);
}

def BM_SelectAndScatterAddOp : BM_Pooling<"select_and_scatter_add", BM_HasTranspose> {
  let summary = "Sums at the extreme elements of windows";
  let description = [{
    `source` has an element for each window of `operand`; it is added to zeros at the place of the first element of the window that is
    largest (with `least`: smallest). Linear in `source`: the transpose is `bm.select_and_gather_add`. Example:
    ```mlir
    %2 = bm.select_and_scatter_add %source by %operand window = [2] strides = [2] low = [0] high = [0]
        : (tensor<3xf32>, tensor<6xf32>) -> tensor<6xf32>
    ```
  }];
  let arguments = (ins BM_RealTensor:$source, BM_RealTensor:$operand, DenseI64ArrayAttr:$window,
                       DenseI64ArrayAttr:$strides, DenseI64ArrayAttr:$low, DenseI64ArrayAttr:$high,
                       UnitAttr:$least);
  let results = (outs BM_RealTensor:$r);
  let assemblyFormat = [{
    $source `by` $operand `window` `=` $window `strides` `=` $strides `low` `=` $low `high` `=` $high
    (`least` $least^)? attr-dict `:` functional-type(operands, results)
  }];
}

#endif // BMGRAD_DIALECT_BM_POOLING_TD
