// RUN: bm-opt %s -bm-expand-transforms -symbol-dce -canonicalize | FileCheck %s

func.func private @sort(%x: tensor<5x4xf32>, %y: tensor<5x4xf32>) -> (tensor<5x4xf32>, tensor<5x4xf32>) {
  %0:2 = bm.sort %x, %y {dimension = 0 : i64, is_stable, num_keys = 1 : i64} : tensor<5x4xf32>, tensor<5x4xf32>
  return %0#0, %0#1 : tensor<5x4xf32>, tensor<5x4xf32>
}

// An iota that is sorted along says where elements came from. The key has no
// tangent, so neither has its result.
// CHECK-LABEL: func @jvp
// CHECK-SAME: %[[DY:[^ ]*]]: tensor<5x4xf32>)
// CHECK: %[[IOTA:.*]] = bm.iota dim = 0 : tensor<5x4xi32>
// CHECK: %[[SORT:.*]]:3 = bm.sort %{{.*}}, %{{.*}}, %[[IOTA]] {dimension = 0 : i64, is_stable, num_keys = 1 : i64}
// CHECK: %[[I:.*]] = bm.reshape %[[SORT]]#2 : (tensor<5x4xi32>) -> tensor<5x4x1xi32>
// CHECK: bm.gather %[[DY]] at %[[I]] slice_sizes = [1, 1] collapsed_slice_dims = [0] start_index_map = [0] operand_batching_dims = [1] start_indices_batching_dims = [1] mode = promise_in_bounds {unique_indices}
// CHECK-NOT: bm.gather
func.func @jvp(%x: tensor<5x4xf32>, %y: tensor<5x4xf32>, %dy: tensor<5x4xf32>) -> (tensor<5x4xf32>, tensor<5x4xf32>, tensor<5x4xf32>, tensor<5x4xf32>) {
  %0:4 = bm.jvp @sort(%x, %y, %dy) {wrt = array<i64: 1>} : (tensor<5x4xf32>, tensor<5x4xf32>, tensor<5x4xf32>) -> (tensor<5x4xf32>, tensor<5x4xf32>, tensor<5x4xf32>, tensor<5x4xf32>)
  return %0#0, %0#1, %0#2, %0#3 : tensor<5x4xf32>, tensor<5x4xf32>, tensor<5x4xf32>, tensor<5x4xf32>
}

// CHECK-LABEL: func @batch
// CHECK: bm.broadcast_in_dim
// CHECK: bm.sort %{{.*}}, %{{.*}} {dimension = 1 : i64, is_stable, num_keys = 1 : i64} : tensor<3x5x4xf32>, tensor<3x5x4xf32>
func.func @batch(%x: tensor<3x5x4xf32>, %y: tensor<5x4xf32>) -> (tensor<3x5x4xf32>, tensor<3x5x4xf32>) {
  %0:2 = bm.batch @sort(%x, %y) {in_axes = array<i64: 0, -1>, out_axes = array<i64: 0, 0>, size = 3 : i64} : (tensor<3x5x4xf32>, tensor<5x4xf32>) -> (tensor<3x5x4xf32>, tensor<3x5x4xf32>)
  return %0#0, %0#1 : tensor<3x5x4xf32>, tensor<3x5x4xf32>
}

func.func private @top_k(%x: tensor<5x4xf32>) -> (tensor<5x2xf32>, tensor<5x2xi32>) {
  %0:2 = bm.top_k %x {axis = 1 : i64} : tensor<5x4xf32> -> tensor<5x2xf32>, tensor<5x2xi32>
  return %0#0, %0#1 : tensor<5x2xf32>, tensor<5x2xi32>
}

