// RUN: bm-opt %s -bm-expand-transforms -bm-optimize | FileCheck %s

func.func private @matmul(%x: tensor<2x3xf32>, %w: tensor<3x4xf32>) -> tensor<2x4xf32> {
  %0 = bm.dot_general %x, %w contract = [1] x [0] {precision = [#bm<precision high>, #bm<precision default>]} : (tensor<2x3xf32>, tensor<3x4xf32>) -> tensor<2x4xf32>
  return %0 : tensor<2x4xf32>
}

// Neither product needs a transposition.
// CHECK-LABEL: func @matmul_vjp
// CHECK-SAME: %[[X:[^:]+]]: tensor<2x3xf32>, %[[W:[^:]+]]: tensor<3x4xf32>, %[[CT:[^:]+]]: tensor<2x4xf32>)
// CHECK-NOT: bm.transpose
// CHECK-DAG: %[[DX:.*]] = bm.dot_general %[[CT]], %[[W]] contract = [1] x [1] {precision = [#bm<precision high>, #bm<precision default>]} : (tensor<2x4xf32>, tensor<3x4xf32>) -> tensor<2x3xf32>
// CHECK-DAG: %[[DW:.*]] = bm.dot_general %[[X]], %[[CT]] contract = [0] x [0] {precision = [#bm<precision default>, #bm<precision high>]} : (tensor<2x3xf32>, tensor<2x4xf32>) -> tensor<3x4xf32>
// CHECK: return %[[DX]], %[[DW]]
func.func @matmul_vjp(%x: tensor<2x3xf32>, %w: tensor<3x4xf32>, %ct: tensor<2x4xf32>) -> (tensor<2x3xf32>, tensor<3x4xf32>) {
  %0:3 = bm.vjp @matmul(%x, %w, %ct) {wrt = array<i64: 0, 1>, of = array<i64: 0>} : (tensor<2x3xf32>, tensor<3x4xf32>, tensor<2x4xf32>) -> (tensor<2x4xf32>, tensor<2x3xf32>, tensor<3x4xf32>)
  return %0#1, %0#2 : tensor<2x3xf32>, tensor<3x4xf32>
}

// CHECK-LABEL: func @matmul_jvp
// CHECK-SAME: %[[X:[^:]+]]: tensor<2x3xf32>, %[[W:[^:]+]]: tensor<3x4xf32>, %[[DW:[^:]+]]: tensor<3x4xf32>)
// CHECK-DAG: bm.dot_general %[[X]], %[[W]]
// CHECK-DAG: bm.dot_general %[[X]], %[[DW]]
// CHECK-NOT: bm.add
func.func @matmul_jvp(%x: tensor<2x3xf32>, %w: tensor<3x4xf32>, %dw: tensor<3x4xf32>) -> (tensor<2x4xf32>, tensor<2x4xf32>) {
  %0:2 = bm.jvp @matmul(%x, %w, %dw) {wrt = array<i64: 1>} : (tensor<2x3xf32>, tensor<3x4xf32>, tensor<3x4xf32>) -> (tensor<2x4xf32>, tensor<2x4xf32>)
  return %0#0, %0#1 : tensor<2x4xf32>, tensor<2x4xf32>
}

// CHECK-LABEL: func @batched_both
// CHECK: bm.dot_general %{{.*}}, %{{.*}} batch = [0] x [0] contract = [2] x [1]
func.func @batched_both(%x: tensor<5x2x3xf32>, %w: tensor<5x3x4xf32>) -> tensor<5x2x4xf32> {
  %0 = bm.batch @matmul(%x, %w) {in_axes = array<i64: 0, 0>, out_axes = array<i64: 0>, size = 5 : i64} : (tensor<5x2x3xf32>, tensor<5x3x4xf32>) -> tensor<5x2x4xf32>
  return %0 : tensor<5x2x4xf32>
}

// One batched operand: the batch dimension is a free dimension like the others.
// CHECK-LABEL: func @batched_lhs
// CHECK: %[[R:.*]] = bm.dot_general %{{.*}}, %{{.*}} contract = [2] x [0] {{.*}} : (tensor<5x2x3xf32>, tensor<3x4xf32>) -> tensor<5x2x4xf32>
// CHECK-NEXT: return %[[R]]
func.func @batched_lhs(%x: tensor<5x2x3xf32>, %w: tensor<3x4xf32>) -> tensor<5x2x4xf32> {
  %0 = bm.batch @matmul(%x, %w) {in_axes = array<i64: 0, -1>, out_axes = array<i64: 0>, size = 5 : i64} : (tensor<5x2x3xf32>, tensor<3x4xf32>) -> tensor<5x2x4xf32>
  return %0 : tensor<5x2x4xf32>
}

// CHECK-LABEL: func @batched_rhs
// CHECK: %[[R:.*]] = bm.dot_general %{{.*}}, %{{.*}} contract = [1] x [1] {{.*}} : (tensor<2x3xf32>, tensor<5x3x4xf32>) -> tensor<2x5x4xf32>
// CHECK-NEXT: bm.transpose %[[R]] dims = [1, 0, 2]
func.func @batched_rhs(%x: tensor<2x3xf32>, %w: tensor<5x3x4xf32>) -> tensor<5x2x4xf32> {
  %0 = bm.batch @matmul(%x, %w) {in_axes = array<i64: -1, 0>, out_axes = array<i64: 0>, size = 5 : i64} : (tensor<2x3xf32>, tensor<5x3x4xf32>) -> tensor<5x2x4xf32>
  return %0 : tensor<5x2x4xf32>
}

func.func private @wider(%x: tensor<3xbf16>, %w: tensor<3xbf16>) -> tensor<f32> {
  %0 = bm.dot_general %x, %w contract = [0] x [0] : (tensor<3xbf16>, tensor<3xbf16>) -> tensor<f32>
  return %0 : tensor<f32>
}

// The sum is taken in the result's type, then rounded to the operand's.
// CHECK-LABEL: func @wider_vjp
// CHECK: %[[P:.*]] = bm.dot_general %{{.*}}, %{{.*}} contract = [] x [] : (tensor<f32>, tensor<3xbf16>) -> tensor<3xf32>
// CHECK-NEXT: bm.convert %[[P]] : (tensor<3xf32>) -> tensor<3xbf16>
func.func @wider_vjp(%x: tensor<3xbf16>, %w: tensor<3xbf16>, %ct: tensor<f32>) -> tensor<3xbf16> {
  %0:2 = bm.vjp @wider(%x, %w, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<3xbf16>, tensor<3xbf16>, tensor<f32>) -> (tensor<f32>, tensor<3xbf16>)
  return %0#1 : tensor<3xbf16>
}
