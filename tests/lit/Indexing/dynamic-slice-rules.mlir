// RUN: bm-opt %s -bm-expand-transforms -symbol-dce -canonicalize | FileCheck %s

func.func private @read(%x: tensor<5xf32>, %i: tensor<i32>) -> tensor<2xf32> {
  %0 = bm.dynamic_slice %x at [%i] : (tensor<5xf32>, tensor<i32>) -> tensor<2xf32>
  return %0 : tensor<2xf32>
}

func.func private @write(%x: tensor<5xf32>, %u: tensor<2xf32>, %i: tensor<i32>) -> tensor<5xf32> {
  %0 = bm.dynamic_update_slice %x, %u at [%i] : (tensor<5xf32>, tensor<2xf32>, tensor<i32>) -> tensor<5xf32>
  return %0 : tensor<5xf32>
}

// CHECK-LABEL: func @read_vjp
// CHECK-SAME: %[[X:.*]]: tensor<5xf32>, %[[I:.*]]: tensor<i32>, %[[CT:.*]]: tensor<2xf32>
// CHECK: %[[ZEROS:.*]] = bm.constant dense<0.000000e+00> : tensor<5xf32>
// CHECK: bm.dynamic_update_slice %[[ZEROS]], %[[CT]] at [%[[I]]]
func.func @read_vjp(%x: tensor<5xf32>, %i: tensor<i32>, %ct: tensor<2xf32>) -> (tensor<2xf32>, tensor<5xf32>) {
  %0:2 = bm.vjp @read(%x, %i, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<5xf32>, tensor<i32>, tensor<2xf32>) -> (tensor<2xf32>, tensor<5xf32>)
  return %0#0, %0#1 : tensor<2xf32>, tensor<5xf32>
}

// CHECK-LABEL: func @write_vjp
// CHECK-SAME: %[[X:.*]]: tensor<5xf32>, %[[U:.*]]: tensor<2xf32>, %[[I:.*]]: tensor<i32>, %[[CT:.*]]: tensor<5xf32>
// CHECK-DAG: %[[ZEROS:.*]] = bm.constant dense<0.000000e+00> : tensor<2xf32>
// CHECK-DAG: %[[DX:.*]] = bm.dynamic_update_slice %[[CT]], %[[ZEROS]] at [%[[I]]]
// CHECK-DAG: %[[DU:.*]] = bm.dynamic_slice %[[CT]] at [%[[I]]]
// CHECK: return %{{.*}}, %[[DX]], %[[DU]]
func.func @write_vjp(%x: tensor<5xf32>, %u: tensor<2xf32>, %i: tensor<i32>, %ct: tensor<5xf32>) -> (tensor<5xf32>, tensor<5xf32>, tensor<2xf32>) {
  %0:3 = bm.vjp @write(%x, %u, %i, %ct) {wrt = array<i64: 0, 1>, of = array<i64: 0>} : (tensor<5xf32>, tensor<2xf32>, tensor<i32>, tensor<5xf32>) -> (tensor<5xf32>, tensor<5xf32>, tensor<2xf32>)
  return %0#0, %0#1, %0#2 : tensor<5xf32>, tensor<5xf32>, tensor<2xf32>
}

// One position for the whole batch: it stays a dynamic slice.
// CHECK-LABEL: func @batched_operand
// CHECK: %[[ZERO:.*]] = bm.constant dense<0> : tensor<i32>
// CHECK: bm.dynamic_slice %{{.*}} at [%[[ZERO]], %{{.*}}] : (tensor<3x5xf32>, tensor<i32>, tensor<i32>) -> tensor<3x2xf32>
func.func @batched_operand(%x: tensor<3x5xf32>, %i: tensor<i32>) -> tensor<3x2xf32> {
  %0 = bm.batch @read(%x, %i) {in_axes = array<i64: 0, -1>, out_axes = array<i64: 0>, size = 3 : i64} : (tensor<3x5xf32>, tensor<i32>) -> tensor<3x2xf32>
  return %0 : tensor<3x2xf32>
}

// A position for each element of the batch: a gather.
// CHECK-LABEL: func @batched_index
// CHECK: bm.gather %{{.*}} at %{{.*}} slice_sizes = [2] offset_dims = [1] start_index_map = [0] mode = clip : (tensor<5xf32>, tensor<3x1xi32>) -> tensor<3x2xf32>
func.func @batched_index(%x: tensor<5xf32>, %i: tensor<3xi32>) -> tensor<3x2xf32> {
  %0 = bm.batch @read(%x, %i) {in_axes = array<i64: -1, 0>, out_axes = array<i64: 0>, size = 3 : i64} : (tensor<5xf32>, tensor<3xi32>) -> tensor<3x2xf32>
  return %0 : tensor<3x2xf32>
}

// CHECK-LABEL: func @batched_both
// CHECK: bm.gather %{{.*}} slice_sizes = [1, 2] offset_dims = [1] start_index_map = [1] operand_batching_dims = [0] start_indices_batching_dims = [0] mode = clip {indices_are_sorted, unique_indices}
func.func @batched_both(%x: tensor<3x5xf32>, %i: tensor<3xi32>) -> tensor<3x2xf32> {
  %0 = bm.batch @read(%x, %i) {in_axes = array<i64: 0, 0>, out_axes = array<i64: 0>, size = 3 : i64} : (tensor<3x5xf32>, tensor<3xi32>) -> tensor<3x2xf32>
  return %0 : tensor<3x2xf32>
}

// CHECK-LABEL: func @batched_write
// CHECK: bm.scatter %{{.*}} update_window_dims = [1] scatter_dims_to_operand_dims = [1] operand_batching_dims = [0] scatter_indices_batching_dims = [0] mode = clip {indices_are_sorted, unique_indices}
func.func @batched_write(%x: tensor<5xf32>, %u: tensor<3x2xf32>, %i: tensor<3xi32>) -> tensor<3x5xf32> {
  %0 = bm.batch @write(%x, %u, %i) {in_axes = array<i64: -1, 0, 0>, out_axes = array<i64: 0>, size = 3 : i64} : (tensor<5xf32>, tensor<3x2xf32>, tensor<3xi32>) -> tensor<3x5xf32>
  return %0 : tensor<3x5xf32>
}
