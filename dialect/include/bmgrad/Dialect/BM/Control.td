//===- Control.td - Loops and branches -*- tablegen -*---------------------===//
//
// The ops with regions. Nothing is captured: what a region reads comes in as
// operands and block arguments, so a body can be differentiated, batched and
// moved on its own. Rules: Scan.cpp, While.cpp, Cond.cpp, Remat.cpp.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_DIALECT_BM_CONTROL_TD
#define BMGRAD_DIALECT_BM_CONTROL_TD

include "bmgrad/Dialect/BM/BMBase.td"
include "mlir/Interfaces/ControlFlowInterfaces.td"

def BM_YieldOp : BM_Op<"yield", [
    Terminator, ReturnLike,
    ParentOneOf<["ScanOp", "WhileOp", "CondOp", "RematOp", "ReduceOp", "ReduceWindowOp"]>]> {
  let summary = "End of a region";
  let description = [{
    Gives the values of a loop body, loop condition or branch to the op around it.
    Example: `bm.yield %h, %y : tensor<3xf32>, tensor<f32>`
  }];
  let primitives = [];
  let arguments = (ins Variadic<BM_Tensor>:$values);
  let assemblyFormat = "($values^ `:` type($values))? attr-dict";
}

/// An op with regions.
class BM_Control<string mnemonic, list<Trait> traits = []>
    : BM_Op<mnemonic, !listconcat(
        [IsolatedFromAbove, SingleBlock, DeclareOpInterfaceMethods<BM_FlowOpInterface>], traits,
        BM_HasJvp, BM_HasSplit, BM_HasBatching, BM_HasLowering),
        [RecursiveMemoryEffects, RecursivelySpeculatable]> {
  let hasRegionVerifier = 1;
  let hasCanonicalizer = 1;
}

def BM_ScanOp : BM_Control<"scan", !listconcat([AttrSizedOperandSegments], BM_HasTranspose)> {
  let summary = "Loop over the leading axis of arrays";
  let description = [{
    Runs its body `length` times. The body reads constants, carries (`inits` in the first step) and one
    slice of each of `xs` along axis 0; it yields the next carries and one slice of each stacked result:

    `(c[t+1], y[t]) = body(consts, c[t], x[t])`, results `c[length], y`.

    With `reverse` the steps run from `t = length - 1` down to 0. Linear where the body is. Its transpose
    runs the other way: it carries the cotangents of the carries and sums those of the constants.

    With `unroll` a turn of the loop that it becomes makes so many steps; those left over come after it.
    Example:
    ```mlir
    %c, %ys = bm.scan consts(%w) init(%c0) xs(%xs) length 5
        : (tensor<f32>, tensor<f32>, tensor<5xf32>) -> (tensor<f32>, tensor<5xf32>) {
    ^bb0(%w_: tensor<f32>, %c_: tensor<f32>, %x: tensor<f32>):
      %0 = bm.mul %w_, %c_ : tensor<f32>
      %1 = bm.add %0, %x : tensor<f32>
      bm.yield %1, %0 : tensor<f32>, tensor<f32>
    }
    ```
  }];
  let arguments = (ins Variadic<BM_Tensor>:$consts, Variadic<BM_Tensor>:$inits,
                       Variadic<BM_Tensor>:$xs, I64Attr:$length, UnitAttr:$reverse,
                       ConfinedAttr<DefaultValuedAttr<I64Attr, "1">, [IntPositive]>:$unroll);
  let results = (outs Variadic<BM_Tensor>:$outputs);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    `consts` `(` $consts `)` `init` `(` $inits `)` `xs` `(` $xs `)` `length` $length
    (`reverse` $reverse^)? (`unroll` $unroll^)? attr-dict-with-keyword `:` functional-type(operands, results) $body
  }];
  let declaration = [{
    unsigned getNumConsts() { return getConsts().size(); }
    unsigned getNumCarries() { return getInits().size(); }
    unsigned getNumYs() { return getNumResults() - getNumCarries(); }
    ::mlir::Block &getBlock() { return getBody().front(); }
    YieldOp getYield();
    ::mlir::Block::BlockArgListType getConstArgs() {
      return getBlock().getArguments().take_front(getNumConsts());
    }
    ::mlir::Block::BlockArgListType getCarryArgs() {
      return getBlock().getArguments().slice(getNumConsts(), getNumCarries());
    }
    ::mlir::Block::BlockArgListType getXArgs() {
      return getBlock().getArguments().drop_front(getNumConsts() + getNumCarries());
    }
    ::mlir::OperandRange getYieldedCarries();
    ::mlir::OperandRange getYieldedYs();
    ::mlir::ResultRange getFinalCarries() { return getOutputs().take_front(getNumCarries()); }
    ::mlir::ResultRange getYs() { return getOutputs().drop_front(getNumCarries()); }
  }];
  let definition = [{
    ::bmgrad::bm::YieldOp $cppClass::getYield() {
      return ::mlir::cast<YieldOp>(getBlock().getTerminator());
    }
    ::mlir::OperandRange $cppClass::getYieldedCarries() {
      return getYield().getValues().take_front(getNumCarries());
    }
    ::mlir::OperandRange $cppClass::getYieldedYs() {
      return getYield().getValues().drop_front(getNumCarries());
    }
  }];
}

