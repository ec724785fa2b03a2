// RUN: bm-opt %s -allow-unregistered-dialect -bm-lower | FileCheck %s

// CHECK-LABEL: func @sum
// CHECK: "stablehlo.reduce_window"(
// CHECK: "stablehlo.add"
// CHECK: "stablehlo.return"
// CHECK: base_dilations = array<i64: 1>, padding = dense<{{\[\[}}1, 0]]> : tensor<1x2xi64>, window_dilations = array<i64: 2>, window_dimensions = array<i64: 2>, window_strides = array<i64: 2>
func.func @sum(%x: tensor<6xf32>) -> tensor<3xf32> {
  %0 = bm.reduce_window_sum %x window = [2] strides = [2] low = [1] high = [0] dilations = [1] x [2] : (tensor<6xf32>) -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// No reduction of pairs, which not every backend has: comparisons of slices.
// CHECK-LABEL: func @few
// CHECK-COUNT-2: direction = #stablehlo<comparison_direction GE>
// CHECK-NOT: "stablehlo.compare"
// CHECK: return
func.func @few(%x: tensor<6xf32>, %t: tensor<6xf32>) -> tensor<4xf32> {
  %0 = bm.select_and_gather_add %t by %x window = [3] strides = [1] low = [0] high = [0] dilations = [1] x [1] : (tensor<6xf32>, tensor<6xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// Of 100 places in 7 steps.
// CHECK-LABEL: func @many
// CHECK-COUNT-7: direction = #stablehlo<comparison_direction LE>
// CHECK-NOT: "stablehlo.compare"
// CHECK: return
func.func @many(%x: tensor<200xf32>, %t: tensor<200xf32>) -> tensor<101xf32> {
  %0 = bm.select_and_gather_add %t by %x window = [100] strides = [1] low = [0] high = [0] dilations = [1] x [1] least : (tensor<200xf32>, tensor<200xf32>) -> tensor<101xf32>
  return %0 : tensor<101xf32>
}

// Padding is written out, and cut off the sums.
// CHECK-LABEL: func @scatter
// CHECK: "stablehlo.pad"({{.*}}) {{.*}} : (tensor<6xf32>, tensor<f32>) -> tensor<7xf32>
// CHECK: "stablehlo.select_and_scatter"(
// CHECK: direction = #stablehlo<comparison_direction GE>
// CHECK: "stablehlo.add"
// CHECK: "stablehlo.pad"({{.*}}) {{.*}} : (tensor<7xf32>, tensor<f32>) -> tensor<6xf32>
func.func @scatter(%x: tensor<6xf32>, %y: tensor<3xf32>) -> tensor<6xf32> {
  %0 = bm.select_and_scatter_add %y by %x window = [2] strides = [2] low = [1] high = [0] : (tensor<3xf32>, tensor<6xf32>) -> tensor<6xf32>
  return %0 : tensor<6xf32>
}
