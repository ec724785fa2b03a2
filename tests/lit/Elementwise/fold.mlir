// RUN: bm-opt %s -canonicalize | FileCheck %s

// Products by one and sums with zero, which derivatives are full of, vanish.
// CHECK-LABEL: func.func @neutral
// CHECK-SAME: %[[X:[^:]+]]: tensor<3xf32>
// CHECK-NEXT: return %[[X]]
func.func @neutral(%x: tensor<3xf32>) -> tensor<3xf32> {
  %one = bm.constant dense<1.0> : tensor<3xf32>
  %zero = bm.constant dense<0.0> : tensor<3xf32>
  %0 = bm.mul %x, %one : tensor<3xf32>
  %1 = bm.add %zero, %0 : tensor<3xf32>
  %2 = bm.neg %1 : tensor<3xf32>
  %3 = bm.neg %2 : tensor<3xf32>
  %4 = bm.div %3, %one : tensor<3xf32>
  return %4 : tensor<3xf32>
}

// CHECK-LABEL: func.func @constants
// CHECK: %[[C:.*]] = bm.constant dense<6.000000e+00> : tensor<2xf64>
// CHECK: return %[[C]]
func.func @constants() -> tensor<2xf64> {
  %two = bm.constant dense<2.0> : tensor<2xf64>
  %three = bm.constant dense<3.0> : tensor<2xf64>
  %0 = bm.mul %two, %three : tensor<2xf64>
  return %0 : tensor<2xf64>
}

// A disjunction with true is no sum with zero.
// CHECK-LABEL: func.func @booleans
// CHECK: bm.mul
func.func @booleans(%x: tensor<i1>) -> tensor<i1> {
  %true = bm.constant dense<true> : tensor<i1>
  %0 = bm.mul %x, %true : tensor<i1>
  return %0 : tensor<i1>
}

// A sign moves out of products and sums until it meets an addition.
// CHECK-LABEL: func.func @signs
// CHECK-SAME: %[[X:[^:]+]]: tensor<3xf32>, %[[Y:[^:]+]]: tensor<3xf32>
// CHECK-DAG: %[[P:.*]] = bm.mul %[[X]], %[[Y]]
// CHECK-DAG: %[[Q:.*]] = bm.div %[[P]], %[[Y]]
// CHECK: %[[D:.*]] = bm.sub %[[X]], %[[Q]]
// CHECK: %[[S:.*]] = bm.reduce_sum %[[D]]
// CHECK-NOT: bm.neg
// CHECK: return %[[S]]
func.func @signs(%x: tensor<3xf32>, %y: tensor<3xf32>) -> tensor<f32> {
  %0 = bm.neg %y : tensor<3xf32>
  %1 = bm.mul %x, %0 : tensor<3xf32>
  %2 = bm.div %1, %y : tensor<3xf32>
  %3 = bm.add %2, %x : tensor<3xf32>
  %4 = bm.neg %3 : tensor<3xf32>
  %5 = bm.reduce_sum %4 axes = [0] : (tensor<3xf32>) -> tensor<f32>
  %6 = bm.neg %5 : tensor<f32>
  return %6 : tensor<f32>
}

// CHECK-LABEL: func.func @minus_one
// CHECK-NEXT: bm.neg
// CHECK-NEXT: return
func.func @minus_one(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = bm.constant dense<-1.0> : tensor<3xf32>
  %1 = bm.mul %0, %x : tensor<3xf32>
  return %1 : tensor<3xf32>
}

// One that is read twice stays: it would be computed twice.
// CHECK-LABEL: func.func @shared_sign
// CHECK: %[[N:.*]] = bm.neg
// CHECK: bm.add %[[N]], %[[N]]
func.func @shared_sign(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = bm.neg %x : tensor<3xf32>
  %1 = bm.add %0, %0 : tensor<3xf32>
  return %1 : tensor<3xf32>
}

// Of complex numbers a product of negatives has other signs of zero; the least integer has no negative.
// CHECK-LABEL: func.func @kept_signs
// CHECK: bm.neg
// CHECK: bm.mul
// CHECK: bm.neg
// CHECK: bm.div
// CHECK-NOT: bm.neg
func.func @kept_signs(%x: tensor<3xcomplex<f32>>, %n: tensor<3xi32>)
    -> (tensor<3xcomplex<f32>>, tensor<3xi32>) {
  %0 = bm.neg %x : tensor<3xcomplex<f32>>
  %1 = bm.mul %x, %0 : tensor<3xcomplex<f32>>
  %2 = bm.neg %n : tensor<3xi32>
  %3 = bm.div %n, %2 : tensor<3xi32>
  return %1, %3 : tensor<3xcomplex<f32>>, tensor<3xi32>
}
