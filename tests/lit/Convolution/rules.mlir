// RUN: bm-opt %s -bm-expand-transforms -bm-optimize | FileCheck %s

func.func private @conv(%x: tensor<5x3x8xf32>, %w: tensor<4x3x2xf32>) -> tensor<5x4x3xf32> {
  %0 = bm.convolution %x, %w dims = [0, 1, 2] x [0, 1, 2] -> [0, 1, 2] strides = [3] low = [1] high = [0] dilations = [1] x [1] : (tensor<5x3x8xf32>, tensor<4x3x2xf32>) -> tensor<5x4x3xf32>
  return %0 : tensor<5x4x3xf32>
}

// Stride and dilations change places; the window is reversed for the base's cotangent.
// CHECK-LABEL: func @conv_vjp
// CHECK-SAME: %[[X:[^:]+]]: tensor<5x3x8xf32>, %[[W:[^:]+]]: tensor<4x3x2xf32>, %[[CT:[^:]+]]: tensor<5x4x3xf32>)
// CHECK-DAG: %[[REV:.*]] = bm.reverse %[[W]] dims = [2]
// CHECK-DAG: %[[DX:.*]] = bm.convolution %[[CT]], %[[REV]] dims = [0, 1, 2] x [1, 0, 2] -> [0, 1, 2] strides = [1] low = [0] high = [2] dilations = [3] x [1] : (tensor<5x4x3xf32>, tensor<4x3x2xf32>) -> tensor<5x3x8xf32>
// CHECK-DAG: %[[DW:.*]] = bm.convolution %[[X]], %[[CT]] dims = [1, 0, 2] x [1, 0, 2] -> [1, 0, 2] strides = [1] low = [1] high = [-1] dilations = [1] x [3] : (tensor<5x3x8xf32>, tensor<5x4x3xf32>) -> tensor<4x3x2xf32>
// CHECK: return %[[DX]], %[[DW]]
func.func @conv_vjp(%x: tensor<5x3x8xf32>, %w: tensor<4x3x2xf32>, %ct: tensor<5x4x3xf32>) -> (tensor<5x3x8xf32>, tensor<4x3x2xf32>) {
  %0:3 = bm.vjp @conv(%x, %w, %ct) {wrt = array<i64: 0, 1>, of = array<i64: 0>} : (tensor<5x3x8xf32>, tensor<4x3x2xf32>, tensor<5x4x3xf32>) -> (tensor<5x4x3xf32>, tensor<5x3x8xf32>, tensor<4x3x2xf32>)
  return %0#1, %0#2 : tensor<5x3x8xf32>, tensor<4x3x2xf32>
}

// A batch of inputs is a larger batch: nothing moves.
// CHECK-LABEL: func @batched_lhs
// CHECK-NOT: bm.transpose
// CHECK: bm.convolution {{.*}} : (tensor<35x3x8xf32>, tensor<4x3x2xf32>) -> tensor<35x4x3xf32>
// CHECK-NOT: bm.transpose
// CHECK: return
func.func @batched_lhs(%x: tensor<7x5x3x8xf32>, %w: tensor<4x3x2xf32>) -> tensor<7x5x4x3xf32> {
  %0 = bm.batch @conv(%x, %w) {in_axes = array<i64: 0, -1>, out_axes = array<i64: 0>, size = 7 : i64} : (tensor<7x5x3x8xf32>, tensor<4x3x2xf32>) -> tensor<7x5x4x3xf32>
  return %0 : tensor<7x5x4x3xf32>
}

// A batch of windows makes more features; of both, more groups.
// CHECK-LABEL: func @batched_rhs
// CHECK: bm.convolution {{.*}} : (tensor<5x3x8xf32>, tensor<28x3x2xf32>) -> tensor<5x28x3xf32>
func.func @batched_rhs(%x: tensor<5x3x8xf32>, %w: tensor<7x4x3x2xf32>) -> tensor<7x5x4x3xf32> {
  %0 = bm.batch @conv(%x, %w) {in_axes = array<i64: -1, 0>, out_axes = array<i64: 0>, size = 7 : i64} : (tensor<5x3x8xf32>, tensor<7x4x3x2xf32>) -> tensor<7x5x4x3xf32>
  return %0 : tensor<7x5x4x3xf32>
}

// CHECK-LABEL: func @batched_both
// CHECK: bm.convolution {{.*}} feature_groups = 7 : (tensor<5x21x8xf32>, tensor<28x3x2xf32>) -> tensor<5x28x3xf32>
func.func @batched_both(%x: tensor<7x5x3x8xf32>, %w: tensor<7x4x3x2xf32>) -> tensor<7x5x4x3xf32> {
  %0 = bm.batch @conv(%x, %w) {in_axes = array<i64: 0, 0>, out_axes = array<i64: 0>, size = 7 : i64} : (tensor<7x5x3x8xf32>, tensor<7x4x3x2xf32>) -> tensor<7x5x4x3xf32>
  return %0 : tensor<7x5x4x3xf32>
}

func.func private @grouped(%x: tensor<5x6x8xf32>, %w: tensor<4x3x2xf32>) -> tensor<5x4x7xf32> {
  %0 = bm.convolution %x, %w dims = [0, 1, 2] x [0, 1, 2] -> [0, 1, 2] strides = [1] low = [0] high = [0] dilations = [1] x [1] feature_groups = 2 : (tensor<5x6x8xf32>, tensor<4x3x2xf32>) -> tensor<5x4x7xf32>
  return %0 : tensor<5x4x7xf32>
}

// Groups of features are groups of the batch for the window's cotangent.
// CHECK-LABEL: func @grouped_vjp
// CHECK-DAG: bm.convolution {{.*}} feature_groups = 2 : (tensor<5x4x7xf32>, tensor<2x6x2xf32>) -> tensor<5x6x8xf32>
// CHECK-DAG: bm.convolution {{.*}} batch_groups = 2 : (tensor<5x6x8xf32>, tensor<5x4x7xf32>) -> tensor<4x3x2xf32>
func.func @grouped_vjp(%x: tensor<5x6x8xf32>, %w: tensor<4x3x2xf32>, %ct: tensor<5x4x7xf32>) -> (tensor<5x6x8xf32>, tensor<4x3x2xf32>) {
  %0:3 = bm.vjp @grouped(%x, %w, %ct) {wrt = array<i64: 0, 1>, of = array<i64: 0>} : (tensor<5x6x8xf32>, tensor<4x3x2xf32>, tensor<5x4x7xf32>) -> (tensor<5x4x7xf32>, tensor<5x6x8xf32>, tensor<4x3x2xf32>)
  return %0#1, %0#2 : tensor<5x6x8xf32>, tensor<4x3x2xf32>
}
