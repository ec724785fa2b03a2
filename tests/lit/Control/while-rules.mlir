// RUN: bm-opt %s -bm-differentiate -bm-optimize | FileCheck %s

func.func private @f(%n: tensor<f32>, %x: tensor<f32>) -> tensor<f32> {
  %0 = bm.while cond_consts(%n) body_consts() init(%x) : (tensor<f32>, tensor<f32>) -> tensor<f32> {
  ^bb0(%n_: tensor<f32>, %c: tensor<f32>):
    %1 = bm.compare lt %c, %n_ : tensor<f32> -> tensor<i1>
    bm.yield %1 : tensor<i1>
  } do {
  ^bb0(%c: tensor<f32>):
    %1 = bm.exp %c : tensor<f32>
    bm.yield %1 : tensor<f32>
  }
  return %0 : tensor<f32>
}

// The tangent is carried beside the carry; the predicate reads the carry alone.
// CHECK-LABEL: func @jvp
// CHECK-SAME: %[[N:.*]]: tensor<f32>, %[[X:.*]]: tensor<f32>, %[[DX:.*]]: tensor<f32>
// CHECK-NEXT: %[[R:.*]]:2 = bm.while cond_consts(%[[N]]) body_consts() init(%[[X]], %[[DX]])
// CHECK-NEXT: ^bb0(%[[N0:.*]]: tensor<f32>, %[[C0:.*]]: tensor<f32>, %{{.*}}: tensor<f32>):
// CHECK-NEXT: bm.compare lt %[[C0]], %[[N0]]
// CHECK: ^bb0(%[[C:.*]]: tensor<f32>, %[[D:.*]]: tensor<f32>):
// CHECK-NEXT: %[[E:.*]] = bm.exp %[[C]]
// CHECK-NEXT: %[[T:.*]] = bm.mul %[[D]], %[[E]]
// CHECK-NEXT: bm.yield %[[E]], %[[T]]
// CHECK: return %[[R]]#0, %[[R]]#1
func.func @jvp(%n: tensor<f32>, %x: tensor<f32>, %dx: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0:2 = bm.jvp @f(%n, %x, %dx) {wrt = array<i64: 1>} : (tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#0, %0#1 : tensor<f32>, tensor<f32>
}

// The loop goes on while any element of the batch does; the others are held.
// CHECK-LABEL: func @batch(
// CHECK-SAME: %[[N:.*]]: tensor<f32>, %[[X:.*]]: tensor<4xf32>
// CHECK: %[[P:.*]] = bm.compare lt %[[X]], %{{.*}} : tensor<4xf32> -> tensor<4xi1>
// CHECK-NEXT: %[[R:.*]]:2 = bm.while cond_consts() body_consts(%[[N]]) init(%[[P]], %[[X]])
// CHECK-NEXT: ^bb0(%[[P0:.*]]: tensor<4xi1>, %{{.*}}: tensor<4xf32>):
// CHECK-NEXT: %[[ANY:.*]] = bm.reduce_or %[[P0]] axes = [0]
// CHECK-NEXT: bm.yield %[[ANY]]
// CHECK: ^bb0(%{{.*}}: tensor<f32>, %[[P1:.*]]: tensor<4xi1>, %[[C:.*]]: tensor<4xf32>):
// CHECK-NEXT: %[[E:.*]] = bm.exp %[[C]]
// CHECK-NEXT: %[[S:.*]] = bm.select %[[P1]], %[[E]], %[[C]]
// CHECK: %[[P2:.*]] = bm.compare lt %[[S]], %{{.*}} : tensor<4xf32>
// CHECK-NEXT: bm.yield %[[P2]], %[[S]]
// CHECK: return %[[R]]#1
func.func @batch(%n: tensor<f32>, %x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = bm.batch @f(%n, %x) {in_axes = array<i64: -1, 0>, out_axes = array<i64: 0>, size = 4 : i64}
      : (tensor<f32>, tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// Here all elements make the same number of steps.
func.func private @counted(%n: tensor<i32>, %x: tensor<f32>) -> tensor<f32> {
  %0:2 = bm.while cond_consts() body_consts() init(%n, %x) : (tensor<i32>, tensor<f32>) -> (tensor<i32>, tensor<f32>) {
  ^bb0(%i: tensor<i32>, %c: tensor<f32>):
    %1 = bm.constant dense<0> : tensor<i32>
    %2 = bm.compare gt %i, %1 : tensor<i32> -> tensor<i1>
    bm.yield %2 : tensor<i1>
  } do {
  ^bb0(%i: tensor<i32>, %c: tensor<f32>):
    %1 = bm.constant dense<1> : tensor<i32>
    %2 = bm.sub %i, %1 : tensor<i32>
    %3 = bm.exp %c : tensor<f32>
    bm.yield %2, %3 : tensor<i32>, tensor<f32>
  }
  return %0#1 : tensor<f32>
}
// CHECK-LABEL: func @batch_counted
// CHECK: bm.while cond_consts() body_consts() init(%{{.*}}, %{{.*}}) : (tensor<i32>, tensor<4xf32>)
// CHECK-NOT: bm.select
// CHECK: return
func.func @batch_counted(%n: tensor<i32>, %x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = bm.batch @counted(%n, %x) {in_axes = array<i64: -1, 0>, out_axes = array<i64: 0>, size = 4 : i64}
      : (tensor<i32>, tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// Reverse mode is no matter where the tangents of the loop are not used.
func.func private @steps(%x: tensor<f32>) -> tensor<f32> {
  %i = bm.constant dense<0> : tensor<i32>
  %0:2 = bm.while cond_consts() body_consts() init(%x, %i) : (tensor<f32>, tensor<i32>) -> (tensor<f32>, tensor<i32>) {
  ^bb0(%c: tensor<f32>, %i_: tensor<i32>):
    %1 = bm.constant dense<8.0> : tensor<f32>
    %2 = bm.compare lt %c, %1 : tensor<f32> -> tensor<i1>
    bm.yield %2 : tensor<i1>
  } do {
  ^bb0(%c: tensor<f32>, %i_: tensor<i32>):
    %1 = bm.constant dense<1> : tensor<i32>
    %2 = bm.exp %c : tensor<f32>
    %3 = bm.add %i_, %1 : tensor<i32>
    bm.yield %2, %3 : tensor<f32>, tensor<i32>
  }
  %1 = bm.convert %0#1 : (tensor<i32>) -> tensor<f32>
  %2 = bm.mul %1, %x : tensor<f32>
  return %2 : tensor<f32>
}
// CHECK-LABEL: func @vjp_of_steps
// CHECK-SAME: %[[X:.*]]: tensor<f32>, %[[CT:.*]]: tensor<f32>
// CHECK: %[[R:.*]]:2 = bm.while cond_consts() body_consts() init(%[[X]], %{{.*}})
// CHECK: %[[K:.*]] = bm.convert %[[R]]#1
// CHECK-NEXT: %[[D:.*]] = bm.mul %[[CT]], %[[K]]
// CHECK-NEXT: return %[[D]]
func.func @vjp_of_steps(%x: tensor<f32>, %ct: tensor<f32>) -> tensor<f32> {
  %0:2 = bm.vjp @steps(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#1 : tensor<f32>
}
