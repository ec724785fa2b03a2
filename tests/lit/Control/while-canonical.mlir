// RUN: bm-opt %s -canonicalize | FileCheck %s

// What decides the number of steps stays; carries that nobody else reads go, those
// passed on become constants of both regions, and constants are seen inside.
// CHECK-LABEL: func @while
// CHECK-SAME: %[[I:.*]]: tensor<i32>, %[[N:.*]]: tensor<i32>, %[[A:.*]]: tensor<f32>, %[[B:.*]]: tensor<f32>
// CHECK-NEXT: %[[R:.*]]:2 = bm.while cond_consts(%[[N]]) body_consts(%[[N]]) init(%[[I]], %[[A]])
// CHECK-NEXT: ^bb0(%[[M:.*]]: tensor<i32>, %[[J:.*]]: tensor<i32>, %{{.*}}: tensor<f32>):
// CHECK-NEXT:   %[[P:.*]] = bm.compare lt %[[J]], %[[M]]
// CHECK-NEXT:   bm.yield %[[P]]
// CHECK-NEXT: } do {
// CHECK-NEXT: ^bb0(%[[K:.*]]: tensor<i32>, %[[L:.*]]: tensor<i32>, %[[C:.*]]: tensor<f32>):
// CHECK-NEXT:   %[[ONE:.*]] = bm.constant dense<1> : tensor<i32>
// CHECK-NEXT:   %[[S:.*]] = bm.add %[[L]], %[[ONE]]
// CHECK-NEXT:   %[[D:.*]] = bm.convert %[[K]]
// CHECK-NEXT:   %[[T:.*]] = bm.mul %[[C]], %[[D]]
// CHECK-NEXT:   bm.yield %[[S]], %[[T]]
// CHECK: return %[[R]]#1, %[[N]]
func.func @while(%i: tensor<i32>, %n: tensor<i32>, %a: tensor<f32>, %b: tensor<f32>) -> (tensor<f32>, tensor<i32>) {
  %one = bm.constant dense<1> : tensor<i32>
  %0:4 = bm.while cond_consts() body_consts(%one, %b) init(%i, %n, %a, %b)
      : (tensor<i32>, tensor<f32>, tensor<i32>, tensor<i32>, tensor<f32>, tensor<f32>)
      -> (tensor<i32>, tensor<i32>, tensor<f32>, tensor<f32>) {
  ^bb0(%i_: tensor<i32>, %n_: tensor<i32>, %a_: tensor<f32>, %b_: tensor<f32>):
    %1 = bm.compare lt %i_, %n_ : tensor<i32> -> tensor<i1>
    bm.yield %1 : tensor<i1>
  } do {
  ^bb0(%one_: tensor<i32>, %w: tensor<f32>, %i_: tensor<i32>, %n_: tensor<i32>, %a_: tensor<f32>, %b_: tensor<f32>):
    %1 = bm.add %i_, %one_ : tensor<i32>
    %2 = bm.convert %n_ : (tensor<i32>) -> tensor<f32>
    %3 = bm.mul %a_, %2 : tensor<f32>
    %4 = bm.mul %b_, %w : tensor<f32>
    bm.yield %1, %n_, %3, %4 : tensor<i32>, tensor<i32>, tensor<f32>, tensor<f32>
  }
  return %0#2, %0#1 : tensor<f32>, tensor<i32>
}
