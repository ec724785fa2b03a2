// RUN: bm-opt --bm-expand-transforms --split-input-file --verify-diagnostics %s | FileCheck %s

// What a rule was told about its operands holds: the mark is dropped.

// CHECK-LABEL: func.func @known
//  CHECK-SAME: (%[[X:.*]]: tensor<f32>, %[[N:.*]]: tensor<f32>, %[[CT:.*]]: tensor<f32>)
//       CHECK: %[[Y:.*]] = bm.mul %[[X]], %[[N]]
//       CHECK: %[[DX:.*]] = bm.mul %[[CT]], %[[N]]
//       CHECK: return %[[Y]], %[[DX]]
func.func @known(%x: tensor<f32>, %n: tensor<f32>, %ct: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %r:2 = bm.vjp @f(%x, %n, %ct) {wrt = array<i64: 0>, of = array<i64: 0>}
    : (tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %r#0, %r#1 : tensor<f32>, tensor<f32>
}
func.func private @f(%x: tensor<f32>, %n: tensor<f32>) -> tensor<f32> {
  %0 = bm.unperturbed %n {reason = "rules are wanted for 01"} : tensor<f32>
  %1 = bm.mul %x, %0 : tensor<f32>
  return %1 : tensor<f32>
}

// -----

// A batch of it is one too.

// CHECK-LABEL: func.func @batched
//  CHECK-SAME: (%[[X:.*]]: tensor<3xf32>)
//       CHECK: return %[[X]]
func.func @batched(%x: tensor<3xf32>) -> tensor<3xf32> {
  %r = bm.batch @f(%x) {in_axes = array<i64: 0>, out_axes = array<i64: 0>, size = 3 : i64}
    : (tensor<3xf32>) -> tensor<3xf32>
  return %r : tensor<3xf32>
}
func.func private @f(%x: tensor<f32>) -> tensor<f32> {
  %0 = bm.unperturbed %x {reason = "rules are wanted for 1"} : tensor<f32>
  return %0 : tensor<f32>
}

// -----

func.func @perturbed(%x: tensor<f32>, %n: tensor<f32>, %ct: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  // expected-remark @below {{while expanding this transform}}
  %r:2 = bm.vjp @f(%x, %n, %ct) {wrt = array<i64: 1>, of = array<i64: 0>}
    : (tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %r#0, %r#1 : tensor<f32>, tensor<f32>
}
func.func private @f(%x: tensor<f32>, %n: tensor<f32>) -> tensor<f32> {
  // expected-error @below {{rules are wanted for 01}}
  %0 = bm.unperturbed %n {reason = "rules are wanted for 01"} : tensor<f32>
  %1 = bm.mul %x, %0 : tensor<f32>
  return %1 : tensor<f32>
}
