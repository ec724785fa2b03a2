// RUN: bm-opt %s -bm-expand-transforms -symbol-dce -canonicalize | FileCheck %s

func.func private @take(%x: tensor<5x4xf32>, %i: tensor<3x1xi32>) -> tensor<3x4xf32> {
  %0 = bm.gather %x at %i slice_sizes = [1, 4] offset_dims = [1] collapsed_slice_dims = [0] start_index_map = [0] mode = fill_or_drop {fill_value = dense<7.0> : tensor<f32>, unique_indices} : (tensor<5x4xf32>, tensor<3x1xi32>) -> tensor<3x4xf32>
  return %0 : tensor<3x4xf32>
}

// The tangent is filled with zero.
// CHECK-LABEL: func @jvp
// CHECK-SAME: %[[X:.*]]: tensor<5x4xf32>, %[[I:.*]]: tensor<3x1xi32>, %[[DX:.*]]: tensor<5x4xf32>
// CHECK-DAG: bm.gather %[[X]] at %[[I]] {{.*}} mode = fill_or_drop {fill_value = dense<7.000000e+00> : tensor<f32>, unique_indices}
// CHECK-DAG: bm.gather %[[DX]] at %[[I]] {{.*}} mode = fill_or_drop {unique_indices}
func.func @jvp(%x: tensor<5x4xf32>, %i: tensor<3x1xi32>, %dx: tensor<5x4xf32>) -> (tensor<3x4xf32>, tensor<3x4xf32>) {
  %0:2 = bm.jvp @take(%x, %i, %dx) {wrt = array<i64: 0>} : (tensor<5x4xf32>, tensor<3x1xi32>, tensor<5x4xf32>) -> (tensor<3x4xf32>, tensor<3x4xf32>)
  return %0#0, %0#1 : tensor<3x4xf32>, tensor<3x4xf32>
}

// CHECK-LABEL: func @vjp
// CHECK-SAME: %[[X:.*]]: tensor<5x4xf32>, %[[I:.*]]: tensor<3x1xi32>, %[[CT:.*]]: tensor<3x4xf32>
// CHECK: %[[ZEROS:.*]] = bm.constant dense<0.000000e+00> : tensor<5x4xf32>
// CHECK: bm.scatter_add %[[ZEROS]] at %[[I]], %[[CT]] update_window_dims = [1] inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = fill_or_drop {unique_indices}
func.func @vjp(%x: tensor<5x4xf32>, %i: tensor<3x1xi32>, %ct: tensor<3x4xf32>) -> (tensor<3x4xf32>, tensor<5x4xf32>) {
  %0:2 = bm.vjp @take(%x, %i, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<5x4xf32>, tensor<3x1xi32>, tensor<3x4xf32>) -> (tensor<3x4xf32>, tensor<5x4xf32>)
  return %0#0, %0#1 : tensor<3x4xf32>, tensor<5x4xf32>
}

// The batch becomes a window dimension.
// CHECK-LABEL: func @batched_operand
// CHECK: bm.gather %{{.*}} slice_sizes = [7, 1, 4] offset_dims = [0, 2] collapsed_slice_dims = [1] start_index_map = [1] mode
func.func @batched_operand(%x: tensor<7x5x4xf32>, %i: tensor<3x1xi32>) -> tensor<7x3x4xf32> {
  %0 = bm.batch @take(%x, %i) {in_axes = array<i64: 0, -1>, out_axes = array<i64: 0>, size = 7 : i64} : (tensor<7x5x4xf32>, tensor<3x1xi32>) -> tensor<7x3x4xf32>
  return %0 : tensor<7x3x4xf32>
}

// More index vectors, which need no longer be unique.
// CHECK-LABEL: func @batched_indices
// CHECK: bm.gather %{{.*}} slice_sizes = [1, 4] offset_dims = [2] collapsed_slice_dims = [0] start_index_map = [0] mode = fill_or_drop {fill_value = dense<7.000000e+00> : tensor<f32>} : (tensor<5x4xf32>, tensor<7x3x1xi32>)
func.func @batched_indices(%x: tensor<5x4xf32>, %i: tensor<7x3x1xi32>) -> tensor<7x3x4xf32> {
  %0 = bm.batch @take(%x, %i) {in_axes = array<i64: -1, 0>, out_axes = array<i64: 0>, size = 7 : i64} : (tensor<5x4xf32>, tensor<7x3x1xi32>) -> tensor<7x3x4xf32>
  return %0 : tensor<7x3x4xf32>
}

// CHECK-LABEL: func @batched_both
// CHECK: bm.gather %{{.*}} slice_sizes = [1, 1, 4] offset_dims = [2] collapsed_slice_dims = [1] start_index_map = [1] operand_batching_dims = [0] start_indices_batching_dims = [0] mode = fill_or_drop {{.*}}unique_indices
func.func @batched_both(%x: tensor<7x5x4xf32>, %i: tensor<7x3x1xi32>) -> tensor<7x3x4xf32> {
  %0 = bm.batch @take(%x, %i) {in_axes = array<i64: 0, 0>, out_axes = array<i64: 0>, size = 7 : i64} : (tensor<7x5x4xf32>, tensor<7x3x1xi32>) -> tensor<7x3x4xf32>
  return %0 : tensor<7x3x4xf32>
}
