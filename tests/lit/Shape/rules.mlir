// RUN: bm-opt %s -bm-expand-transforms -bm-optimize | FileCheck %s

func.func private @spread(%x: tensor<3x1xf32>) -> tensor<2x3x4xf32> {
  %0 = bm.broadcast_in_dim %x dims = [1, 2] : (tensor<3x1xf32>) -> tensor<2x3x4xf32>
  return %0 : tensor<2x3x4xf32>
}

// What was repeated is summed, in new dimensions and in stretched ones.
// CHECK-LABEL: func @spread_vjp
// CHECK-SAME: %[[CT:[^:]+]]: tensor<2x3x4xf32>)
// CHECK-NEXT: %[[S:.*]] = bm.reduce_sum %[[CT]] axes = [0, 2] : (tensor<2x3x4xf32>) -> tensor<3xf32>
// CHECK-NEXT: %[[R:.*]] = bm.reshape %[[S]] : (tensor<3xf32>) -> tensor<3x1xf32>
// CHECK-NEXT: return %[[R]]
func.func @spread_vjp(%x: tensor<3x1xf32>, %ct: tensor<2x3x4xf32>) -> tensor<3x1xf32> {
  %0:2 = bm.vjp @spread(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<3x1xf32>, tensor<2x3x4xf32>) -> (tensor<2x3x4xf32>, tensor<3x1xf32>)
  return %0#1 : tensor<3x1xf32>
}

// CHECK-LABEL: func @spread_batched
// CHECK: bm.broadcast_in_dim %{{.*}} dims = [0, 2, 3] : (tensor<5x3x1xf32>) -> tensor<5x2x3x4xf32>
func.func @spread_batched(%x: tensor<5x3x1xf32>) -> tensor<5x2x3x4xf32> {
  %0 = bm.batch @spread(%x) {in_axes = array<i64: 0>, out_axes = array<i64: 0>, size = 5 : i64} : (tensor<5x3x1xf32>) -> tensor<5x2x3x4xf32>
  return %0 : tensor<5x2x3x4xf32>
}

func.func private @moved(%x: tensor<2x3x4xf32>) -> tensor<12x2xf32> {
  %0 = bm.transpose %x dims = [1, 2, 0] : (tensor<2x3x4xf32>) -> tensor<3x4x2xf32>
  %1 = bm.reverse %0 dims = [1] : tensor<3x4x2xf32>
  %2 = bm.reshape %1 : (tensor<3x4x2xf32>) -> tensor<12x2xf32>
  return %2 : tensor<12x2xf32>
}

// CHECK-LABEL: func @moved_vjp
// CHECK-SAME: %[[CT:[^:]+]]: tensor<12x2xf32>)
// CHECK-NEXT: %[[A:.*]] = bm.reshape %[[CT]] : (tensor<12x2xf32>) -> tensor<3x4x2xf32>
// CHECK-NEXT: %[[B:.*]] = bm.reverse %[[A]] dims = [1]
// CHECK-NEXT: %[[C:.*]] = bm.transpose %[[B]] dims = [2, 0, 1]
// CHECK-NEXT: return %[[C]]
func.func @moved_vjp(%x: tensor<2x3x4xf32>, %ct: tensor<12x2xf32>) -> tensor<2x3x4xf32> {
  %0:2 = bm.vjp @moved(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<2x3x4xf32>, tensor<12x2xf32>) -> (tensor<12x2xf32>, tensor<2x3x4xf32>)
  return %0#1 : tensor<2x3x4xf32>
}

// CHECK-LABEL: func @moved_batched
// CHECK: bm.transpose %{{.*}} dims = [0, 2, 3, 1]
// CHECK-NEXT: bm.reverse %{{.*}} dims = [2]
// CHECK-NEXT: bm.reshape %{{.*}} : (tensor<5x3x4x2xf32>) -> tensor<5x12x2xf32>
func.func @moved_batched(%x: tensor<5x2x3x4xf32>) -> tensor<5x12x2xf32> {
  %0 = bm.batch @moved(%x) {in_axes = array<i64: 0>, out_axes = array<i64: 0>, size = 5 : i64} : (tensor<5x2x3x4xf32>) -> tensor<5x12x2xf32>
  return %0 : tensor<5x12x2xf32>
}

