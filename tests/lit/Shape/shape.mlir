// RUN: bm-opt %s | bm-opt | FileCheck %s
// RUN: bm-opt %s -canonicalize | FileCheck %s --check-prefix=CANON

// CHECK-LABEL: func @round_trip
// CHECK: bm.broadcast_in_dim %{{.*}} dims = [1] : (tensor<3xf32>) -> tensor<2x3xf32>
// CHECK: bm.reshape %{{.*}} : (tensor<2x3xf32>) -> tensor<6xf32>
// CHECK: bm.transpose %{{.*}} dims = [1, 0] : (tensor<2x3xf32>) -> tensor<3x2xf32>
// CHECK: bm.reverse %{{.*}} dims = [0, 1] : tensor<3x2xf32>
// CHECK: bm.copy %{{.*}} : tensor<6xf32>
// CHECK: bm.iota dim = 1 : tensor<2x3xi32>
func.func @round_trip(%x: tensor<3xf32>) -> (tensor<6xf32>, tensor<3x2xf32>, tensor<2x3xi32>) {
  %0 = bm.broadcast_in_dim %x dims = [1] : (tensor<3xf32>) -> tensor<2x3xf32>
  %1 = bm.reshape %0 : (tensor<2x3xf32>) -> tensor<6xf32>
  %2 = bm.transpose %0 dims = [1, 0] : (tensor<2x3xf32>) -> tensor<3x2xf32>
  %3 = bm.reverse %2 dims = [0, 1] : tensor<3x2xf32>
  %4 = bm.copy %1 : tensor<6xf32>
  %5 = bm.iota dim = 1 : tensor<2x3xi32>
  return %4, %3, %5 : tensor<6xf32>, tensor<3x2xf32>, tensor<2x3xi32>
}

// What does nothing is the operand.
// CANON-LABEL: func @identities
// CANON-SAME: %[[X:[^:]+]]: tensor<2x1xf32>
// CANON-NEXT: return %[[X]], %[[X]], %[[X]], %[[X]], %[[X]]
func.func @identities(%x: tensor<2x1xf32>)
    -> (tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>) {
  %0 = bm.broadcast_in_dim %x dims = [0, 1] : (tensor<2x1xf32>) -> tensor<2x1xf32>
  %1 = bm.reshape %x : (tensor<2x1xf32>) -> tensor<2x1xf32>
  %2 = bm.transpose %x dims = [0, 1] : (tensor<2x1xf32>) -> tensor<2x1xf32>
  %3 = bm.reverse %x dims = [1] : tensor<2x1xf32>
  %4 = bm.copy %x : tensor<2x1xf32>
  return %0, %1, %2, %3, %4 : tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>
}

// CANON-LABEL: func @pairs
// CANON-SAME: %[[X:[^:]+]]: tensor<2x3x4xf32>, %[[V:[^:]+]]: tensor<3xf32>
// CANON-DAG: %[[T:.*]] = bm.transpose %[[X]] dims = [2, 1, 0] : (tensor<2x3x4xf32>) -> tensor<4x3x2xf32>
// CANON-DAG: %[[S:.*]] = bm.broadcast_in_dim %[[V]] dims = [1] : (tensor<3xf32>) -> tensor<2x3x4xf32>
// CANON-NEXT: return %[[X]], %[[T]], %[[X]], %[[S]]
func.func @pairs(%x: tensor<2x3x4xf32>, %v: tensor<3xf32>)
    -> (tensor<2x3x4xf32>, tensor<4x3x2xf32>, tensor<2x3x4xf32>, tensor<2x3x4xf32>) {
  %0 = bm.reshape %x : (tensor<2x3x4xf32>) -> tensor<24xf32>
  %1 = bm.reshape %0 : (tensor<24xf32>) -> tensor<2x3x4xf32>
  %2 = bm.transpose %x dims = [1, 0, 2] : (tensor<2x3x4xf32>) -> tensor<3x2x4xf32>
  %3 = bm.transpose %2 dims = [2, 0, 1] : (tensor<3x2x4xf32>) -> tensor<4x3x2xf32>
  %4 = bm.reverse %x dims = [0] : tensor<2x3x4xf32>
  %5 = bm.reverse %4 dims = [0] : tensor<2x3x4xf32>
  %6 = bm.broadcast_in_dim %v dims = [0] : (tensor<3xf32>) -> tensor<3x4xf32>
  %7 = bm.broadcast_in_dim %6 dims = [1, 2] : (tensor<3x4xf32>) -> tensor<2x3x4xf32>
  return %1, %3, %5, %7 : tensor<2x3x4xf32>, tensor<4x3x2xf32>, tensor<2x3x4xf32>, tensor<2x3x4xf32>
}

