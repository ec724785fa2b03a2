// RUN: bm-opt %s | bm-opt | FileCheck %s
// RUN: bm-opt %s -canonicalize | FileCheck %s --check-prefix=CANON

// CHECK-LABEL: func @sort
// CHECK: bm.sort %{{.*}}, %{{.*}} {dimension = 1 : i64, is_stable, num_keys = 1 : i64} : tensor<5x4xf32>, tensor<5x4xi32>
func.func @sort(%x: tensor<5x4xf32>, %y: tensor<5x4xi32>) -> (tensor<5x4xf32>, tensor<5x4xi32>) {
  %0:2 = bm.sort %x, %y {dimension = 1 : i64, is_stable, num_keys = 1 : i64} : tensor<5x4xf32>, tensor<5x4xi32>
  return %0#0, %0#1 : tensor<5x4xf32>, tensor<5x4xi32>
}

// What only moves along and is not used is left behind; keys are not.
// CANON-LABEL: func @unused
// CANON-SAME: %[[X:[^ ]*]]: tensor<5xf32>, %[[Y:[^ ]*]]: tensor<5xi32>, %[[Z:[^ ]*]]: tensor<5xi8>, %[[W:[^ ]*]]: tensor<5xi16>
// CANON: bm.sort %[[X]], %[[Y]], %[[W]]
func.func @unused(%x: tensor<5xf32>, %y: tensor<5xi32>, %z: tensor<5xi8>, %w: tensor<5xi16>) -> tensor<5xi16> {
  %0:4 = bm.sort %x, %y, %z, %w {dimension = 0 : i64, num_keys = 2 : i64} : tensor<5xf32>, tensor<5xi32>, tensor<5xi8>, tensor<5xi16>
  return %0#3 : tensor<5xi16>
}

// CHECK-LABEL: func @top_k
// CHECK: bm.top_k %{{.*}} {axis = 0 : i64} : tensor<5x4xf32> -> tensor<2x4xf32>, tensor<2x4xi32>
func.func @top_k(%x: tensor<5x4xf32>) -> (tensor<2x4xf32>, tensor<2x4xi32>) {
  %0:2 = bm.top_k %x {axis = 0 : i64} : tensor<5x4xf32> -> tensor<2x4xf32>, tensor<2x4xi32>
  return %0#0, %0#1 : tensor<2x4xf32>, tensor<2x4xi32>
}

// CHECK-LABEL: func @approx_top_k
// CHECK: bm.approx_top_k %{{.*}} {aggregate_to_topk = true, axis = 1 : i64, is_max_k = false, k = 2 : i64, recall_target = 5.000000e-01 : f64, reduction_input_size_override = -1 : i64} : tensor<5x4xf32> -> tensor<5x2xf32>, tensor<5x2xi32>
func.func @approx_top_k(%x: tensor<5x4xf32>) -> (tensor<5x2xf32>, tensor<5x2xi32>) {
  %0:2 = bm.approx_top_k %x {aggregate_to_topk = true, axis = 1 : i64, is_max_k = false, k = 2 : i64, recall_target = 0.5 : f64, reduction_input_size_override = -1 : i64} : tensor<5x4xf32> -> tensor<5x2xf32>, tensor<5x2xi32>
  return %0#0, %0#1 : tensor<5x2xf32>, tensor<5x2xi32>
}
