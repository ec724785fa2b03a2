//===- Convolution.td - Convolutions -*- tablegen -*------------------------===//

#ifndef BMGRAD_DIALECT_BM_CONVOLUTION_TD
#define BMGRAD_DIALECT_BM_CONVOLUTION_TD

include "bmgrad/Dialect/BM/BMBase.td"
include "bmgrad/Dialect/BM/Precision.td"

def BM_ConvolutionOp
    : BM_Op<"convolution", !listconcat(BM_HasJvp, BM_HasTranspose, BM_HasBatching,
                                       BM_HasLowering)> {
  let summary = "Sum of products over windows";
  let description = [{
    `r[n, o, p] = sum over c, k of lhs[n, c, s p + e k - low] rhs[o, c, k]`: `n` is the batch, `c` and `o` the features that come in
    and go out, `p` and `k` positions in space, with one stride `s` and one dilation `e` for each spatial dimension. `lhs` is read
    with `lhs_dilation - 1` zeros between its elements, and zeros around them; negative padding cuts elements off. `dims`
    says where batch, features and space lie in an operand: of `lhs` and the result `[batch, feature, space...]`, of `rhs`
    `[feature out, feature in, space...]`.

    With `feature_groups` groups of the features that come in each make their own group of those that go out; with
    `batch_groups` the groups are of the batch. The result's element type is the one that products are summed in.
    Multilinear: the transpose with respect to an operand is a convolution of the cotangent with the other one. Example:
    ```mlir
    %2 = bm.convolution %0, %1 dims = [0, 1, 2] x [0, 1, 2] -> [0, 1, 2] strides = [2] low = [1] high = [1]
        dilations = [1] x [1] : (tensor<5x3x8xf32>, tensor<4x3x2xf32>) -> tensor<5x4x5xf32>
    ```
  }];
  let primitives = ["conv_general_dilated"];
  let stablehlo = "stablehlo.convolution";
  let arguments = (ins BM_NumberTensor:$lhs, BM_NumberTensor:$rhs, DenseI64ArrayAttr:$lhs_dims,
                       DenseI64ArrayAttr:$rhs_dims, DenseI64ArrayAttr:$out_dims,
                       DenseI64ArrayAttr:$strides, DenseI64ArrayAttr:$low,
                       DenseI64ArrayAttr:$high, DenseI64ArrayAttr:$lhs_dilation,
                       DenseI64ArrayAttr:$rhs_dilation,
                       DefaultValuedAttr<I64Attr, "1">:$feature_groups,
                       DefaultValuedAttr<I64Attr, "1">:$batch_groups,
                       OptionalAttr<BM_PrecisionPairAttr>:$precision);
  let results = (outs BM_NumberTensor:$r);
  let assemblyFormat = [{
    $lhs `,` $rhs `dims` `=` $lhs_dims `x` $rhs_dims `->` $out_dims `strides` `=` $strides
    `low` `=` $low `high` `=` $high `dilations` `=` $lhs_dilation `x` $rhs_dilation
    (`feature_groups` `=` $feature_groups^)? (`batch_groups` `=` $batch_groups^)?
    attr-dict `:` functional-type(operands, results)
  }];
  let definition = BM_MultilinearJvp;
  let hasVerifier = 1;
}

#endif // BMGRAD_DIALECT_BM_CONVOLUTION_TD
