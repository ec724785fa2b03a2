// RUN: bm-opt %s -canonicalize | FileCheck %s

// Results that nobody reads go, and with them the carries, constants and xs that only
// they need. The carry %b feeds itself alone.
// CHECK-LABEL: func @dead
// CHECK-SAME: %[[W:.*]]: tensor<f32>, %[[A:.*]]: tensor<f32>, %[[B:.*]]: tensor<f32>, %[[XS:.*]]: tensor<5xf32>
// CHECK-NEXT: %[[R:.*]] = bm.scan consts() init(%[[A]]) xs(%[[XS]]) length 5
// CHECK-NEXT: ^bb0(%[[C:.*]]: tensor<f32>, %[[X:.*]]: tensor<f32>):
// CHECK-NEXT:   %[[N:.*]] = bm.add %[[C]], %[[X]]
// CHECK-NEXT:   bm.yield %[[N]] : tensor<f32>
// CHECK-NEXT: }
// CHECK-NEXT: return %[[R]]
func.func @dead(%w: tensor<f32>, %a: tensor<f32>, %b: tensor<f32>, %xs: tensor<5xf32>) -> tensor<f32> {
  %0:3 = bm.scan consts(%w) init(%a, %b) xs(%xs, %xs) length 5
      : (tensor<f32>, tensor<f32>, tensor<f32>, tensor<5xf32>, tensor<5xf32>)
      -> (tensor<f32>, tensor<f32>, tensor<5xf32>) {
  ^bb0(%w_: tensor<f32>, %a_: tensor<f32>, %b_: tensor<f32>, %x: tensor<f32>, %y: tensor<f32>):
    %1 = bm.add %a_, %x : tensor<f32>
    %2 = bm.mul %b_, %w_ : tensor<f32>
    %3 = bm.sin %y : tensor<f32>
    bm.yield %1, %2, %3 : tensor<f32>, tensor<f32>, tensor<f32>
  }
  return %0#0 : tensor<f32>
}

// A carry that feeds one that is read stays.
// CHECK-LABEL: func @alive
// CHECK: bm.scan consts() init(%{{.*}}, %{{.*}}) xs() length 5
func.func @alive(%a: tensor<f32>, %b: tensor<f32>) -> tensor<f32> {
  %0:2 = bm.scan consts() init(%a, %b) xs() length 5 : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  ^bb0(%a_: tensor<f32>, %b_: tensor<f32>):
    %1 = bm.add %a_, %b_ : tensor<f32>
    %2 = bm.sin %b_ : tensor<f32>
    bm.yield %1, %2 : tensor<f32>, tensor<f32>
  }
  return %0#0 : tensor<f32>
}

// Pieces of a constant are taken before the loop.
// CHECK-LABEL: func @pieces
// CHECK-SAME: %[[W:.*]]: tensor<4xf32>, %[[A:.*]]: tensor<2xf32>
// CHECK: %[[LOW:.*]] = bm.slice %[[W]] [0:2]
// CHECK: %[[HIGH:.*]] = bm.slice %[[W]] [2:4]
// CHECK: bm.scan consts(%[[LOW]], %[[HIGH]]) init(%[[A]]) xs() length 5
// CHECK-NOT: slice
// CHECK: return
func.func @pieces(%w: tensor<4xf32>, %a: tensor<2xf32>) -> tensor<2xf32> {
  %0 = bm.scan consts(%w) init(%a) xs() length 5 : (tensor<4xf32>, tensor<2xf32>) -> tensor<2xf32> {
  ^bb0(%w_: tensor<4xf32>, %a_: tensor<2xf32>):
    %two = bm.constant dense<2> : tensor<i32>
    %1 = bm.slice %w_ [0:2] : tensor<4xf32> -> tensor<2xf32>
    %2 = bm.dynamic_slice %w_ at [%two] : (tensor<4xf32>, tensor<i32>) -> tensor<2xf32>
    %3 = bm.mul %a_, %1 : tensor<2xf32>
    %4 = bm.add %3, %2 : tensor<2xf32>
    bm.yield %4 : tensor<2xf32>
  }
  return %0 : tensor<2xf32>
}

// Where they overlap there would be more to sum up than there is.
// CHECK-LABEL: func @overlapping
// CHECK: bm.scan
// CHECK-COUNT-2: bm.slice
func.func @overlapping(%w: tensor<4xf32>, %a: tensor<3xf32>) -> tensor<3xf32> {
  %0 = bm.scan consts(%w) init(%a) xs() length 5 : (tensor<4xf32>, tensor<3xf32>) -> tensor<3xf32> {
  ^bb0(%w_: tensor<4xf32>, %a_: tensor<3xf32>):
    %1 = bm.slice %w_ [0:3] : tensor<4xf32> -> tensor<3xf32>
    %2 = bm.slice %w_ [1:4] : tensor<4xf32> -> tensor<3xf32>
    %3 = bm.mul %a_, %1 : tensor<3xf32>
    %4 = bm.add %3, %2 : tensor<3xf32>
    bm.yield %4 : tensor<3xf32>
  }
  return %0 : tensor<3xf32>
}

