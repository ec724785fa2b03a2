// RUN: bm-opt %s -split-input-file -verify-diagnostics

func.func @layout(%x: tensor<5x3x8xf32>, %w: tensor<4x3x2xf32>) {
  // expected-error@+1 {{dims of lhs must list two dimensions and those of space, all of 'tensor<5x3x8xf32>'}}
  %0 = bm.convolution %x, %w dims = [0, 1] x [0, 1, 2] -> [0, 1, 2] strides = [1] low = [0] high = [0] dilations = [1] x [1] : (tensor<5x3x8xf32>, tensor<4x3x2xf32>) -> tensor<5x4x7xf32>
  return
}

// -----

func.func @twice(%x: tensor<5x3x8xf32>, %w: tensor<4x3x2xf32>) {
  // expected-error@+1 {{dims of rhs has 1 twice}}
  %0 = bm.convolution %x, %w dims = [0, 1, 2] x [0, 1, 1] -> [0, 1, 2] strides = [1] low = [0] high = [0] dilations = [1] x [1] : (tensor<5x3x8xf32>, tensor<4x3x2xf32>) -> tensor<5x4x7xf32>
  return
}

// -----

func.func @strides(%x: tensor<5x3x8xf32>, %w: tensor<4x3x2xf32>) {
  // expected-error@+1 {{operands and result must have one rank, with a stride, padding and dilations for each of 1 spatial dimensions}}
  %0 = bm.convolution %x, %w dims = [0, 1, 2] x [0, 1, 2] -> [0, 1, 2] strides = [0] low = [0] high = [0] dilations = [1] x [1] : (tensor<5x3x8xf32>, tensor<4x3x2xf32>) -> tensor<5x4x7xf32>
  return
}

// -----

func.func @both_groups(%x: tensor<4x4x8xf32>, %w: tensor<4x2x2xf32>) {
  // expected-error@+1 {{has groups of features or of the batch, not of both: 2 and 2}}
  %0 = bm.convolution %x, %w dims = [0, 1, 2] x [0, 1, 2] -> [0, 1, 2] strides = [1] low = [0] high = [0] dilations = [1] x [1] feature_groups = 2 batch_groups = 2 : (tensor<4x4x8xf32>, tensor<4x2x2xf32>) -> tensor<2x4x7xf32>
  return
}

// -----

func.func @features(%x: tensor<5x3x8xf32>, %w: tensor<4x2x2xf32>) {
  // expected-error@+1 {{lhs has 3 features, but rhs reads 2 in each of 1 groups}}
  %0 = bm.convolution %x, %w dims = [0, 1, 2] x [0, 1, 2] -> [0, 1, 2] strides = [1] low = [0] high = [0] dilations = [1] x [1] : (tensor<5x3x8xf32>, tensor<4x2x2xf32>) -> tensor<5x4x7xf32>
  return
}

// -----

func.func @groups(%x: tensor<5x3x8xf32>, %w: tensor<4x3x2xf32>) {
  // expected-error@+1 {{cannot divide 4 features of the result and a batch of 5 into 1 and 2 groups}}
  %0 = bm.convolution %x, %w dims = [0, 1, 2] x [0, 1, 2] -> [0, 1, 2] strides = [1] low = [0] high = [0] dilations = [1] x [1] batch_groups = 2 : (tensor<5x3x8xf32>, tensor<4x3x2xf32>) -> tensor<5x4x7xf32>
  return
}

// -----

func.func @result_shape(%x: tensor<5x3x8xf32>, %w: tensor<4x3x2xf32>) {
  // expected-error@+1 {{result must have shape [5, 4, 7], but it is 'tensor<5x4x8xf32>'}}
  %0 = bm.convolution %x, %w dims = [0, 1, 2] x [0, 1, 2] -> [0, 1, 2] strides = [1] low = [0] high = [0] dilations = [1] x [1] : (tensor<5x3x8xf32>, tensor<4x3x2xf32>) -> tensor<5x4x8xf32>
  return
}
