// RUN: bm-opt %s -canonicalize | FileCheck %s

// Inputs that are constant, repeated or not read, and results that are inputs or not read, are no
// part of it; its ops stay inside.
// CHECK-LABEL: func @shrinks
// CHECK-SAME: %[[X:.*]]: tensor<f32>, %[[Y:.*]]: tensor<f32>
// CHECK-NEXT: %[[R:.*]] = bm.remat(%[[X]]) differentiated prevent_cse : (tensor<f32>) -> tensor<f32> {
// CHECK-NEXT: ^bb0(%[[X_:.*]]: tensor<f32>):
// CHECK-NEXT: %[[TWO:.*]] = bm.constant dense<2.000000e+00>
// CHECK-NEXT: %[[S:.*]] = bm.sin %[[X_]]
// CHECK-NEXT: %[[P:.*]] = bm.mul %[[S]], %[[X_]]
// CHECK-NEXT: %[[Q:.*]] = bm.mul %[[P]], %[[TWO]]
// CHECK-NEXT: bm.yield %[[Q]]
// CHECK: return %[[R]], %[[Y]]
func.func @shrinks(%x: tensor<f32>, %y: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %two = bm.constant dense<2.0> : tensor<f32>
  %0:3 = bm.remat(%x, %two, %x, %y) differentiated prevent_cse
      : (tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>, tensor<f32>) {
  ^bb0(%a: tensor<f32>, %b: tensor<f32>, %c: tensor<f32>, %d: tensor<f32>):
    %1 = bm.sin %a : tensor<f32>
    %2 = bm.mul %1, %c : tensor<f32>
    %3 = bm.mul %2, %b : tensor<f32>
    %4 = bm.cos %d : tensor<f32>
    bm.yield %3, %d, %4 : tensor<f32>, tensor<f32>, tensor<f32>
  }
  return %0#0, %0#1 : tensor<f32>, tensor<f32>
}
