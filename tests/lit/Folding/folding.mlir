// RUN: bm-opt %s | bm-opt | FileCheck %s
// RUN: bm-opt %s -allow-unregistered-dialect -bm-lower | FileCheck %s --check-prefix=LOWER

// CHECK-LABEL: func @reduce
// CHECK: bm.reduce xs(%{{.*}}, %{{.*}}) init(%{{.*}}, %{{.*}}) axes = [1] : (tensor<2x3xf32>, tensor<2x3xi32>, tensor<f32>, tensor<i32>) -> (tensor<2xf32>, tensor<2xi32>) {
// CHECK: bm.yield
// LOWER-LABEL: func @reduce
// LOWER: "stablehlo.reduce"(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}) ({
// LOWER: "stablehlo.multiply"
// LOWER: "stablehlo.return"
// LOWER: dimensions = array<i64: 1>
func.func @reduce(%x: tensor<2x3xf32>, %n: tensor<2x3xi32>, %one: tensor<f32>, %zero: tensor<i32>) -> (tensor<2xf32>, tensor<2xi32>) {
  %0:2 = bm.reduce xs(%x, %n) init(%one, %zero) axes = [1] : (tensor<2x3xf32>, tensor<2x3xi32>, tensor<f32>, tensor<i32>) -> (tensor<2xf32>, tensor<2xi32>) {
  ^bb0(%a: tensor<f32>, %i: tensor<i32>, %b: tensor<f32>, %j: tensor<i32>):
    %1 = bm.mul %a, %b : tensor<f32>
    %2 = bm.add %i, %j : tensor<i32>
    bm.yield %1, %2 : tensor<f32>, tensor<i32>
  }
  return %0#0, %0#1 : tensor<2xf32>, tensor<2xi32>
}

// CHECK-LABEL: func @reduce_window
// CHECK: bm.reduce_window xs(%{{.*}}) init(%{{.*}}) window = [2] strides = [1] low = [0] high = [0] dilations = [1] x [1] : (tensor<3xf32>, tensor<f32>) -> tensor<2xf32> {
// LOWER-LABEL: func @reduce_window
// LOWER: "stablehlo.reduce_window"(
// LOWER: window_dimensions = array<i64: 2>
func.func @reduce_window(%x: tensor<3xf32>, %one: tensor<f32>) -> tensor<2xf32> {
  %0 = bm.reduce_window xs(%x) init(%one) window = [2] strides = [1] low = [0] high = [0] dilations = [1] x [1] : (tensor<3xf32>, tensor<f32>) -> tensor<2xf32> {
  ^bb0(%a: tensor<f32>, %b: tensor<f32>):
    %1 = bm.mul %a, %b : tensor<f32>
    bm.yield %1 : tensor<f32>
  }
  return %0 : tensor<2xf32>
}
