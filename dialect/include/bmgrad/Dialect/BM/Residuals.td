//===- Residuals.td - What is kept for reverse mode -*- tablegen -*--------===//
//
// Marks on values that do not change them. Rules: Residuals.cpp; what the marks
// mean: Remat.cpp.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_DIALECT_BM_RESIDUALS_TD
#define BMGRAD_DIALECT_BM_RESIDUALS_TD

include "bmgrad/Dialect/BM/BMBase.td"

def BM_SaveableOp : BM_Op<"saveable", !listconcat(
    [SameOperandsAndResultType], BM_HasJvp, BM_HasTranspose, BM_HasBatching, BM_HasLowering)> {
  let summary = "A value that a bm.remat keeps";
  let description = [{
    Gives `x`. Where the policy of a `jax.checkpoint` admits a value, it passes this op in the body of the `bm.remat`,
    whose linear part then does not compute it again. Elsewhere it means nothing.
    Example: `%1 = bm.saveable %0 : tensor<3xf32>`
  }];
  let primitives = [];
  let arguments = (ins BM_Tensor:$x);
  let results = (outs BM_Tensor:$result);
  let assemblyFormat = "$x attr-dict `:` type($x)";
  let definition = BM_LeadingBatching;
}

def BM_OptimizationBarrierOp : BM_Op<"optimization_barrier", !listconcat(
    [DeclareOpInterfaceMethods<BM_FlowOpInterface>], BM_HasSplit, BM_HasJvp, BM_HasTranspose, BM_HasBatching, BM_HasLowering)> {
  let summary = "Values that no optimization sees through";
  let description = [{
    Gives its operands, all of them when the last is there. So do the barriers of tangents and of cotangents.
    Example: `%r:2 = bm.optimization_barrier(%x, %y) : (tensor<3xf32>, tensor<f32>) -> (tensor<3xf32>, tensor<f32>)`
  }];
  let arguments = (ins Variadic<BM_Tensor>:$inputs);
  let results = (outs Variadic<BM_Tensor>:$outputs);
  let stablehlo = "stablehlo.optimization_barrier";
  let assemblyFormat = "`(` $inputs `)` attr-dict `:` functional-type($inputs, $outputs)";
  let hasVerifier = 1;
  let definition = BM_OneToOneLowering;
}

#endif // BMGRAD_DIALECT_BM_RESIDUALS_TD
