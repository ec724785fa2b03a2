// RUN: bm-opt %s -split-input-file -verify-diagnostics

func.func @axis_out_of_range(%x: tensor<2x3xf32>) {
  // expected-error@+2 {{axes has 2, which is no dimension of an operand of rank 2}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = bm.reduce_sum %x axes = [2] : (tensor<2x3xf32>) -> tensor<2xf32>
  return
}

// -----

func.func @axis_twice(%x: tensor<2x3xf32>) {
  // expected-error@+2 {{axes has 1 twice}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = bm.reduce_max %x axes = [1, 1] : (tensor<2x3xf32>) -> tensor<2xf32>
  return
}

// -----

func.func @result_shape(%x: tensor<2x3xf32>) {
  // expected-error@+2 {{inferred type(s) 'tensor<2xf32>' are incompatible with return type(s) of operation 'tensor<3xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = bm.reduce_prod %x axes = [1] : (tensor<2x3xf32>) -> tensor<3xf32>
  return
}

// -----

func.func @bits_of_floats(%x: tensor<2x3xf32>) {
  // expected-error@+1 {{operand #0 must be statically shaped tensor of integer or bool values}}
  %0 = bm.reduce_or %x axes = [1] : (tensor<2x3xf32>) -> tensor<2xf32>
  return
}

// -----

func.func @argmax_axis(%x: tensor<2x3xf32>) {
  // expected-error@+1 {{'bm.argmax' op axis has -1, which is no dimension of an operand of rank 2}}
  %0 = bm.argmax %x axis = -1 : (tensor<2x3xf32>) -> tensor<2xi32>
  return
}

// -----

func.func @argmax_of_nothing(%x: tensor<2x0xf32>) {
  // expected-error@+1 {{needs at least one element along axis 1 of 'tensor<2x0xf32>'}}
  %0 = bm.argmax %x axis = 1 : (tensor<2x0xf32>) -> tensor<2xi32>
  return
}

// -----

func.func @argmin_shape(%x: tensor<2x3xf32>) {
  // expected-error@+1 {{result must have the shape of 'tensor<2x3xf32>' without axis 1, but is 'tensor<3xi32>'}}
  %0 = bm.argmin %x axis = 1 : (tensor<2x3xf32>) -> tensor<3xi32>
  return
}

// -----

func.func @cumulative_axis(%x: tensor<3xf32>) {
  // expected-error@+1 {{'bm.cumsum' op axis has 1, which is no dimension of an operand of rank 1}}
  %0 = bm.cumsum %x axis = 1 : tensor<3xf32>
  return
}

// -----

func.func @recurrence_axis(%x: tensor<3xf32>) {
  // expected-error@+1 {{'bm.linear_recurrence' op axis has 1, which is no dimension of an operand of rank 1}}
  %0 = bm.linear_recurrence %x, %x axis = 1 : tensor<3xf32>
  return
}