// CHECK-LABEL: func @top_k_vjp
// CHECK-SAME: %[[CT:[^ ]*]]: tensor<5x2xf32>)
// CHECK: %[[TOP:.*]], %[[INDICES:.*]] = bm.top_k
// CHECK: %[[I:.*]] = bm.reshape %[[INDICES]] : (tensor<5x2xi32>) -> tensor<5x2x1xi32>
// CHECK: bm.scatter_add %{{.*}} at %[[I]], %[[CT]] inserted_window_dims = [1] scatter_dims_to_operand_dims = [1] operand_batching_dims = [0] scatter_indices_batching_dims = [0] mode = promise_in_bounds {unique_indices}
func.func @top_k_vjp(%x: tensor<5x4xf32>, %ct: tensor<5x2xf32>) -> (tensor<5x2xf32>, tensor<5x2xi32>, tensor<5x4xf32>) {
  %0:3 = bm.vjp @top_k(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<5x4xf32>, tensor<5x2xf32>) -> (tensor<5x2xf32>, tensor<5x2xi32>, tensor<5x4xf32>)
  return %0#0, %0#1, %0#2 : tensor<5x2xf32>, tensor<5x2xi32>, tensor<5x4xf32>
}

// CHECK-LABEL: func @top_k_batch
// CHECK: bm.top_k %{{.*}} {axis = 2 : i64} : tensor<3x5x4xf32> -> tensor<3x5x2xf32>, tensor<3x5x2xi32>
func.func @top_k_batch(%x: tensor<3x5x4xf32>) -> (tensor<3x5x2xf32>, tensor<3x5x2xi32>) {
  %0:2 = bm.batch @top_k(%x) {in_axes = array<i64: 0>, out_axes = array<i64: 0, 0>, size = 3 : i64} : (tensor<3x5x4xf32>) -> (tensor<3x5x2xf32>, tensor<3x5x2xi32>)
  return %0#0, %0#1 : tensor<3x5x2xf32>, tensor<3x5x2xi32>
}

func.func private @approx_top_k(%x: tensor<5x4xf32>) -> (tensor<5x2xf32>, tensor<5x2xi32>) {
  %0:2 = bm.approx_top_k %x {aggregate_to_topk = true, axis = 1 : i64, is_max_k = true, k = 2 : i64, recall_target = 0.95 : f64, reduction_input_size_override = -1 : i64} : tensor<5x4xf32> -> tensor<5x2xf32>, tensor<5x2xi32>
  return %0#0, %0#1 : tensor<5x2xf32>, tensor<5x2xi32>
}

// What was found may be there twice, or nowhere.
// CHECK-LABEL: func @approx_top_k_jvp
// CHECK: bm.approx_top_k
// CHECK: bm.gather %{{.*}} mode = fill_or_drop :
func.func @approx_top_k_jvp(%x: tensor<5x4xf32>, %dx: tensor<5x4xf32>) -> (tensor<5x2xi32>, tensor<5x2xf32>) {
  %0:3 = bm.jvp @approx_top_k(%x, %dx) {wrt = array<i64: 0>} : (tensor<5x4xf32>, tensor<5x4xf32>) -> (tensor<5x2xf32>, tensor<5x2xi32>, tensor<5x2xf32>)
  return %0#1, %0#2 : tensor<5x2xi32>, tensor<5x2xf32>
}

// CHECK-LABEL: func @approx_top_k_batch
// CHECK: bm.approx_top_k %{{.*}} axis = 2 : i64, {{.*}} : tensor<3x5x4xf32> -> tensor<3x5x2xf32>, tensor<3x5x2xi32>
func.func @approx_top_k_batch(%x: tensor<3x5x4xf32>) -> (tensor<3x5x2xf32>, tensor<3x5x2xi32>) {
  %0:2 = bm.batch @approx_top_k(%x) {in_axes = array<i64: 0>, out_axes = array<i64: 0, 0>, size = 3 : i64} : (tensor<3x5x4xf32>) -> (tensor<3x5x2xf32>, tensor<3x5x2xi32>)
  return %0#0, %0#1 : tensor<3x5x2xf32>, tensor<3x5x2xi32>
}
