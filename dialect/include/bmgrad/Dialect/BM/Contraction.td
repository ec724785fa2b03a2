//===- Contraction.td - Tensor contractions -*- tablegen -*-----------------===//

#ifndef BMGRAD_DIALECT_BM_CONTRACTION_TD
#define BMGRAD_DIALECT_BM_CONTRACTION_TD

include "bmgrad/Dialect/BM/BMBase.td"
include "bmgrad/Dialect/BM/Precision.td"

/// The presets of `jax.lax.DotAlgorithmPreset`, lowercase, but for those of 8-bit floats.
def BM_DotAlgorithm : I32EnumAttr<"DotAlgorithm", "Which product a matrix unit computes", [
  I32EnumAttrCase<"F16_F16_F16", 0, "f16_f16_f16">,
  I32EnumAttrCase<"F16_F16_F32", 1, "f16_f16_f32">,
  I32EnumAttrCase<"BF16_BF16_BF16", 2, "bf16_bf16_bf16">,
  I32EnumAttrCase<"BF16_BF16_F32", 3, "bf16_bf16_f32">,
  I32EnumAttrCase<"BF16_BF16_F32_X3", 4, "bf16_bf16_f32_x3">,
  I32EnumAttrCase<"BF16_BF16_F32_X6", 5, "bf16_bf16_f32_x6">,
  I32EnumAttrCase<"BF16_BF16_F32_X9", 6, "bf16_bf16_f32_x9">,
  I32EnumAttrCase<"TF32_TF32_F32", 7, "tf32_tf32_f32">,
  I32EnumAttrCase<"TF32_TF32_F32_X3", 8, "tf32_tf32_f32_x3">,
  I32EnumAttrCase<"F32_F32_F32", 9, "f32_f32_f32">,
  I32EnumAttrCase<"F64_F64_F64", 10, "f64_f64_f64">]> {
  let cppNamespace = "::bmgrad::bm";
  let genSpecializedAttr = 0;
}
def BM_DotAlgorithmAttr : EnumAttr<BM_Dialect, BM_DotAlgorithm, "dot_algorithm">;

defvar BM_NoDotDims = DefaultValuedAttr<DenseI64ArrayAttr, "{}">;

def BM_DotGeneralOp
    : BM_Op<"dot_general", !listconcat(BM_HasJvp, BM_HasTranspose, BM_HasBatching,
                                       BM_HasLowering)> {
  let summary = "Sum of products over contracted dimensions";
  let description = [{
    `r[b, i, j] = sum over k of lhs[b, i, k] rhs[b, k, j]`, where `b` are the batch dimensions in the order given,
    `i` and `j` the operands' remaining dimensions, and `k` the contracted ones. The result's element type is the
    one that products are summed in. Multilinear; derivatives keep `precision` and `algorithm`. Example:
    ```mlir
    %2 = bm.dot_general %0, %1 batch = [0] x [0] contract = [2] x [1]
        : (tensor<5x2x3xf32>, tensor<5x3x4xf32>) -> tensor<5x2x4xf32>
    ```
  }];
  let stablehlo = "stablehlo.dot_general";
  let arguments = (ins BM_Tensor:$lhs, BM_Tensor:$rhs, BM_NoDotDims:$lhs_batch,
                       BM_NoDotDims:$rhs_batch, BM_NoDotDims:$lhs_contract,
                       BM_NoDotDims:$rhs_contract, OptionalAttr<BM_PrecisionPairAttr>:$precision,
                       OptionalAttr<BM_DotAlgorithmAttr>:$algorithm);
  let results = (outs BM_Tensor:$r);
  let assemblyFormat = [{
    $lhs `,` $rhs (`batch` `=` $lhs_batch^ `x` $rhs_batch)?
    `contract` `=` $lhs_contract `x` $rhs_contract attr-dict `:` functional-type(operands, results)
  }];
  let definition = BM_MultilinearJvp;
  let hasVerifier = 1;
  let hasCanonicalizer = 1;
}

#endif // BMGRAD_DIALECT_BM_CONTRACTION_TD
