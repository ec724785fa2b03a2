// RUN: bm-opt %s | bm-opt | FileCheck %s
// RUN: bm-opt %s -canonicalize | FileCheck %s --check-prefix=CANON

// CHECK-LABEL: func @solves
// CHECK: bm.triangular_solve %{{.*}}, %{{.*}} {left_side, lower} : tensor<3x3xf32>, tensor<3x2xf32>
// CHECK: bm.tridiagonal_solve %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}} : tensor<3xf32>, tensor<3x2xf32>
func.func @solves(%a: tensor<3x3xf32>, %d: tensor<3xf32>, %b: tensor<3x2xf32>) -> tensor<3x2xf32> {
  %0 = bm.triangular_solve %a, %b {left_side, lower} : tensor<3x3xf32>, tensor<3x2xf32>
  %1 = bm.tridiagonal_solve %d, %d, %d, %0 : tensor<3xf32>, tensor<3x2xf32>
  return %1 : tensor<3x2xf32>
}

// CHECK-LABEL: func @factors
// CHECK: bm.cholesky %{{.*}} : tensor<5x3x3xf32>
// CHECK: bm.lu %{{.*}} : tensor<5x3x3xf32> -> tensor<5x3x3xf32>, tensor<5x3xi32>, tensor<5x3xi32>
// CHECK: bm.qr %{{.*}} {pivoting} : tensor<5x3x3xf32> -> tensor<5x3x3xf32>, tensor<5x3x3xf32>, tensor<5x3xi32>
// CHECK: bm.qr %{{.*}} : tensor<5x3x3xf32> -> tensor<5x3x3xf32>, tensor<5x3x3xf32>
// CHECK: bm.lu_pivots_to_permutation %{{.*}} {permutation_size = 4 : i64} : tensor<5x3xi32> -> tensor<5x4xi32>
func.func @factors(%x: tensor<5x3x3xf32>) -> (tensor<5x3x3xf32>, tensor<5x4xi32>) {
  %0 = bm.cholesky %x : tensor<5x3x3xf32>
  %lu, %pivots, %permutation = bm.lu %0 : tensor<5x3x3xf32> -> tensor<5x3x3xf32>, tensor<5x3xi32>, tensor<5x3xi32>
  %q, %r, %p = bm.qr %lu {pivoting} : tensor<5x3x3xf32> -> tensor<5x3x3xf32>, tensor<5x3x3xf32>, tensor<5x3xi32>
  %q2, %r2 = bm.qr %q : tensor<5x3x3xf32> -> tensor<5x3x3xf32>, tensor<5x3x3xf32>
  %1 = bm.lu_pivots_to_permutation %pivots {permutation_size = 4 : i64} : tensor<5x3xi32> -> tensor<5x4xi32>
  return %r2, %1 : tensor<5x3x3xf32>, tensor<5x4xi32>
}

// CHECK-LABEL: func @spectra
// CHECK: bm.eigh %{{.*}} {algorithm = "QR", lower, sort_eigenvalues} : tensor<3x3xcomplex<f32>> -> tensor<3x3xcomplex<f32>>, tensor<3xf32>
// CHECK: bm.svd %{{.*}} : tensor<3x3xcomplex<f32>> -> tensor<3xf32>
// CHECK: bm.svd %{{.*}} {compute_uv, subset_by_index = array<i64: 0, 1>} : tensor<3x3xcomplex<f32>> -> tensor<1xf32>, tensor<3x1xcomplex<f32>>, tensor<1x3xcomplex<f32>>
// CHECK: bm.eig %{{.*}} {compute_left_eigenvectors} : tensor<3x3xcomplex<f32>> -> tensor<3xcomplex<f32>>, tensor<3x3xcomplex<f32>>
func.func @spectra(%x: tensor<3x3xcomplex<f32>>) -> (tensor<3xf32>, tensor<3xf32>, tensor<1xf32>, tensor<3xcomplex<f32>>) {
  %v, %w = bm.eigh %x {algorithm = "QR", lower, sort_eigenvalues} : tensor<3x3xcomplex<f32>> -> tensor<3x3xcomplex<f32>>, tensor<3xf32>
  %s = bm.svd %v : tensor<3x3xcomplex<f32>> -> tensor<3xf32>
  %s1, %u, %vh = bm.svd %v {compute_uv, subset_by_index = array<i64: 0, 1>} : tensor<3x3xcomplex<f32>> -> tensor<1xf32>, tensor<3x1xcomplex<f32>>, tensor<1x3xcomplex<f32>>
  %e, %l = bm.eig %v {compute_left_eigenvectors} : tensor<3x3xcomplex<f32>> -> tensor<3xcomplex<f32>>, tensor<3x3xcomplex<f32>>
  return %w, %s, %s1, %e : tensor<3xf32>, tensor<3xf32>, tensor<1xf32>, tensor<3xcomplex<f32>>
}

// CHECK-LABEL: func @forms
// CHECK: bm.schur %{{.*}} : tensor<3x3xf32> -> tensor<3x3xf32>
// CHECK: bm.schur %{{.*}} {compute_schur_vectors} : tensor<3x3xf32> -> tensor<3x3xf32>, tensor<3x3xf32>
// CHECK: bm.commutator_solve %{{.*}}, %{{.*}} {transpose} : tensor<3x3xf32>
func.func @forms(%x: tensor<3x3xf32>) -> (tensor<3x3xf32>, tensor<3x3xf32>) {
  %t = bm.schur %x : tensor<3x3xf32> -> tensor<3x3xf32>
  %t1, %z = bm.schur %x {compute_schur_vectors} : tensor<3x3xf32> -> tensor<3x3xf32>, tensor<3x3xf32>
  %r = bm.commutator_solve %t1, %z {transpose} : tensor<3x3xf32>
  return %t, %r : tensor<3x3xf32>, tensor<3x3xf32>
}

// A triangle inside the other is itself; one that is not stays.
// CANON-LABEL: func @triangles
// CANON: %[[STRICT:.*]] = bm.triangle %{{.*}} {diagonal = -1 : i64, lower}
// CANON-NEXT: %[[OTHER:.*]] = bm.triangle %[[STRICT]] {diagonal = -2 : i64, lower}
// CANON-NEXT: return %[[STRICT]], %[[OTHER]]
func.func @triangles(%x: tensor<3x3xf32>) -> (tensor<3x3xf32>, tensor<3x3xf32>) {
  %0 = bm.triangle %x {lower, diagonal = -1 : i64} : tensor<3x3xf32>
  %1 = bm.triangle %0 {lower} : tensor<3x3xf32>
  %2 = bm.triangle %0 {lower, diagonal = -2 : i64} : tensor<3x3xf32>
  return %1, %2 : tensor<3x3xf32>, tensor<3x3xf32>
}
