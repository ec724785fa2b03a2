// RUN: bm-opt %s -bm-differentiate -bm-optimize | FileCheck %s
// RUN: bm-opt %s -bm-differentiate -bm-optimize -bm-lower -allow-unregistered-dialect | FileCheck %s --check-prefix=LOWERED

func.func private @f(%x: tensor<f32>, %n: tensor<i32>) -> (tensor<f32>, tensor<i32>) {
  %0 = bm.sin %x : tensor<f32>
  %1:2 = bm.optimization_barrier(%0, %n) : (tensor<f32>, tensor<i32>) -> (tensor<f32>, tensor<i32>)
  return %1#0, %1#1 : tensor<f32>, tensor<i32>
}

// Cotangents pass a barrier of their own.
// CHECK-LABEL: func @vjp
// CHECK-SAME: %[[X:.*]]: tensor<f32>, %[[N:.*]]: tensor<i32>, %[[CT:.*]]: tensor<f32>
// CHECK: %[[S:.*]] = bm.sin %[[X]]
// CHECK: %[[F:.*]]:2 = bm.optimization_barrier(%[[S]], %[[N]])
// CHECK: %[[B:.*]] = bm.optimization_barrier(%[[CT]])
// CHECK: %[[D:.*]] = bm.mul %[[B]]
// CHECK: return %[[F]]#0, %[[D]]
// LOWERED: "stablehlo.optimization_barrier"
func.func @vjp(%x: tensor<f32>, %n: tensor<i32>, %ct: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0:3 = bm.vjp @f(%x, %n, %ct) {wrt = array<i64: 0>, of = array<i64: 0>}
      : (tensor<f32>, tensor<i32>, tensor<f32>) -> (tensor<f32>, tensor<i32>, tensor<f32>)
  return %0#0, %0#2 : tensor<f32>, tensor<f32>
}

// CHECK-LABEL: func @batched
// CHECK: bm.optimization_barrier(%{{.*}}, %{{.*}}) : (tensor<4xf32>, tensor<i32>) -> (tensor<4xf32>, tensor<i32>)
func.func @batched(%x: tensor<4xf32>, %n: tensor<i32>) -> (tensor<4xf32>, tensor<i32>) {
  %0:2 = bm.batch @f(%x, %n) {in_axes = array<i64: 0, -1>, out_axes = array<i64: 0, -1>, size = 4 : i64}
      : (tensor<4xf32>, tensor<i32>) -> (tensor<4xf32>, tensor<i32>)
  return %0#0, %0#1 : tensor<4xf32>, tensor<i32>
}

func.func private @mixed(%x: tensor<f32>, %n: tensor<f32>) -> tensor<f32> {
  %0:2 = bm.jvp @scale(%x, %n) {wrt = array<i64: 0>} : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  %1:2 = bm.optimization_barrier(%0#0, %0#1) : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  %2 = bm.mul %1#0, %1#1 : tensor<f32>
  return %2 : tensor<f32>
}
func.func private @scale(%x: tensor<f32>) -> tensor<f32> {
  %0 = bm.exp %x : tensor<f32>
  return %0 : tensor<f32>
}

// A barrier of values and tangents is split.
// CHECK-LABEL: func @mixed_vjp
// CHECK: bm.optimization_barrier
// CHECK: bm.optimization_barrier
// CHECK: return
func.func @mixed_vjp(%x: tensor<f32>, %n: tensor<f32>, %ct: tensor<f32>) -> tensor<f32> {
  %0:2 = bm.vjp @mixed(%x, %n, %ct) {wrt = array<i64: 1>, of = array<i64: 0>}
      : (tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#1 : tensor<f32>
}
