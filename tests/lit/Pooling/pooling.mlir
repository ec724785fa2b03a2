// RUN: bm-opt %s | bm-opt | FileCheck %s

// CHECK-LABEL: func @round_trip
func.func @round_trip(%x: tensor<6x5xf32>, %t: tensor<6x5xf32>, %y: tensor<3x5xf32>) -> tensor<6x5xf32> {
  // CHECK: bm.reduce_window_sum %{{.*}} window = [2, 1] strides = [2, 1] low = [0, 0] high = [0, 0] dilations = [1, 1] x [1, 1] : (tensor<6x5xf32>) -> tensor<3x5xf32>
  %0 = bm.reduce_window_sum %x window = [2, 1] strides = [2, 1] low = [0, 0] high = [0, 0] dilations = [1, 1] x [1, 1] : (tensor<6x5xf32>) -> tensor<3x5xf32>
  // CHECK: bm.reduce_window_max %{{.*}} window = [3, 2] strides = [1, 2] low = [1, -1] high = [1, 2] dilations = [1, 2] x [2, 1] : (tensor<6x5xf32>) -> tensor<4x5xf32>
  %1 = bm.reduce_window_max %x window = [3, 2] strides = [1, 2] low = [1, -1] high = [1, 2] dilations = [1, 2] x [2, 1] : (tensor<6x5xf32>) -> tensor<4x5xf32>
  // CHECK: bm.reduce_window_min
  %2 = bm.reduce_window_min %x window = [2, 1] strides = [2, 1] low = [0, 0] high = [0, 0] dilations = [1, 1] x [1, 1] : (tensor<6x5xf32>) -> tensor<3x5xf32>
  // CHECK: bm.select_and_gather_add %{{.*}} by %{{.*}} window = [2, 1] strides = [2, 1] low = [0, 0] high = [0, 0] dilations = [1, 1] x [1, 1] least : (tensor<6x5xf32>, tensor<6x5xf32>) -> tensor<3x5xf32>
  %3 = bm.select_and_gather_add %t by %x window = [2, 1] strides = [2, 1] low = [0, 0] high = [0, 0] dilations = [1, 1] x [1, 1] least : (tensor<6x5xf32>, tensor<6x5xf32>) -> tensor<3x5xf32>
  // CHECK: bm.select_and_scatter_add %{{.*}} by %{{.*}} window = [2, 1] strides = [2, 1] low = [0, 0] high = [0, 0] : (tensor<3x5xf32>, tensor<6x5xf32>) -> tensor<6x5xf32>
  %4 = bm.select_and_scatter_add %y by %x window = [2, 1] strides = [2, 1] low = [0, 0] high = [0, 0] : (tensor<3x5xf32>, tensor<6x5xf32>) -> tensor<6x5xf32>
  return %4 : tensor<6x5xf32>
}
