//===- Shape.td - Ops that move elements -*- tablegen -*--------------------===//
//
// All of them are linear, so a record holds little more than what the op does;
// shape inference, folds and transposes are in Shape.cpp.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_DIALECT_BM_SHAPE_TD
#define BMGRAD_DIALECT_BM_SHAPE_TD

include "bmgrad/Dialect/BM/BMBase.td"

/// The result types follow from operands and attributes.
defvar BM_InferTypes = [InferTypeOpAdaptor];

class BM_Movement<string mnemonic, list<Trait> traits = []>
    : BM_Op<mnemonic, !listconcat(traits, BM_HasJvp, BM_HasTranspose, BM_HasBatching,
                                  BM_HasLowering)> {
  let stablehlo = "stablehlo." # mnemonic;
  code lowering = BM_OneToOneLowering;
  let definition = !strconcat(BM_LinearJvp, lowering);
}

def BM_BroadcastInDimOp : BM_Movement<"broadcast_in_dim"> {
  let summary = "Repetition of an array along new dimensions";
  let description = [{
    Operand dimension `i` becomes result dimension `broadcast_dimensions[i]`; where it has size 1 it is
    stretched, and along the result's other dimensions the operand is repeated. The transpose sums over
    what was repeated. Example:
    ```mlir
    %1 = bm.broadcast_in_dim %0 dims = [1] : (tensor<3xf32>) -> tensor<2x3xf32>
    ```
  }];
  let arguments = (ins BM_Tensor:$x, DenseI64ArrayAttr:$broadcast_dimensions);
  let results = (outs BM_Tensor:$r);
  let assemblyFormat = [{
    $x `dims` `=` $broadcast_dimensions attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
  let hasFolder = 1;
  let hasCanonicalizeMethod = 1;
}

def BM_ReshapeOp : BM_Movement<"reshape"> {
  let summary = "The same elements in row-major order under another shape";
  let description = [{
    Example: `%1 = bm.reshape %0 : (tensor<2x3xf32>) -> tensor<6xf32>`
  }];
  let primitives = ["reshape", "squeeze", "expand_dims"];
  let arguments = (ins BM_Tensor:$x);
  let results = (outs BM_Tensor:$r);
  let assemblyFormat = "$x attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def BM_TransposeOp : BM_Movement<"transpose", BM_InferTypes> {
  let summary = "Permutation of the dimensions";
  let description = [{
    Result dimension `i` is operand dimension `permutation[i]`; the transpose is the inverse permutation.
    Example: `%1 = bm.transpose %0 dims = [1, 0] : (tensor<2x3xf32>) -> tensor<3x2xf32>`
  }];
  let arguments = (ins BM_Tensor:$x, DenseI64ArrayAttr:$permutation);
  let results = (outs BM_Tensor:$r);
  let assemblyFormat = "$x `dims` `=` $permutation attr-dict `:` functional-type(operands, results)";
  let hasFolder = 1;
  let hasCanonicalizeMethod = 1;
}

def BM_ReverseOp : BM_Movement<"reverse", [AllTypesMatch<["x", "r"]>]> {
  let summary = "Reversed order along some dimensions";
  let description = [{
    `r[..., i, ...] = x[..., n - 1 - i, ...]` for each of the dimensions; its own transpose.
    Example: `%1 = bm.reverse %0 dims = [0] : tensor<2x3xf32>`
  }];
  let primitives = ["rev"];
  let arguments = (ins BM_Tensor:$x, DenseI64ArrayAttr:$dimensions);
  let results = (outs BM_Tensor:$r);
  let assemblyFormat = "$x `dims` `=` $dimensions attr-dict `:` type($r)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def BM_ConcatenateOp : BM_Movement<"concatenate", BM_InferTypes> {
  let summary = "Arrays joined along a dimension";
  let description = [{
    The transpose is `bm.split`. Example:
    ```mlir
    %2 = bm.concatenate %0, %1 dim = 0 : (tensor<2x3xf32>, tensor<1x3xf32>) -> tensor<3x3xf32>
    ```
  }];
  let arguments = (ins Variadic<BM_Tensor>:$xs, I64Attr:$dimension);
  let results = (outs BM_Tensor:$r);
  let assemblyFormat = [{
    $xs `dim` `=` $dimension attr-dict `:` functional-type(operands, results)
  }];
  let hasFolder = 1;
  let hasCanonicalizeMethod = 1;
}

def BM_SplitOp : BM_Movement<"split", BM_InferTypes> {
  let summary = "An array cut into consecutive pieces along an axis";
  let description = [{
    `sizes` add up to the operand's size along `axis`. The transpose is `bm.concatenate`, one copy of the
    cotangents; slices would add as many padded arrays as there are pieces. Example:
    ```mlir
    %1:2 = bm.split %0 sizes = [2, 1] axis = 0 : (tensor<3x4xf32>) -> (tensor<2x4xf32>, tensor<1x4xf32>)
    ```
  }];
  let stablehlo = "";
  let arguments = (ins BM_Tensor:$x, DenseI64ArrayAttr:$sizes, I64Attr:$axis);
  let results = (outs Variadic<BM_Tensor>:$pieces);
  let assemblyFormat = [{
    $x `sizes` `=` $sizes `axis` `=` $axis attr-dict `:` functional-type(operands, results)
  }];
  let lowering = "";
  let hasFolder = 1;
}

def BM_PadOp : BM_Movement<"pad", BM_InferTypes> {
  let summary = "Padding around and between the elements";
  let description = [{
    `low` and `high` copies of the padding value before and after each dimension, `interior` of them between
    each two elements. Negative `low` or `high` cut elements off. Linear in both operands: the transpose cuts
    the padding off, and sums what was cut. Example:
    ```mlir
    %2 = bm.pad %0, %1 low = [1] high = [-1] interior = [0] : (tensor<3xf32>, tensor<f32>) -> tensor<3xf32>
    ```
  }];
  let arguments = (ins BM_Tensor:$x, BM_Tensor:$padding, DenseI64ArrayAttr:$low,
                       DenseI64ArrayAttr:$high, DenseI64ArrayAttr:$interior);
  let results = (outs BM_Tensor:$r);
  let assemblyFormat = [{
    $x `,` $padding `low` `=` $low `high` `=` $high `interior` `=` $interior attr-dict
    `:` functional-type(operands, results)
  }];
  let lowering = "";
  let hasFolder = 1;
}

def BM_CopyOp : BM_Movement<"copy", [AllTypesMatch<["x", "r"]>]> {
  let summary = "A copy, which is the array itself";
  let description = [{
    Arrays are values here, so this folds away. Example: `%1 = bm.copy %0 : tensor<3xf32>`
  }];
  let primitives = ["copy", "copy_p"];
  let stablehlo = "";
  let arguments = (ins BM_Tensor:$x);
  let results = (outs BM_Tensor:$r);
  let assemblyFormat = "$x attr-dict `:` type($r)";
  let lowering = "";
  let hasFolder = 1;
}

def BM_IotaOp : BM_Op<"iota", BM_HasLowering> {
  let summary = "Each element's index along a dimension";
  let description = [{
    `r[i0, i1, ...] = i_dimension`. Example: `%0 = bm.iota dim = 1 : tensor<2x3xi32>`
  }];
  let stablehlo = "stablehlo.iota";
  let arguments = (ins I64Attr:$dimension);
  let results = (outs BM_NumberTensor:$r);
  let assemblyFormat = "`dim` `=` $dimension attr-dict `:` type($r)";
  let hasVerifier = 1;
}

#endif // BMGRAD_DIALECT_BM_SHAPE_TD
