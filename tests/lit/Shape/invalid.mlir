// RUN: bm-opt %s -split-input-file -verify-diagnostics

func.func @element_type(%x: tensor<3xf32>) {
  // expected-error@+1 {{cannot change the element type from 'f32' to 'f64'}}
  %0 = bm.broadcast_in_dim %x dims = [0] : (tensor<3xf32>) -> tensor<3xf64>
  return
}

// -----

func.func @too_few_dims(%x: tensor<3xf32>) {
  // expected-error@+1 {{has 0 dims for an operand of rank 1}}
  %0 = bm.broadcast_in_dim %x dims = [] : (tensor<3xf32>) -> tensor<2x3xf32>
  return
}

// -----

func.func @unordered_dims(%x: tensor<2x3xf32>) {
  // expected-error@+1 {{dims must increase and be below the result's rank 2, got [1, 0]}}
  %0 = bm.broadcast_in_dim %x dims = [1, 0] : (tensor<2x3xf32>) -> tensor<3x2xf32>
  return
}

// -----

func.func @stretched(%x: tensor<2xf32>) {
  // expected-error@+1 {{cannot stretch operand dimension 0 from 2 to 4: only size 1 is repeated}}
  %0 = bm.broadcast_in_dim %x dims = [0] : (tensor<2xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @more_elements(%x: tensor<6xf32>) {
  // expected-error@+1 {{needs as many elements as it has: 'tensor<6xf32>' holds 6, 'tensor<2x4xf32>' holds 8}}
  %0 = bm.reshape %x : (tensor<6xf32>) -> tensor<2x4xf32>
  return
}

// -----

func.func @reshape_element_type(%x: tensor<6xf32>) {
  // expected-error@+1 {{cannot change the element type from 'f32' to 'i32'}}
  %0 = bm.reshape %x : (tensor<6xf32>) -> tensor<6xi32>
  return
}

// -----

func.func @short_permutation(%x: tensor<2x3xf32>) {
  // expected-error@+2 {{permutation has 1 entries for an operand of rank 2}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = bm.transpose %x dims = [0] : (tensor<2x3xf32>) -> tensor<2x3xf32>
  return
}

// -----

func.func @no_permutation(%x: tensor<2x3xf32>) {
  // expected-error@+2 {{permutation has 1 twice}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = bm.transpose %x dims = [1, 1] : (tensor<2x3xf32>) -> tensor<3x3xf32>
  return
}

// -----

func.func @transposed_shape(%x: tensor<2x3xf32>) {
  // expected-error@+2 {{inferred type(s) 'tensor<3x2xf32>' are incompatible with return type(s) of operation 'tensor<2x3xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = bm.transpose %x dims = [1, 0] : (tensor<2x3xf32>) -> tensor<2x3xf32>
  return
}

// -----

func.func @reversed_dimension(%x: tensor<2x3xf32>) {
  // expected-error@+1 {{'bm.reverse' op dims has 2, which is no dimension of an operand of rank 2}}
  %0 = bm.reverse %x dims = [2] : tensor<2x3xf32>
  return
}

// -----

func.func @nothing_to_join() {
  // expected-error@+2 {{concatenate needs at least one operand}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = "bm.concatenate"() {dimension = 0 : i64} : () -> tensor<0xf32>
  return
}

// -----

func.func @joined_shapes(%x: tensor<2x3xf32>, %y: tensor<2x4xf32>) {
  // expected-error@+2 {{operands may differ only in dimension 0, but are 'tensor<2x3xf32>' and 'tensor<2x4xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = bm.concatenate %x, %y dim = 0 : (tensor<2x3xf32>, tensor<2x4xf32>) -> tensor<4x3xf32>
  return
}

// -----

func.func @joined_dimension(%x: tensor<2xf32>) {
  // expected-error@+2 {{dim has 1, which is no dimension of an operand of rank 1}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = bm.concatenate %x dim = 1 : (tensor<2xf32>) -> tensor<2xf32>
  return
}

// -----

func.func @pieces(%x: tensor<5xf32>) {
  // expected-error@+2 {{pieces of 4 elements in all do not make up dimension 0 of 'tensor<5xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0:2 = bm.split %x sizes = [2, 2] axis = 0 : (tensor<5xf32>) -> (tensor<2xf32>, tensor<2xf32>)
  return
}

// -----

func.func @negative_piece(%x: tensor<5xf32>) {
  // expected-error@+2 {{piece of negative size -1}}
  // expected-error@+1 {{failed to infer returned types}}
  %0:2 = bm.split %x sizes = [6, -1] axis = 0 : (tensor<5xf32>) -> (tensor<6xf32>, tensor<1xf32>)
  return
}

// -----

func.func @padding_value(%x: tensor<5xf32>, %p: tensor<1xf32>) {
  // expected-error@+2 {{padding value must be a scalar of type 'f32', but is 'tensor<1xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = bm.pad %x, %p low = [1] high = [0] interior = [0] : (tensor<5xf32>, tensor<1xf32>) -> tensor<6xf32>
  return
}

// -----

func.func @padding_lists(%x: tensor<5xf32>, %p: tensor<f32>) {
  // expected-error@+2 {{low, high and interior need one entry for each of the 1 dimensions}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = bm.pad %x, %p low = [1] high = [] interior = [0] : (tensor<5xf32>, tensor<f32>) -> tensor<6xf32>
  return
}

// -----

func.func @interior(%x: tensor<5xf32>, %p: tensor<f32>) {
  // expected-error@+2 {{interior padding of dimension 0 is negative: -1}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = bm.pad %x, %p low = [0] high = [0] interior = [-1] : (tensor<5xf32>, tensor<f32>) -> tensor<1xf32>
  return
}

// -----

func.func @cut_off(%x: tensor<5xf32>, %p: tensor<f32>) {
  // expected-error@+2 {{low and high cut more off dimension 0 than its 5 elements}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = bm.pad %x, %p low = [-3] high = [-3] interior = [0] : (tensor<5xf32>, tensor<f32>) -> tensor<0xf32>
  return
}

// -----

func.func @iota_dimension() {
  // expected-error@+1 {{'bm.iota' op dim has 1, which is no dimension of an operand of rank 1}}
  %0 = bm.iota dim = 1 : tensor<3xi32>
  return
}
