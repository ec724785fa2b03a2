//===- Folding.td - Reductions by a computation of one's own -*- tablegen -*-===//
//
// The region joins two elements (of each operand one) and is taken to be
// associative. What the named reductions do has ops of its own, in Reduction.td
// and Pooling.td.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_DIALECT_BM_FOLDING_TD
#define BMGRAD_DIALECT_BM_FOLDING_TD

include "bmgrad/Dialect/BM/BMBase.td"

class BM_Folding<string mnemonic, dag attributes>
    : BM_Op<mnemonic, !listconcat([IsolatedFromAbove, SingleBlock, SameVariadicOperandSize],
                                  BM_HasJvp, BM_HasBatching, BM_HasLowering)> {
  let arguments = !con((ins Variadic<BM_Tensor>:$xs, Variadic<BM_Tensor>:$inits), attributes);
  let results = (outs Variadic<BM_Tensor>:$outputs);
  let regions = (region SizedRegion<1>:$body);
  let hasRegionVerifier = 1;
  let declaration = [{
    ::mlir::Block &getBlock() { return getBody().front(); }
  }];
}

def BM_ReduceOp : BM_Folding<"reduce", (ins DenseI64ArrayAttr:$axes)> {
  let summary = "Reduction over axes by a computation";
  let description = [{
    Joins the elements along the axes and the initial value, in any order, by the region: its arguments are an element of each operand and
    then another one of each. The derivative is that of a reduction of halves by halves, which the region is applied to as a whole.
    Example:
    ```mlir
    %1 = bm.reduce xs(%x) init(%zero) axes = [1] : (tensor<2x3xf32>, tensor<f32>) -> tensor<2xf32> {
    ^bb0(%a: tensor<f32>, %b: tensor<f32>):
      %2 = bm.atan2 %a, %b : tensor<f32>
      bm.yield %2 : tensor<f32>
    }
    ```
  }];
  let assemblyFormat = [{
    `xs` `(` $xs `)` `init` `(` $inits `)` `axes` `=` $axes attr-dict-with-keyword
    `:` functional-type(operands, results) $body
  }];
}

def BM_ReduceWindowOp
    : BM_Folding<"reduce_window",
                 (ins DenseI64ArrayAttr:$window, DenseI64ArrayAttr:$strides,
                      DenseI64ArrayAttr:$low, DenseI64ArrayAttr:$high,
                      DenseI64ArrayAttr:$base_dilation, DenseI64ArrayAttr:$window_dilation)> {
  let summary = "Reduction over windows by a computation";
  let description = [{
    As `bm.reduce`, over windows that lie as in `bm.reduce_window_sum`; padding is the initial value. Example:
    ```mlir
    %1 = bm.reduce_window xs(%x) init(%one) window = [2] strides = [1] low = [0] high = [0] dilations = [1] x [1]
        : (tensor<3xf32>, tensor<f32>) -> tensor<2xf32> {
    ^bb0(%a: tensor<f32>, %b: tensor<f32>):
      %2 = bm.mul %a, %b : tensor<f32>
      bm.yield %2 : tensor<f32>
    }
    ```
  }];
  let assemblyFormat = [{
    `xs` `(` $xs `)` `init` `(` $inits `)` `window` `=` $window `strides` `=` $strides `low` `=` $low
    `high` `=` $high `dilations` `=` $base_dilation `x` $window_dilation attr-dict-with-keyword
    `:` functional-type(operands, results) $body
  }];
}

#endif // BMGRAD_DIALECT_BM_FOLDING_TD
