//===- BMInterfaces.td - What each bm op can say of itself -*- tablegen -*-===//

#ifndef BMGRAD_DIALECT_BM_BMINTERFACES_TD
#define BMGRAD_DIALECT_BM_BMINTERFACES_TD

include "mlir/IR/OpBase.td"

/// What the record says: read by the importer through `op_table()`.
def BM_RecordInterface : OpInterface<"RecordInterface"> {
  let cppNamespace = "::bmgrad::bm";
  let description = "The facts of an op's ODS record that other stages read.";
  let methods = [
    StaticInterfaceMethod<"The jaxpr primitives this op is imported from.",
      "::llvm::ArrayRef<::llvm::StringLiteral>", "getPrimitives">,
    StaticInterfaceMethod<"The StableHLO or CHLO op of a one-to-one lowering, or empty.",
      "::llvm::StringLiteral", "getStablehloName">,
  ];
}

def BM_DifferentiableOpInterface : OpInterface<"DifferentiableOpInterface"> {
  let cppNamespace = "::bmgrad::bm";
  let description = [{
    The derivative rule. Reverse mode follows from it: the tangent part is
    linear and is transposed. `frame` holds the primal operands and their
    tangents (null = symbolic zero); the rule emits and records the primal
    results and their tangents. Called only if some tangent is not null.
  }];
  let methods = [
    InterfaceMethod<"Emits primal results and result tangents.",
      "::llvm::LogicalResult", "emitJvp", (ins "::bmgrad::bm::JvpFrame &":$frame)>,
  ];
}

def BM_LinearOpInterface : OpInterface<"LinearOpInterface"> {
  let cppNamespace = "::bmgrad::bm";
  let description = [{
    The transpose of an op with respect to the operands in which it is used
    linearly: from result cotangents to operand cotangents. In `frame` a null
    operand is a linear one; a null cotangent is a symbolic zero.
  }];
  let methods = [
    InterfaceMethod<"Emits cotangents of the linear operands.",
      "::llvm::LogicalResult", "emitTranspose", (ins "::bmgrad::bm::TransposeFrame &":$frame)>,
  ];
}

def BM_SplittableOpInterface : OpInterface<"SplittableOpInterface"> {
  let cppNamespace = "::bmgrad::bm";
  let description = [{
    Ops with regions whose results are partly primal and partly linear make
    two ops of themselves: one that computes the primal results and the
    residuals, and one that is linear. The op replaces its own uses.
  }];
  let methods = [
    InterfaceMethod<"Splits the op, given which operands are linear; adds linear results to the frame.",
      "::llvm::LogicalResult", "emitSplit", (ins "::bmgrad::bm::SplitFrame &":$frame)>,
  ];
}

def BM_FlowOpInterface : OpInterface<"FlowOpInterface"> {
  let cppNamespace = "::bmgrad::bm";
  let description = [{
    Ops with regions say which of their results depend on which operands.
    Of an op without this interface every result depends on every operand.
  }];
  let methods = [
    InterfaceMethod<"Which results depend on marked operands; `flow` says it of a block's results.",
      "::llvm::SmallVector<bool>", "flowResults",
      (ins "::llvm::ArrayRef<bool>":$marked, "::bmgrad::bm::BlockFlow":$flow)>,
  ];
}

def BM_BatchableOpInterface : OpInterface<"BatchableOpInterface"> {
  let cppNamespace = "::bmgrad::bm";
  let description = [{
    The batching rule. Batched operands have the batch dimension at axis 0;
    so have the results that the rule marks as batched.
    Called only if some operand is batched.
  }];
  let methods = [
    InterfaceMethod<"Emits the batched op.",
      "::llvm::LogicalResult", "emitBatch", (ins "::bmgrad::bm::BatchFrame &":$frame)>,
  ];
}

def BM_CollectiveOpInterface : OpInterface<"CollectiveOpInterface"> {
  let cppNamespace = "::bmgrad::bm";
  let description = [{
    An op that reads what other elements of a batch have. Batched over the axis of its
    name its rule is called whether or not an operand is batched.
  }];
  let methods = [
    InterfaceMethod<"The name of the axis.", "::llvm::StringRef", "getAxis">,
    InterfaceMethod<"Whether, batched over its axis, it has one element's result for each.",
      "bool", "isBatched", (ins "bool":$operand)>,
  ];
}

def BM_LowerableOpInterface : OpInterface<"LowerableOpInterface"> {
  let cppNamespace = "::bmgrad::bm";
  let description = [{
    The lowering to StableHLO and CHLO, which are written as unregistered ops
    and verified where they are parsed. Regions were lowered before.
  }];
  let methods = [
    InterfaceMethod<"Emits the StableHLO ops and records the replacement of each result.",
      "::llvm::LogicalResult", "emitLowering", (ins "::bmgrad::bm::LoweringFrame &":$frame)>,
  ];
}

def BM_CustomRuleOpInterface : OpInterface<"CustomRuleOpInterface"> {
  let cppNamespace = "::bmgrad::bm";
  let description = [{
    An op that calls a function and knows another derivative for it. When nothing is left
    to differentiate it is replaced by a plain call of that function.
  }];
  let methods = [
    InterfaceMethod<"The name of the function that the op calls.",
      "::llvm::StringRef", "getPrimalSymbol">,
  ];
}

#endif // BMGRAD_DIALECT_BM_BMINTERFACES_TD
