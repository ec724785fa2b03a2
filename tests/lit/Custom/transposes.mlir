// RUN: bm-opt %s | bm-opt | FileCheck %s
// RUN: bm-opt %s -bm-differentiate -bm-optimize | FileCheck %s --check-prefix=RULE

// A primitive that is linear in its second operand and says so.
func.func private @scale(%w: tensor<f32>, %x: tensor<f32>) -> tensor<f32> {
  %0 = bm.kernel {id = 0 : i64, name = "scale"} (%w, %x) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}
func.func private @scale.t(%w: tensor<f32>, %ct: tensor<f32>) -> tensor<f32> {
  %0 = bm.atan2 %ct, %w : tensor<f32>
  return %0 : tensor<f32>
}
// A function whose derivative is that primitive.
func.func private @step(%w: tensor<f32>, %x: tensor<f32>) -> tensor<f32> {
  %0 = bm.sign %x : tensor<f32>
  return %0 : tensor<f32>
}
func.func private @step.jvp(%w: tensor<f32>, %x: tensor<f32>, %dw: tensor<f32>, %dx: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0 = bm.sign %x : tensor<f32>
  %1 = bm.custom_jvp @scale(%w, %dx) {linear = [array<i64: 1>], transposes = [@scale.t]}
      : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %0, %1 : tensor<f32>, tensor<f32>
}

// CHECK-LABEL: func.func private @step.jvp
// CHECK: bm.custom_jvp @scale(%{{.*}}, %{{.*}}) {linear = [array<i64: 1>], transposes = [@scale.t]} : (tensor<f32>, tensor<f32>) -> tensor<f32>
func.func private @main(%w: tensor<f32>, %x: tensor<f32>) -> tensor<f32> {
  %0 = bm.custom_jvp @step, @step.jvp(%w, %x) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// RULE-LABEL: func.func @vjp
// RULE-SAME: %[[W:.*]]: tensor<f32>, %[[X:.*]]: tensor<f32>, %[[CT:.*]]: tensor<f32>
// RULE-NEXT: %[[D:.*]] = bm.atan2 %[[CT]], %[[W]]
// RULE-NEXT: return %[[D]]
func.func @vjp(%w: tensor<f32>, %x: tensor<f32>, %ct: tensor<f32>) -> tensor<f32> {
  %0:2 = bm.vjp @main(%w, %x, %ct) {wrt = array<i64: 1>, of = array<i64: 0>}
      : (tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#1 : tensor<f32>
}

// A primitive that is linear in both operands together, and is called with a
// tangent for one of them. The rule for more raised when it was traced.
func.func private @sum(%x: tensor<f32>, %y: tensor<f32>, %z: tensor<f32>) -> tensor<f32> {
  %0 = bm.kernel {id = 1 : i64, name = "sum"} (%x, %y, %z) : (tensor<f32>, tensor<f32>, tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}
func.func private @sum.all(tensor<f32>) -> (tensor<f32>, tensor<f32>, tensor<f32>)
    attributes {bm.reason = "put off error 0"}
func.func private @sum.t(%z: tensor<f32>, %ct: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0 = bm.atan2 %ct, %z : tensor<f32>
  %1 = bm.cos %ct : tensor<f32>
  return %0, %1 : tensor<f32>, tensor<f32>
}
func.func private @shift(%w: tensor<f32>, %x: tensor<f32>) -> tensor<f32> {
  %0 = bm.sign %x : tensor<f32>
  return %0 : tensor<f32>
}
func.func private @shift.jvp(%w: tensor<f32>, %x: tensor<f32>, %dw: tensor<f32>, %dx: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0 = bm.sign %x : tensor<f32>
  %1 = bm.custom_jvp @sum(%dx, %dw, %w)
      {linear = [array<i64: 0, 1, 2>, array<i64: 0, 1>], transposes = [@sum.all, @sum.t]}
      : (tensor<f32>, tensor<f32>, tensor<f32>) -> tensor<f32>
  return %0, %1 : tensor<f32>, tensor<f32>
}
func.func private @shifted(%w: tensor<f32>, %x: tensor<f32>) -> tensor<f32> {
  %0 = bm.custom_jvp @shift, @shift.jvp(%w, %x) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// RULE-LABEL: func.func @vjp_of_one
// RULE-SAME: %[[W:.*]]: tensor<f32>, %[[X:.*]]: tensor<f32>, %[[CT:.*]]: tensor<f32>
// RULE-NEXT: %[[D:.*]] = bm.atan2 %[[CT]], %[[W]]
// RULE-NEXT: return %[[D]]
func.func @vjp_of_one(%w: tensor<f32>, %x: tensor<f32>, %ct: tensor<f32>) -> tensor<f32> {
  %0:2 = bm.vjp @shifted(%w, %x, %ct) {wrt = array<i64: 1>, of = array<i64: 0>}
      : (tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#1 : tensor<f32>
}
