// RUN: bm-opt %s -bm-linearize="function=f wrt=1" | FileCheck %s

// The linear part of a loop of unknown length is the loop with its values; the primal
// part has no tangents in it, and keeps no values of steps.
// CHECK-LABEL: func @f.fwd
// CHECK-SAME: (%[[N:.*]]: tensor<f32>, %[[X:.*]]: tensor<f32>)
// CHECK: bm.while cond_consts(%[[N]]) body_consts() init(%[[X]]) : (tensor<f32>, tensor<f32>) -> tensor<f32>
// CHECK-LABEL: func @f.lin
// CHECK-SAME: %[[N2:.*]]: tensor<f32>, %[[X2:.*]]: tensor<f32>, %[[DX:.*]]: tensor<f32>)
// CHECK: %[[L:.*]]:2 = bm.while cond_consts(%[[N2]]) body_consts() init(%[[X2]], %[[DX]])
// CHECK: return %[[L]]#1
func.func @f(%n: tensor<f32>, %x: tensor<f32>) -> tensor<f32> {
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
