// RUN: bm-opt %s -split-input-file -bm-differentiate -verify-diagnostics

// A rule that could not be imported is an error of the derivative that needs it.

func.func private @f(%x: tensor<f32>) -> tensor<f32> {
  return %x : tensor<f32>
}
func.func private @f.jvp(tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>) attributes {bm.reason = "it raised"}
func.func private @main(%x: tensor<f32>) -> tensor<f32> {
  // expected-error@+1 {{derivative rule @f.jvp.batched.2.11.11 has no body: it raised}}
  %0 = bm.custom_jvp @f, @f.jvp(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}
func.func private @batch(%x: tensor<2xf32>) -> tensor<2xf32> {
  %0 = bm.batch @main(%x) {in_axes = array<i64: 0>, out_axes = array<i64: 0>, size = 2 : i64} : (tensor<2xf32>) -> tensor<2xf32>
  return %0 : tensor<2xf32>
}
func.func @jvp(%x: tensor<2xf32>, %dx: tensor<2xf32>) -> tensor<2xf32> {
  // expected-remark@+1 {{while expanding this transform}}
  %0:2 = bm.jvp @batch(%x, %dx) {wrt = array<i64: 0>} : (tensor<2xf32>, tensor<2xf32>) -> (tensor<2xf32>, tensor<2xf32>)
  return %0#1 : tensor<2xf32>
}

// -----

func.func private @f(%x: tensor<f32>) -> tensor<f32> {
  return %x : tensor<f32>
}
func.func private @f.bwd(tensor<f32>) -> tensor<f32> attributes {bm.reason = "it raised"}
func.func private @main(%x: tensor<f32>) -> tensor<f32> {
  // expected-error@+1 {{derivative rule @f.bwd has no body: it raised}}
  %0 = bm.custom_vjp @f, @f, @f.bwd(%x) {num_residuals = 0 : i64} : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}
func.func @vjp(%x: tensor<f32>, %ct: tensor<f32>) -> tensor<f32> {
  // expected-remark@+1 {{while expanding this transform}}
  %0:2 = bm.vjp @main(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#1 : tensor<f32>
}

// -----

// Where no cotangent comes the rule is not needed.

func.func private @f(%x: tensor<f32>) -> tensor<f32> {
  return %x : tensor<f32>
}
func.func private @f.bwd(tensor<f32>) -> tensor<f32> attributes {bm.reason = "it raised"}
func.func private @main(%x: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0 = bm.custom_vjp @f, @f, @f.bwd(%x) {num_residuals = 0 : i64} : (tensor<f32>) -> tensor<f32>
  return %0, %x : tensor<f32>, tensor<f32>
}
func.func @vjp(%x: tensor<f32>, %ct: tensor<f32>) -> tensor<f32> {
  %0:3 = bm.vjp @main(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 1>} : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>, tensor<f32>)
  return %0#2 : tensor<f32>
}
