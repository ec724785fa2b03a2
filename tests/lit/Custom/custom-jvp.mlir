// RUN: bm-opt %s | bm-opt | FileCheck %s
// RUN: bm-opt %s -bm-differentiate -bm-optimize | FileCheck %s --check-prefix=RULE

// A step whose derivative is that of a smooth function.
func.func private @step(%x: tensor<f32>) -> tensor<f32> {
  %0 = bm.sign %x : tensor<f32>
  return %0 : tensor<f32>
}
func.func private @step.jvp(%x: tensor<f32>, %dx: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0 = bm.sign %x : tensor<f32>
  %1 = bm.logistic %x : tensor<f32>
  %2 = bm.mul %1, %dx : tensor<f32>
  return %0, %2 : tensor<f32>, tensor<f32>
}

// Where nothing is differentiated, the op is a call.
// CHECK-LABEL: func @main
// CHECK: bm.custom_jvp @step, @step.jvp(%{{.*}}) : (tensor<f32>) -> tensor<f32>
// RULE-LABEL: func @main
// RULE-NEXT: %[[R:.*]] = bm.sign
// RULE-NEXT: return %[[R]]
func.func @main(%x: tensor<f32>) -> tensor<f32> {
  %0 = bm.custom_jvp @step, @step.jvp(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// RULE-LABEL: func @vjp
// RULE-SAME: %[[X:.*]]: tensor<f32>, %[[CT:.*]]: tensor<f32>
// RULE-NEXT: %[[L:.*]] = bm.logistic %[[X]]
// RULE-NEXT: %[[D:.*]] = bm.mul %[[CT]], %[[L]]
// RULE-NEXT: return %[[D]]
func.func @vjp(%x: tensor<f32>, %ct: tensor<f32>) -> tensor<f32> {
  %0:2 = bm.vjp @main(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#1 : tensor<f32>
}

// The batched op has the batched rule.
// RULE-LABEL: func @vjp_of_batch
// RULE: %[[L:.*]] = bm.logistic %{{.*}} : tensor<4xf32>
// RULE-NEXT: bm.mul %{{.*}}, %[[L]]
func.func private @batched(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = bm.batch @main(%x) {in_axes = array<i64: 0>, out_axes = array<i64: 0>, size = 4 : i64} : (tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}
func.func @vjp_of_batch(%x: tensor<4xf32>, %ct: tensor<4xf32>) -> tensor<4xf32> {
  %0:2 = bm.vjp @batched(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<4xf32>, tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>)
  return %0#1 : tensor<4xf32>
}

// A rule may call functions with rules on its tangents, which are linear in them.
func.func private @twice(%x: tensor<f32>) -> tensor<f32> {
  %0 = bm.add %x, %x : tensor<f32>
  return %0 : tensor<f32>
}
func.func private @twice.jvp(%x: tensor<f32>, %dx: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0 = bm.add %x, %x : tensor<f32>
  %1 = bm.custom_jvp @twice, @twice.jvp(%dx) : (tensor<f32>) -> tensor<f32>
  return %0, %1 : tensor<f32>, tensor<f32>
}
func.func private @calls_twice(%x: tensor<f32>) -> tensor<f32> {
  %0 = bm.custom_jvp @twice, @twice.jvp(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}
// RULE-LABEL: func @vjp_of_linear_call
// RULE-SAME: %{{.*}}: tensor<f32>, %[[CT:.*]]: tensor<f32>
// RULE-NEXT: %[[D:.*]] = bm.add %[[CT]], %[[CT]]
// RULE-NEXT: return %[[D]]
func.func @vjp_of_linear_call(%x: tensor<f32>, %ct: tensor<f32>) -> tensor<f32> {
  %0:2 = bm.vjp @calls_twice(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#1 : tensor<f32>
}
