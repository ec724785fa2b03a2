// RUN: bm-opt %s -bm-transpose="function=main residuals=1" -split-input-file -verify-diagnostics

// Only a linear function has a transpose.

func.func @main(%n: tensor<3xf32>, %x: tensor<3xf32>) -> tensor<3xf32> {
  // expected-error @below {{is linear in a tangent but has no transpose rule}}
  %0 = bm.sin %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// -----

func.func @main(%n: tensor<3xf32>, %x: tensor<3xf32>) -> tensor<3xf32> {
  // expected-error @below {{is linear in one operand at a time}}
  %0 = bm.mul %x, %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// -----

func.func @main(%n: tensor<3xf32>, %x: tensor<3xf32>) -> tensor<3xf32> {
  // expected-error @below {{is not linear in the denominator}}
  %0 = bm.div %n, %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// -----

func.func @main(%n: tensor<3xf32>, %x: tensor<3xf32>) -> tensor<f32> {
  // expected-error @below {{is linear in one operand at a time}}
  %0 = bm.dot_general %x, %x contract = [0] x [0] : (tensor<3xf32>, tensor<3xf32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// -----

func.func @main(%n: tensor<3x3xf32>, %x: tensor<3x3xf32>) -> tensor<3x3xf32> {
  // expected-error @below {{is not linear in the matrix}}
  %0 = bm.triangular_solve %x, %n {left_side, lower} : tensor<3x3xf32>, tensor<3x3xf32>
  return %0 : tensor<3x3xf32>
}
