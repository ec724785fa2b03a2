// RUN: bm-opt %s -bm-expand-transforms | FileCheck %s

// The rule of @one is not there yet. Its value does not depend on the batch, but its
// tangent may: it has the axis where all results of the batch are to have it.

func.func private @one(%x: tensor<f32>, %n: tensor<i32>) -> tensor<f32> {
  %0 = bm.constant dense<1.0> : tensor<f32>
  return %0 : tensor<f32>
}
func.func private @one.jvp(tensor<f32>, tensor<i32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  attributes {bm.reason = "put off rules 7"}
func.func private @element(%x: tensor<f32>, %n: tensor<i32>) -> (tensor<f32>, tensor<f32>) {
  %0 = bm.custom_jvp @one, @one.jvp(%x, %n) : (tensor<f32>, tensor<i32>) -> tensor<f32>
  return %0, %x : tensor<f32>, tensor<f32>
}

// CHECK-DAG: bm.custom_jvp {{.*}} : (tensor<3xf32>, tensor<i32>) -> tensor<3xf32>
func.func @all(%x: tensor<3xf32>, %n: tensor<i32>) -> (tensor<3xf32>, tensor<3xf32>) {
  %0:2 = bm.batch @element(%x, %n) {in_axes = array<i64: 0, -1>, out_axes = array<i64: 0, 0>, size = 3 : i64}
      : (tensor<3xf32>, tensor<i32>) -> (tensor<3xf32>, tensor<3xf32>)
  return %0#0, %0#1 : tensor<3xf32>, tensor<3xf32>
}

// CHECK-DAG: bm.custom_jvp {{.*}} : (tensor<3xf32>, tensor<i32>) -> tensor<f32>
func.func @some(%x: tensor<3xf32>, %n: tensor<i32>) -> (tensor<f32>, tensor<3xf32>) {
  %0:2 = bm.batch @element(%x, %n) {in_axes = array<i64: 0, -1>, out_axes = array<i64: -1, 0>, size = 3 : i64}
      : (tensor<3xf32>, tensor<i32>) -> (tensor<f32>, tensor<3xf32>)
  return %0#0, %0#1 : tensor<f32>, tensor<3xf32>
}

// What no derivative can be taken of is shared.
// CHECK-DAG: bm.custom_jvp {{.*}} : (tensor<f32>, tensor<3xi32>) -> tensor<f32>
func.func @of_integers(%x: tensor<f32>, %n: tensor<3xi32>) -> (tensor<3xf32>, tensor<3xf32>) {
  %0:2 = bm.batch @element(%x, %n) {in_axes = array<i64: -1, 0>, out_axes = array<i64: 0, 0>, size = 3 : i64}
      : (tensor<f32>, tensor<3xi32>) -> (tensor<3xf32>, tensor<3xf32>)
  return %0#0, %0#1 : tensor<3xf32>, tensor<3xf32>
}
