// RUN: bm-opt %s | bm-opt | FileCheck %s
// RUN: bm-opt %s -bm-differentiate -bm-optimize | FileCheck %s --check-prefix=RULE

// A product whose backward rule halves what flows to %w and clips what flows to %x.
func.func private @f(%x: tensor<f32>, %w: tensor<f32>) -> tensor<f32> {
  %0 = bm.mul %x, %w : tensor<f32>
  return %0 : tensor<f32>
}
func.func private @f.fwd(%x: tensor<f32>, %w: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0 = bm.mul %x, %w : tensor<f32>
  return %0, %x : tensor<f32>, tensor<f32>
}
func.func private @f.bwd(%x: tensor<f32>, %ct: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0 = bm.tanh %ct : tensor<f32>
  %1 = bm.mul %x, %ct : tensor<f32>
  return %0, %1 : tensor<f32>, tensor<f32>
}

// CHECK-LABEL: func @main
// CHECK: bm.custom_vjp @f, @f.fwd, @f.bwd(%{{.*}}, %{{.*}}) {num_residuals = 1 : i64} : (tensor<f32>, tensor<f32>) -> tensor<f32>
// RULE-LABEL: func @main
// RULE-NEXT: bm.mul
func.func @main(%x: tensor<f32>, %w: tensor<f32>) -> tensor<f32> {
  %0 = bm.custom_vjp @f, @f.fwd, @f.bwd(%x, %w) {num_residuals = 1 : i64} : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// CHECK-LABEL: func private @linear
// CHECK: bm.custom_lin @f.bwd residuals(%{{.*}}) tangents(%{{.*}}, %{{.*}}) : (tensor<f32>, tensor<f32>, tensor<f32>) -> tensor<f32>
func.func private @linear(%x: tensor<f32>, %dx: tensor<f32>, %dw: tensor<f32>) -> tensor<f32> {
  %0 = bm.custom_lin @f.bwd residuals(%x) tangents(%dx, %dw) : (tensor<f32>, tensor<f32>, tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// RULE-LABEL: func @vjp
// RULE-SAME: %[[X:.*]]: tensor<f32>, %[[W:.*]]: tensor<f32>, %[[CT:.*]]: tensor<f32>
// RULE-NEXT: %[[DX:.*]] = bm.tanh %[[CT]]
// RULE-NEXT: %[[DW:.*]] = bm.mul %[[X]], %[[CT]]
// RULE-NEXT: return %[[DX]], %[[DW]]
func.func @vjp(%x: tensor<f32>, %w: tensor<f32>, %ct: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0:3 = bm.vjp @main(%x, %w, %ct) {wrt = array<i64: 0, 1>, of = array<i64: 0>}
      : (tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>, tensor<f32>)
  return %0#1, %0#2 : tensor<f32>, tensor<f32>
}

// The batch shares %w: its cotangents are summed.
// RULE-LABEL: func @vjp_of_batch
// RULE: bm.tanh %{{.*}} : tensor<4xf32>
// RULE: %[[P:.*]] = bm.mul %{{.*}}, %{{.*}} : tensor<4xf32>
// RULE: bm.reduce_sum %[[P]] axes = [0] : (tensor<4xf32>) -> tensor<f32>
func.func private @batched(%x: tensor<4xf32>, %w: tensor<f32>) -> tensor<4xf32> {
  %0 = bm.batch @main(%x, %w) {in_axes = array<i64: 0, -1>, out_axes = array<i64: 0>, size = 4 : i64}
      : (tensor<4xf32>, tensor<f32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}
func.func @vjp_of_batch(%x: tensor<4xf32>, %w: tensor<f32>, %ct: tensor<4xf32>) -> (tensor<4xf32>, tensor<f32>) {
  %0:3 = bm.vjp @batched(%x, %w, %ct) {wrt = array<i64: 0, 1>, of = array<i64: 0>}
      : (tensor<4xf32>, tensor<f32>, tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>, tensor<f32>)
  return %0#1, %0#2 : tensor<4xf32>, tensor<f32>
}

// Equal calls whose rule has a side effect are not one.
// RULE-LABEL: func @twice
// RULE-COUNT-2: bm.kernel
// RULE-NOT: bm.kernel
func.func private @noted.bwd(%ct: tensor<f32>) -> tensor<f32> {
  bm.kernel {id = 0 : i64, name = "note", has_side_effect} (%ct) : (tensor<f32>) -> ()
  return %ct : tensor<f32>
}
func.func private @identity(%x: tensor<f32>) -> tensor<f32> {
  return %x : tensor<f32>
}
func.func private @noted_twice(%x: tensor<f32>) -> tensor<f32> {
  %0 = bm.custom_vjp @identity, @identity, @noted.bwd(%x) {num_residuals = 0 : i64, has_side_effect} : (tensor<f32>) -> tensor<f32>
  %1 = bm.custom_vjp @identity, @identity, @noted.bwd(%x) {num_residuals = 0 : i64, has_side_effect} : (tensor<f32>) -> tensor<f32>
  %2 = bm.mul %0, %1 : tensor<f32>
  return %2 : tensor<f32>
}
func.func @twice(%x: tensor<f32>) -> tensor<f32> {
  %0:2 = bm.vjp @noted_twice(%x, %x) {wrt = array<i64: 0>, of = array<i64: 0>}
      : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#1 : tensor<f32>
}
