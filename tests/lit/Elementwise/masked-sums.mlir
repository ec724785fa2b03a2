// RUN: bm-opt %s -bm-differentiate -bm-optimize | FileCheck %s

// Of a choice between two functions of one value, the cotangent is a choice.
func.func private @choice(%p: tensor<2xi1>, %x: tensor<2xf32>) -> tensor<2xf32> {
  %0 = bm.sin %x : tensor<2xf32>
  %1 = bm.exp %x : tensor<2xf32>
  %2 = bm.select %p, %0, %1 : tensor<2xi1>, tensor<2xf32>
  return %2 : tensor<2xf32>
}

// CHECK-LABEL: func.func @vjp_of_choice
// CHECK-SAME: %[[P:.*]]: tensor<2xi1>, %[[X:.*]]: tensor<2xf32>, %[[CT:.*]]: tensor<2xf32>
// CHECK: %[[D:.*]] = bm.select %[[P]], %{{.*}}, %{{.*}} : tensor<2xi1>, tensor<2xf32>
// CHECK-NEXT: return %[[D]]
func.func @vjp_of_choice(%p: tensor<2xi1>, %x: tensor<2xf32>, %ct: tensor<2xf32>) -> tensor<2xf32> {
  %0:2 = bm.vjp @choice(%p, %x, %ct) {wrt = array<i64: 1>, of = array<i64: 0>}
      : (tensor<2xi1>, tensor<2xf32>, tensor<2xf32>) -> (tensor<2xf32>, tensor<2xf32>)
  return %0#1 : tensor<2xf32>
}

// What is used under two masks has a cotangent where either says so. It stays
// masked when it is scaled by a slope that may be infinite elsewhere.
func.func private @parts(%p: tensor<2xi1>, %q: tensor<2xi1>, %x: tensor<2xf32>) -> tensor<2xf32> {
  %zero = bm.constant dense<0.0> : tensor<2xf32>
  %0 = bm.log %x : tensor<2xf32>
  %1 = bm.select %p, %0, %zero : tensor<2xi1>, tensor<2xf32>
  %2 = bm.select %q, %0, %zero : tensor<2xi1>, tensor<2xf32>
  %3 = bm.add %1, %2 : tensor<2xf32>
  return %3 : tensor<2xf32>
}

// CHECK-LABEL: func.func @vjp_of_parts
// CHECK-SAME: %[[P:.*]]: tensor<2xi1>, %[[Q:.*]]: tensor<2xi1>
// CHECK: %[[EITHER:.*]] = bm.or %{{.*}}, %{{.*}} : tensor<2xi1>
// CHECK: %[[SLOPE:.*]] = bm.div
// CHECK: %[[D:.*]] = bm.select %[[EITHER]], %[[SLOPE]], %{{.*}} : tensor<2xi1>, tensor<2xf32>
// CHECK-NEXT: return %[[D]]
func.func @vjp_of_parts(%p: tensor<2xi1>, %q: tensor<2xi1>, %x: tensor<2xf32>, %ct: tensor<2xf32>) -> tensor<2xf32> {
  %0:2 = bm.vjp @parts(%p, %q, %x, %ct) {wrt = array<i64: 2>, of = array<i64: 0>}
      : (tensor<2xi1>, tensor<2xi1>, tensor<2xf32>, tensor<2xf32>) -> (tensor<2xf32>, tensor<2xf32>)
  return %0#1 : tensor<2xf32>
}

// The mask moves past a reshape as well.
func.func private @column(%p: tensor<2x1xi1>, %x: tensor<2xf32>) -> tensor<2x1xf32> {
  %zero = bm.constant dense<0.0> : tensor<2x1xf32>
  %0 = bm.log %x : tensor<2xf32>
  %1 = bm.reshape %0 : (tensor<2xf32>) -> tensor<2x1xf32>
  %2 = bm.select %p, %1, %zero : tensor<2x1xi1>, tensor<2x1xf32>
  return %2 : tensor<2x1xf32>
}

// CHECK-LABEL: func.func @vjp_of_column
// CHECK-SAME: %[[P:.*]]: tensor<2x1xi1>
// CHECK: %[[FLAT:.*]] = bm.reshape %[[P]] : (tensor<2x1xi1>) -> tensor<2xi1>
// CHECK: %[[SLOPE:.*]] = bm.div
// CHECK: %[[D:.*]] = bm.select %[[FLAT]], %[[SLOPE]], %{{.*}} : tensor<2xi1>, tensor<2xf32>
// CHECK-NEXT: return %[[D]]
func.func @vjp_of_column(%p: tensor<2x1xi1>, %x: tensor<2xf32>, %ct: tensor<2x1xf32>) -> tensor<2xf32> {
  %0:2 = bm.vjp @column(%p, %x, %ct) {wrt = array<i64: 1>, of = array<i64: 0>}
      : (tensor<2x1xi1>, tensor<2xf32>, tensor<2x1xf32>) -> (tensor<2x1xf32>, tensor<2xf32>)
  return %0#1 : tensor<2xf32>
}
