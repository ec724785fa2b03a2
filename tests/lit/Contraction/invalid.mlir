// RUN: bm-opt %s -split-input-file -verify-diagnostics

func.func @pairs(%x: tensor<2x3xf32>, %y: tensor<3x4xf32>) {
  // expected-error@+1 {{pairs dimensions of lhs and rhs, but the lists differ in length}}
  %0 = bm.dot_general %x, %y contract = [1] x [] : (tensor<2x3xf32>, tensor<3x4xf32>) -> tensor<2x4xf32>
  return
}

// -----

func.func @out_of_range(%x: tensor<2x3xf32>, %y: tensor<3x4xf32>) {
  // expected-error@+1 {{dimensions of rhs has 2, which is no dimension of an operand of rank 2}}
  %0 = bm.dot_general %x, %y contract = [1] x [2] : (tensor<2x3xf32>, tensor<3x4xf32>) -> tensor<2x4xf32>
  return
}

// -----

func.func @batch_and_contracted(%x: tensor<3x3xf32>, %y: tensor<3x3xf32>) {
  // expected-error@+1 {{dimensions of lhs has 1 twice}}
  %0 = bm.dot_general %x, %y batch = [1] x [0] contract = [1] x [1] : (tensor<3x3xf32>, tensor<3x3xf32>) -> tensor<3x3xf32>
  return
}

// -----

func.func @sizes(%x: tensor<2x3xf32>, %y: tensor<4x5xf32>) {
  // expected-error@+1 {{pairs dimension 1 of lhs with 0 of rhs, but their sizes are 3 and 4}}
  %0 = bm.dot_general %x, %y contract = [1] x [0] : (tensor<2x3xf32>, tensor<4x5xf32>) -> tensor<2x5xf32>
  return
}

// -----

func.func @result_shape(%x: tensor<2x3xf32>, %y: tensor<3x4xf32>) {
  // expected-error@+1 {{result must have shape [2, 4]: batch, free lhs, then free rhs dimensions; it is 'tensor<4x2xf32>'}}
  %0 = bm.dot_general %x, %y contract = [1] x [0] : (tensor<2x3xf32>, tensor<3x4xf32>) -> tensor<4x2xf32>
  return
}

// -----

func.func @precisions(%x: tensor<2x3xf32>, %y: tensor<3x4xf32>) {
  // expected-error@+1 {{attribute 'precision' failed to satisfy constraint}}
  %0 = bm.dot_general %x, %y contract = [1] x [0] {precision = [#bm<precision high>]} : (tensor<2x3xf32>, tensor<3x4xf32>) -> tensor<2x4xf32>
  return
}
