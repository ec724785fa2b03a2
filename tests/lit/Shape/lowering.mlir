// RUN: bm-opt %s -allow-unregistered-dialect -bm-lower | FileCheck %s

// CHECK-LABEL: func @movements
// CHECK: "stablehlo.broadcast_in_dim"(%{{.*}}) {broadcast_dimensions = array<i64: 1>} : (tensor<3xf32>) -> tensor<2x3xf32>
// CHECK: "stablehlo.reshape"(%{{.*}}) : (tensor<2x3xf32>) -> tensor<6x1xf32>
// CHECK: "stablehlo.transpose"(%{{.*}}) {permutation = array<i64: 1, 0>} : (tensor<6x1xf32>) -> tensor<1x6xf32>
// CHECK: %[[R:.*]] = "stablehlo.reverse"(%{{.*}}) {dimensions = array<i64: 1>} : (tensor<1x6xf32>) -> tensor<1x6xf32>
// CHECK-NEXT: %[[I:.*]] = "stablehlo.iota"() {iota_dimension = 0 : i64} : () -> tensor<3xi32>
// CHECK-NEXT: return %[[R]], %[[I]]
func.func @movements(%x: tensor<3xf32>) -> (tensor<1x6xf32>, tensor<3xi32>) {
  %0 = bm.broadcast_in_dim %x dims = [1] : (tensor<3xf32>) -> tensor<2x3xf32>
  %1 = bm.reshape %0 : (tensor<2x3xf32>) -> tensor<6x1xf32>
  %2 = bm.transpose %1 dims = [1, 0] : (tensor<6x1xf32>) -> tensor<1x6xf32>
  %3 = bm.reverse %2 dims = [1] : tensor<1x6xf32>
  %4 = bm.copy %3 : tensor<1x6xf32>
  %5 = bm.iota dim = 0 : tensor<3xi32>
  return %4, %5 : tensor<1x6xf32>, tensor<3xi32>
}

// A split is a slice for each piece.
// CHECK-LABEL: func @pieces
// CHECK: %[[J:.*]] = "stablehlo.concatenate"(%{{.*}}, %{{.*}}) {dimension = 0 : i64} : (tensor<3xf32>, tensor<3xf32>) -> tensor<6xf32>
// CHECK-NEXT: "stablehlo.slice"(%[[J]]) {limit_indices = array<i64: 2>, start_indices = array<i64: 0>, strides = array<i64: 1>} : (tensor<6xf32>) -> tensor<2xf32>
// CHECK-NEXT: %[[S:.*]] = "stablehlo.slice"(%[[J]]) {limit_indices = array<i64: 6>, start_indices = array<i64: 2>, strides = array<i64: 1>} : (tensor<6xf32>) -> tensor<4xf32>
// CHECK-NEXT: "stablehlo.pad"(%[[S]], %{{.*}}) {edge_padding_high = array<i64: -1>, edge_padding_low = array<i64: 1>, interior_padding = array<i64: 2>} : (tensor<4xf32>, tensor<f32>) -> tensor<10xf32>
func.func @pieces(%x: tensor<3xf32>, %p: tensor<f32>) -> tensor<10xf32> {
  %0 = bm.concatenate %x, %x dim = 0 : (tensor<3xf32>, tensor<3xf32>) -> tensor<6xf32>
  %1:2 = bm.split %0 sizes = [2, 4] axis = 0 : (tensor<6xf32>) -> (tensor<2xf32>, tensor<4xf32>)
  %2 = bm.pad %1#1, %p low = [1] high = [-1] interior = [2] : (tensor<4xf32>, tensor<f32>) -> tensor<10xf32>
  return %2 : tensor<10xf32>
}
