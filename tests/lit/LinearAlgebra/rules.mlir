// RUN: bm-opt %s -split-input-file -bm-expand-transforms -bm-optimize -verify-diagnostics | FileCheck %s

func.func private @solve(%a: tensor<3x3xf32>, %b: tensor<3x2xf32>) -> tensor<3x2xf32> {
  %0 = bm.triangular_solve %a, %b {left_side, lower} : tensor<3x3xf32>, tensor<3x2xf32>
  return %0 : tensor<3x2xf32>
}

// One transposed solve serves both cotangents.
// CHECK-LABEL: func @solve_vjp
// CHECK: %[[R:.*]] = bm.triangular_solve %{{.*}}, %{{.*}} {left_side, lower}
// CHECK: %[[DB:.*]] = bm.triangular_solve %{{.*}}, %{{.*}} {left_side, lower, transpose_a}
// CHECK-NOT: bm.triangular_solve
// CHECK: %[[PRODUCT:.*]] = bm.dot_general
// CHECK: %[[DA:.*]] = bm.triangle %[[PRODUCT]] {lower}
// CHECK: return %[[R]], %[[DA]], %[[DB]]
func.func @solve_vjp(%a: tensor<3x3xf32>, %b: tensor<3x2xf32>, %ct: tensor<3x2xf32>) -> (tensor<3x2xf32>, tensor<3x3xf32>, tensor<3x2xf32>) {
  %0:3 = bm.vjp @solve(%a, %b, %ct) {wrt = array<i64: 0, 1>, of = array<i64: 0>} : (tensor<3x3xf32>, tensor<3x2xf32>, tensor<3x2xf32>) -> (tensor<3x2xf32>, tensor<3x3xf32>, tensor<3x2xf32>)
  return %0#0, %0#1, %0#2 : tensor<3x2xf32>, tensor<3x3xf32>, tensor<3x2xf32>
}

// Right-hand sides of one system are solved together.
// CHECK-LABEL: func @solve_batch
// CHECK: bm.triangular_solve %{{.*}}, %{{.*}} {left_side, lower} : tensor<3x3xf32>, tensor<3x10xf32>
func.func @solve_batch(%a: tensor<3x3xf32>, %b: tensor<5x3x2xf32>) -> tensor<5x3x2xf32> {
  %0 = bm.batch @solve(%a, %b) {in_axes = array<i64: -1, 0>, out_axes = array<i64: 0>, size = 5 : i64} : (tensor<3x3xf32>, tensor<5x3x2xf32>) -> tensor<5x3x2xf32>
  return %0 : tensor<5x3x2xf32>
}

func.func private @values(%x: tensor<3x3xf32>) -> tensor<3xf32> {
  %v, %w = bm.eigh %x {lower} : tensor<3x3xf32> -> tensor<3x3xf32>, tensor<3xf32>
  return %w : tensor<3xf32>
}

// Values alone need no gaps between them.
// CHECK-LABEL: func @values_jvp
// CHECK: bm.eigh
// CHECK-NOT: bm.div
func.func @values_jvp(%x: tensor<3x3xf32>, %dx: tensor<3x3xf32>) -> tensor<3xf32> {
  %0:2 = bm.jvp @values(%x, %dx) {wrt = array<i64: 0>} : (tensor<3x3xf32>, tensor<3x3xf32>) -> (tensor<3xf32>, tensor<3xf32>)
  return %0#1 : tensor<3xf32>
}

func.func private @form(%x: tensor<3x3xcomplex<f32>>) -> tensor<3x3xcomplex<f32>> {
  %t = bm.schur %x : tensor<3x3xcomplex<f32>> -> tensor<3x3xcomplex<f32>>
  return %t : tensor<3x3xcomplex<f32>>
}

// The transpose of the equation below the diagonal is one of the same kind.
// CHECK-LABEL: func @form_vjp
// CHECK: %[[T:.*]], %[[Z:.*]] = bm.schur %{{.*}} {compute_schur_vectors}
// CHECK: bm.commutator_solve %[[T]], %{{.*}} {transpose}
// CHECK-NOT: bm.commutator_solve
func.func @form_vjp(%x: tensor<3x3xcomplex<f32>>, %ct: tensor<3x3xcomplex<f32>>) -> tensor<3x3xcomplex<f32>> {
  %0:2 = bm.vjp @form(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<3x3xcomplex<f32>>, tensor<3x3xcomplex<f32>>) -> (tensor<3x3xcomplex<f32>>, tensor<3x3xcomplex<f32>>)
  return %0#1 : tensor<3x3xcomplex<f32>>
}

// -----

func.func private @subset(%x: tensor<3x3xf32>) -> tensor<3x1xf32> {
  // expected-error @+1 {{no derivative rule for primitive 'eigh' with respect to the vectors of a subset of the values}}
  %v, %w = bm.eigh %x {lower, subset_by_index = array<i64: 0, 1>} : tensor<3x3xf32> -> tensor<3x1xf32>, tensor<1xf32>
  return %v : tensor<3x1xf32>
}
func.func @subset_jvp(%x: tensor<3x3xf32>) -> tensor<3x1xf32> {
  // expected-remark @+1 {{while expanding this transform}}
  %0:2 = bm.jvp @subset(%x, %x) {wrt = array<i64: 0>} : (tensor<3x3xf32>, tensor<3x3xf32>) -> (tensor<3x1xf32>, tensor<3x1xf32>)
  return %0#1 : tensor<3x1xf32>
}
