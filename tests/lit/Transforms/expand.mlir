// Each transform becomes the function it stands for, inlined into @main.
// RUN: bm-opt %s -split-input-file -bm-differentiate -bm-optimize | FileCheck %s

// Forward mode: the primal and its tangent.
// CHECK-LABEL: func.func @jvp
// CHECK-SAME: %[[X:[^:]+]]: tensor<3xf32>, %[[DX:[^:]+]]: tensor<3xf32>
// CHECK: %[[Y:.*]] = bm.sin %[[X]]
// CHECK: %[[C:.*]] = bm.cos %[[X]]
// CHECK: %[[DY:.*]] = bm.mul %[[DX]], %[[C]]
// CHECK: return %[[Y]], %[[DY]]
func.func private @f(%x: tensor<3xf32>) -> tensor<3xf32> {
  %y = bm.sin %x : tensor<3xf32>
  return %y : tensor<3xf32>
}
func.func @jvp(%x: tensor<3xf32>, %dx: tensor<3xf32>) -> (tensor<3xf32>, tensor<3xf32>) {
  %r:2 = bm.jvp @f(%x, %dx) {wrt = array<i64: 0>} : (tensor<3xf32>, tensor<3xf32>) -> (tensor<3xf32>, tensor<3xf32>)
  return %r#0, %r#1 : tensor<3xf32>, tensor<3xf32>
}

// -----

// Reverse mode: the tangent part, transposed. The private function is gone.
// CHECK-LABEL: func.func @vjp
// CHECK-SAME: %[[X:[^:]+]]: tensor<3xf32>, %[[CT:[^:]+]]: tensor<3xf32>
// CHECK: %[[C:.*]] = bm.cos %[[X]]
// CHECK: %[[CTX:.*]] = bm.mul %[[CT]], %[[C]]
// CHECK: return %{{.*}}, %[[CTX]]
// CHECK-NOT: func.func
func.func private @f(%x: tensor<3xf32>) -> tensor<3xf32> {
  %y = bm.sin %x : tensor<3xf32>
  return %y : tensor<3xf32>
}
func.func @vjp(%x: tensor<3xf32>, %ct: tensor<3xf32>) -> (tensor<3xf32>, tensor<3xf32>) {
  %r:2 = bm.vjp @f(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<3xf32>, tensor<3xf32>) -> (tensor<3xf32>, tensor<3xf32>)
  return %r#0, %r#1 : tensor<3xf32>, tensor<3xf32>
}

// -----

// A batch dimension in front of every operand that has one.
// CHECK-LABEL: func.func @batch
// CHECK-SAME: %[[X:[^:]+]]: tensor<3x5xf32>, %[[W:[^:]+]]: tensor<3xf32>
// CHECK: %[[XT:.*]] = bm.transpose %[[X]]
// CHECK: %[[WB:.*]] = bm.broadcast_in_dim %[[W]]
// CHECK: %[[Y:.*]] = bm.mul %[[XT]], %[[WB]] : tensor<5x3xf32>
// CHECK: return %[[Y]]
func.func private @scale(%x: tensor<3xf32>, %w: tensor<3xf32>) -> tensor<3xf32> {
  %y = bm.mul %x, %w : tensor<3xf32>
  return %y : tensor<3xf32>
}
func.func @batch(%x: tensor<3x5xf32>, %w: tensor<3xf32>) -> tensor<5x3xf32> {
  %y = bm.batch @scale(%x, %w) {in_axes = array<i64: 1, -1>, out_axes = array<i64: 0>, size = 5 : i64} : (tensor<3x5xf32>, tensor<3xf32>) -> tensor<5x3xf32>
  return %y : tensor<5x3xf32>
}

// -----

// Transforms of functions with transforms: the second derivative of the sine.
// CHECK-LABEL: func.func @second
// CHECK-SAME: %[[X:[^:]+]]: tensor<f32>
// CHECK: %[[S:.*]] = bm.sin %[[X]]
// CHECK: bm.neg %[[S]]
// CHECK-NOT: bm.vjp
func.func private @f(%x: tensor<f32>) -> tensor<f32> {
  %y = bm.sin %x : tensor<f32>
  return %y : tensor<f32>
}
func.func private @first(%x: tensor<f32>) -> tensor<f32> {
  %one = bm.constant dense<1.0> : tensor<f32>
  %r:2 = bm.vjp @f(%x, %one) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %r#1 : tensor<f32>
}
func.func @second(%x: tensor<f32>) -> tensor<f32> {
  %one = bm.constant dense<1.0> : tensor<f32>
  %r:2 = bm.vjp @first(%x, %one) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %r#1 : tensor<f32>
}

// -----

// Results that are not in `of` have zero cotangents and cost nothing; an argument that no
// result depends on gets zeros.
// CHECK-LABEL: func.func @partly
// CHECK-SAME: %[[X:[^:]+]]: tensor<f32>, %[[Z:[^:]+]]: tensor<2xf32>
// CHECK-DAG: %[[ZEROS:.*]] = bm.constant dense<0.000000e+00> : tensor<2xf32>
// CHECK-NOT: bm.sin %{{.*}} : tensor<2xf32>
// CHECK: return %{{.*}}, %[[ZEROS]]
func.func private @two(%x: tensor<f32>, %z: tensor<2xf32>) -> (tensor<f32>, tensor<2xf32>) {
  %y = bm.sin %x : tensor<f32>
  %w = bm.sin %z : tensor<2xf32>
  return %y, %w : tensor<f32>, tensor<2xf32>
}
func.func @partly(%x: tensor<f32>, %z: tensor<2xf32>) -> (tensor<f32>, tensor<2xf32>) {
  %one = bm.constant dense<1.0> : tensor<f32>
  %r:4 = bm.vjp @two(%x, %z, %one) {wrt = array<i64: 0, 1>, of = array<i64: 0>} : (tensor<f32>, tensor<2xf32>, tensor<f32>) -> (tensor<f32>, tensor<2xf32>, tensor<f32>, tensor<2xf32>)
  return %r#2, %r#3 : tensor<f32>, tensor<2xf32>
}
