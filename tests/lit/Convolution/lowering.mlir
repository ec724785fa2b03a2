// RUN: bm-opt %s -allow-unregistered-dialect -bm-lower | FileCheck %s

// CHECK-LABEL: func @plain
// CHECK: "stablehlo.convolution"(
// CHECK-SAME: batch_group_count = 1 : i64
// CHECK-SAME: dimension_numbers = #stablehlo.conv<[b, 0, f]x[0, i, o]->[b, 0, f]>
// CHECK-SAME: feature_group_count = 2 : i64
// CHECK-SAME: lhs_dilation = array<i64: 2>
// CHECK-SAME: padding = dense<{{\[\[}}0, -1]]> : tensor<1x2xi64>
// CHECK-SAME: precision_config = [#stablehlo<precision HIGHEST>, #stablehlo<precision DEFAULT>]
// CHECK-SAME: rhs_dilation = array<i64: 3>
// CHECK-SAME: window_strides = array<i64: 1>
func.func @plain(%x: tensor<1x4x6xf32>, %w: tensor<2x3x4xf32>) -> tensor<1x3x4xf32> {
  %0 = bm.convolution %x, %w dims = [0, 2, 1] x [2, 1, 0] -> [0, 2, 1] strides = [1] low = [0] high = [-1] dilations = [2] x [3] feature_groups = 2 {precision = [#bm<precision highest>, #bm<precision default>]} : (tensor<1x4x6xf32>, tensor<2x3x4xf32>) -> tensor<1x3x4xf32>
  return %0 : tensor<1x3x4xf32>
}

// Three real products make a complex one.
// CHECK-LABEL: func @complex
// CHECK-COUNT-3: "stablehlo.convolution"({{.*}}-> tensor<5x4x7xf32>
// CHECK-NOT: "stablehlo.convolution"
// CHECK: "stablehlo.complex"
func.func @complex(%x: tensor<5x3x8xcomplex<f32>>, %w: tensor<4x3x2xcomplex<f32>>) -> tensor<5x4x7xcomplex<f32>> {
  %0 = bm.convolution %x, %w dims = [0, 1, 2] x [0, 1, 2] -> [0, 1, 2] strides = [1] low = [0] high = [0] dilations = [1] x [1] : (tensor<5x3x8xcomplex<f32>>, tensor<4x3x2xcomplex<f32>>) -> tensor<5x4x7xcomplex<f32>>
  return %0 : tensor<5x4x7xcomplex<f32>>
}
