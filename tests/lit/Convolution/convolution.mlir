// RUN: bm-opt %s | bm-opt | FileCheck %s

// CHECK-LABEL: func @round_trip
// CHECK: bm.convolution %{{.*}}, %{{.*}} dims = [0, 1, 2] x [0, 1, 2] -> [0, 1, 2] strides = [2] low = [1] high = [1] dilations = [1] x [1] : (tensor<5x3x8xf32>, tensor<4x3x2xf32>) -> tensor<5x4x5xf32>
// CHECK: bm.convolution %{{.*}}, %{{.*}} dims = [0, 2, 1] x [2, 1, 0] -> [0, 2, 1] strides = [1] low = [0] high = [-1] dilations = [2] x [3] feature_groups = 2 {precision = [#bm<precision highest>, #bm<precision default>]} : (tensor<1x4x6xf32>, tensor<2x3x4xf32>) -> tensor<1x3x4xf32>
func.func @round_trip(%x: tensor<5x3x8xf32>, %w: tensor<4x3x2xf32>, %y: tensor<1x4x6xf32>, %v: tensor<2x3x4xf32>) -> (tensor<5x4x5xf32>, tensor<1x3x4xf32>) {
  %0 = bm.convolution %x, %w dims = [0, 1, 2] x [0, 1, 2] -> [0, 1, 2] strides = [2] low = [1] high = [1] dilations = [1] x [1] : (tensor<5x3x8xf32>, tensor<4x3x2xf32>) -> tensor<5x4x5xf32>
  %1 = bm.convolution %y, %v dims = [0, 2, 1] x [2, 1, 0] -> [0, 2, 1] strides = [1] low = [0] high = [-1] dilations = [2] x [3] feature_groups = 2 {precision = [#bm<precision highest>, #bm<precision default>]} : (tensor<1x4x6xf32>, tensor<2x3x4xf32>) -> tensor<1x3x4xf32>
  return %0, %1 : tensor<5x4x5xf32>, tensor<1x3x4xf32>
}
