// RUN: bm-opt %s -split-input-file -verify-diagnostics

func.func @f(%x: tensor<5xf32>) {
  // expected-error @below {{needs an array to sort}}
  "bm.sort"() {dimension = 0 : i64, num_keys = 1 : i64} : () -> ()
  return
}

// -----

func.func @f(%x: tensor<5xf32>) {
  // expected-error @below {{results must have the types of the operands}}
  %0 = "bm.sort"(%x) {dimension = 0 : i64, num_keys = 1 : i64} : (tensor<5xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @f(%x: tensor<5xf32>, %y: tensor<4xf32>) {
  // expected-error @below {{operands must have one shape, but there are 'tensor<5xf32>' and 'tensor<4xf32>'}}
  %0:2 = bm.sort %x, %y {dimension = 0 : i64, num_keys = 1 : i64} : tensor<5xf32>, tensor<4xf32>
  return
}

// -----

func.func @f(%x: tensor<5xf32>) {
  // expected-error @below {{dimension must be in [0, 1), but it is 1}}
  %0 = bm.sort %x {dimension = 1 : i64, num_keys = 1 : i64} : tensor<5xf32>
  return
}

// -----

func.func @f(%x: tensor<5xf32>) {
  // expected-error @below {{num_keys must be in [1, 1], but it is 2}}
  %0 = bm.sort %x {dimension = 0 : i64, num_keys = 2 : i64} : tensor<5xf32>
  return
}

// -----

func.func @f(%x: tensor<5xf32>) {
  // expected-error @below {{axis must be in [0, 1), but it is -1}}
  %0:2 = bm.top_k %x {axis = -1 : i64} : tensor<5xf32> -> tensor<2xf32>, tensor<2xi32>
  return
}

// -----

func.func @f(%x: tensor<5xf32>) {
  // expected-error @below {{values must have the operand's type 'tensor<5xf32>' with at most 5 elements along axis 0, but have 'tensor<6xf32>'}}
  %0:2 = bm.top_k %x {axis = 0 : i64} : tensor<5xf32> -> tensor<6xf32>, tensor<6xi32>
  return
}

// -----

func.func @f(%x: tensor<5xf32>) {
  // expected-error @below {{values and indices must have one shape, but they have 'tensor<2xf32>' and 'tensor<3xi32>'}}
  %0:2 = bm.top_k %x {axis = 0 : i64} : tensor<5xf32> -> tensor<2xf32>, tensor<3xi32>
  return
}
