// RUN: bm-opt %s -bm-expand-transforms -bm-optimize | FileCheck %s

func.func private @sum(%x: tensor<2x3xf32>) -> tensor<2xf32> {
  %0 = bm.reduce_sum %x axes = [1] : (tensor<2x3xf32>) -> tensor<2xf32>
  return %0 : tensor<2xf32>
}

// CHECK-LABEL: func @sum_vjp
// CHECK-SAME: %[[CT:[^:]+]]: tensor<2xf32>)
// CHECK: %[[R:.*]] = bm.broadcast_in_dim %[[CT]] dims = [0] : (tensor<2xf32>) -> tensor<2x3xf32>
// CHECK-NEXT: return %[[R]]
func.func @sum_vjp(%x: tensor<2x3xf32>, %ct: tensor<2xf32>) -> tensor<2x3xf32> {
  %0:2 = bm.vjp @sum(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<2x3xf32>, tensor<2xf32>) -> (tensor<2xf32>, tensor<2x3xf32>)
  return %0#1 : tensor<2x3xf32>
}

// CHECK-LABEL: func @sum_batched
// CHECK: bm.reduce_sum %{{.*}} axes = [2] : (tensor<5x2x3xf32>) -> tensor<5x2xf32>
func.func @sum_batched(%x: tensor<5x2x3xf32>) -> tensor<5x2xf32> {
  %0 = bm.batch @sum(%x) {in_axes = array<i64: 0>, out_axes = array<i64: 0>, size = 5 : i64} : (tensor<5x2x3xf32>) -> tensor<5x2xf32>
  return %0 : tensor<5x2xf32>
}

func.func private @max(%x: tensor<3xf32>) -> tensor<f32> {
  %0 = bm.reduce_max %x axes = [0] : (tensor<3xf32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// The cotangent is shared by all elements that are equal to the maximum. Its share is
// computed before it is spread, and what is chosen is kept as booleans.
// CHECK-LABEL: func @max_vjp
// CHECK-SAME: %[[X:[^:]+]]: tensor<3xf32>, %[[CT:[^:]+]]: tensor<f32>)
// CHECK: %[[R:.*]] = bm.reduce_max %[[X]] axes = [0]
// CHECK: %[[S:.*]] = bm.broadcast_in_dim %[[R]] dims = []
// CHECK-DAG: %[[IS_NUMBER:.*]] = bm.compare eq %[[S]], %[[S]]
// CHECK-DAG: %[[IS_MAX:.*]] = bm.compare eq %[[X]], %[[S]]
// CHECK: %[[OTHERS:.*]] = bm.compare gt %[[IS_NUMBER]], %[[IS_MAX]]
// CHECK: %[[ONES:.*]] = bm.select %[[OTHERS]], %[[ZERO:.*]], %{{.*}}
// CHECK: %[[COUNT:.*]] = bm.reduce_sum %[[ONES]] axes = [0]
// CHECK: %[[SHARE:.*]] = bm.div %{{.*}}, %[[COUNT]]
// CHECK: %[[NUMBER:.*]] = bm.compare eq %[[R]], %[[R]]
// CHECK: %[[FACTOR:.*]] = bm.select %[[NUMBER]], %[[SHARE]], %[[R]]
// CHECK: %[[P:.*]] = bm.mul %[[CT]], %[[FACTOR]]
// CHECK: %[[CTS:.*]] = bm.broadcast_in_dim %[[P]] dims = []
// CHECK: %[[D:.*]] = bm.select %[[OTHERS]], %[[ZERO]], %[[CTS]]
// CHECK: return %[[D]]
func.func @max_vjp(%x: tensor<3xf32>, %ct: tensor<f32>) -> tensor<3xf32> {
  %0:2 = bm.vjp @max(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<3xf32>, tensor<f32>) -> (tensor<f32>, tensor<3xf32>)
  return %0#1 : tensor<3xf32>
}

func.func private @prod(%x: tensor<2x2xf32>) -> tensor<f32> {
  %0 = bm.reduce_prod %x axes = [0, 1] : (tensor<2x2xf32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// By halves, without a division.
// CHECK-LABEL: func @prod_vjp
// CHECK: bm.split %{{.*}} sizes = [2, 2] axis = 0 : (tensor<4xf32>) -> (tensor<2xf32>, tensor<2xf32>)
// CHECK: bm.split %{{.*}} sizes = [1, 1] axis = 0 : (tensor<2xf32>) -> (tensor<1xf32>, tensor<1xf32>)
// CHECK-NOT: bm.div
// CHECK: bm.concatenate %{{.*}} dim = 0 : (tensor<2xf32>, tensor<2xf32>) -> tensor<4xf32>
func.func @prod_vjp(%x: tensor<2x2xf32>, %ct: tensor<f32>) -> tensor<2x2xf32> {
  %0:2 = bm.vjp @prod(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<2x2xf32>, tensor<f32>) -> (tensor<f32>, tensor<2x2xf32>)
  return %0#1 : tensor<2x2xf32>
}

func.func private @best(%x: tensor<3xf32>) -> tensor<i32> {
  %0 = bm.argmax %x axis = 0 : (tensor<3xf32>) -> tensor<i32>
  return %0 : tensor<i32>
}

// CHECK-LABEL: func @argmax_batched
// CHECK: bm.argmax %{{.*}} axis = 1 : (tensor<5x3xf32>) -> tensor<5xi32>
func.func @argmax_batched(%x: tensor<5x3xf32>) -> tensor<5xi32> {
  %0 = bm.batch @best(%x) {in_axes = array<i64: 0>, out_axes = array<i64: 0>, size = 5 : i64} : (tensor<5x3xf32>) -> tensor<5xi32>
  return %0 : tensor<5xi32>
}
