// RUN: bm-opt %s -bm-differentiate -bm-optimize | FileCheck %s

func.func private @f(%i: tensor<i32>, %x: tensor<f32>, %y: tensor<f32>) -> tensor<f32> {
  %0 = bm.cond %i(%x, %y) : (tensor<i32>, tensor<f32>, tensor<f32>) -> tensor<f32> {
  ^bb0(%x_: tensor<f32>, %y_: tensor<f32>):
    %1 = bm.sin %x_ : tensor<f32>
    %2 = bm.mul %1, %y_ : tensor<f32>
    bm.yield %2 : tensor<f32>
  }, {
  ^bb0(%x_: tensor<f32>, %y_: tensor<f32>):
    %1 = bm.exp %x_ : tensor<f32>
    bm.yield %1 : tensor<f32>
  }, {
  ^bb0(%x_: tensor<f32>, %y_: tensor<f32>):
    bm.yield %y_ : tensor<f32>
  }
  return %0 : tensor<f32>
}

// Branches without a tangent give zero.
// CHECK-LABEL: func @jvp
// CHECK: bm.cond %{{.*}}(%{{.*}}, %{{.*}}, %{{.*}}) : (tensor<i32>, tensor<f32>, tensor<f32>, tensor<f32>) -> tensor<f32> {
// CHECK: }, {
// CHECK-NEXT: ^bb0(%[[X:.*]]: tensor<f32>, %{{.*}}: tensor<f32>, %[[DX:.*]]: tensor<f32>):
// CHECK-NEXT: %[[E:.*]] = bm.exp %[[X]]
// CHECK-NEXT: %[[T:.*]] = bm.mul %[[DX]], %[[E]]
// CHECK-NEXT: bm.yield %[[T]]
// CHECK-NEXT: }, {
// CHECK-NEXT: ^bb0
// CHECK-NEXT: %[[ZERO:.*]] = bm.constant dense<0.000000e+00>
// CHECK-NEXT: bm.yield %[[ZERO]]
func.func @jvp(%i: tensor<i32>, %x: tensor<f32>, %y: tensor<f32>, %dx: tensor<f32>) -> tensor<f32> {
  %0:2 = bm.jvp @f(%i, %x, %y, %dx) {wrt = array<i64: 1>}
      : (tensor<i32>, tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#1 : tensor<f32>
}

// The residuals of the branches share places, and exp's is its result.
// CHECK-LABEL: func @vjp
// CHECK-SAME: %[[I:.*]]: tensor<i32>, %[[X:.*]]: tensor<f32>, %[[Y:.*]]: tensor<f32>, %[[CT:.*]]: tensor<f32>
// CHECK-NEXT: %[[F:.*]]:3 = bm.cond %[[I]](%[[X]], %[[Y]])
// CHECK: bm.yield %{{.*}}, %[[COS:.*]], %[[SIN:.*]] : tensor<f32>, tensor<f32>, tensor<f32>
// CHECK: %[[E:.*]] = bm.exp
// CHECK-NEXT: bm.yield %[[E]], %[[ZERO:.*]], %[[ZERO]]
// CHECK: %[[B:.*]]:2 = bm.cond %[[I]](%[[Y]], %[[F]]#1, %[[F]]#2, %[[F]]#0, %[[CT]])
// CHECK: }, {
// CHECK-NEXT: ^bb0(%{{.*}}: tensor<f32>, %{{.*}}: tensor<f32>, %{{.*}}: tensor<f32>, %[[E1:.*]]: tensor<f32>, %[[CT1:.*]]: tensor<f32>):
// CHECK: %[[D:.*]] = bm.mul %[[CT1]], %[[E1]]
// CHECK-NEXT: bm.yield %[[D]], %{{.*}}
// CHECK: }, {
// CHECK: bm.yield %{{.*}}, %[[CT2:.*]] : tensor<f32>, tensor<f32>
// CHECK: return %[[F]]#0, %[[B]]#0, %[[B]]#1
func.func @vjp(%i: tensor<i32>, %x: tensor<f32>, %y: tensor<f32>, %ct: tensor<f32>)
    -> (tensor<f32>, tensor<f32>, tensor<f32>) {
  %0:3 = bm.vjp @f(%i, %x, %y, %ct) {wrt = array<i64: 1, 2>, of = array<i64: 0>}
      : (tensor<i32>, tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>, tensor<f32>)
  return %0#0, %0#1, %0#2 : tensor<f32>, tensor<f32>, tensor<f32>
}

// All branches have the results batched that one has.
// CHECK-LABEL: func @batch(
// CHECK: bm.cond %{{.*}}(%{{.*}}, %{{.*}}) : (tensor<i32>, tensor<4xf32>, tensor<f32>) -> tensor<4xf32> {
// CHECK: }, {
// CHECK: }, {
// CHECK-NEXT: ^bb0(%{{.*}}: tensor<4xf32>, %[[Y:.*]]: tensor<f32>):
// CHECK-NEXT: %[[B:.*]] = bm.broadcast_in_dim %[[Y]]
// CHECK-NEXT: bm.yield %[[B]] : tensor<4xf32>
func.func @batch(%i: tensor<i32>, %x: tensor<4xf32>, %y: tensor<f32>) -> tensor<4xf32> {
  %0 = bm.batch @f(%i, %x, %y) {in_axes = array<i64: -1, 0, -1>, out_axes = array<i64: 0>, size = 4 : i64}
      : (tensor<i32>, tensor<4xf32>, tensor<f32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// Each element has its branch: all of them run.
// CHECK-LABEL: func @batch_index
// CHECK-SAME: %[[I:.*]]: tensor<4xi32>, %[[X:.*]]: tensor<4xf32>, %[[Y:.*]]: tensor<f32>
// CHECK-DAG: %[[ZERO:.*]] = bm.constant dense<0> : tensor<4xi32>
// CHECK-DAG: %[[ONE:.*]] = bm.constant dense<1> : tensor<4xi32>
// CHECK: %[[Y4:.*]] = bm.broadcast_in_dim %[[Y]]
// CHECK: %[[E:.*]] = bm.exp %[[X]]
// CHECK: %[[IS1:.*]] = bm.compare eq %[[I]], %[[ONE]]
// CHECK: %[[R1:.*]] = bm.select %[[IS1]], %[[E]], %[[Y4]]
// CHECK: %[[IS0:.*]] = bm.compare le %[[I]], %[[ZERO]]
// CHECK: %[[R:.*]] = bm.select %[[IS0]], %{{.*}}, %[[R1]]
// CHECK: return %[[R]]
func.func @batch_index(%i: tensor<4xi32>, %x: tensor<4xf32>, %y: tensor<f32>) -> tensor<4xf32> {
  %0 = bm.batch @f(%i, %x, %y) {in_axes = array<i64: 0, 0, -1>, out_axes = array<i64: 0>, size = 4 : i64}
      : (tensor<4xi32>, tensor<4xf32>, tensor<f32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}
