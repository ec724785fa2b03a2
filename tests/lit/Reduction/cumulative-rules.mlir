// RUN: bm-opt %s -bm-expand-transforms -bm-optimize | FileCheck %s

func.func private @cumsum(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = bm.cumsum %x axis = 0 : tensor<4xf32>
  return %0 : tensor<4xf32>
}

// CHECK-LABEL: func @cumsum_vjp
// CHECK-SAME: %[[CT:[^:]+]]: tensor<4xf32>)
// CHECK-NEXT: %[[R:.*]] = bm.cumsum %[[CT]] axis = 0 reverse : tensor<4xf32>
// CHECK-NEXT: return %[[R]]
func.func @cumsum_vjp(%x: tensor<4xf32>, %ct: tensor<4xf32>) -> tensor<4xf32> {
  %0:2 = bm.vjp @cumsum(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<4xf32>, tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>)
  return %0#1 : tensor<4xf32>
}

func.func private @cumprod(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = bm.cumprod %x axis = 0 : tensor<4xf32>
  return %0 : tensor<4xf32>
}

// The cotangent runs backwards through the factors that follow, and is scaled by
// the product of those before.
// CHECK-LABEL: func @cumprod_vjp
// CHECK-SAME: %[[X:[^:]+]]: tensor<4xf32>, %[[CT:[^:]+]]: tensor<4xf32>)
// CHECK: %[[P:.*]] = bm.cumprod %[[X]] axis = 0
// CHECK: %[[BEFORE:.*]] = bm.pad %[[P]], %{{.*}} low = [1] high = [-1] interior = [0]
// CHECK: %[[AFTER:.*]] = bm.pad %[[X]], %{{.*}} low = [-1] high = [1] interior = [0]
// CHECK: %[[R:.*]] = bm.linear_recurrence %[[AFTER]], %[[CT]] axis = 0 reverse
// CHECK: %[[D:.*]] = bm.mul %{{.*}}, %{{.*}}
// CHECK: return %[[D]]
func.func @cumprod_vjp(%x: tensor<4xf32>, %ct: tensor<4xf32>) -> tensor<4xf32> {
  %0:2 = bm.vjp @cumprod(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<4xf32>, tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>)
  return %0#1 : tensor<4xf32>
}

func.func private @cummax(%x: tensor<2xf32>) -> tensor<2xf32> {
  %0 = bm.cummax %x axis = 0 : tensor<2xf32>
  return %0 : tensor<2xf32>
}

// CHECK-LABEL: func @cummax_jvp
// CHECK: bm.compare gt
// CHECK: bm.compare eq
// CHECK: bm.max
func.func @cummax_jvp(%x: tensor<2xf32>, %dx: tensor<2xf32>) -> (tensor<2xf32>, tensor<2xf32>) {
  %0:2 = bm.jvp @cummax(%x, %dx) {wrt = array<i64: 0>} : (tensor<2xf32>, tensor<2xf32>) -> (tensor<2xf32>, tensor<2xf32>)
  return %0#0, %0#1 : tensor<2xf32>, tensor<2xf32>
}

func.func private @recurrence(%a: tensor<4xf32>, %b: tensor<4xf32>) -> tensor<4xf32> {
  %0 = bm.linear_recurrence %a, %b axis = 0 reverse : tensor<4xf32>
  return %0 : tensor<4xf32>
}

// Both tangents enter one recurrence.
// CHECK-LABEL: func @recurrence_jvp
// CHECK-SAME: %[[A:[^:]+]]: tensor<4xf32>, %[[B:[^:]+]]: tensor<4xf32>, %[[DA:[^:]+]]: tensor<4xf32>, %[[DB:[^:]+]]: tensor<4xf32>)
// CHECK: %[[R:.*]] = bm.linear_recurrence %[[A]], %[[B]] axis = 0 reverse
// CHECK: %[[BEFORE:.*]] = bm.pad %[[R]], %{{.*}} low = [-1] high = [1] interior = [0]
// CHECK: %[[M:.*]] = bm.mul %[[BEFORE]], %[[DA]]
// CHECK: %[[S:.*]] = bm.add %[[DB]], %[[M]]
// CHECK: bm.linear_recurrence %[[A]], %[[S]] axis = 0 reverse
// CHECK-NOT: bm.linear_recurrence
func.func @recurrence_jvp(%a: tensor<4xf32>, %b: tensor<4xf32>, %da: tensor<4xf32>, %db: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
  %0:2 = bm.jvp @recurrence(%a, %b, %da, %db) {wrt = array<i64: 0, 1>} : (tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>)
  return %0#0, %0#1 : tensor<4xf32>, tensor<4xf32>
}

// CHECK-LABEL: func @recurrence_batched
// CHECK: %[[A:.*]] = bm.broadcast_in_dim %{{.*}} dims = [1] : (tensor<4xf32>) -> tensor<5x4xf32>
// CHECK: bm.linear_recurrence %[[A]], %{{.*}} axis = 1 reverse : tensor<5x4xf32>
func.func @recurrence_batched(%a: tensor<4xf32>, %b: tensor<5x4xf32>) -> tensor<5x4xf32> {
  %0 = bm.batch @recurrence(%a, %b) {in_axes = array<i64: -1, 0>, out_axes = array<i64: 0>, size = 5 : i64} : (tensor<4xf32>, tensor<5x4xf32>) -> tensor<5x4xf32>
  return %0 : tensor<5x4xf32>
}
