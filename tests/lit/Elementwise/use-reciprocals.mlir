// RUN: bm-opt %s -bm-use-reciprocals -split-input-file | FileCheck %s

// The gradient of a softmax divides by the sum of each row: once, not for each element. Without
// leave, and of floats so short that it would show, nothing changes.
// CHECK-LABEL: func.func @repeated
// CHECK-SAME: %[[X:.*]]: tensor<2x3xf32>, %[[S:.*]]: tensor<2xf32>, %[[H:.*]]: tensor<2x3xbf16>, %[[HS:.*]]: tensor<2xbf16>
// CHECK: %[[ONE:.*]] = bm.constant dense<1.0{{.*}}> : tensor<2xf32>
// CHECK: %[[R:.*]] = bm.div %[[ONE]], %[[S]] : tensor<2xf32>
// CHECK: %[[B:.*]] = bm.broadcast_in_dim %[[R]] dims = [0]
// CHECK: %[[Q:.*]] = bm.div %[[X]], %{{.*}} : tensor<2x3xf32>
// CHECK: %[[A:.*]] = bm.mul %[[X]], %[[B]]
// CHECK: %[[EXP:.*]] = bm.exp %[[Q]]
// CHECK: %[[C:.*]] = bm.mul %[[EXP]], %[[B]]
// CHECK: %[[SHORT:.*]] = bm.div %[[H]], %{{.*}} {allow_reciprocal} : tensor<2x3xbf16>
// CHECK: return %[[Q]], %[[A]], %[[C]], %[[SHORT]]
func.func @repeated(%x: tensor<2x3xf32>, %s: tensor<2xf32>, %h: tensor<2x3xbf16>, %hs: tensor<2xbf16>) -> (tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xbf16>) {
  %y = bm.broadcast_in_dim %s dims = [0] : (tensor<2xf32>) -> tensor<2x3xf32>
  %q = bm.div %x, %y : tensor<2x3xf32>
  %a = bm.div %x, %y {allow_reciprocal} : tensor<2x3xf32>
  %e = bm.exp %q : tensor<2x3xf32>
  %c = bm.div %e, %y {allow_reciprocal} : tensor<2x3xf32>
  %hy = bm.broadcast_in_dim %hs dims = [0] : (tensor<2xbf16>) -> tensor<2x3xbf16>
  %short = bm.div %h, %hy {allow_reciprocal} : tensor<2x3xbf16>
  return %q, %a, %c, %short : tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xbf16>
}

// -----

// The slope of x / y for y, (x / y) / y, is x / y^2. What it scales is scaled by 1 / y^2 first.
// CHECK-LABEL: func.func @squared
// CHECK-SAME: %[[X:.*]]: tensor<3xf32>, %[[Y:.*]]: tensor<3xf32>, %[[CT:.*]]: tensor<3xf32>
// CHECK: %[[YY:.*]] = bm.mul %[[Y]], %[[Y]]
// CHECK: %[[R:.*]] = bm.div %{{.*}}, %[[YY]]
// CHECK: %[[Q:.*]] = bm.div %[[X]], %[[Y]]
// CHECK: %[[SCALED:.*]] = bm.mul %[[CT]], %[[R]]
// CHECK: %[[D:.*]] = bm.mul %[[SCALED]], %[[X]]
// CHECK: %[[OTHER:.*]] = bm.div %[[CT]], %[[Y]] {allow_reciprocal}
// CHECK: return %[[Q]], %[[D]], %[[OTHER]]
func.func @squared(%x: tensor<3xf32>, %y: tensor<3xf32>, %ct: tensor<3xf32>) -> (tensor<3xf32>, tensor<3xf32>, tensor<3xf32>) {
  %q = bm.div %x, %y : tensor<3xf32>
  %slope = bm.div %q, %y {allow_reciprocal} : tensor<3xf32>
  %d = bm.mul %ct, %slope : tensor<3xf32>
  %other = bm.div %ct, %y {allow_reciprocal} : tensor<3xf32>
  return %q, %d, %other : tensor<3xf32>, tensor<3xf32>, tensor<3xf32>
}

// -----

// Derivatives of a quotient give that leave; the quotient itself stays as exact as it was.
// RUN: bm-opt %s -bm-differentiate -split-input-file | FileCheck %s --check-prefix=LEAVE
// LEAVE-LABEL: func.func @leave
// LEAVE: bm.div %{{.*}}, %{{.*}} : tensor<f32>
// LEAVE: bm.div %{{.*}}, %{{.*}} {allow_reciprocal} : tensor<f32>
// LEAVE: return
func.func private @quotient(%x: tensor<f32>, %y: tensor<f32>) -> tensor<f32> {
  %r = bm.div %x, %y : tensor<f32>
  return %r : tensor<f32>
}
func.func @leave(%x: tensor<f32>, %y: tensor<f32>, %ct: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %r:2 = bm.vjp @quotient(%x, %y, %ct) {wrt = array<i64: 1>, of = array<i64: 0>} : (tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %r#0, %r#1 : tensor<f32>, tensor<f32>
}
