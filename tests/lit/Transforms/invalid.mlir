// RUN: bm-opt %s -split-input-file -verify-diagnostics -bm-differentiate

func.func @no_function(%x: tensor<f32>) -> tensor<f32> {
  // expected-error @below {{refers to @f, which is no function of this module}}
  %r:2 = bm.vjp @f(%x, %x) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %r#1 : tensor<f32>
}

// -----

func.func private @f(tensor<f32>) -> tensor<f32>
func.func @no_body(%x: tensor<f32>) -> tensor<f32> {
  // expected-error @below {{cannot transform @f: it has no body}}
  %r:2 = bm.vjp @f(%x, %x) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %r#1 : tensor<f32>
}

// -----

func.func private @f(%x: tensor<f32>) -> tensor<f32> { return %x : tensor<f32> }
func.func @out_of_range(%x: tensor<f32>) -> tensor<f32> {
  // expected-error @below {{wrt names argument 1, but the function has 1}}
  %r:2 = bm.vjp @f(%x, %x) {wrt = array<i64: 1>, of = array<i64: 0>} : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %r#1 : tensor<f32>
}

// -----

func.func private @f(%x: tensor<i32>) -> tensor<i32> { return %x : tensor<i32> }
func.func @integers(%x: tensor<i32>) -> tensor<i32> {
  // expected-error @below {{wrt names argument 0 of type 'tensor<i32>', which has no derivative}}
  %r:2 = bm.jvp @f(%x, %x) {wrt = array<i64: 0>} : (tensor<i32>, tensor<i32>) -> (tensor<i32>, tensor<i32>)
  return %r#1 : tensor<i32>
}

// -----

func.func private @f(%x: tensor<f32>) -> tensor<f32> { return %x : tensor<f32> }
func.func @wrong_type(%x: tensor<f32>, %y: tensor<2xf32>) -> tensor<f32> {
  // expected-error @below {{has operands ('tensor<f32>', 'tensor<2xf32>') where ('tensor<f32>', 'tensor<f32>') are expected}}
  %r:2 = bm.jvp @f(%x, %y) {wrt = array<i64: 0>} : (tensor<f32>, tensor<2xf32>) -> (tensor<f32>, tensor<f32>)
  return %r#1 : tensor<f32>
}

// -----

func.func private @f(%x: tensor<f32>) -> tensor<f32> { return %x : tensor<f32> }
func.func @wrong_axis(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @below {{operand 0 of type 'tensor<4xf32>', without batch axis 0 of size 5, is not the function's 'tensor<f32>'}}
  %r = bm.batch @f(%x) {in_axes = array<i64: 0>, out_axes = array<i64: 0>, size = 5 : i64} : (tensor<4xf32>) -> tensor<4xf32>
  return %r : tensor<4xf32>
}

// -----

// expected-error @below {{a result depends on a batched argument but has no batch axis}}
func.func private @f(%x: tensor<f32>) -> tensor<f32> { return %x : tensor<f32> }
func.func @dependent(%x: tensor<4xf32>) -> tensor<f32> {
  // expected-remark @below {{while expanding this transform}}
  %r = bm.batch @f(%x) {in_axes = array<i64: 0>, out_axes = array<i64: -1>, size = 4 : i64} : (tensor<4xf32>) -> tensor<f32>
  return %r : tensor<f32>
}

// -----

// expected-error @below {{calls itself: a recursive function cannot be transformed}}
func.func @recursive(%x: tensor<f32>) -> tensor<f32> {
  %r = func.call @recursive(%x) : (tensor<f32>) -> tensor<f32>
  return %r : tensor<f32>
}
