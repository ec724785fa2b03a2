//===- Transforms.td - Transforms of functions -*- tablegen -*-------------===//
//
// A transform calls a function derived from another. `bm-expand-transforms`
// makes that function and leaves a call, innermost transform first.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_DIALECT_BM_TRANSFORMS_TD
#define BMGRAD_DIALECT_BM_TRANSFORMS_TD

include "bmgrad/Dialect/BM/BMBase.td"
include "mlir/IR/SymbolInterfaces.td"

/// `declaration` gives each the function it is derived from and a key under which
/// equal transforms of one function share what is derived.
class BM_Transform<string mnemonic, dag options>
    : BM_Op<mnemonic, [DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let primitives = [];
  let arguments = !con((ins FlatSymbolRefAttr:$callee, Variadic<BM_Tensor>:$operands), options);
  let results = (outs Variadic<BM_Tensor>:$results);
  let assemblyFormat = "$callee `(` $operands `)` attr-dict `:` functional-type($operands, results)";
}

def BM_JvpOp : BM_Transform<"jvp", (ins DenseI64ArrayAttr:$wrt)> {
  let summary = "Value and tangent of a function (forward mode)";
  let description = [{
    Operands: the arguments of the function, then a tangent for each argument in
    `wrt`. Results: those of the function, then a tangent for each float or
    complex one. Example:
    ```mlir
    %y, %dy = bm.jvp @f(%x, %dx) {wrt = array<i64: 0>} : (tensor<3xf32>, tensor<3xf32>) -> (tensor<f32>, tensor<f32>)
    ```
  }];
}

def BM_VjpOp : BM_Transform<"vjp", (ins DenseI64ArrayAttr:$wrt, DenseI64ArrayAttr:$of)> {
  let summary = "Value and cotangents of a function (reverse mode)";
  let description = [{
    Operands: the arguments of the function, then a cotangent for each of its results
    in `of`; those of the other results are zero. Results: those of the
    function, then a cotangent for each argument in `wrt`. Example:
    ```mlir
    %y, %ct_x = bm.vjp @f(%x, %ct_y) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<3xf32>, tensor<f32>) -> (tensor<f32>, tensor<3xf32>)
    ```
  }];
}

def BM_BatchOp : BM_Transform<"batch", (ins DenseI64ArrayAttr:$in_axes, DenseI64ArrayAttr:$out_axes,
                                        I64Attr:$size, OptionalAttr<StrAttr>:$axis_name)> {
  let summary = "A function applied to each element of a batch";
  let description = [{
    `in_axes` and `out_axes` give the batch axis of each operand and result, -1
    for none; a result that depends on a batched operand must have one. Collectives in
    the function over `axis_name` are over this batch. Example:
    ```mlir
    %ys = bm.batch @f(%xs, %w) {in_axes = array<i64: 0, -1>, out_axes = array<i64: 0>, size = 8 : i64}
        : (tensor<8x3xf32>, tensor<3xf32>) -> tensor<8xf32>
    ```
  }];
}

#endif // BMGRAD_DIALECT_BM_TRANSFORMS_TD
