// RUN: bm-opt %s -split-input-file -bm-differentiate -allow-unregistered-dialect -bm-lower -verify-diagnostics

func.func private @f(%x: tensor<f32>) -> tensor<f32> {
  return %x : tensor<f32>
}
func.func private @f.bwd(%ct: tensor<f32>) -> tensor<f32> {
  return %ct : tensor<f32>
}
func.func private @main(%x: tensor<f32>) -> tensor<f32> {
  // expected-error@+1 {{forward-mode derivative of a function with a custom VJP rule; use reverse mode, or give the function a custom JVP rule}}
  %0 = bm.custom_vjp @f, @f, @f.bwd(%x) {num_residuals = 0 : i64} : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}
func.func @jvp(%x: tensor<f32>, %dx: tensor<f32>) -> tensor<f32> {
  %0:2 = bm.jvp @main(%x, %dx) {wrt = array<i64: 0>} : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#1 : tensor<f32>
}

// -----

// The rule knows nothing of what the function closes over.
func.func private @f(%w: tensor<f32>, %x: tensor<f32>) -> tensor<f32> {
  return %x : tensor<f32>
}
func.func private @f.bwd(%ct: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  return %ct, %ct : tensor<f32>, tensor<f32>
}
func.func private @main(%w: tensor<f32>, %x: tensor<f32>) -> tensor<f32> {
  // expected-error@+1 {{derivative with respect to a value that a function with a custom VJP rule closes over; pass the value to the function as an argument}}
  %0 = bm.custom_vjp @f, @f, @f.bwd(%w, %x) {num_residuals = 0 : i64, num_closed_over = 1 : i64} : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}
func.func @vjp(%w: tensor<f32>, %x: tensor<f32>, %ct: tensor<f32>) -> tensor<f32> {
  // expected-remark@+1 {{while expanding this transform}}
  %0:2 = bm.vjp @main(%w, %x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#1 : tensor<f32>
}

// -----

func.func private @f(%b: tensor<f32>) -> tensor<f32> {
  return %b : tensor<f32>
}
func.func private @main(%b: tensor<f32>) -> tensor<f32> {
  // expected-error@+1 {{reverse-mode derivative of a custom_linear_solve without transpose_solve; give it one, or symmetric=True}}
  %0 = bm.linear_solve @f of @f params() rhs(%b) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}
func.func @vjp(%b: tensor<f32>, %ct: tensor<f32>) -> tensor<f32> {
  // expected-remark@+1 {{while expanding this transform}}
  %0:2 = bm.vjp @main(%b, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#1 : tensor<f32>
}

// -----

func.func private @f(%x: tensor<f32>, %y: tensor<f32>) -> tensor<f32> {
  return %x : tensor<f32>
}
func.func private @f.t(%x: tensor<f32>, %ct: tensor<f32>) -> tensor<f32> {
  return %ct : tensor<f32>
}
func.func private @main(%x: tensor<f32>) -> tensor<f32> {
  // expected-error@+1 {{no derivative rule for primitive 'f'}}
  %0 = bm.custom_jvp @f(%x, %x) {linear = [array<i64: 1>], transposes = [@f.t]} : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}
func.func @jvp(%x: tensor<f32>, %dx: tensor<f32>) -> tensor<f32> {
  // expected-remark@+1 {{while expanding this transform}}
  %0:2 = bm.jvp @main(%x, %dx) {wrt = array<i64: 0>} : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#1 : tensor<f32>
}
