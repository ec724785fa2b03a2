// RUN: bm-opt %s -bm-differentiate -bm-optimize | FileCheck %s

func.func private @f(%x: tensor<f32>) -> tensor<f32> {
  %0 = bm.remat(%x) prevent_cse : (tensor<f32>) -> tensor<f32> {
  ^bb0(%x_: tensor<f32>):
    %1 = bm.exp %x_ : tensor<f32>
    %2 = bm.sin %1 : tensor<f32>
    bm.yield %2 : tensor<f32>
  }
  return %0 : tensor<f32>
}

// Nothing is left to differentiate: the op is its body.
// CHECK-LABEL: func @plain
// CHECK-NEXT: bm.exp
// CHECK-NEXT: bm.sin
// CHECK-NEXT: return
func.func @plain(%x: tensor<f32>) -> tensor<f32> {
  %0 = func.call @f(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// Forward mode keeps nothing, so there is nothing to run again.
// CHECK-LABEL: func @jvp
// CHECK-NOT: bm.remat
// CHECK: return
func.func @jvp(%x: tensor<f32>, %dx: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0:2 = bm.jvp @f(%x, %dx) {wrt = array<i64: 0>} : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#0, %0#1 : tensor<f32>, tensor<f32>
}

// The linear part keeps the input and computes exp again.
// CHECK-LABEL: func @vjp
// CHECK-SAME: %[[X:.*]]: tensor<f32>, %[[CT:.*]]: tensor<f32>
// CHECK: %[[R:.*]] = bm.remat(%[[X]], %[[CT]]) differentiated prevent_cse : (tensor<f32>, tensor<f32>) -> tensor<f32> {
// CHECK-NEXT: ^bb0(%[[X_:.*]]: tensor<f32>, %[[CT_:.*]]: tensor<f32>):
// CHECK-NEXT: %[[E:.*]] = bm.exp %[[X_]]
// CHECK-NEXT: %[[C:.*]] = bm.cos %[[E]]
// CHECK-NEXT: %[[D:.*]] = bm.mul %[[CT_]], %[[C]]
// CHECK-NEXT: %[[G:.*]] = bm.mul %[[D]], %[[E]]
// CHECK-NEXT: bm.yield %[[G]]
// CHECK: return %{{.*}}, %[[R]]
func.func @vjp(%x: tensor<f32>, %ct: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0:2 = bm.vjp @f(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#0, %0#1 : tensor<f32>, tensor<f32>
}

// CHECK-LABEL: func @batched
// CHECK: bm.remat(%{{.*}}, %{{.*}}) differentiated prevent_cse : (tensor<5xf32>, tensor<f32>) -> tensor<5xf32>
func.func @batched(%x: tensor<5xf32>, %ct: tensor<f32>) -> tensor<5xf32> {
  %0:2 = bm.batch @vjp(%x, %ct) {in_axes = array<i64: 0, -1>, out_axes = array<i64: 0, 0>, size = 5 : i64}
      : (tensor<5xf32>, tensor<f32>) -> (tensor<5xf32>, tensor<5xf32>)
  return %0#1 : tensor<5xf32>
}

func.func private @marked(%x: tensor<f32>) -> tensor<f32> {
  %0 = bm.remat(%x) : (tensor<f32>) -> tensor<f32> {
  ^bb0(%x_: tensor<f32>):
    %1 = bm.exp %x_ : tensor<f32>
    %2 = bm.saveable %1 : tensor<f32>
    %3 = bm.sin %2 : tensor<f32>
    bm.yield %3 : tensor<f32>
  }
  return %0 : tensor<f32>
}

// What is marked is kept: the input and exp are not computed again, cos is.
// CHECK-LABEL: func @marked_vjp
// CHECK-SAME: %[[X:.*]]: tensor<f32>, %[[CT:.*]]: tensor<f32>
// CHECK-NEXT: %[[E:.*]] = bm.exp %[[X]]
// CHECK: bm.remat(%[[E]], %[[CT]]) differentiated :
// CHECK-NOT: bm.exp
// CHECK-NOT: bm.saveable
// CHECK: bm.cos
func.func @marked_vjp(%x: tensor<f32>, %ct: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0:2 = bm.vjp @marked(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#0, %0#1 : tensor<f32>, tensor<f32>
}

func.func private @product(%x: tensor<f32>, %y: tensor<f32>) -> tensor<f32> {
  %0 = bm.remat(%x, %y) : (tensor<f32>, tensor<f32>) -> tensor<f32> {
  ^bb0(%x_: tensor<f32>, %y_: tensor<f32>):
    %1 = bm.mul %x_, %y_ : tensor<f32>
    bm.yield %1 : tensor<f32>
  }
  return %0 : tensor<f32>
}

// A linear part that reads inputs only needs no region.
// CHECK-LABEL: func @product_vjp
// CHECK-NOT: bm.remat
// CHECK: return
func.func @product_vjp(%x: tensor<f32>, %y: tensor<f32>, %ct: tensor<f32>) -> tensor<f32> {
  %0:2 = bm.vjp @product(%x, %y, %ct) {wrt = array<i64: 0>, of = array<i64: 0>}
      : (tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#1 : tensor<f32>
}
