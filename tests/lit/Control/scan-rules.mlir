// RUN: bm-opt %s -bm-differentiate -bm-optimize | FileCheck %s

// The primal loop stacks what the backward one reads; that runs the other way,
// carries the cotangent of the carry and sums that of the constant.
func.func private @rnn(%w: tensor<3x3xf32>, %h: tensor<3xf32>, %xs: tensor<5x3xf32>) -> tensor<5x3xf32> {
  %0:2 = bm.scan consts(%w) init(%h) xs(%xs) length 5
      : (tensor<3x3xf32>, tensor<3xf32>, tensor<5x3xf32>) -> (tensor<3xf32>, tensor<5x3xf32>) {
  ^bb0(%w_: tensor<3x3xf32>, %h_: tensor<3xf32>, %x: tensor<3xf32>):
    %1 = bm.dot_general %w_, %h_ contract = [1] x [0] : (tensor<3x3xf32>, tensor<3xf32>) -> tensor<3xf32>
    %2 = bm.add %1, %x : tensor<3xf32>
    %3 = bm.sin %2 : tensor<3xf32>
    bm.yield %3, %3 : tensor<3xf32>, tensor<3xf32>
  }
  return %0#1 : tensor<5x3xf32>
}
// CHECK-LABEL: func @rnn_vjp
// CHECK-SAME: %[[W:.*]]: tensor<3x3xf32>, %[[H:.*]]: tensor<3xf32>, %[[XS:.*]]: tensor<5x3xf32>, %[[CT:.*]]: tensor<5x3xf32>
// CHECK: %[[F:.*]]:3 = bm.scan consts(%[[W]]) init(%[[H]]) xs(%[[XS]]) length 5 :
// CHECK-NEXT: ^bb0(%{{.*}}: tensor<3x3xf32>, %[[H0:.*]]: tensor<3xf32>,
// CHECK: %[[SUM:.*]] = bm.add
// CHECK-NEXT: %[[SIN:.*]] = bm.sin %[[SUM]]
// CHECK-NEXT: %[[COS:.*]] = bm.cos %[[SUM]]
// CHECK-NEXT: bm.yield %[[SIN]], %[[H0]], %[[COS]]
// CHECK: %[[B:.*]]:3 = bm.scan consts(%[[W]]) init(%{{.*}}, %{{.*}}) xs(%[[F]]#1, %[[F]]#2, %[[CT]]) length 5 reverse
// CHECK-NEXT: ^bb0(%[[W1:.*]]: tensor<3x3xf32>, %[[DW:.*]]: tensor<3x3xf32>, %[[DH:.*]]: tensor<3xf32>, %[[H1:.*]]: tensor<3xf32>, %[[C1:.*]]: tensor<3xf32>, %[[DY:.*]]: tensor<3xf32>):
// CHECK-NEXT: %[[S:.*]] = bm.add %[[DH]], %[[DY]]
// CHECK-NEXT: %[[D:.*]] = bm.mul %[[S]], %[[C1]]
// CHECK-NEXT: %[[DH1:.*]] = bm.dot_general %[[D]], %[[W1]] contract = [0] x [0]
// CHECK-NEXT: %[[P:.*]] = bm.dot_general %[[D]], %[[H1]]
// CHECK-NEXT: %[[DW1:.*]] = bm.add %[[DW]], %[[P]]
// CHECK-NEXT: bm.yield %[[DW1]], %[[DH1]], %[[D]]
// CHECK: return %[[B]]#0, %[[B]]#1, %[[B]]#2
func.func @rnn_vjp(%w: tensor<3x3xf32>, %h: tensor<3xf32>, %xs: tensor<5x3xf32>, %ct: tensor<5x3xf32>)
    -> (tensor<3x3xf32>, tensor<3xf32>, tensor<5x3xf32>) {
  %0:4 = bm.vjp @rnn(%w, %h, %xs, %ct) {wrt = array<i64: 0, 1, 2>, of = array<i64: 0>}
      : (tensor<3x3xf32>, tensor<3xf32>, tensor<5x3xf32>, tensor<5x3xf32>)
      -> (tensor<5x3xf32>, tensor<3x3xf32>, tensor<3xf32>, tensor<5x3xf32>)
  return %0#1, %0#2, %0#3 : tensor<3x3xf32>, tensor<3xf32>, tensor<5x3xf32>
}

// Only what is differentiated has tangents: here the constant and, through it, the carry.
// CHECK-LABEL: func @rnn_jvp
// CHECK-SAME: %[[W:.*]]: tensor<3x3xf32>, %[[H:.*]]: tensor<3xf32>, %[[XS:.*]]: tensor<5x3xf32>, %[[DW:.*]]: tensor<3x3xf32>
// CHECK-NEXT: %[[ZERO:.*]] = bm.constant dense<0.000000e+00> : tensor<3xf32>
// CHECK-NEXT: %[[R:.*]]:3 = bm.scan consts(%[[W]], %[[DW]]) init(%[[H]], %[[ZERO]]) xs(%[[XS]]) length 5
// CHECK: return %[[R]]#2
func.func @rnn_jvp(%w: tensor<3x3xf32>, %h: tensor<3xf32>, %xs: tensor<5x3xf32>, %dw: tensor<3x3xf32>)
    -> tensor<5x3xf32> {
  %0:2 = bm.jvp @rnn(%w, %h, %xs, %dw) {wrt = array<i64: 0>}
      : (tensor<3x3xf32>, tensor<3xf32>, tensor<5x3xf32>, tensor<3x3xf32>) -> (tensor<5x3xf32>, tensor<5x3xf32>)
  return %0#1 : tensor<5x3xf32>
}

