//===- Passes.td - The passes of bmgrad ---------------------*- tablegen -*-===//
//
// The one list of passes. Pipelines.cpp puts them in order and says why there.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_PASSES_PASSES_TD
#define BMGRAD_PASSES_PASSES_TD

include "mlir/Pass/PassBase.td"

class BM_Pass<string name> : Pass<name, "::mlir::ModuleOp"> {
  let dependentDialects = ["::bmgrad::bm::BMDialect", "::mlir::func::FuncDialect"];
}

def ExpandTransforms : BM_Pass<"bm-expand-transforms"> {
  let summary = "Replaces transforms of functions by what they mean";
  let description = [{
    Makes the function that each `bm.jvp`, `bm.vjp` and `bm.batch` stands for, innermost
    transform first, and inlines it, together with all calls and the primal
    functions of custom derivative rules, into the public functions.
  }];
}

def Linearize : BM_Pass<"bm-linearize"> {
  let summary = "Splits a function into its primal part and its linear tangent part";
  let description = [{
    Replaces `@f` by `@f.fwd`, which gives the results of `@f` and the residuals, and
    `@f.lin`, which from the residuals and the tangents of the arguments in `wrt`
    gives the tangents of the float and complex results.
  }];
  let options = [
    Option<"function", "function", "std::string", "\"main\"", "The function to linearize">,
    ListOption<"wrt", "wrt", "int64_t", "The arguments that have tangents">,
  ];
}

def Transpose : BM_Pass<"bm-transpose"> {
  let summary = "Transposes a linear function";
  let description = [{
    Replaces a function that is linear in its arguments after the first `residuals`
    by the function from those residuals and cotangents of its results to cotangents
    of the linear arguments.
  }];
  let options = [
    Option<"function", "function", "std::string", "\"main\"", "The function to transpose">,
    Option<"residuals", "residuals", "int64_t", "0", "How many arguments come first that are not linear">,
  ];
}

def FindBatched : BM_Pass<"bm-find-batched"> {
  let summary = "Says which results of a function a batch over a named axis reaches";
  let description = [{
    Sets the attribute `bm.batched` of the function: for each result whether it differs between
    the elements of a batch of the arguments `batched` over the axis `axis`. A `bm.psum` over
    that axis is the same for all of them, a `bm.axis_index` never is. With `tangents`, or whether
    its tangent does, by the derivative rule of a user.
  }];
  let options = [
    Option<"function", "function", "std::string", "\"main\"", "The function to look at">,
    Option<"axis", "axis", "std::string", "\"\"", "The name of the axis">,
    Option<"size", "size", "int64_t", "1", "The size of the axis">,
    Option<"tangents", "tangents", "bool", "true", "Whether tangents count">,
    ListOption<"batched", "batched", "int64_t", "The batched arguments">,
  ];
}

def UseReciprocals : BM_Pass<"bm-use-reciprocals"> {
  let summary = "Multiplies by reciprocals of divisors that are repeated or squared";
  let description = [{
    Where many are divided by one number, as in the gradient of a softmax, and for `(x / y) / y`,
    which is `x` times the reciprocal of `y^2`: one division instead of many. Of f32 and f64, where
    `allow_reciprocal` says that the last bits may differ. It is the last pass on `bm`: what is
    differentiated further is a quotient, whose cotangents are masked before they are summed.
  }];
}

def LowerToStablehlo : BM_Pass<"bm-lower-to-stablehlo"> {
  let summary = "Lowers bm to StableHLO and CHLO";
  let description = [{
    Asks each op for its lowering. StableHLO and CHLO ops are written as unregistered ops in
    generic form; whoever parses the text with those dialects loaded verifies them.
  }];
}

def KeepShared : BM_Pass<"bm-keep-shared"> {
  let summary = "Keeps values that XLA would compute again in many kernels";
  let description = [{
    On CPUs, XLA repeats cheap ops in each kernel that reads them: of a step that a Python loop
    unrolls, as `v = 0.9 * v + f(v)`, the last kernel holds all. Where a function would repeat many,
    some of their values pass a call that XLA does not inline, and are read from memory; sums that
    read much are cut into pieces in the same way. On StableHLO.
  }];
  let options = [
    Option<"maxRepeated", "max-repeated", "int64_t", "32",
           "The ops that kernels may repeat of one value: about what a kernel costs by itself">,
    Option<"maxRepeatedInAll", "max-repeated-in-all", "int64_t", "1500",
           "What kernels may repeat in all: up to here XLA decides">,
    Option<"maxOps", "max-ops", "int64_t", "1500",
           "The ops of a kernel, beyond which XLA makes several that repeat most of them">,
    Option<"maxReads", "max-reads", "int64_t", "128", "The values that one kernel may read">,
    Option<"maxReadsOfPiece", "max-reads-of-piece", "int64_t", "32",
           "The values that a piece of a kernel may read, where it reads more than `max-reads`">,
  ];
}

#endif // BMGRAD_PASSES_PASSES_TD
