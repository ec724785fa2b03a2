// RUN: bm-opt %s -bm-expand-transforms -bm-optimize | FileCheck %s

func.func private @sum(%x: tensor<6xf32>) -> tensor<3xf32> {
  %0 = bm.reduce_window_sum %x window = [3] strides = [2] low = [1] high = [0] dilations = [1] x [1] : (tensor<6xf32>) -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// A sum over windows of the cotangent, spread by the stride.
// CHECK-LABEL: func @sum_vjp
// CHECK-SAME: %[[CT:[^:]+]]: tensor<3xf32>)
// CHECK: %[[PAD:.*]] = bm.pad %[[CT]], %{{.*}} low = [1] high = [2] interior = [1]
// CHECK: bm.reduce_window_sum %[[PAD]] window = [3] strides = [1] low = [0] high = [0] dilations = [1] x [1] : (tensor<8xf32>) -> tensor<6xf32>
func.func @sum_vjp(%x: tensor<6xf32>, %ct: tensor<3xf32>) -> tensor<6xf32> {
  %0:2 = bm.vjp @sum(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<6xf32>, tensor<3xf32>) -> (tensor<3xf32>, tensor<6xf32>)
  return %0#1 : tensor<6xf32>
}

func.func private @max(%x: tensor<6xf32>) -> tensor<3xf32> {
  %0 = bm.reduce_window_max %x window = [2] strides = [2] low = [0] high = [0] dilations = [1] x [1] : (tensor<6xf32>) -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func @max_jvp
// CHECK-SAME: %[[X:[^:]+]]: tensor<6xf32>, %[[DX:[^:]+]]: tensor<6xf32>)
// CHECK: bm.select_and_gather_add %[[DX]] by %[[X]]
func.func @max_jvp(%x: tensor<6xf32>, %dx: tensor<6xf32>) -> tensor<3xf32> {
  %0:2 = bm.jvp @max(%x, %dx) {wrt = array<i64: 0>} : (tensor<6xf32>, tensor<6xf32>) -> (tensor<3xf32>, tensor<3xf32>)
  return %0#1 : tensor<3xf32>
}

// CHECK-LABEL: func @max_vjp
// CHECK-SAME: %[[X:[^:]+]]: tensor<6xf32>, %[[CT:[^:]+]]: tensor<3xf32>)
// CHECK: %[[R:.*]] = bm.select_and_scatter_add %[[CT]] by %[[X]] window = [2] strides = [2] low = [0] high = [0]
// CHECK: return %[[R]]
func.func @max_vjp(%x: tensor<6xf32>, %ct: tensor<3xf32>) -> tensor<6xf32> {
  %0:2 = bm.vjp @max(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<6xf32>, tensor<3xf32>) -> (tensor<3xf32>, tensor<6xf32>)
  return %0#1 : tensor<6xf32>
}

func.func private @dilated(%x: tensor<6xf32>) -> tensor<4xf32> {
  %0 = bm.reduce_window_min %x window = [2] strides = [1] low = [0] high = [0] dilations = [1] x [2] : (tensor<6xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// StableHLO cannot scatter to dilated windows: the places are gathered first.
// CHECK-LABEL: func @dilated_vjp
// CHECK: bm.select_and_gather_add {{.*}} least : (tensor<6xi32>, tensor<6xf32>) -> tensor<4xi32>
// CHECK: bm.scatter_add
func.func @dilated_vjp(%x: tensor<6xf32>, %ct: tensor<4xf32>) -> tensor<6xf32> {
  %0:2 = bm.vjp @dilated(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<6xf32>, tensor<4xf32>) -> (tensor<4xf32>, tensor<6xf32>)
  return %0#1 : tensor<6xf32>
}

// CHECK-LABEL: func @batched
// CHECK: bm.reduce_window_max %{{.*}} window = [1, 2] strides = [1, 2] low = [0, 0] high = [0, 0] dilations = [1, 1] x [1, 1] : (tensor<7x6xf32>) -> tensor<7x3xf32>
func.func @batched(%x: tensor<7x6xf32>) -> tensor<7x3xf32> {
  %0 = bm.batch @max(%x) {in_axes = array<i64: 0>, out_axes = array<i64: 0>, size = 7 : i64} : (tensor<7x6xf32>) -> tensor<7x3xf32>
  return %0 : tensor<7x3xf32>
}
