// RUN: bm-opt %s -split-input-file -verify-diagnostics

func.func @f(%x: tensor<3xf32>) {
  // expected-error @below {{needs an operand with the dimensions of a matrix, but it has type 'tensor<3xf32>'}}
  %0 = bm.triangle %x : tensor<3xf32>
  return
}

// -----

func.func @f(%x: tensor<3x2xf32>) {
  // expected-error @below {{needs square matrices, but has an operand of type 'tensor<3x2xf32>'}}
  %0 = bm.cholesky %x : tensor<3x2xf32>
  return
}

// -----

func.func @f(%a: tensor<3x3xf32>, %b: tensor<3x2xf32>) {
  // expected-error @below {{the right-hand side must have type 'tensor<3x3xf32>', but has 'tensor<3x2xf32>'}}
  %0 = bm.triangular_solve %a, %b : tensor<3x3xf32>, tensor<3x2xf32>
  return
}

// -----

func.func @f(%d: tensor<3xf32>, %b: tensor<2x2xf32>) {
  // expected-error @below {{the right-hand side must have type 'tensor<3x2xf32>', but has 'tensor<2x2xf32>'}}
  %0 = bm.tridiagonal_solve %d, %d, %d, %b : tensor<3xf32>, tensor<2x2xf32>
  return
}

// -----

func.func @f(%r: tensor<3x3xf32>, %w: tensor<2xf32>) {
  // expected-error @below {{the vector must have type 'tensor<3xf32>', but has 'tensor<2xf32>'}}
  %0 = bm.cholesky_update %r, %w : tensor<3x3xf32>, tensor<2xf32>
  return
}

// -----

func.func @f(%x: tensor<4x3xf32>) {
  // expected-error @below {{pivots must have type 'tensor<3xi32>', but has 'tensor<4xi32>'}}
  %lu, %pivots, %p = bm.lu %x : tensor<4x3xf32> -> tensor<4x3xf32>, tensor<4xi32>, tensor<4xi32>
  return
}

// -----

func.func @f(%x: tensor<3xi32>) {
  // expected-error @below {{permutation_size 2 is less than the number of pivots, 3}}
  %0 = bm.lu_pivots_to_permutation %x {permutation_size = 2 : i64} : tensor<3xi32> -> tensor<2xi32>
  return
}

// -----

func.func @f(%x: tensor<4x3xf32>) {
  // expected-error @below {{has a permutation if, and only if, it is pivoting}}
  %q, %r = bm.qr %x {pivoting} : tensor<4x3xf32> -> tensor<4x3xf32>, tensor<3x3xf32>
  return
}

// -----

func.func @f(%x: tensor<4x3xf32>) {
  // expected-error @below {{q must have type 'tensor<4x4xf32>', but has 'tensor<4x3xf32>'}}
  %q, %r = bm.qr %x {full_matrices} : tensor<4x3xf32> -> tensor<4x3xf32>, tensor<3x3xf32>
  return
}

// -----

func.func @f(%x: tensor<3x3xcomplex<f32>>) {
  // expected-error @below {{subset_by_index must be a range within [0, 3)}}
  %v, %w = bm.eigh %x {subset_by_index = array<i64: 2, 4>} : tensor<3x3xcomplex<f32>> -> tensor<3x2xcomplex<f32>>, tensor<2xf32>
  return
}

// -----

func.func @f(%x: tensor<4x3xf32>) {
  // expected-error @below {{has u and vh if, and only if, compute_uv is set}}
  %s = bm.svd %x {compute_uv} : tensor<4x3xf32> -> tensor<3xf32>
  return
}

// -----

func.func @f(%x: tensor<3x3xf32>) {
  // expected-error @below {{must have as many matrices of vectors as are computed, 1, but has 0}}
  %w = bm.eig %x {compute_left_eigenvectors} : tensor<3x3xf32> -> tensor<3xcomplex<f32>>
  return
}

// -----

func.func @f(%x: tensor<3x3xf32>) {
  // expected-error @below {{has z if, and only if, compute_schur_vectors is set}}
  %t = bm.schur %x {compute_schur_vectors} : tensor<3x3xf32> -> tensor<3x3xf32>
  return
}

// -----

func.func @f(%x: tensor<3x3xf32>) {
  // expected-error @below {{results must have type 'tensor<3x3xf32>', but there is 'tensor<2x3xf32>'}}
  %t = bm.schur %x : tensor<3x3xf32> -> tensor<2x3xf32>
  return
}

// -----

func.func @f(%x: tensor<3x2xf32>) {
  // expected-error @below {{needs square matrices, but has an operand of type 'tensor<3x2xf32>'}}
  %t = bm.commutator_solve %x, %x : tensor<3x2xf32>
  return
}
