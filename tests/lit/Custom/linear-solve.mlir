// RUN: bm-opt %s | bm-opt | FileCheck %s
// RUN: bm-opt %s -bm-differentiate -bm-optimize | FileCheck %s --check-prefix=RULE

// The equation w x = b, solved by a division; its transpose is solved by another function.
func.func private @solve(%w: tensor<f32>, %b: tensor<f32>) -> tensor<f32> {
  %0 = bm.div %b, %w : tensor<f32>
  return %0 : tensor<f32>
}
func.func private @matvec(%w: tensor<f32>, %x: tensor<f32>) -> tensor<f32> {
  %0 = bm.mul %w, %x : tensor<f32>
  return %0 : tensor<f32>
}
func.func private @solve.t(%w: tensor<f32>, %b: tensor<f32>) -> tensor<f32> {
  %0 = bm.atan2 %b, %w : tensor<f32>
  return %0 : tensor<f32>
}

// CHECK-LABEL: func @main
// CHECK: bm.linear_solve @solve of @matvec transposed @solve.t of @matvec params(%{{.*}}) rhs(%{{.*}}) : (tensor<f32>, tensor<f32>) -> tensor<f32>
// RULE-LABEL: func @main
// RULE-NEXT: bm.div
// RULE-NEXT: return
func.func @main(%w: tensor<f32>, %b: tensor<f32>) -> tensor<f32> {
  %0 = bm.linear_solve @solve of @matvec transposed @solve.t of @matvec params(%w) rhs(%b)
      : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// dx = solve(db - dw x), not the derivative of the division.
// RULE-LABEL: func @jvp
// RULE-SAME: %[[W:.*]]: tensor<f32>, %[[B:.*]]: tensor<f32>, %[[DW:.*]]: tensor<f32>, %[[DB:.*]]: tensor<f32>
// RULE: %[[X:.*]] = bm.div %[[B]], %[[W]]
// RULE: %[[P:.*]] = bm.mul %[[DW]], %[[X]]
// RULE: %[[R:.*]] = bm.sub %[[DB]], %[[P]]
// RULE: %[[D:.*]] = bm.div %[[R]], %[[W]]
// RULE: return %[[D]]
func.func @jvp(%w: tensor<f32>, %b: tensor<f32>, %dw: tensor<f32>, %db: tensor<f32>) -> tensor<f32> {
  %0:2 = bm.jvp @main(%w, %b, %dw, %db) {wrt = array<i64: 0, 1>}
      : (tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#1 : tensor<f32>
}

// RULE-LABEL: func @vjp
// RULE-SAME: %[[W:.*]]: tensor<f32>, %[[B:.*]]: tensor<f32>, %[[CT:.*]]: tensor<f32>
// RULE: bm.atan2 %[[CT]], %[[W]]
func.func @vjp(%w: tensor<f32>, %b: tensor<f32>, %ct: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0:3 = bm.vjp @main(%w, %b, %ct) {wrt = array<i64: 0, 1>, of = array<i64: 0>}
      : (tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>, tensor<f32>)
  return %0#1, %0#2 : tensor<f32>, tensor<f32>
}

// One right-hand side for each operator.
// RULE-LABEL: func @batch
// RULE: %[[BS:.*]] = bm.broadcast_in_dim
// RULE: bm.div %[[BS]], %{{.*}} : tensor<4xf32>
func.func @batch(%w: tensor<4xf32>, %b: tensor<f32>) -> tensor<4xf32> {
  %0 = bm.batch @main(%w, %b) {in_axes = array<i64: 0, -1>, out_axes = array<i64: 0>, size = 4 : i64}
      : (tensor<4xf32>, tensor<f32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}
