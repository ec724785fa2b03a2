//===- Custom.td - User-defined derivative rules -*- tablegen -*-----------===//
//
// Calls of functions for which the user knows a better derivative than that of
// their ops. The rule is made of functions too, so its own derivative is known.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_DIALECT_BM_CUSTOM_TD
#define BMGRAD_DIALECT_BM_CUSTOM_TD

include "bmgrad/Dialect/BM/BMBase.td"
include "mlir/IR/SymbolInterfaces.td"

class BM_CustomRule<string mnemonic, dag rules>
    : BM_Op<mnemonic, !listconcat(
        [DeclareOpInterfaceMethods<SymbolUserOpInterface>,
         DeclareOpInterfaceMethods<BM_CustomRuleOpInterface>],
        BM_HasJvp, BM_HasTranspose, BM_HasBatching, BM_HasLowering), BM_MayHaveSideEffect> {
  let arguments = !con((ins FlatSymbolRefAttr:$primal), rules,
                       (ins UnitAttr:$has_side_effect, Variadic<BM_Tensor>:$inputs));
  let results = (outs Variadic<BM_Tensor>:$outputs);
  let definition = !strconcat(BM_SideEffect, [{
    ::llvm::StringRef $cppClass::getPrimalSymbol() { return getPrimal(); }
    ::mlir::LogicalResult $cppClass::emitTranspose(::bmgrad::bm::TransposeFrame &frame) {
      return ::bmgrad::bm::detail::transposeFunction(*this, getPrimalAttr(), frame);
    }
    ::mlir::LogicalResult $cppClass::emitLowering(::bmgrad::bm::LoweringFrame &frame) {
      return ::bmgrad::bm::detail::lowerToCall(*this, getPrimalAttr(), frame);
    }
  }]);
}

def BM_LinearOperandsAttr : TypedArrayAttrBase<DenseI64ArrayAttr, "array of operand numbers">;

def BM_CustomJvpOp : BM_CustomRule<"custom_jvp", (ins OptionalAttr<FlatSymbolRefAttr>:$rule,
                                                      OptionalAttr<BM_LinearOperandsAttr>:$linear,
                                                      OptionalAttr<FlatSymbolRefArrayAttr>:$transposes,
                                                      OptionalAttr<I64Attr>:$batcher)> {
  let summary = "Call of a function with its own forward derivative";
  let description = [{
    Where nothing is differentiated, a call of `primal`. The derivative is a call of `rule`, which takes
    the inputs and a tangent for each float or complex one, and returns the outputs and a tangent for each float
    or complex one. Reverse mode transposes it. A call that is itself linear in a tangent, within another rule,
    is transposed as `primal` is.

    Primitives of third parties may have no `rule`, or bring their transposes: `transposes[i]` takes the operands that
    are not in `linear[i]` and a cotangent for each float or complex output, and returns those of the operands in
    `linear[i]`. The op is linear in these, and is transposed so where it is a tangent.

    Batches of such a primitive are what its batching rule makes, which need be no batch of the rules here. With `batcher` a batch is a
    call of what whoever runs passes makes of that number.
    Example: `%r = bm.custom_jvp @spike, @spike.jvp(%v) : (tensor<3xf32>) -> tensor<3xf32>`
  }];
  let primitives = ["custom_jvp_call"];
  let assemblyFormat = [{
    $primal (`,` $rule^)? `(` $inputs `)` attr-dict `:` functional-type($inputs, $outputs)
  }];
}

def BM_UnperturbedOp : BM_Op<"unperturbed", !listconcat(
    [SameOperandsAndResultType], BM_HasJvp, BM_HasTranspose, BM_HasBatching, BM_HasLowering)> {
  let summary = "A value of which a derivative rule was told that it has no tangent";
  let description = [{
    Gives `x`. A derivative that does perturb it is an error, which says `reason`: another rule is needed.
    Example: `%1 = bm.unperturbed %0 {reason = "put off rules 3 for 01"} : tensor<3xf32>`
  }];
  let primitives = [];
  let arguments = (ins BM_Tensor:$x, StrAttr:$reason);
  let results = (outs BM_Tensor:$result);
  let assemblyFormat = "$x attr-dict `:` type($x)";
  let definition = BM_LeadingBatching;
}

