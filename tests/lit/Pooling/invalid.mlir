// RUN: bm-opt %s -split-input-file -verify-diagnostics

func.func @window(%x: tensor<6x5xf32>) {
  // expected-error@+1 {{needs a positive size, stride and dilations of windows, and padding, for each dimension of 'tensor<6x5xf32>'}}
  %0 = bm.reduce_window_sum %x window = [2] strides = [2, 1] low = [0, 0] high = [0, 0] dilations = [1, 1] x [1, 1] : (tensor<6x5xf32>) -> tensor<3x5xf32>
  return
}

// -----

func.func @stride(%x: tensor<6xf32>) {
  // expected-error@+1 {{needs a positive size, stride and dilations of windows}}
  %0 = bm.reduce_window_max %x window = [2] strides = [0] low = [0] high = [0] dilations = [1] x [1] : (tensor<6xf32>) -> tensor<3xf32>
  return
}

// -----

func.func @count(%x: tensor<6xf32>) {
  // expected-error@+1 {{there are [3] windows, not as many as in 'tensor<4xf32>'}}
  %0 = bm.reduce_window_min %x window = [2] strides = [2] low = [0] high = [0] dilations = [1] x [1] : (tensor<6xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @beside(%x: tensor<6xf32>, %t: tensor<5xf32>) {
  // expected-error@+1 {{values and operand must have one shape, not those of 'tensor<5xf32>' and 'tensor<6xf32>'}}
  %0 = bm.select_and_gather_add %t by %x window = [2] strides = [2] low = [0] high = [0] dilations = [1] x [1] : (tensor<5xf32>, tensor<6xf32>) -> tensor<3xf32>
  return
}

// -----

func.func @element(%x: tensor<6xf32>, %t: tensor<6xi32>) {
  // expected-error@+1 {{result must have the element type of 'tensor<6xi32>'}}
  %0 = bm.select_and_gather_add %t by %x window = [2] strides = [2] low = [0] high = [0] dilations = [1] x [1] : (tensor<6xi32>, tensor<6xf32>) -> tensor<3xf32>
  return
}

// -----

func.func @scatter(%x: tensor<6xf32>, %y: tensor<3xf64>) {
  // expected-error@+1 {{operand and result must be of one type, and source of its element type}}
  %0 = bm.select_and_scatter_add %y by %x window = [2] strides = [2] low = [0] high = [0] : (tensor<3xf64>, tensor<6xf32>) -> tensor<6xf32>
  return
}
