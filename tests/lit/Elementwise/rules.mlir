// The derivative rules that are lines of the records, and those that are not.
// RUN: bm-opt %s -split-input-file -bm-differentiate -bm-optimize | FileCheck %s

// A symbolic zero costs nothing: only x has a tangent.
// CHECK-LABEL: func.func @product
// CHECK-SAME: %[[X:[^:]+]]: tensor<f32>, %[[Y:[^:]+]]: tensor<f32>, %[[CT:[^:]+]]: tensor<f32>
// CHECK: %[[R:.*]] = bm.mul %[[CT]], %[[Y]]
// CHECK-NEXT: return %[[R]]
func.func private @mul(%x: tensor<f32>, %y: tensor<f32>) -> tensor<f32> {
  %r = bm.mul %x, %y : tensor<f32>
  return %r : tensor<f32>
}
func.func @product(%x: tensor<f32>, %y: tensor<f32>, %ct: tensor<f32>) -> tensor<f32> {
  %r:2 = bm.vjp @mul(%x, %y, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %r#1 : tensor<f32>
}

// -----

// The reciprocal in a slope divides the cotangent: no product, and no residual but x.
// CHECK-LABEL: func.func @logarithm
// CHECK-SAME: %[[X:[^:]+]]: tensor<f32>, %[[CT:[^:]+]]: tensor<f32>
// CHECK-NEXT: %[[R:.*]] = bm.div %[[CT]], %[[X]]
// CHECK-NEXT: return %[[R]]
func.func private @log(%x: tensor<f32>) -> tensor<f32> {
  %r = bm.log %x : tensor<f32>
  return %r : tensor<f32>
}
func.func @logarithm(%x: tensor<f32>, %ct: tensor<f32>) -> tensor<f32> {
  %r:2 = bm.vjp @log(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %r#1 : tensor<f32>
}

// -----

// A zero cotangent of rows that are not divided, where(s > 0, x / s, 0), is masked before they are
// summed: no division may follow the sum.
// CHECK-LABEL: func.func @masked_rows
// CHECK: bm.reduce_sum
// CHECK-NOT: bm.div
// CHECK: return
func.func private @rows(%x: tensor<2x3xf32>, %s: tensor<2xf32>) -> tensor<2x3xf32> {
  %zero = bm.constant dense<0.0> : tensor<2x3xf32>
  %divisor = bm.broadcast_in_dim %s dims = [0] : (tensor<2xf32>) -> tensor<2x3xf32>
  %p = bm.compare gt %divisor, %zero : tensor<2x3xf32> -> tensor<2x3xi1>
  %q = bm.div %x, %divisor : tensor<2x3xf32>
  %r = bm.select %p, %q, %zero : tensor<2x3xi1>, tensor<2x3xf32>
  return %r : tensor<2x3xf32>
}
func.func @masked_rows(%x: tensor<2x3xf32>, %s: tensor<2xf32>, %ct: tensor<2x3xf32>) -> tensor<2xf32> {
  %r:2 = bm.vjp @rows(%x, %s, %ct) {wrt = array<i64: 1>, of = array<i64: 0>} : (tensor<2x3xf32>, tensor<2xf32>, tensor<2x3xf32>) -> (tensor<2x3xf32>, tensor<2xf32>)
  return %r#1 : tensor<2xf32>
}

// -----

// where(x == 0, 1, 1/x): the zero cotangent of the branch not taken is not multiplied by the
// infinite slope; the mask is the last thing that happens.
// CHECK-LABEL: func.func @trap
// CHECK: %[[RESULT:.*]] = bm.select %{{.*}}, %{{.*}}, %{{.*}}
// CHECK-NEXT: return %[[RESULT]]
func.func private @guarded(%x: tensor<f32>) -> tensor<f32> {
  %zero = bm.constant dense<0.0> : tensor<f32>
  %one = bm.constant dense<1.0> : tensor<f32>
  %p = bm.compare eq %x, %zero : tensor<f32> -> tensor<i1>
  %q = bm.div %one, %x : tensor<f32>
  %r = bm.select %p, %one, %q : tensor<i1>, tensor<f32>
  return %r : tensor<f32>
}
func.func @trap(%x: tensor<f32>, %ct: tensor<f32>) -> tensor<f32> {
  %r:2 = bm.vjp @guarded(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %r#1 : tensor<f32>
}

// -----

// Integers and booleans have no tangents.
// CHECK-LABEL: func.func @through_integers
// CHECK: %[[ZERO:.*]] = bm.constant dense<0.000000e+00> : tensor<f32>
// CHECK: return %[[ZERO]]
func.func private @rounded(%x: tensor<f32>) -> tensor<f32> {
  %i = bm.convert %x : (tensor<f32>) -> tensor<i32>
  %r = bm.convert %i : (tensor<i32>) -> tensor<f32>
  return %r : tensor<f32>
}
func.func @through_integers(%x: tensor<f32>, %ct: tensor<f32>) -> tensor<f32> {
  %r:2 = bm.vjp @rounded(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %r#1 : tensor<f32>
}
