// RUN: bm-opt %s -canonicalize | FileCheck %s

// The branch is known; an index out of bounds is clamped.
// CHECK-LABEL: func @known
// CHECK-SAME: %[[X:.*]]: tensor<f32>
// CHECK-NEXT: %[[S:.*]] = bm.sin %[[X]]
// CHECK-NEXT: %[[C:.*]] = bm.cos %[[X]]
// CHECK-NEXT: return %[[S]], %[[C]]
func.func @known(%x: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %low = bm.constant dense<-3> : tensor<i32>
  %high = bm.constant dense<7> : tensor<i32>
  %0 = bm.cond %low(%x) : (tensor<i32>, tensor<f32>) -> tensor<f32> {
  ^bb0(%x_: tensor<f32>):
    %2 = bm.sin %x_ : tensor<f32>
    bm.yield %2 : tensor<f32>
  }, {
  ^bb0(%x_: tensor<f32>):
    bm.yield %x_ : tensor<f32>
  }
  %1 = bm.cond %high(%x) : (tensor<i32>, tensor<f32>) -> tensor<f32> {
  ^bb0(%x_: tensor<f32>):
    bm.yield %x_ : tensor<f32>
  }, {
  ^bb0(%x_: tensor<f32>):
    %2 = bm.cos %x_ : tensor<f32>
    bm.yield %2 : tensor<f32>
  }
  return %0, %1 : tensor<f32>, tensor<f32>
}

// Inputs and results that nobody reads go; results that do not depend on the branch
// need none; constants are seen inside.
// CHECK-LABEL: func @shrunk
// CHECK-SAME: %[[I:.*]]: tensor<i32>, %[[X:.*]]: tensor<f32>, %[[Y:.*]]: tensor<f32>
// CHECK-NEXT: %[[TWO:.*]] = bm.constant dense<2.000000e+00>
// CHECK-NEXT: %[[R:.*]] = bm.cond %[[I]](%[[X]]) : (tensor<i32>, tensor<f32>) -> tensor<f32> {
// CHECK-NEXT: ^bb0(%[[A:.*]]: tensor<f32>):
// CHECK-NEXT:   %[[S:.*]] = bm.sin %[[A]]
// CHECK-NEXT:   bm.yield %[[S]]
// CHECK-NEXT: }, {
// CHECK-NEXT: ^bb0(%[[B:.*]]: tensor<f32>):
// CHECK-NEXT:   %[[C:.*]] = bm.constant dense<2.000000e+00>
// CHECK-NEXT:   %[[M:.*]] = bm.mul %[[B]], %[[C]]
// CHECK-NEXT:   bm.yield %[[M]]
// CHECK: return %[[R]], %[[R]], %[[X]], %[[TWO]]
func.func @shrunk(%i: tensor<i32>, %x: tensor<f32>, %y: tensor<f32>)
    -> (tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>) {
  %two = bm.constant dense<2.0> : tensor<f32>
  %0:5 = bm.cond %i(%x, %y, %two, %x) : (tensor<i32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>)
      -> (tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>) {
  ^bb0(%x_: tensor<f32>, %y_: tensor<f32>, %two_: tensor<f32>, %z: tensor<f32>):
    %1 = bm.sin %x_ : tensor<f32>
    bm.yield %1, %1, %x_, %two_, %y_ : tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>
  }, {
  ^bb0(%x_: tensor<f32>, %y_: tensor<f32>, %two_: tensor<f32>, %z: tensor<f32>):
    %1 = bm.mul %x_, %two_ : tensor<f32>
    bm.yield %1, %1, %z, %two_, %1 : tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>
  }
  return %0#0, %0#1, %0#2, %0#3 : tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>
}
