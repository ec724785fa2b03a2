// RUN: bm-opt %s -split-input-file -verify-diagnostics -bm-differentiate

func.func @pairs(%x: tensor<3xf32>) -> tensor<3xf32> {
  // expected-error @+1 {{has 2 sources, but 1 destinations}}
  %0 = bm.ppermute %x over "i" from [0, 1] to [1] : (tensor<3xf32>) -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// -----

func.func @twice(%x: tensor<3xf32>) -> tensor<3xf32> {
  // expected-error @+1 {{names a source or a destination twice}}
  %0 = bm.ppermute %x over "i" from [0, 1] to [1, 1] : (tensor<3xf32>) -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// -----

func.func @dimension(%x: tensor<3xf32>) -> tensor<3xf32> {
  // expected-error @+1 {{has dimension 1 of an operand of type 'tensor<3xf32>'}}
  %0 = bm.all_to_all %x over "i" dim = 1 : (tensor<3xf32>) -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// -----

func.func @gathered(%x: tensor<3xf32>) -> tensor<4x2xf32> {
  // expected-error @+1 {{has types 'tensor<3xf32>' and 'tensor<4x2xf32>': the second is to be the first with one dimension more, dimension 0}}
  %0 = bm.all_gather %x over "i" dim = 0 : (tensor<3xf32>) -> tensor<4x2xf32>
  return %0 : tensor<4x2xf32>
}

// -----

func.func private @f(%x: tensor<f32>) -> tensor<4xf32> {
  // expected-error @+1 {{'all_gather' over an axis of size 5 makes a dimension of size 4}}
  %0 = bm.all_gather %x over "i" dim = 0 : (tensor<f32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}
func.func @size(%x: tensor<5xf32>) -> tensor<4xf32> {
  // expected-remark @+1 {{while expanding this transform}}
  %0 = bm.batch @f(%x) {in_axes = array<i64: 0>, out_axes = array<i64: -1>, size = 5 : i64, axis_name = "i"}
      : (tensor<5xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

func.func private @f(%x: tensor<f32>) -> tensor<f32> {
  // expected-error @+1 {{'pbroadcast' over an axis of size 2 names index 2}}
  %0 = bm.pbroadcast %x over "i" from 2 : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}
func.func @index(%x: tensor<2xf32>) -> tensor<2xf32> {
  // expected-remark @+1 {{while expanding this transform}}
  %0 = bm.batch @f(%x) {in_axes = array<i64: 0>, out_axes = array<i64: 0>, size = 2 : i64, axis_name = "i"}
      : (tensor<2xf32>) -> tensor<2xf32>
  return %0 : tensor<2xf32>
}

// -----

func.func private @f(%x: tensor<f32>) -> tensor<f32> {
  // expected-error @+1 {{no derivative rule for primitive 'pmax' of a named axis}}
  %0 = bm.pmax %x over "i" : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}
func.func @extremum(%x: tensor<f32>) -> tensor<f32> {
  // expected-remark @+1 {{while expanding this transform}}
  %0:2 = bm.jvp @f(%x, %x) {wrt = array<i64: 0>} : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#1 : tensor<f32>
}
