//===- Indexing.td - Slices, gathers and scatters -*- tablegen -*-----------===//
//
// Dimension numbers are those of `jax.lax.GatherDimensionNumbers` and
// `ScatterDimensionNumbers`: the index vector is always the last dimension of
// the indices. What gather and scatter share is in lib/BM/Windows.h.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_DIALECT_BM_INDEXING_TD
#define BMGRAD_DIALECT_BM_INDEXING_TD

include "bmgrad/Dialect/BM/BMBase.td"

class BM_Indexing<string mnemonic, list<Trait> traits = []>
    : BM_Op<mnemonic, !listconcat(traits, BM_HasJvp, BM_HasTranspose, BM_HasBatching,
                                  BM_HasLowering)> {
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Slices
//===----------------------------------------------------------------------===//

def BM_SliceOp : BM_Indexing<"slice"> {
  let summary = "Slice with constant bounds and strides";
  let description = [{
    `r[k] = x[start + k stride]` in each dimension, as long as the index is below
    the limit. Linear; the transpose pads with zeros around and, where a stride
    is above 1, between the elements. Each dimension is written `start:limit` or
    `start:limit:stride`. Example:
    ```mlir
    %1 = bm.slice %0 [1:4:2, 0:4] : tensor<5x4xf32> -> tensor<2x4xf32>
    ```
  }];
  let stablehlo = "stablehlo.slice";
  let arguments = (ins BM_Tensor:$operand, DenseI64ArrayAttr:$start_indices,
                       DenseI64ArrayAttr:$limit_indices, DenseI64ArrayAttr:$strides);
  let results = (outs BM_Tensor:$r);
  let assemblyFormat = [{
    $operand custom<SliceBounds>($start_indices, $limit_indices, $strides) attr-dict
    `:` type($operand) `->` type($r)
  }];
  let hasFolder = 1;
  let hasCanonicalizer = 1;
  let definition = !strconcat(BM_LinearJvp, BM_OneToOneLowering);
}

def BM_DynamicSliceOp : BM_Indexing<"dynamic_slice"> {
  let summary = "Slice at a position known at run time";
  let description = [{
    The window of the result's shape that begins at the start indices, one scalar
    a dimension. A start index is clamped so that the window lies inside.
    Linear in the operand; the transpose writes the cotangent into zeros, where
    clamping moves the window alike. Example:
    ```mlir
    %1 = bm.dynamic_slice %0 at [%i, %j] : (tensor<5x4xf32>, tensor<i32>, tensor<i32>) -> tensor<2x4xf32>
    ```
  }];
  let stablehlo = "stablehlo.dynamic_slice";
  let arguments = (ins BM_Tensor:$operand, Variadic<BM_IntTensor>:$start_indices);
  let results = (outs BM_Tensor:$r);
  let assemblyFormat = [{
    $operand `at` ` ` `[` $start_indices `]` attr-dict `:` functional-type(operands, results)
  }];
  let hasFolder = 1;
  let hasCanonicalizer = 1;
  let definition = BM_LinearJvp;
}

def BM_DynamicUpdateSliceOp
    : BM_Indexing<"dynamic_update_slice", [AllTypesMatch<["operand", "r"]>]> {
  let summary = "Replacement of a window at a position known at run time";
  let description = [{
    The operand with the window that begins at the start indices replaced by the
    update. Start indices are clamped as by `bm.dynamic_slice`. Linear in operand
    and update together; the transposes are the cotangent with zeros in the
    window, and the window of the cotangent. Example:
    ```mlir
    %1 = bm.dynamic_update_slice %0, %u at [%i] : (tensor<5xf32>, tensor<2xf32>, tensor<i32>) -> tensor<5xf32>
    ```
  }];
  let stablehlo = "stablehlo.dynamic_update_slice";
  let arguments = (ins BM_Tensor:$operand, BM_Tensor:$update, Variadic<BM_IntTensor>:$start_indices);
  let results = (outs BM_Tensor:$r);
  let assemblyFormat = [{
    $operand `,` $update `at` ` ` `[` $start_indices `]` attr-dict `:` functional-type(operands, results)
  }];
  let hasFolder = 1;
  let definition = !strconcat(BM_LinearJvp, BM_OneToOneLowering);
}

//===----------------------------------------------------------------------===//
// Gather
//===----------------------------------------------------------------------===//

def BM_IndexMode : I32EnumAttr<"IndexMode", "What becomes of windows out of bounds", [
  I32EnumAttrCase<"Clip", 0, "clip">,
  I32EnumAttrCase<"FillOrDrop", 1, "fill_or_drop">,
  I32EnumAttrCase<"PromiseInBounds", 2, "promise_in_bounds">]> {
  let cppNamespace = "::bmgrad::bm";
  let genSpecializedAttr = 0;
}
def BM_IndexModeAttr : EnumAttr<BM_Dialect, BM_IndexMode, "index_mode">;

defvar BM_NoDims = DefaultValuedAttr<DenseI64ArrayAttr, "{}">;

def BM_GatherOp : BM_Indexing<"gather"> {
  let summary = "Windows of an array at many positions";
  let description = [{
    For each index vector (the last dimension of the indices) the window of
    `slice_sizes` that begins there. `start_index_map` says which operand
    dimension each entry of the vector indexes; window dimensions that are not
    collapsed become `offset_dims` of the result. Batching dimensions run along
    operand and indices together.

    `mode` is about windows out of bounds: `clip` moves them inside, with
    `fill_or_drop` they are full of `fill_value` (zero if absent), and
    `promise_in_bounds` says there are none. Linear in the operand (tangents
    are filled with zero); the transpose is `bm.scatter_add`. Example:
    ```mlir
    %1 = bm.gather %x at %i slice_sizes = [1, 4] offset_dims = [1] collapsed_slice_dims = [0] start_index_map = [0]
        mode = clip : (tensor<5x4xf32>, tensor<3x1xi32>) -> tensor<3x4xf32>
    ```
  }];
  let arguments = (ins BM_Tensor:$operand, BM_IntTensor:$indices,
                       DenseI64ArrayAttr:$slice_sizes, BM_NoDims:$offset_dims,
                       BM_NoDims:$collapsed_slice_dims, BM_NoDims:$start_index_map,
                       BM_NoDims:$operand_batching_dims, BM_NoDims:$start_indices_batching_dims,
                       BM_IndexModeAttr:$mode, OptionalAttr<ElementsAttr>:$fill_value,
                       UnitAttr:$indices_are_sorted, UnitAttr:$unique_indices);
  let results = (outs BM_Tensor:$r);
  let assemblyFormat = [{
    $operand `at` $indices `slice_sizes` `=` $slice_sizes
    (`offset_dims` `=` $offset_dims^)?
    (`collapsed_slice_dims` `=` $collapsed_slice_dims^)?
    (`start_index_map` `=` $start_index_map^)?
    (`operand_batching_dims` `=` $operand_batching_dims^)?
    (`start_indices_batching_dims` `=` $start_indices_batching_dims^)?
    `mode` `=` `` $mode attr-dict `:` functional-type(operands, results)
  }];
  let hasFolder = 1;
  let hasCanonicalizer = 1;
}

//===----------------------------------------------------------------------===//
// Scatter
//===----------------------------------------------------------------------===//

/// `rules` are the derivative rules; all can be batched and lowered.
class BM_Scatter<string mnemonic, string primitive, Type type,
                 list<Trait> rules = !listconcat(BM_HasJvp, BM_HasTranspose)>
    : BM_Op<mnemonic, !listconcat([AllTypesMatch<["operand", "r"]>], rules, BM_HasBatching,
                                  BM_HasLowering)> {
  let hasVerifier = 1;
  let primitives = [primitive];
  let arguments = (ins type:$operand, BM_IntTensor:$indices, type:$updates,
                       BM_NoDims:$update_window_dims, BM_NoDims:$inserted_window_dims,
                       BM_NoDims:$scatter_dims_to_operand_dims, BM_NoDims:$operand_batching_dims,
                       BM_NoDims:$scatter_indices_batching_dims, BM_IndexModeAttr:$mode,
                       UnitAttr:$indices_are_sorted, UnitAttr:$unique_indices);
  let results = (outs type:$r);
  let assemblyFormat = [{
    $operand `at` $indices `,` $updates
    (`update_window_dims` `=` $update_window_dims^)?
    (`inserted_window_dims` `=` $inserted_window_dims^)?
    (`scatter_dims_to_operand_dims` `=` $scatter_dims_to_operand_dims^)?
    (`operand_batching_dims` `=` $operand_batching_dims^)?
    (`scatter_indices_batching_dims` `=` $scatter_indices_batching_dims^)?
    `mode` `=` `` $mode attr-dict `:` functional-type(operands, results)
  }];
  let hasFolder = 1;
  let hasCanonicalizer = 1;
}

def BM_ScatterOp : BM_Scatter<"scatter", "scatter", BM_Tensor> {
  let summary = "Replacement of windows at many positions";
  let description = [{
    The operand with the window at each index vector replaced by a window of the
    updates. The dimension numbers mirror those of `bm.gather`; windows that are
    out of bounds are dropped, with mode `clip` moved inside. Where windows
    overlap it is not said which one stays, so unless `unique_indices` promises
    that none do, the derivative first finds that out, by scattering a number for
    each update. Linear in operand and updates together. Example:
    ```mlir
    %1 = bm.scatter %x at %i, %u update_window_dims = [1] inserted_window_dims = [0] scatter_dims_to_operand_dims = [0]
        mode = clip : (tensor<5x4xf32>, tensor<3x1xi32>, tensor<3x4xf32>) -> tensor<5x4xf32>
    ```
  }];
}

def BM_ScatterAddOp : BM_Scatter<"scatter_add", "scatter-add", BM_Tensor> {
  let summary = "Addition to windows at many positions";
  let description = [{
    As `bm.scatter`, but the updates are added to what is there. Linear in
    operand and updates together; the transposes are the cotangent itself and
    `bm.gather` of it. Example:
    ```mlir
    %1 = bm.scatter_add %x at %i, %u inserted_window_dims = [0] scatter_dims_to_operand_dims = [0]
        mode = fill_or_drop : (tensor<5xf32>, tensor<3x1xi32>, tensor<3xf32>) -> tensor<5xf32>
    ```
  }];
}

def BM_ScatterSubOp : BM_Scatter<"scatter_sub", "scatter-sub", BM_NumberTensor> {
  let summary = "Subtraction from windows at many positions";
  let description = [{
    As `bm.scatter_add` of the negated updates. Example:
    ```mlir
    %1 = bm.scatter_sub %x at %i, %u inserted_window_dims = [0] scatter_dims_to_operand_dims = [0]
        mode = fill_or_drop : (tensor<5xf32>, tensor<3x1xi32>, tensor<3xf32>) -> tensor<5xf32>
    ```
  }];
}

def BM_ScatterMulOp : BM_Scatter<"scatter_mul", "scatter-mul", BM_Tensor> {
  let summary = "Multiplication of windows at many positions";
  let description = [{
    As `bm.scatter`, but what is there is multiplied by the updates. Linear in
    the operand. The derivative with respect to the updates, operand times
    `bm.scatter_add` of their tangent to zeros, needs `unique_indices`. Example:
    ```mlir
    %1 = bm.scatter_mul %x at %i, %u inserted_window_dims = [0] scatter_dims_to_operand_dims = [0]
        mode = clip {unique_indices} : (tensor<5xf32>, tensor<3x1xi32>, tensor<3xf32>) -> tensor<5xf32>
    ```
  }];
}

def BM_ScatterMinOp : BM_Scatter<"scatter_min", "scatter-min", BM_Tensor, BM_HasJvp> {
  let summary = "Minimum with windows at many positions";
  let description = [{
    As `bm.scatter`, but the smallest of what is there and the updates stays.
    Those that are equal to it, the operand's element included, share the
    derivative in equal parts. Example:
    ```mlir
    %1 = bm.scatter_min %x at %i, %u inserted_window_dims = [0] scatter_dims_to_operand_dims = [0]
        mode = clip : (tensor<5xf32>, tensor<3x1xi32>, tensor<3xf32>) -> tensor<5xf32>
    ```
  }];
}

def BM_ScatterMaxOp : BM_Scatter<"scatter_max", "scatter-max", BM_Tensor, BM_HasJvp> {
  let summary = "Maximum with windows at many positions";
  let description = [{
    As `bm.scatter_min`, with the largest. Example:
    ```mlir
    %1 = bm.scatter_max %x at %i, %u inserted_window_dims = [0] scatter_dims_to_operand_dims = [0]
        mode = clip : (tensor<5xf32>, tensor<3x1xi32>, tensor<3xf32>) -> tensor<5xf32>
    ```
  }];
}

#endif // BMGRAD_DIALECT_BM_INDEXING_TD
