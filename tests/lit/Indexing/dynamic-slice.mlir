// RUN: bm-opt %s | bm-opt | FileCheck %s
// RUN: bm-opt %s -canonicalize | FileCheck %s --check-prefix=CANON

// CHECK-LABEL: func @round_trip
// CHECK: bm.dynamic_slice %{{.*}} at [%{{.*}}, %{{.*}}] : (tensor<5x4xf32>, tensor<i32>, tensor<i32>) -> tensor<2x4xf32>
// CHECK: bm.dynamic_update_slice %{{.*}}, %{{.*}} at [%{{.*}}, %{{.*}}] : (tensor<5x4xf32>, tensor<2x4xf32>, tensor<i32>, tensor<i32>) -> tensor<5x4xf32>
func.func @round_trip(%x: tensor<5x4xf32>, %i: tensor<i32>, %j: tensor<i32>) -> tensor<5x4xf32> {
  %0 = bm.dynamic_slice %x at [%i, %j] : (tensor<5x4xf32>, tensor<i32>, tensor<i32>) -> tensor<2x4xf32>
  %1 = bm.dynamic_update_slice %x, %0 at [%j, %i] : (tensor<5x4xf32>, tensor<2x4xf32>, tensor<i32>, tensor<i32>) -> tensor<5x4xf32>
  return %1 : tensor<5x4xf32>
}

// Constant start indices are clamped, then it is a slice.
// CANON-LABEL: func @constant_starts
// CANON: bm.slice %{{.*}} [3:5, 0:3] : tensor<5x4xf32> -> tensor<2x3xf32>
func.func @constant_starts(%x: tensor<5x4xf32>) -> tensor<2x3xf32> {
  %i = bm.constant dense<9> : tensor<i32>
  %j = bm.constant dense<-1> : tensor<i32>
  %0 = bm.dynamic_slice %x at [%i, %j] : (tensor<5x4xf32>, tensor<i32>, tensor<i32>) -> tensor<2x3xf32>
  return %0 : tensor<2x3xf32>
}

// The largest unsigned number is not -1.
// CANON-LABEL: func @unsigned_start
// CANON: bm.slice %{{.*}} [3:5] : tensor<5xf32> -> tensor<2xf32>
func.func @unsigned_start(%x: tensor<5xf32>) -> tensor<2xf32> {
  %i = bm.constant dense<255> : tensor<ui8>
  %0 = bm.dynamic_slice %x at [%i] : (tensor<5xf32>, tensor<ui8>) -> tensor<2xf32>
  return %0 : tensor<2xf32>
}

// CANON-LABEL: func @whole
// CANON-SAME: %[[X:.*]]: tensor<5xf32>, %[[U:.*]]: tensor<5xf32>
// CANON-NEXT: return %[[X]], %[[U]]
func.func @whole(%x: tensor<5xf32>, %u: tensor<5xf32>, %i: tensor<i32>) -> (tensor<5xf32>, tensor<5xf32>) {
  %0 = bm.dynamic_slice %x at [%i] : (tensor<5xf32>, tensor<i32>) -> tensor<5xf32>
  %1 = bm.dynamic_update_slice %x, %u at [%i] : (tensor<5xf32>, tensor<5xf32>, tensor<i32>) -> tensor<5xf32>
  return %0, %1 : tensor<5xf32>, tensor<5xf32>
}

// What was written is what is read, wherever clamping puts it.
// CANON-LABEL: func @read_after_write
// CANON-SAME: %[[U:.*]]: tensor<2xf32>
// CANON-NEXT: return %[[U]]
func.func @read_after_write(%u: tensor<2xf32>, %x: tensor<5xf32>, %i: tensor<i32>) -> tensor<2xf32> {
  %0 = bm.dynamic_update_slice %x, %u at [%i] : (tensor<5xf32>, tensor<2xf32>, tensor<i32>) -> tensor<5xf32>
  %1 = bm.dynamic_slice %0 at [%i] : (tensor<5xf32>, tensor<i32>) -> tensor<2xf32>
  return %1 : tensor<2xf32>
}