def BM_WhileOp : BM_Control<"while", !listconcat([AttrSizedOperandSegments], BM_HasTranspose)> {
  let summary = "Loop while a predicate holds";
  let description = [{
    Runs `body(body_consts, c) -> c` from `c = inits` as long as `cond(cond_consts, c)` holds, and gives the last
    carries. The tangent of the loop is a loop of the same length, which computes the values again where the two
    are told apart (`bm-linearize`). There is no reverse mode, for the number of steps is not known: use a `scan`,
    which `jax.lax.fori_loop` with constant bounds becomes.
    Example:
    ```mlir
    %c = bm.while cond_consts(%n) body_consts(%w) init(%c0)
        : (tensor<f32>, tensor<f32>, tensor<f32>) -> tensor<f32> {
    ^bb0(%n_: tensor<f32>, %c_: tensor<f32>):
      %0 = bm.compare lt %c_, %n_ : tensor<f32> -> tensor<i1>
      bm.yield %0 : tensor<i1>
    } do {
    ^bb0(%w_: tensor<f32>, %c_: tensor<f32>):
      %0 = bm.mul %w_, %c_ : tensor<f32>
      bm.yield %0 : tensor<f32>
    }
    ```
  }];
  let arguments = (ins Variadic<BM_Tensor>:$cond_consts, Variadic<BM_Tensor>:$body_consts,
                       Variadic<BM_Tensor>:$inits);
  let results = (outs Variadic<BM_Tensor>:$outputs);
  let regions = (region SizedRegion<1>:$cond, SizedRegion<1>:$body);
  let assemblyFormat = [{
    `cond_consts` `(` $cond_consts `)` `body_consts` `(` $body_consts `)` `init` `(` $inits `)`
    attr-dict-with-keyword `:` functional-type(operands, results) $cond `do` $body
  }];
  let declaration = [{
    unsigned getNumCarries() { return getInits().size(); }
    ::mlir::Block &getCondBlock() { return getCond().front(); }
    ::mlir::Block &getBodyBlock() { return getBody().front(); }
    YieldOp getCondYield();
    YieldOp getBodyYield();
    ::mlir::Block::BlockArgListType getCondCarryArgs() {
      return getCondBlock().getArguments().drop_front(getCondConsts().size());
    }
    ::mlir::Block::BlockArgListType getBodyCarryArgs() {
      return getBodyBlock().getArguments().drop_front(getBodyConsts().size());
    }
  }];
  let definition = [{
    ::bmgrad::bm::YieldOp $cppClass::getCondYield() {
      return ::mlir::cast<YieldOp>(getCondBlock().getTerminator());
    }
    ::bmgrad::bm::YieldOp $cppClass::getBodyYield() {
      return ::mlir::cast<YieldOp>(getBodyBlock().getTerminator());
    }
  }];
}