func.func private @joined(%x: tensor<2xf32>, %y: tensor<3xf32>) -> tensor<5xf32> {
  %0 = bm.concatenate %x, %y dim = 0 : (tensor<2xf32>, tensor<3xf32>) -> tensor<5xf32>
  return %0 : tensor<5xf32>
}

// CHECK-LABEL: func @joined_vjp
// CHECK-SAME: %[[CT:[^:]+]]: tensor<5xf32>)
// CHECK-NEXT: %[[P:.*]]:2 = bm.split %[[CT]] sizes = [2, 3] axis = 0
// CHECK-NEXT: return %[[P]]#0, %[[P]]#1
func.func @joined_vjp(%x: tensor<2xf32>, %y: tensor<3xf32>, %ct: tensor<5xf32>) -> (tensor<2xf32>, tensor<3xf32>) {
  %0:3 = bm.vjp @joined(%x, %y, %ct) {wrt = array<i64: 0, 1>, of = array<i64: 0>} : (tensor<2xf32>, tensor<3xf32>, tensor<5xf32>) -> (tensor<5xf32>, tensor<2xf32>, tensor<3xf32>)
  return %0#1, %0#2 : tensor<2xf32>, tensor<3xf32>
}

// CHECK-LABEL: func @joined_batched
// CHECK: %[[Y:.*]] = bm.broadcast_in_dim %{{.*}} dims = [1] : (tensor<3xf32>) -> tensor<4x3xf32>
// CHECK: bm.concatenate %{{.*}}, %[[Y]] dim = 1 : (tensor<4x2xf32>, tensor<4x3xf32>) -> tensor<4x5xf32>
func.func @joined_batched(%x: tensor<4x2xf32>, %y: tensor<3xf32>) -> tensor<4x5xf32> {
  %0 = bm.batch @joined(%x, %y) {in_axes = array<i64: 0, -1>, out_axes = array<i64: 0>, size = 4 : i64} : (tensor<4x2xf32>, tensor<3xf32>) -> tensor<4x5xf32>
  return %0 : tensor<4x5xf32>
}

func.func private @cut(%x: tensor<7xf32>) -> (tensor<2xf32>, tensor<4xf32>, tensor<1xf32>) {
  %0:3 = bm.split %x sizes = [2, 4, 1] axis = 0 : (tensor<7xf32>) -> (tensor<2xf32>, tensor<4xf32>, tensor<1xf32>)
  return %0#0, %0#1, %0#2 : tensor<2xf32>, tensor<4xf32>, tensor<1xf32>
}

// CHECK-LABEL: func @cut_vjp
// CHECK-SAME: %[[A:[^:]+]]: tensor<2xf32>, %[[B:[^:]+]]: tensor<1xf32>)
// CHECK: %[[ZERO:.*]] = bm.constant dense<0.000000e+00> : tensor<4xf32>
// CHECK: bm.concatenate %[[A]], %[[ZERO]], %[[B]] dim = 0
func.func @cut_vjp(%x: tensor<7xf32>, %a: tensor<2xf32>, %b: tensor<1xf32>) -> tensor<7xf32> {
  %0:4 = bm.vjp @cut(%x, %a, %b) {wrt = array<i64: 0>, of = array<i64: 0, 2>} : (tensor<7xf32>, tensor<2xf32>, tensor<1xf32>) -> (tensor<2xf32>, tensor<4xf32>, tensor<1xf32>, tensor<7xf32>)
  return %0#3 : tensor<7xf32>
}

// One piece alone is padded.
// CHECK-LABEL: func @piece_vjp
// CHECK-SAME: %[[B:[^:]+]]: tensor<4xf32>)
// CHECK: bm.pad %[[B]], %{{.*}} low = [2] high = [1] interior = [0]
func.func @piece_vjp(%x: tensor<7xf32>, %b: tensor<4xf32>) -> tensor<7xf32> {
  %0:4 = bm.vjp @cut(%x, %b) {wrt = array<i64: 0>, of = array<i64: 1>} : (tensor<7xf32>, tensor<4xf32>) -> (tensor<2xf32>, tensor<4xf32>, tensor<1xf32>, tensor<7xf32>)
  return %0#3 : tensor<7xf32>
}