def BM_CustomVjpOp : BM_CustomRule<"custom_vjp", (ins FlatSymbolRefAttr:$fwd, FlatSymbolRefAttr:$bwd,
                                                      ConfinedAttr<I64Attr, [IntNonNegative]>:$num_residuals,
                                                      DefaultValuedAttr<I64Attr, "0">:$num_closed_over,
                                                      UnitAttr:$optimize_remat)> {
  let summary = "Call of a function with its own reverse derivative";
  let description = [{
    Where nothing is differentiated, a call of `primal`. For reverse mode, `fwd` takes the inputs and
    returns the outputs and `num_residuals` residuals; `bwd` takes the residuals and a cotangent for each float
    or complex output, and returns a cotangent for each float or complex input. There is no forward mode.
    The first `num_closed_over` inputs are no arguments of the user's function but values that it closes over: the
    rule knows nothing of them, so a derivative with respect to them is an error. With `optimize_remat`, in a `bm.remat`,
    the results are those of `primal`, and `fwd` gives the residuals when they are needed.
    Example:
    ```mlir
    %r = bm.custom_vjp @f, @f.fwd, @f.bwd(%x) {num_residuals = 1 : i64} : (tensor<3xf32>) -> tensor<3xf32>
    ```
  }];
  let primitives = ["custom_vjp_call"];
  let assemblyFormat = [{
    $primal `,` $fwd `,` $bwd `(` $inputs `)` attr-dict `:` functional-type($inputs, $outputs)
  }];
}

def BM_CustomLinOp : BM_Op<"custom_lin", !listconcat(
    [AttrSizedOperandSegments, DeclareOpInterfaceMethods<SymbolUserOpInterface>],
    BM_HasJvp, BM_HasTranspose, BM_HasBatching, BM_HasLowering), BM_MayHaveSideEffect> {
  let summary = "The linear map whose transpose a function computes";
  let description = [{
    What the tangents of a `custom_vjp` are: a linear map of `tangents` of which only the transpose is known,
    `bwd(residuals, cotangents of the outputs) -> cotangents of the inputs`. It lives from the forward derivative
    to the transposition; one that is left over is an error.
    Example: `%dr = bm.custom_lin @f.bwd residuals(%x) tangents(%dx) : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>`
  }];
  let primitives = [];
  let arguments = (ins FlatSymbolRefAttr:$bwd, UnitAttr:$has_side_effect,
                       Variadic<BM_Tensor>:$residuals, Variadic<BM_InexactTensor>:$tangents);
  let results = (outs Variadic<BM_InexactTensor>:$outputs);
  let assemblyFormat = [{
    $bwd `residuals` `(` $residuals `)` `tangents` `(` $tangents `)` attr-dict `:`
    functional-type(operands, results)
  }];
  let definition = BM_SideEffect;
}

def BM_LinearSolveOp : BM_Op<"linear_solve", !listconcat(
    [AttrSizedOperandSegments, DeclareOpInterfaceMethods<SymbolUserOpInterface>,
     DeclareOpInterfaceMethods<BM_CustomRuleOpInterface>],
    BM_HasJvp, BM_HasTranspose, BM_HasBatching, BM_HasLowering), BM_MayHaveSideEffect> {
  let summary = "Solution of a linear equation by a function of the user";
  let description = [{
    `x, aux... = solve(params, b)`, where `matvec(params, x) = b` and `matvec` is linear in `x`. The derivative is
    that of the equation, `dx = solve(db - dA x)`, whatever `solve` does; `aux` has none. Transposition exchanges `solve`
    with `transpose_solve` and `matvec` with its transpose `vecmat`; without those two there is no reverse mode. Where
    nothing is left to differentiate the op is a call of `solve`.
    Example:
    ```mlir
    %x = bm.linear_solve @solve of @matvec transposed @transpose_solve of @vecmat params(%a) rhs(%b)
        : (tensor<3x3xf32>, tensor<3xf32>) -> tensor<3xf32>
    ```
  }];
  let primitives = ["custom_linear_solve"];
  let arguments = (ins FlatSymbolRefAttr:$solve, FlatSymbolRefAttr:$matvec,
                       OptionalAttr<FlatSymbolRefAttr>:$transpose_solve, OptionalAttr<FlatSymbolRefAttr>:$vecmat,
                       UnitAttr:$has_side_effect, Variadic<BM_Tensor>:$params,
                       Variadic<BM_InexactTensor>:$rhs);
  let results = (outs Variadic<BM_Tensor>:$outputs);
  let assemblyFormat = [{
    $solve `of` $matvec (`transposed` $transpose_solve^ `of` $vecmat)? `params` `(` $params `)` `rhs` `(` $rhs `)`
    attr-dict `:` functional-type(operands, results)
  }];
  let definition = !strconcat(BM_SideEffect, [{
    ::llvm::StringRef $cppClass::getPrimalSymbol() { return getSolve(); }
    ::mlir::LogicalResult $cppClass::emitLowering(::bmgrad::bm::LoweringFrame &frame) {
      return ::bmgrad::bm::detail::lowerToCall(*this, getSolveAttr(), frame);
    }
  }]);
}

#endif // BMGRAD_DIALECT_BM_CUSTOM_TD
