// RUN: bm-opt %s | bm-opt | FileCheck %s
// RUN: bm-opt %s -canonicalize | FileCheck %s --check-prefix=CANON

// CHECK-LABEL: func @round_trip
// CHECK: bm.reduce_sum %{{.*}} axes = [0, 2] : (tensor<2x3x4xf32>) -> tensor<3xf32>
// CHECK: bm.reduce_max %{{.*}} axes = [1] : (tensor<2x3x4xf32>) -> tensor<2x4xf32>
// CHECK: bm.reduce_and %{{.*}} axes = [0] : (tensor<3xi1>) -> tensor<i1>
// CHECK: bm.argmax %{{.*}} axis = 1 : (tensor<2x3x4xf32>) -> tensor<2x4xi32>
// CHECK: bm.cumsum %{{.*}} axis = 2 : tensor<2x3x4xf32>
// CHECK: bm.cummax %{{.*}} axis = 0 reverse : tensor<2x3x4xf32>
// CHECK: bm.linear_recurrence %{{.*}}, %{{.*}} axis = 1 reverse : tensor<2x3x4xf32>
func.func @round_trip(%x: tensor<2x3x4xf32>, %p: tensor<3xi1>) -> (tensor<3xf32>, tensor<2x4xf32>, tensor<i1>, tensor<2x4xi32>, tensor<2x3x4xf32>) {
  %0 = bm.reduce_sum %x axes = [0, 2] : (tensor<2x3x4xf32>) -> tensor<3xf32>
  %1 = bm.reduce_max %x axes = [1] : (tensor<2x3x4xf32>) -> tensor<2x4xf32>
  %2 = bm.reduce_and %p axes = [0] : (tensor<3xi1>) -> tensor<i1>
  %3 = bm.argmax %x axis = 1 : (tensor<2x3x4xf32>) -> tensor<2x4xi32>
  %4 = bm.cumsum %x axis = 2 : tensor<2x3x4xf32>
  %5 = bm.cummax %4 axis = 0 reverse : tensor<2x3x4xf32>
  %6 = bm.linear_recurrence %4, %5 axis = 1 reverse : tensor<2x3x4xf32>
  return %0, %1, %2, %3, %6 : tensor<3xf32>, tensor<2x4xf32>, tensor<i1>, tensor<2x4xi32>, tensor<2x3x4xf32>
}

// Over no axes, and along an axis of one element, nothing happens.
// CANON-LABEL: func @identities
// CANON-SAME: %[[X:[^:]+]]: tensor<3x1xf32>
// CANON-NEXT: return %[[X]], %[[X]], %[[X]]
func.func @identities(%x: tensor<3x1xf32>) -> (tensor<3x1xf32>, tensor<3x1xf32>, tensor<3x1xf32>) {
  %0 = bm.reduce_max %x axes = [] : (tensor<3x1xf32>) -> tensor<3x1xf32>
  %1 = bm.cumprod %x axis = 1 : tensor<3x1xf32>
  %2 = bm.linear_recurrence %x, %x axis = 1 : tensor<3x1xf32>
  return %0, %1, %2 : tensor<3x1xf32>, tensor<3x1xf32>, tensor<3x1xf32>
}

// CANON-LABEL: func @sums
// CANON-SAME: %[[X:[^:]+]]: tensor<2x1x4xf32>
// CANON-DAG: %[[ZERO:.*]] = bm.constant dense<0.000000e+00> : tensor<3xf32>
// CANON-DAG: %[[R:.*]] = bm.reshape %[[X]] : (tensor<2x1x4xf32>) -> tensor<2x4xf32>
// CANON-DAG: %[[S:.*]] = bm.reduce_sum %[[X]] axes = [0, 2] : (tensor<2x1x4xf32>) -> tensor<1xf32>
// CANON-NEXT: return %[[R]], %[[S]], %[[ZERO]]
func.func @sums(%x: tensor<2x1x4xf32>) -> (tensor<2x4xf32>, tensor<1xf32>, tensor<3xf32>) {
  %0 = bm.reduce_sum %x axes = [1] : (tensor<2x1x4xf32>) -> tensor<2x4xf32>
  %1 = bm.reduce_sum %x axes = [2] : (tensor<2x1x4xf32>) -> tensor<2x1xf32>
  %2 = bm.reduce_sum %1 axes = [0] : (tensor<2x1xf32>) -> tensor<1xf32>
  %zeros = bm.constant dense<0.0> : tensor<3x5xf32>
  %3 = bm.reduce_sum %zeros axes = [1] : (tensor<3x5xf32>) -> tensor<3xf32>
  return %0, %2, %3 : tensor<2x4xf32>, tensor<1xf32>, tensor<3xf32>
}
