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

// -----

// All that a function lacks is asked for at once, in loops too.

func.func @main(%x: tensor<f32>, %n: tensor<i32>) -> tensor<f32> {
  // expected-remark @below {{while expanding this transform}}
  %r:2 = bm.jvp @f(%x, %n, %x) {wrt = array<i64: 0>} : (tensor<f32>, tensor<i32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %r#1 : tensor<f32>
}
func.func private @f(%x: tensor<f32>, %n: tensor<i32>) -> tensor<f32> {
  // expected-error @below {{put off rules 7 for 1}}
  %0 = bm.custom_jvp @g, @g.jvp(%x) : (tensor<f32>) -> tensor<f32>
  %1 = bm.scan consts() init(%x) xs() length 3 : (tensor<f32>) -> tensor<f32> {
  ^bb0(%c: tensor<f32>):
    // expected-error @below {{put off rules 8 for 1}}
    %2 = bm.custom_jvp @g, @g.jvp_1(%c) : (tensor<f32>) -> tensor<f32>
    // expected-error @below {{put off rules 7 for 1}}
    %3 = bm.custom_jvp @g, @g.jvp(%c) : (tensor<f32>) -> tensor<f32>
    %4 = bm.mul %2, %3 : tensor<f32>
    bm.yield %4 : tensor<f32>
  }
  %5 = bm.add %0, %1 : tensor<f32>
  return %5 : tensor<f32>
}
func.func private @g(%x: tensor<f32>) -> tensor<f32> {
  return %x : tensor<f32>
}
func.func private @g.jvp(tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>) attributes {bm.reason = "put off rules 7"}
func.func private @g.jvp_1(tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>) attributes {bm.reason = "put off rules 8"}
