// RUN: bm-opt %s -bm-expand-transforms -symbol-dce -canonicalize | FileCheck %s

func.func private @strided(%x: tensor<6xf32>) -> tensor<2xf32> {
  %0 = bm.slice %x [1:5:3] : tensor<6xf32> -> tensor<2xf32>
  return %0 : tensor<2xf32>
}

// The tangent is sliced alike.
// CHECK-LABEL: func @jvp
// CHECK-SAME: %[[X:.*]]: tensor<6xf32>, %[[DX:.*]]: tensor<6xf32>
// CHECK-DAG: %[[Y:.*]] = bm.slice %[[X]] [1:5:3]
// CHECK-DAG: %[[DY:.*]] = bm.slice %[[DX]] [1:5:3]
// CHECK: return %[[Y]], %[[DY]]
func.func @jvp(%x: tensor<6xf32>, %dx: tensor<6xf32>) -> (tensor<2xf32>, tensor<2xf32>) {
  %0:2 = bm.jvp @strided(%x, %dx) {wrt = array<i64: 0>} : (tensor<6xf32>, tensor<6xf32>) -> (tensor<2xf32>, tensor<2xf32>)
  return %0#0, %0#1 : tensor<2xf32>, tensor<2xf32>
}

// Zeros before, between and behind the cotangent.
// CHECK-LABEL: func @vjp
// CHECK-SAME: %[[X:.*]]: tensor<6xf32>, %[[CT:.*]]: tensor<2xf32>
// CHECK: %[[ZERO:.*]] = bm.constant dense<0.000000e+00> : tensor<f32>
// CHECK: bm.pad %[[CT]], %[[ZERO]] low = [1] high = [1] interior = [2]
func.func @vjp(%x: tensor<6xf32>, %ct: tensor<2xf32>) -> (tensor<2xf32>, tensor<6xf32>) {
  %0:2 = bm.vjp @strided(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<6xf32>, tensor<2xf32>) -> (tensor<2xf32>, tensor<6xf32>)
  return %0#0, %0#1 : tensor<2xf32>, tensor<6xf32>
}

// CHECK-LABEL: func @batch
// CHECK: bm.slice %{{.*}} [0:7, 1:5:3] : tensor<7x6xf32> -> tensor<7x2xf32>
func.func @batch(%x: tensor<7x6xf32>) -> tensor<7x2xf32> {
  %0 = bm.batch @strided(%x) {in_axes = array<i64: 0>, out_axes = array<i64: 0>, size = 7 : i64} : (tensor<7x6xf32>) -> tensor<7x2xf32>
  return %0 : tensor<7x2xf32>
}
