// RUN: bm-opt %s | bm-opt | FileCheck %s
// RUN: bm-opt %s -canonicalize | FileCheck %s --check-prefix=CANON

// CHECK-LABEL: func @strided
// CHECK: bm.slice %{{.*}} [1:4:2, 0:4] : tensor<5x4xf32> -> tensor<2x4xf32>
func.func @strided(%x: tensor<5x4xf32>) -> tensor<2x4xf32> {
  %0 = bm.slice %x [1:4:2, 0:4] : tensor<5x4xf32> -> tensor<2x4xf32>
  return %0 : tensor<2x4xf32>
}

// CHECK-LABEL: func @scalar
// CHECK: bm.slice %{{.*}} [] : tensor<f32> -> tensor<f32>
func.func @scalar(%x: tensor<f32>) -> tensor<f32> {
  %0 = bm.slice %x [] : tensor<f32> -> tensor<f32>
  return %0 : tensor<f32>
}

// CANON-LABEL: func @whole
// CANON-SAME: %[[X:.*]]: tensor
// CANON-NEXT: return %[[X]]
func.func @whole(%x: tensor<5xf32>) -> tensor<5xf32> {
  %0 = bm.slice %x [0:5] : tensor<5xf32> -> tensor<5xf32>
  return %0 : tensor<5xf32>
}

// CANON-LABEL: func @of_splat
// CANON: bm.constant dense<2.000000e+00> : tensor<2xf32>
func.func @of_splat() -> tensor<2xf32> {
  %x = bm.constant dense<2.0> : tensor<5xf32>
  %0 = bm.slice %x [1:3] : tensor<5xf32> -> tensor<2xf32>
  return %0 : tensor<2xf32>
}

// CANON-LABEL: func @of_slice
// CANON: bm.slice %{{.*}} [4:11:6] : tensor<20xf32> -> tensor<2xf32>
func.func @of_slice(%x: tensor<20xf32>) -> tensor<2xf32> {
  %0 = bm.slice %x [2:20:2] : tensor<20xf32> -> tensor<9xf32>
  %1 = bm.slice %0 [1:6:3] : tensor<9xf32> -> tensor<2xf32>
  return %1 : tensor<2xf32>
}

// CANON-LABEL: func @of_concatenate
// CANON-SAME: %[[X:.*]]: tensor<3xf32>, %[[Y:.*]]: tensor<4xf32>
// CANON: bm.slice %[[Y]] [1:4:2] : tensor<4xf32> -> tensor<2xf32>
func.func @of_concatenate(%x: tensor<3xf32>, %y: tensor<4xf32>) -> tensor<2xf32> {
  %0 = bm.concatenate %x, %y dim = 0 : (tensor<3xf32>, tensor<4xf32>) -> tensor<7xf32>
  %1 = bm.slice %0 [4:7:2] : tensor<7xf32> -> tensor<2xf32>
  return %1 : tensor<2xf32>
}

// CANON-LABEL: func @across_concatenate
// CANON: bm.concatenate
// CANON: bm.slice
func.func @across_concatenate(%x: tensor<3xf32>, %y: tensor<4xf32>) -> tensor<2xf32> {
  %0 = bm.concatenate %x, %y dim = 0 : (tensor<3xf32>, tensor<4xf32>) -> tensor<7xf32>
  %1 = bm.slice %0 [2:4] : tensor<7xf32> -> tensor<2xf32>
  return %1 : tensor<2xf32>
}

// CANON-LABEL: func @of_pad
// CANON-SAME: %[[X:.*]]: tensor<3xf32>
// CANON: bm.slice %[[X]] [1:3] : tensor<3xf32> -> tensor<2xf32>
func.func @of_pad(%x: tensor<3xf32>, %p: tensor<f32>) -> tensor<2xf32> {
  %0 = bm.pad %x, %p low = [2] high = [1] interior = [0] : (tensor<3xf32>, tensor<f32>) -> tensor<6xf32>
  %1 = bm.slice %0 [3:5] : tensor<6xf32> -> tensor<2xf32>
  return %1 : tensor<2xf32>
}
