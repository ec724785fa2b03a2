// RUN: bm-opt --bm-expand-transforms --split-input-file --verify-diagnostics %s

// A rule that is not imported yet is asked for with the operands that are perturbed.

func.func @main(%x: tensor<f32>, %n: tensor<i32>, %y: tensor<f32>, %ct: tensor<f32>) -> tensor<f32> {
  // expected-remark @below {{while expanding this transform}}
  %r:2 = bm.vjp @f(%x, %n, %y, %ct) {wrt = array<i64: 2>, of = array<i64: 0>}
    : (tensor<f32>, tensor<i32>, tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %r#1 : tensor<f32>
}
func.func private @f(%x: tensor<f32>, %n: tensor<i32>, %y: tensor<f32>) -> tensor<f32> {
  // expected-error @below {{derivative rule @g.jvp has no body: put off rules 7 for 001}}
  %0 = bm.custom_jvp @g, @g.jvp(%x, %n, %y) : (tensor<f32>, tensor<i32>, tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}
func.func private @g(%x: tensor<f32>, %n: tensor<i32>, %y: tensor<f32>) -> tensor<f32> {
  return %y : tensor<f32>
}
func.func private @g.jvp(tensor<f32>, tensor<i32>, tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  attributes {bm.reason = "put off rules 7"}

// -----

// So is its batch, which says of what it is one.

func.func @main(%x: tensor<3xf32>, %y: tensor<f32>) -> tensor<3xf32> {
  // expected-remark @below {{while expanding this transform}}
  %r:2 = bm.jvp @mapped(%x, %y, %y) {wrt = array<i64: 1>} : (tensor<3xf32>, tensor<f32>, tensor<f32>) -> (tensor<3xf32>, tensor<3xf32>)
  return %r#1 : tensor<3xf32>
}
func.func private @mapped(%x: tensor<3xf32>, %y: tensor<f32>) -> tensor<3xf32> {
  %r = bm.batch @f(%x, %y) {in_axes = array<i64: 0, -1>, out_axes = array<i64: 0>, size = 3 : i64}
    : (tensor<3xf32>, tensor<f32>) -> tensor<3xf32>
  return %r : tensor<3xf32>
}
func.func private @f(%x: tensor<f32>, %y: tensor<f32>) -> tensor<f32> {
  // expected-error @below {{put off rules 7 for 01}}
  %0 = bm.custom_jvp @g, @g.jvp(%x, %y) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}
func.func private @g(%x: tensor<f32>, %y: tensor<f32>) -> tensor<f32> {
  return %y : tensor<f32>
}
func.func private @g.jvp(tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  attributes {bm.reason = "put off rules 7"}
