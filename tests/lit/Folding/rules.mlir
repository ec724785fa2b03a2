// RUN: bm-opt %s -bm-expand-transforms -bm-optimize | FileCheck %s

func.func private @norm(%x: tensor<4x2xf32>, %zero: tensor<f32>) -> tensor<2xf32> {
  %0 = bm.reduce xs(%x) init(%zero) axes = [0] : (tensor<4x2xf32>, tensor<f32>) -> tensor<2xf32> {
  ^bb0(%a: tensor<f32>, %b: tensor<f32>):
    %1 = bm.atan2 %a, %b : tensor<f32>
    bm.yield %1 : tensor<f32>
  }
  return %0 : tensor<2xf32>
}

// Halves are joined as arrays: 4 elements, then 2, then the initial value.
// CHECK-LABEL: func @norm_jvp
// CHECK-NOT: bm.reduce
// CHECK: bm.atan2 {{.*}} : tensor<4xf32>
// CHECK: bm.atan2 {{.*}} : tensor<2xf32>
// CHECK: return
func.func @norm_jvp(%x: tensor<4x2xf32>, %zero: tensor<f32>, %dx: tensor<4x2xf32>) -> (tensor<2xf32>, tensor<2xf32>) {
  %0:2 = bm.jvp @norm(%x, %zero, %dx) {wrt = array<i64: 0>} : (tensor<4x2xf32>, tensor<f32>, tensor<4x2xf32>) -> (tensor<2xf32>, tensor<2xf32>)
  return %0#0, %0#1 : tensor<2xf32>, tensor<2xf32>
}

// CHECK-LABEL: func @batched
// CHECK: bm.reduce xs(%{{.*}}) init(%{{.*}}) axes = [1] : (tensor<7x4x2xf32>, tensor<f32>) -> tensor<7x2xf32> {
func.func @batched(%x: tensor<7x4x2xf32>, %zero: tensor<f32>) -> tensor<7x2xf32> {
  %0 = bm.batch @norm(%x, %zero) {in_axes = array<i64: 0, -1>, out_axes = array<i64: 0>, size = 7 : i64} : (tensor<7x4x2xf32>, tensor<f32>) -> tensor<7x2xf32>
  return %0 : tensor<7x2xf32>
}

// Initial values have no place for a batch dimension: the reduction is written out.
// CHECK-LABEL: func @batched_init
// CHECK-NOT: bm.reduce
// CHECK: return
func.func @batched_init(%x: tensor<4x2xf32>, %zero: tensor<7xf32>) -> tensor<7x2xf32> {
  %0 = bm.batch @norm(%x, %zero) {in_axes = array<i64: -1, 0>, out_axes = array<i64: 0>, size = 7 : i64} : (tensor<4x2xf32>, tensor<7xf32>) -> tensor<7x2xf32>
  return %0 : tensor<7x2xf32>
}