// CHECK-LABEL: func @cut_batched
// CHECK: bm.split %{{.*}} sizes = [2, 4, 1] axis = 1 : (tensor<5x7xf32>) -> (tensor<5x2xf32>, tensor<5x4xf32>, tensor<5x1xf32>)
func.func @cut_batched(%x: tensor<5x7xf32>) -> (tensor<5x2xf32>, tensor<5x4xf32>, tensor<5x1xf32>) {
  %0:3 = bm.batch @cut(%x) {in_axes = array<i64: 0>, out_axes = array<i64: 0, 0, 0>, size = 5 : i64} : (tensor<5x7xf32>) -> (tensor<5x2xf32>, tensor<5x4xf32>, tensor<5x1xf32>)
  return %0#0, %0#1, %0#2 : tensor<5x2xf32>, tensor<5x4xf32>, tensor<5x1xf32>
}

func.func private @padded(%x: tensor<3xf32>, %p: tensor<f32>) -> tensor<6xf32> {
  %0 = bm.pad %x, %p low = [-1] high = [2] interior = [1] : (tensor<3xf32>, tensor<f32>) -> tensor<6xf32>
  return %0 : tensor<6xf32>
}

// The element that was cut off gets a zero; the padding value what the mask says
// is padding.
// CHECK-LABEL: func @padded_vjp
// CHECK-SAME: %[[CT:[^:]+]]: tensor<6xf32>)
// CHECK-DAG: %[[MASK:.*]] = bm.pad %{{.*}}, %{{.*}} low = [-1] high = [2] interior = [1] : (tensor<3xi1>, tensor<i1>) -> tensor<6xi1>
// CHECK-DAG: %[[OUTSIDE:.*]] = bm.select %[[MASK]], %{{.*}}, %[[CT]]
// CHECK-DAG: %[[DP:.*]] = bm.reduce_sum %[[OUTSIDE]] axes = [0]
// CHECK-DAG: %[[WHOLE:.*]] = bm.pad %[[CT]], %{{.*}} low = [1] high = [0] interior = [0]
// CHECK-DAG: %[[DX:.*]] = bm.slice %[[WHOLE]] [0:5:2]
// CHECK: return %[[DX]], %[[DP]]
func.func @padded_vjp(%x: tensor<3xf32>, %p: tensor<f32>, %ct: tensor<6xf32>) -> (tensor<3xf32>, tensor<f32>) {
  %0:3 = bm.vjp @padded(%x, %p, %ct) {wrt = array<i64: 0, 1>, of = array<i64: 0>} : (tensor<3xf32>, tensor<f32>, tensor<6xf32>) -> (tensor<6xf32>, tensor<3xf32>, tensor<f32>)
  return %0#1, %0#2 : tensor<3xf32>, tensor<f32>
}

// Each example has its own padding value: a mask says where it goes.
// CHECK-LABEL: func @padded_batched
// CHECK-SAME: %[[X:[^:]+]]: tensor<5x3xf32>, %[[P:[^:]+]]: tensor<5xf32>)
// CHECK-DAG: %[[PADDED:.*]] = bm.pad %[[X]], %{{.*}} low = [0, -1] high = [0, 2] interior = [0, 1]
// CHECK-DAG: %[[SPREAD:.*]] = bm.broadcast_in_dim %[[P]] dims = [0] : (tensor<5xf32>) -> tensor<5x6xf32>
// CHECK-DAG: %[[MASK:.*]] = bm.pad %{{.*}} : (tensor<5x3xi1>, tensor<i1>) -> tensor<5x6xi1>
// CHECK: bm.select %[[MASK]], %[[PADDED]], %[[SPREAD]]
func.func @padded_batched(%x: tensor<5x3xf32>, %p: tensor<5xf32>) -> tensor<5x6xf32> {
  %0 = bm.batch @padded(%x, %p) {in_axes = array<i64: 0, 0>, out_axes = array<i64: 0>, size = 5 : i64} : (tensor<5x3xf32>, tensor<5xf32>) -> tensor<5x6xf32>
  return %0 : tensor<5x6xf32>
}
