//===- Sorting.td - Sorting and selection of the largest -*- tablegen -*----===//

#ifndef BMGRAD_DIALECT_BM_SORTING_TD
#define BMGRAD_DIALECT_BM_SORTING_TD

include "bmgrad/Dialect/BM/BMBase.td"

class BM_Sorting<string mnemonic>
    : BM_Op<mnemonic, !listconcat(BM_HasJvp, BM_HasBatching, BM_HasLowering)> {
  let hasVerifier = 1;
}

def BM_SortOp : BM_Sorting<"sort"> {
  let summary = "Sorting of arrays by the first of them";
  let description = [{
    Puts the operands along `dimension` in ascending order of the first
    `num_keys` of them, compared lexicographically; the others move along. For
    floats 0 and -0 are equal and NaN comes last; complex numbers go by their
    real, then their imaginary part. Equal elements keep their order if
    `is_stable`. The tangents are permuted like the operands. Example:
    ```mlir
    %0:2 = bm.sort %keys, %values {dimension = 1 : i64, num_keys = 1 : i64, is_stable}
        : tensor<5x4xf32>, tensor<5x4xi32>
    ```
  }];
  let arguments = (ins Variadic<BM_Tensor>:$operands, I64Attr:$dimension, I64Attr:$num_keys,
                       UnitAttr:$is_stable);
  let results = (outs Variadic<BM_Tensor>:$sorted);
  let assemblyFormat = [{
    $operands attr-dict `:` custom<SameTypes>(type($operands), type($sorted))
  }];
  let hasCanonicalizer = 1;
}

def BM_TopKOp : BM_Sorting<"top_k"> {
  let summary = "The largest elements and where they are";
  let description = [{
    The largest elements along `axis` in descending order, and their indices. How
    many is said by the shape of the results. Of equal elements the one with the
    lower index comes first. The tangent is gathered at the indices. Example:
    ```mlir
    %values, %indices = bm.top_k %0 {axis = 1 : i64} : tensor<5x4xf32> -> tensor<5x2xf32>, tensor<5x2xi32>
    ```
  }];
  let arguments = (ins BM_RealTensor:$operand, I64Attr:$axis);
  let results = (outs BM_RealTensor:$values, StaticShapeTensorOf<[I32]>:$indices);
  let assemblyFormat = [{
    $operand attr-dict `:` type($operand) `->` type($values) `,` type($indices)
  }];
}

def BM_ApproxTopKOp : BM_Sorting<"approx_top_k"> {
  let summary = "Nearly the largest elements and where they are";
  let description = [{
    As `bm.top_k`, or with `is_max_k = false` of the smallest elements, but some of the `k` may be others than they should: on average at
    least `recall_target` of them are right. Without `aggregate_to_topk` the results are those of parts, and more than `k`. How many
    elements there are altogether, if the operand is one part of them, is `reduction_input_size_override`. The tangent is gathered at
    the indices. Example:
    ```mlir
    %values, %indices = bm.approx_top_k %0 {aggregate_to_topk = true, axis = 1 : i64, is_max_k = true, k = 2 : i64,
        recall_target = 0.95 : f64, reduction_input_size_override = -1 : i64}
        : tensor<5x4xf32> -> tensor<5x2xf32>, tensor<5x2xi32>
    ```
  }];
  let arguments = (ins BM_FloatTensor:$operand, I64Attr:$k, I64Attr:$axis, F64Attr:$recall_target,
                       BoolAttr:$is_max_k, I64Attr:$reduction_input_size_override,
                       BoolAttr:$aggregate_to_topk);
  let results = (outs BM_FloatTensor:$values, StaticShapeTensorOf<[I32]>:$indices);
  let assemblyFormat = [{
    $operand attr-dict `:` type($operand) `->` type($values) `,` type($indices)
  }];
  let definition = BM_KernelLowering;
}

#endif // BMGRAD_DIALECT_BM_SORTING_TD