// Time stays the leading axis of what is scanned. The carry is batched because
// the slices are; the constant is not.
// CHECK-LABEL: func @rnn_batch
// CHECK-SAME: %[[W:.*]]: tensor<3x3xf32>, %[[H:.*]]: tensor<3xf32>, %[[XS:.*]]: tensor<8x5x3xf32>
// CHECK-DAG: %[[H8:.*]] = bm.broadcast_in_dim %[[H]] dims = [1]
// CHECK-DAG: %[[T:.*]] = bm.transpose %[[XS]] dims = [1, 0, 2]
// CHECK: %[[R:.*]]:2 = bm.scan consts(%[[W]]) init(%[[H8]]) xs(%[[T]]) length 5
// CHECK-SAME: -> (tensor<8x3xf32>, tensor<5x8x3xf32>)
// CHECK: bm.transpose %[[R]]#1 dims = [1, 0, 2] : (tensor<5x8x3xf32>) -> tensor<8x5x3xf32>
func.func @rnn_batch(%w: tensor<3x3xf32>, %h: tensor<3xf32>, %xs: tensor<8x5x3xf32>) -> tensor<8x5x3xf32> {
  %0 = bm.batch @rnn(%w, %h, %xs) {in_axes = array<i64: -1, -1, 0>, out_axes = array<i64: 0>, size = 8 : i64}
      : (tensor<3x3xf32>, tensor<3xf32>, tensor<8x5x3xf32>) -> tensor<8x5x3xf32>
  return %0 : tensor<8x5x3xf32>
}

// What is the same in each step is computed once, before the loops; slices are read again from xs; a residual that is a
// stacked result anyway is not stacked twice.
func.func private @residuals(%w: tensor<f32>, %c: tensor<f32>, %xs: tensor<5xf32>) -> (tensor<f32>, tensor<5xf32>) {
  %0:2 = bm.scan consts(%w) init(%c) xs(%xs) length 5
      : (tensor<f32>, tensor<f32>, tensor<5xf32>) -> (tensor<f32>, tensor<5xf32>) {
  ^bb0(%w_: tensor<f32>, %c_: tensor<f32>, %x: tensor<f32>):
    %1 = bm.sin %w_ : tensor<f32>
    %2 = bm.mul %c_, %1 : tensor<f32>
    %3 = bm.mul %2, %x : tensor<f32>
    %4 = bm.exp %3 : tensor<f32>
    bm.yield %4, %4 : tensor<f32>, tensor<f32>
  }
  return %0#0, %0#1 : tensor<f32>, tensor<5xf32>
}
// CHECK-LABEL: func @residuals_vjp
// CHECK-SAME: %[[W:.*]]: tensor<f32>, %[[C:.*]]: tensor<f32>, %[[XS:.*]]: tensor<5xf32>, %[[CT:.*]]: tensor<f32>
// CHECK-NEXT: %[[SIN:.*]] = bm.sin %[[W]]
// CHECK-NEXT: %[[F:.*]]:2 = bm.scan consts(%[[SIN]]) init(%[[C]]) xs(%[[XS]]) length 5
// CHECK: bm.yield %[[E:.*]], %[[E]] : tensor<f32>, tensor<f32>
// CHECK: %[[B:.*]] = bm.scan consts(%[[SIN]]) init(%[[CT]]) xs(%[[XS]], %[[F]]#1) length 5 reverse
// CHECK-NOT: bm.sin
// CHECK: return %[[F]]#1, %[[B]]
func.func @residuals_vjp(%w: tensor<f32>, %c: tensor<f32>, %xs: tensor<5xf32>, %ct: tensor<f32>)
    -> (tensor<5xf32>, tensor<f32>) {
  %0:3 = bm.vjp @residuals(%w, %c, %xs, %ct) {wrt = array<i64: 1>, of = array<i64: 0>}
      : (tensor<f32>, tensor<f32>, tensor<5xf32>, tensor<f32>) -> (tensor<f32>, tensor<5xf32>, tensor<f32>)
  return %0#1, %0#2 : tensor<5xf32>, tensor<f32>
}

// All loops that are made of one make as many steps in a turn.
func.func private @unrolled(%w: tensor<f32>, %c: tensor<f32>) -> tensor<f32> {
  %0 = bm.scan consts(%w) init(%c) xs() length 5 reverse unroll 2 : (tensor<f32>, tensor<f32>) -> tensor<f32> {
  ^bb0(%w_: tensor<f32>, %c_: tensor<f32>):
    %1 = bm.mul %w_, %c_ : tensor<f32>
    %2 = bm.sin %1 : tensor<f32>
    bm.yield %2 : tensor<f32>
  }
  return %0 : tensor<f32>
}
// CHECK-LABEL: func @unrolled_batch_vjp
// CHECK: bm.scan {{.*}} length 5 reverse unroll 2 :
// CHECK: bm.scan {{.*}} length 5 unroll 2 :
func.func private @unrolled_batch(%w: tensor<f32>, %c: tensor<3xf32>) -> tensor<3xf32> {
  %0 = bm.batch @unrolled(%w, %c) {in_axes = array<i64: -1, 0>, out_axes = array<i64: 0>, size = 3 : i64}
      : (tensor<f32>, tensor<3xf32>) -> tensor<3xf32>
  return %0 : tensor<3xf32>
}
func.func @unrolled_batch_vjp(%w: tensor<f32>, %c: tensor<3xf32>, %ct: tensor<3xf32>) -> tensor<f32> {
  %0:2 = bm.vjp @unrolled_batch(%w, %c, %ct) {wrt = array<i64: 0>, of = array<i64: 0>}
      : (tensor<f32>, tensor<3xf32>, tensor<3xf32>) -> (tensor<3xf32>, tensor<f32>)
  return %0#1 : tensor<f32>
}
