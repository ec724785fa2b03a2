// RUN: bm-opt %s -allow-unregistered-dialect -bm-lower-to-stablehlo | FileCheck %s

// Integers are compared as they are; two keys lexicographically.
// CHECK-LABEL: func @integers
// CHECK: "stablehlo.sort"(%{{.*}}, %{{.*}}) ({
// CHECK-NEXT: ^bb0(%[[A:.*]]: tensor<i32>, %[[B:.*]]: tensor<i32>, %[[C:.*]]: tensor<ui8>, %[[D:.*]]: tensor<ui8>):
// CHECK-NEXT: %[[SECOND:.*]] = "stablehlo.compare"(%[[C]], %[[D]]) {{.*}}LT
// CHECK-NEXT: %[[FIRST:.*]] = "stablehlo.compare"(%[[A]], %[[B]]) {{.*}}LT
// CHECK-NEXT: %[[EQUAL:.*]] = "stablehlo.compare"(%[[A]], %[[B]]) {{.*}}EQ
// CHECK-NEXT: %[[TIE:.*]] = "stablehlo.and"(%[[EQUAL]], %[[SECOND]])
// CHECK-NEXT: %[[BEFORE:.*]] = "stablehlo.or"(%[[FIRST]], %[[TIE]])
// CHECK-NEXT: "stablehlo.return"(%[[BEFORE]])
// CHECK-NEXT: }) {dimension = 0 : i64, is_stable = true}
func.func @integers(%x: tensor<5xi32>, %y: tensor<5xui8>) -> (tensor<5xi32>, tensor<5xui8>) {
  %0:2 = bm.sort %x, %y {dimension = 0 : i64, is_stable, num_keys = 2 : i64} : tensor<5xi32>, tensor<5xui8>
  return %0#0, %0#1 : tensor<5xi32>, tensor<5xui8>
}

// Floats get one zero and one NaN before they are compared in total order.
// CHECK-LABEL: func @floats
// CHECK: dense<0.000000e+00> : tensor<f32>
// CHECK: dense<0x7FC00000> : tensor<f32>
// CHECK: "stablehlo.compare"{{.*}}TOTALORDER
// CHECK: is_stable = false
func.func @floats(%x: tensor<5xf32>) -> tensor<5xf32> {
  %0 = bm.sort %x {dimension = 0 : i64, num_keys = 1 : i64} : tensor<5xf32>
  return %0 : tensor<5xf32>
}

// CHLO finds the largest elements of the last dimension only.
// CHECK-LABEL: func @top_k
// CHECK: %[[SWAPPED:.*]] = "stablehlo.transpose"
// CHECK: %[[TOP:.*]]:2 = "chlo.top_k"(%[[SWAPPED]]) {k = 2 : i64} : (tensor<4x5xf32>) -> (tensor<4x2xf32>, tensor<4x2xi32>)
// CHECK-DAG: "stablehlo.transpose"(%[[TOP]]#0)
// CHECK-DAG: "stablehlo.transpose"(%[[TOP]]#1)
func.func @top_k(%x: tensor<5x4xf32>) -> (tensor<2x4xf32>, tensor<2x4xi32>) {
  %0:2 = bm.top_k %x {axis = 0 : i64} : tensor<5x4xf32> -> tensor<2x4xf32>, tensor<2x4xi32>
  return %0#0, %0#1 : tensor<2x4xf32>, tensor<2x4xi32>
}