// CANON-LABEL: func @constants
// CANON-DAG: %[[ONES:.*]] = bm.constant dense<1.000000e+00> : tensor<2x3xf32>
// CANON-DAG: %[[TABLE:.*]] = bm.constant dense<{{\[\[}}1, 2], [3, 4]]> : tensor<2x2xi32>
// CANON-NEXT: return %[[ONES]], %[[TABLE]]
func.func @constants() -> (tensor<2x3xf32>, tensor<2x2xi32>) {
  %one = bm.constant dense<1.0> : tensor<f32>
  %0 = bm.broadcast_in_dim %one dims = [] : (tensor<f32>) -> tensor<3x2xf32>
  %1 = bm.transpose %0 dims = [1, 0] : (tensor<3x2xf32>) -> tensor<2x3xf32>
  %2 = bm.reverse %1 dims = [1] : tensor<2x3xf32>
  %row = bm.constant dense<[1, 2, 3, 4]> : tensor<4xi32>
  %3 = bm.reshape %row : (tensor<4xi32>) -> tensor<2x2xi32>
  return %2, %3 : tensor<2x3xf32>, tensor<2x2xi32>
}

// Dimensions of size 1 come, go and move by reshape, so that such steps fold.
// CANON-LABEL: func @units
// CANON-SAME: %[[X:[^:]+]]: tensor<2x3xf32>
// CANON-NEXT: %[[R:.*]] = bm.reshape %[[X]] : (tensor<2x3xf32>) -> tensor<2x1x3xf32>
// CANON-NEXT: return %[[R]]
func.func @units(%x: tensor<2x3xf32>) -> tensor<2x1x3xf32> {
  %0 = bm.broadcast_in_dim %x dims = [1, 2] : (tensor<2x3xf32>) -> tensor<1x2x3xf32>
  %1 = bm.transpose %0 dims = [1, 0, 2] : (tensor<1x2x3xf32>) -> tensor<2x1x3xf32>
  return %1 : tensor<2x1x3xf32>
}

// A broadcast is permuted by placing its operand elsewhere; an iota likewise.
// CANON-LABEL: func @placed
// CANON-SAME: %[[V:[^:]+]]: tensor<3xf32>
// CANON-DAG: %[[S:.*]] = bm.broadcast_in_dim %[[V]] dims = [0] : (tensor<3xf32>) -> tensor<3x2xf32>
// CANON-DAG: %[[I:.*]] = bm.iota dim = 1 : tensor<2x3xi32>
// CANON-NEXT: return %[[S]], %[[I]]
func.func @placed(%v: tensor<3xf32>) -> (tensor<3x2xf32>, tensor<2x3xi32>) {
  %0 = bm.broadcast_in_dim %v dims = [1] : (tensor<3xf32>) -> tensor<2x3xf32>
  %1 = bm.transpose %0 dims = [1, 0] : (tensor<2x3xf32>) -> tensor<3x2xf32>
  %2 = bm.iota dim = 0 : tensor<3xi32>
  %3 = bm.broadcast_in_dim %2 dims = [0] : (tensor<3xi32>) -> tensor<3x2xi32>
  %4 = bm.transpose %3 dims = [1, 0] : (tensor<3x2xi32>) -> tensor<2x3xi32>
  return %1, %4 : tensor<3x2xf32>, tensor<2x3xi32>
}