def BM_CondOp : BM_Control<"cond", BM_HasTranspose> {
  let summary = "Choice of one of several branches";
  let description = [{
    Runs the branch whose number is `index`, clamped to the branches there are. Every branch takes all of
    `inputs`. Linear where its branches are; the transpose chooses among the transposed branches.
    Example:
    ```mlir
    %r = bm.cond %i(%x) : (tensor<i32>, tensor<f32>) -> tensor<f32> {
    ^bb0(%x_: tensor<f32>):
      %0 = bm.sin %x_ : tensor<f32>
      bm.yield %0 : tensor<f32>
    }, {
    ^bb0(%x_: tensor<f32>):
      bm.yield %x_ : tensor<f32>
    }
    ```
  }];
  let arguments = (ins 0DTensorOf<[I32]>:$index, Variadic<BM_Tensor>:$inputs);
  let results = (outs Variadic<BM_Tensor>:$outputs);
  let regions = (region VariadicRegion<SizedRegion<1>>:$branches);
  let assemblyFormat = [{
    $index `(` $inputs `)` attr-dict-with-keyword `:` functional-type(operands, results) $branches
  }];
  let declaration = [{
    ::mlir::Block &getBranchBlock(unsigned index) { return getBranches()[index].front(); }
    YieldOp getBranchYield(unsigned index);
  }];
  let definition = [{
    ::bmgrad::bm::YieldOp $cppClass::getBranchYield(unsigned index) {
      return ::mlir::cast<YieldOp>(getBranchBlock(index).getTerminator());
    }
  }];
}

def BM_RematOp : BM_Control<"remat", BM_HasTranspose> {
  let summary = "Ops whose residuals are computed again, not kept";
  let description = [{
    Runs its body. Where it is split for reverse mode, its linear part keeps the inputs and what `bm.saveable` marks,
    and computes the other residuals again: that part has `differentiated`. It is no plain code, then, before it is
    lowered, and with `prevent_cse` its inputs pass an `optimization_barrier`, or XLA would find the values
    that are there already. Where nothing is left to differentiate an op without `differentiated` is its body.
    Example:
    ```mlir
    %r = bm.remat (%x) prevent_cse : (tensor<f32>) -> tensor<f32> {
    ^bb0(%x_: tensor<f32>):
      %0 = bm.sin %x_ : tensor<f32>
      bm.yield %0 : tensor<f32>
    }
    ```
  }];
  let primitives = ["checkpoint", "remat2"];
  let arguments = (ins Variadic<BM_Tensor>:$inputs, UnitAttr:$differentiated, UnitAttr:$prevent_cse);
  let results = (outs Variadic<BM_Tensor>:$outputs);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    `(` $inputs `)` (`differentiated` $differentiated^)? (`prevent_cse` $prevent_cse^)?
    attr-dict-with-keyword `:` functional-type(operands, results) $body
  }];
  let declaration = [{
    ::mlir::Block &getBlock() { return getBody().front(); }
    YieldOp getYield();
    // As a `cond` of one branch, for what the two share.
    ::mlir::MutableArrayRef<::mlir::Region> getBranches() { return getBody(); }
    ::mlir::Block &getBranchBlock(unsigned) { return getBlock(); }
    YieldOp getBranchYield(unsigned);
  }];
  let definition = [{
    ::bmgrad::bm::YieldOp $cppClass::getYield() {
      return ::mlir::cast<YieldOp>(getBlock().getTerminator());
    }
    ::bmgrad::bm::YieldOp $cppClass::getBranchYield(unsigned) { return getYield(); }
  }];
}

#endif // BMGRAD_DIALECT_BM_CONTROL_TD