// A carry that each step passes on is a constant.
// CHECK-LABEL: func @invariant
// CHECK-SAME: %[[A:.*]]: tensor<f32>, %[[B:.*]]: tensor<f32>
// CHECK-NEXT: %[[R:.*]] = bm.scan consts(%[[B]]) init(%[[A]]) xs() length 5
// CHECK-NEXT: ^bb0(%[[W:.*]]: tensor<f32>, %[[C:.*]]: tensor<f32>):
// CHECK-NEXT:   bm.mul %[[C]], %[[W]]
// CHECK: return %[[R]], %[[B]]
func.func @invariant(%a: tensor<f32>, %b: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0:2 = bm.scan consts() init(%a, %b) xs() length 5 : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  ^bb0(%a_: tensor<f32>, %b_: tensor<f32>):
    %1 = bm.mul %a_, %b_ : tensor<f32>
    bm.yield %1, %b_ : tensor<f32>, tensor<f32>
  }
  return %0#0, %0#1 : tensor<f32>, tensor<f32>
}

// A carried zero, a constant and a repeated x are seen in the body; constants are merged.
// CHECK-LABEL: func @known
// CHECK-SAME: %[[A:.*]]: tensor<f32>, %[[W:.*]]: tensor<f32>
// CHECK-NEXT: %[[R:.*]] = bm.scan consts(%[[W]]) init(%[[A]]) xs() length 5
// CHECK-NEXT: ^bb0(%[[V:.*]]: tensor<f32>, %[[C:.*]]: tensor<f32>):
// CHECK-NEXT:   %[[TWO:.*]] = bm.constant dense<2.000000e+00>
// CHECK-NEXT:   %[[S:.*]] = bm.add %[[C]], %[[TWO]]
// CHECK-NEXT:   %[[T:.*]] = bm.add %[[S]], %[[V]]
// CHECK-NEXT:   %[[U:.*]] = bm.mul %[[T]], %[[V]]
// CHECK-NEXT:   %[[Q:.*]] = bm.mul %[[U]], %[[V]]
// CHECK-NEXT:   bm.yield %[[Q]]
// CHECK: return %[[R]]
func.func @known(%a: tensor<f32>, %w: tensor<f32>) -> tensor<f32> {
  %zero = bm.constant dense<0.0> : tensor<f32>
  %two = bm.constant dense<2.0> : tensor<f32>
  %ws = bm.broadcast_in_dim %w dims = [] : (tensor<f32>) -> tensor<5xf32>
  %0:2 = bm.scan consts(%two, %w, %w) init(%a, %zero) xs(%ws) length 5
      : (tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<5xf32>) -> (tensor<f32>, tensor<f32>) {
  ^bb0(%two_: tensor<f32>, %v: tensor<f32>, %w_: tensor<f32>, %a_: tensor<f32>, %z: tensor<f32>, %x: tensor<f32>):
    %1 = bm.add %a_, %two_ : tensor<f32>
    %2 = bm.add %1, %x : tensor<f32>
    %3 = bm.add %2, %z : tensor<f32>
    %4 = bm.mul %3, %v : tensor<f32>
    %5 = bm.mul %4, %w_ : tensor<f32>
    %6 = bm.constant dense<0.0> : tensor<f32>
    bm.yield %5, %6 : tensor<f32>, tensor<f32>
  }
  return %0#0 : tensor<f32>
}

// Stacked results that are an x, a constant, or stacked twice.
// CHECK-LABEL: func @stacked
// CHECK-SAME: %[[A:.*]]: tensor<f32>, %[[W:.*]]: tensor<3xf32>, %[[XS:.*]]: tensor<5xf32>
// CHECK-DAG: %[[ONES:.*]] = bm.constant dense<1.000000e+00> : tensor<5xf32>
// CHECK-DAG: %[[WS:.*]] = bm.broadcast_in_dim %[[W]] dims = [1] : (tensor<3xf32>) -> tensor<5x3xf32>
// CHECK: %[[R:.*]]:2 = bm.scan consts() init(%[[A]]) xs() length 5 : (tensor<f32>) -> (tensor<f32>, tensor<5xf32>)
// CHECK: return %[[XS]], %[[WS]], %[[ONES]], %[[R]]#1, %[[R]]#1
func.func @stacked(%a: tensor<f32>, %w: tensor<3xf32>, %xs: tensor<5xf32>)
    -> (tensor<5xf32>, tensor<5x3xf32>, tensor<5xf32>, tensor<5xf32>, tensor<5xf32>) {
  %0:6 = bm.scan consts(%w) init(%a) xs(%xs) length 5 : (tensor<3xf32>, tensor<f32>, tensor<5xf32>)
      -> (tensor<f32>, tensor<5xf32>, tensor<5x3xf32>, tensor<5xf32>, tensor<5xf32>, tensor<5xf32>) {
  ^bb0(%w_: tensor<3xf32>, %a_: tensor<f32>, %x: tensor<f32>):
    %1 = bm.constant dense<1.0> : tensor<f32>
    %2 = bm.sin %a_ : tensor<f32>
    bm.yield %2, %x, %w_, %1, %2, %2
        : tensor<f32>, tensor<f32>, tensor<3xf32>, tensor<f32>, tensor<f32>, tensor<f32>
  }
  return %0#1, %0#2, %0#3, %0#4, %0#5
      : tensor<5xf32>, tensor<5x3xf32>, tensor<5xf32>, tensor<5xf32>, tensor<5xf32>
}
