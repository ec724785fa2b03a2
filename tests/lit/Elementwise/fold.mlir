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
