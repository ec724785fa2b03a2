// RUN: bm-opt %s -split-input-file -bm-differentiate -bm-lower -allow-unregistered-dialect -verify-diagnostics

func.func @unordered(%x: tensor<f32>) {
  // expected-error @+1 {{reads or changes a reference, so it must have a side effect and one name in `ordered`}}
  bm.kernel {id = 0 : i64, name = "addupdate", has_side_effect, reference = tensor<f32>}(%x) : (tensor<f32>) -> ()
  return
}

// -----

// What is written has no tangent, though no result is differentiable.
func.func private @add(%x: tensor<f32>) {
  // expected-error @+1 {{no derivative rule for primitive 'addupdate'}}
  bm.kernel {id = 0 : i64, name = "addupdate", has_side_effect, ordered = ["a"], reference = tensor<f32>}(%x)
      : (tensor<f32>) -> ()
  return
}
func.func @jvp(%x: tensor<f32>, %dx: tensor<f32>) {
  // expected-remark @+1 {{while expanding this transform}}
  bm.jvp @add(%x, %dx) {wrt = array<i64: 0>} : (tensor<f32>, tensor<f32>) -> ()
  return
}

// -----

func.func private @write(%x: tensor<f32>) -> tensor<f32> {
  // expected-error @+1 {{write to a reference that the elements of a batch share}}
  %0 = bm.kernel {id = 0 : i64, name = "swap", has_side_effect, ordered = ["a"], reference = tensor<f32>}(%x)
      : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}
func.func @batch(%x: tensor<5xf32>) -> tensor<5xf32> {
  %0 = bm.batch @write(%x) {in_axes = array<i64: 0>, out_axes = array<i64: 0>, size = 5 : i64}
      : (tensor<5xf32>) -> tensor<5xf32>
  return %0 : tensor<5xf32>
}

// -----

// All branches of a batch run, and a branch may call a function with a rule.
func.func private @read(%x: tensor<f32>) -> tensor<f32> {
  %0 = bm.kernel {id = 0 : i64, name = "get", has_side_effect, ordered = ["a"], reference = tensor<f32>}() : () -> tensor<f32>
  return %0 : tensor<f32>
}
func.func private @choose(%i: tensor<i32>, %x: tensor<f32>) -> tensor<f32> {
  // expected-error @+1 {{branches that read or change a reference}}
  %0 = bm.cond %i(%x) : (tensor<i32>, tensor<f32>) -> tensor<f32> {
  ^bb0(%y: tensor<f32>):
    %1 = bm.custom_jvp @read(%y) {has_side_effect} : (tensor<f32>) -> tensor<f32>
    bm.yield %1 : tensor<f32>
  }, {
  ^bb0(%y: tensor<f32>):
    bm.yield %y : tensor<f32>
  }
  return %0 : tensor<f32>
}
func.func @batch_of_choices(%i: tensor<5xi32>, %x: tensor<f32>) -> tensor<5xf32> {
  // expected-remark @+1 {{while expanding this transform}}
  %0 = bm.batch @choose(%i, %x) {in_axes = array<i64: 0, -1>, out_axes = array<i64: 0>, size = 5 : i64}
      : (tensor<5xi32>, tensor<f32>) -> tensor<5xf32>
  return %0 : tensor<5xf32>
}
