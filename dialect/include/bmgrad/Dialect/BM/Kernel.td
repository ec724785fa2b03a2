//===- Kernel.td - Ops whose lowering JAX supplies -*- tablegen -*----------===//
//
// For primitives that have no op of their own: vendor kernels, convolutions,
// random bits, primitives of third parties.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_DIALECT_BM_KERNEL_TD
#define BMGRAD_DIALECT_BM_KERNEL_TD

include "bmgrad/Dialect/BM/BMBase.td"

def BM_BatchesAttr : TypedArrayAttrBase<DenseI64ArrayAttr, "array of batch axes">;

def BM_KernelOp : BM_Op<"kernel", !listconcat(BM_HasJvp, BM_HasBatching, BM_HasLowering),
                            BM_MayHaveSideEffect> {
  let summary = "A primitive that JAX lowers";
  let description = [{
    `r... = primitive(operands...)`, where `id` is the number of the primitive
    with its parameters in the runtime's registry and `name` says which one it
    is. Lowering leaves a call of the undefined function `@bm_kernel_<id>`,
    which the runtime asks JAX to define.

    Each entry of `batches` is one `bm.batch` of the primitive, innermost first:
    for each operand 0 if its first axis is that batch's, -1 if it has none. All
    results have one, unless the primitive brings a batching rule (`has_batching_rule`): then whoever
    runs passes is asked what the rule gives, and `result_batches` says it, for each batch and result.

    Integer and boolean results have no derivative, and there is none for the
    others. A kernel with side effects runs once for each time that its place in the
    function is reached, in a derivative too: it is primal. Those that share a name in `ordered` run
    one after another, in the order in which they stand: lowering threads a token through them.

    A kernel that reads or changes a reference (`jax.new_ref`) gives the type of its value as `reference`, and its name
    as the only one in `ordered`: lowering threads the value through in place of a token. References have no tangents,
    so what depends on one cannot be written. Example:
    ```mlir
    %1 = bm.kernel {id = 3 : i64, name = "cholesky", batches = [array<i64: 0>]} (%0)
        : (tensor<5x2x2xf32>) -> tensor<5x2x2xf32>
    ```
  }];
  let primitives = [];
  let arguments = (ins Variadic<BM_Tensor>:$operands, I64Attr:$id, StrAttr:$name,
                       DefaultValuedAttr<BM_BatchesAttr, "{}">:$batches, UnitAttr:$has_side_effect,
                       OptionalAttr<StrArrayAttr>:$ordered, OptionalAttr<TypeAttr>:$reference,
                       UnitAttr:$has_batching_rule, OptionalAttr<BM_BatchesAttr>:$result_batches);
  let results = (outs Variadic<BM_Tensor>:$results);
  let assemblyFormat = "attr-dict `(` $operands `)` `:` functional-type(operands, results)";
  let hasVerifier = 1;
  let declaration = [{
    /// On a call that the op became: `ordered` and `reference`, until tokens are threaded through.
    static constexpr ::llvm::StringLiteral orderedName = "bm.ordered", referenceName = "bm.reference";
  }];
  let definition = BM_SideEffect;
}

#endif // BMGRAD_DIALECT_BM_KERNEL_TD
