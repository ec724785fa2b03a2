//===- Collective.td - What the elements of a batch say to each other -----===//
//
// A function that is batched over a named axis (`jax.vmap(f, axis_name="i")`) may
// ask for the values that the other elements of the batch have. `bm.batch` over
// that axis turns each of these ops into plain ones; over any other axis the op
// stays. Several axes, tiles and groups are taken apart by the importer.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_DIALECT_BM_COLLECTIVE_TD
#define BMGRAD_DIALECT_BM_COLLECTIVE_TD

include "bmgrad/Dialect/BM/BMBase.td"

/// `batched` says, for an operand that has the axis or not, whether the result does.
class BM_Over<string mnemonic, list<Trait> traits, string batched>
    : BM_Op<mnemonic, !listconcat(
        [BM_CollectiveOpInterface], traits, BM_HasBatching, BM_HasLowering)> {
  code rules = "";
  let declaration = "bool isBatched(bool operand);\n";
  let definition = !strconcat(BM_KernelLowering, rules,
      "bool $cppClass::isBatched(bool operand) { return " # batched # "; }\n");
}

class BM_Collective<string mnemonic, Type type, list<Trait> traits, string batched,
                    dag how = (ins), string format = "">
    : BM_Over<mnemonic, !listconcat(traits, BM_HasJvp), batched> {
  let arguments = !con((ins type:$x, StrAttr:$axis), how);
  let results = (outs type:$r);
  let assemblyFormat = "$x `over` $axis " # format # " attr-dict `:` functional-type(operands, results)";
}

/// Linear, and of the operand's type.
class BM_LinearCollective<string mnemonic, string batched, dag how = (ins), string format = "">
    : BM_Collective<mnemonic, BM_Tensor, !listconcat([AllTypesMatch<["x", "r"]>], BM_HasTranspose),
                    batched, how, format> {
  let rules = BM_LinearJvp;
}

//===----------------------------------------------------------------------===//
// Reductions
//===----------------------------------------------------------------------===//

def BM_PsumOp : BM_LinearCollective<"psum", "false"> {
  let summary = "Sum over a named axis";
  let description = [{
    The sum of `x` over all elements of the batch. Each element has it, so, as in JAX, the transpose is the
    sum of the cotangents of all. Example: `%1 = bm.psum %0 over "i" : (tensor<3xf32>) -> tensor<3xf32>`
  }];
}

class BM_Extremum<string mnemonic>
    : BM_Collective<mnemonic, BM_NumberTensor, [AllTypesMatch<["x", "r"]>], "false">;

def BM_PmaxOp : BM_Extremum<"pmax"> {
  let summary = "Maximum over a named axis";
  let description = [{
    The largest of all elements' `x`. It has no derivative before it is batched, as in JAX; after that it is a
    `bm.reduce_max`. Example: `%1 = bm.pmax %0 over "i" : (tensor<3xf32>) -> tensor<3xf32>`
  }];
}
def BM_PminOp : BM_Extremum<"pmin"> {
  let summary = "Minimum over a named axis";
  let description = [{
    As `bm.pmax`. Example: `%1 = bm.pmin %0 over "i" : (tensor<3xf32>) -> tensor<3xf32>`
  }];
}

//===----------------------------------------------------------------------===//
// Exchanges
//===----------------------------------------------------------------------===//

def BM_PpermuteOp : BM_LinearCollective<
    "ppermute", "true",
    (ins DenseI64ArrayAttr:$sources, DenseI64ArrayAttr:$destinations),
    "`from` $sources `to` $destinations"> {
  let summary = "Values sent along a named axis";
  let description = [{
    Element `destinations[k]` of the batch gets the `x` of element `sources[k]`, and zero if it is no
    destination. The transpose sends the other way. Example:
    ```mlir
    %1 = bm.ppermute %0 over "i" from [0, 1] to [1, 0] : (tensor<3xf32>) -> tensor<3xf32>
    ```
  }];
  let hasVerifier = 1;
}

def BM_PbroadcastOp : BM_LinearCollective<"pbroadcast", "false", (ins I64Attr:$source), "`from` $source"> {
  let summary = "The value that one element of a named axis has";
  let description = [{
    Every element gets the `x` of element `source`. The transpose gives that element the sum of all cotangents, and
    the others zero. Example:
    ```mlir
    %1 = bm.pbroadcast %0 over "i" from 2 : (tensor<3xf32>) -> tensor<3xf32>
    ```
  }];
}

def BM_AllToAllOp : BM_LinearCollective<"all_to_all", "true", (ins I64Attr:$dimension), "`dim` `=` $dimension"> {
  let summary = "A named axis and a dimension exchanged";
  let description = [{
    Element `j` gets at index `i` of the dimension what element `i` has at index `j`. The dimension is as large as the
    axis. It is its own transpose. Example:
    ```mlir
    %1 = bm.all_to_all %0 over "i" dim = 0 : (tensor<4x3xf32>) -> tensor<4x3xf32>
    ```
  }];
  let hasVerifier = 1;
}

/// Linear, with a dimension as large as the axis on one side.
class BM_Gathering<string mnemonic, string batched>
    : BM_Collective<mnemonic, BM_Tensor, BM_HasTranspose, batched, (ins I64Attr:$dimension),
                    "`dim` `=` $dimension"> {
  let rules = BM_LinearJvp;
  let hasVerifier = 1;
}

def BM_AllGatherOp : BM_Gathering<"all_gather", "false"> {
  let summary = "The values that all elements of a named axis have";
  let description = [{
    `x` of all elements along a new dimension. The transpose is `bm.reduce_scatter`. Example:
    ```mlir
    %1 = bm.all_gather %0 over "i" dim = 0 : (tensor<3xf32>) -> tensor<4x3xf32>
    ```
  }];
}

def BM_ReduceScatterOp : BM_Gathering<"reduce_scatter", "true"> {
  let summary = "To each element of a named axis its part of the sum";
  let description = [{
    Element `i` gets the sum over all elements of what they have at index `i` of the dimension, which is as large as
    the axis. The transpose is `bm.all_gather`. Example:
    ```mlir
    %1 = bm.reduce_scatter %0 over "i" dim = 0 : (tensor<4x3xf32>) -> tensor<3xf32>
    ```
  }];
}

def BM_AxisIndexOp : BM_Over<"axis_index", [], "true"> {
  let summary = "The index of the element along a named axis";
  let description = [{
    Batched over its axis it is a `bm.iota`. Example: `%0 = bm.axis_index over "i" : tensor<i32>`
  }];
  let arguments = (ins StrAttr:$axis);
  let results = (outs BM_Tensor:$r);
  let assemblyFormat = "`over` $axis attr-dict `:` type($r)";
}

#endif // BMGRAD_DIALECT_BM_COLLECTIVE_TD
