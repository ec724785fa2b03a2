// RUN: bm-opt %s -bm-find-batched="function=main batched=1 size=3" | FileCheck %s --check-prefix=FLOW
// RUN: bm-opt %s -bm-differentiate -bm-optimize | FileCheck %s

// `y` is shared where a batch is over `n` only, though the rules refer to `n`.
func.func private @twice(%x: tensor<f32>, %n: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %y = bm.add %x, %x : tensor<f32>
  %s = bm.sin %n : tensor<f32>
  return %y, %s : tensor<f32>, tensor<f32>
}
// A rule calls its function.
func.func private @twice.jvp(%x: tensor<f32>, %n: tensor<f32>, %dx: tensor<f32>, %dn: tensor<f32>)
    -> (tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>) {
  %0:2 = bm.custom_jvp @twice, @twice.jvp(%x, %n) : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  %1:2 = bm.custom_jvp @twice, @twice.jvp(%dx, %n) : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#0, %0#1, %1#0, %dn : tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>
}
// The tangent of what is shared is not.
func.func private @leaky.jvp(%x: tensor<f32>, %n: tensor<f32>, %dx: tensor<f32>, %dn: tensor<f32>)
    -> (tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>) {
  %0:2 = bm.custom_jvp @twice, @leaky.jvp(%x, %n) : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#0, %0#1, %dn, %dn : tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>
}

// FLOW-LABEL: func.func @main
// FLOW-SAME: bm.batched = array<i1: false, true, true, true>
func.func @main(%x: tensor<f32>, %n: tensor<f32>) -> (tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>) {
  %0:2 = bm.custom_jvp @twice, @twice.jvp(%x, %n) : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  %1:2 = bm.custom_jvp @twice, @leaky.jvp(%x, %n) : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#0, %0#1, %1#0, %1#1 : tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>
}

func.func private @twice.fwd(%x: tensor<f32>, %n: tensor<f32>) -> (tensor<f32>, tensor<f32>, tensor<f32>) {
  %0:2 = bm.custom_vjp @twice, @twice.fwd, @twice.bwd(%x, %n) {num_residuals = 1 : i64}
      : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#0, %0#1, %n : tensor<f32>, tensor<f32>, tensor<f32>
}
func.func private @twice.bwd(%n: tensor<f32>, %ct: tensor<f32>, %ctn: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0 = bm.atan2 %ct, %n : tensor<f32>
  return %0, %ctn : tensor<f32>, tensor<f32>
}
func.func private @element(%x: tensor<f32>, %n: tensor<f32>) -> tensor<f32> {
  %0:2 = bm.custom_vjp @twice, @twice.fwd, @twice.bwd(%x, %n) {num_residuals = 1 : i64}
      : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#0 : tensor<f32>
}
func.func private @batch(%x: tensor<f32>, %n: tensor<3xf32>) -> tensor<f32> {
  %0 = bm.batch @element(%x, %n) {in_axes = array<i64: -1, 0>, out_axes = array<i64: -1>, size = 3 : i64}
      : (tensor<f32>, tensor<3xf32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// Its cotangent is that of the first element: the sum over the batch has it once.
// CHECK-LABEL: func.func @vjp
// CHECK-SAME: (%{{[^:]*}}: tensor<f32>, %[[N:[^:]*]]: tensor<3xf32>, %[[CT:.*]]: tensor<f32>
// CHECK-DAG: %[[CT1:.*]] = bm.reshape %[[CT]] : (tensor<f32>) -> tensor<1xf32>
// CHECK-DAG: %[[CTS:.*]] = bm.pad %[[CT1]], %{{.*}} low = [0] high = [2] interior = [0] : (tensor<1xf32>, tensor<f32>) -> tensor<3xf32>
// CHECK: %[[D:.*]] = bm.atan2 %[[CTS]], %[[N]]
// CHECK: %[[S:.*]] = bm.reduce_sum %[[D]]
// CHECK: return %[[S]]
func.func @vjp(%x: tensor<f32>, %n: tensor<3xf32>, %ct: tensor<f32>) -> tensor<f32> {
  %0:2 = bm.vjp @batch(%x, %n, %ct) {wrt = array<i64: 0>, of = array<i64: 0>}
      : (tensor<f32>, tensor<3xf32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#1 : tensor<f32>
}
