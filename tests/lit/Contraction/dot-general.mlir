// RUN: bm-opt %s | bm-opt | FileCheck %s
// RUN: bm-opt %s -canonicalize | FileCheck %s --check-prefix=CANON

// CHECK-LABEL: func @round_trip
// CHECK: bm.dot_general %{{.*}}, %{{.*}} batch = [0] x [0] contract = [2] x [1] {precision = [#bm<precision highest>, #bm<precision default>]}
// CHECK: bm.dot_general %{{.*}}, %{{.*}} contract = [0, 1] x [0, 1] {algorithm = #bm<dot_algorithm tf32_tf32_f32>}
func.func @round_trip(%x: tensor<5x2x3xf32>, %y: tensor<5x3x4xf32>, %z: tensor<5x2x4xf32>) -> tensor<4x4xf32> {
  %0 = bm.dot_general %x, %y batch = [0] x [0] contract = [2] x [1] {precision = [#bm<precision highest>, #bm<precision default>]} : (tensor<5x2x3xf32>, tensor<5x3x4xf32>) -> tensor<5x2x4xf32>
  %1 = bm.dot_general %0, %z contract = [0, 1] x [0, 1] {algorithm = #bm<dot_algorithm tf32_tf32_f32>} : (tensor<5x2x4xf32>, tensor<5x2x4xf32>) -> tensor<4x4xf32>
  return %1 : tensor<4x4xf32>
}

// Transposed operands are read as they lie.
// CANON-LABEL: func @operands
// CANON-SAME: %[[X:[^:]+]]: tensor<3x2xf32>, %[[Y:[^:]+]]: tensor<4x3xf32>
// CANON-NEXT: %[[R:.*]] = bm.dot_general %[[X]], %[[Y]] contract = [0] x [1] : (tensor<3x2xf32>, tensor<4x3xf32>) -> tensor<2x4xf32>
// CANON-NEXT: return %[[R]]
func.func @operands(%x: tensor<3x2xf32>, %y: tensor<4x3xf32>) -> tensor<2x4xf32> {
  %0 = bm.transpose %x dims = [1, 0] : (tensor<3x2xf32>) -> tensor<2x3xf32>
  %1 = bm.transpose %y dims = [1, 0] : (tensor<4x3xf32>) -> tensor<3x4xf32>
  %2 = bm.dot_general %0, %1 contract = [1] x [0] : (tensor<2x3xf32>, tensor<3x4xf32>) -> tensor<2x4xf32>
  return %2 : tensor<2x4xf32>
}

// Not if the free dimensions would change places.
// CANON-LABEL: func @free_dimensions
// CANON: bm.transpose
// CANON-NEXT: bm.dot_general
func.func @free_dimensions(%x: tensor<3x2x5xf32>, %y: tensor<3xf32>) -> tensor<5x2xf32> {
  %0 = bm.transpose %x dims = [2, 1, 0] : (tensor<3x2x5xf32>) -> tensor<5x2x3xf32>
  %1 = bm.dot_general %0, %y contract = [2] x [0] : (tensor<5x2x3xf32>, tensor<3xf32>) -> tensor<5x2xf32>
  return %1 : tensor<5x2xf32>
}

// (x y)^T = y^T x^T, and the precisions go with the operands.
// CANON-LABEL: func @result
// CANON-SAME: %[[X:[^:]+]]: tensor<5x2x3xf32>, %[[Y:[^:]+]]: tensor<5x3x4xf32>
// CANON-NEXT: bm.dot_general %[[Y]], %[[X]] batch = [0] x [0] contract = [1] x [2] {precision = [#bm<precision default>, #bm<precision high>]} : (tensor<5x3x4xf32>, tensor<5x2x3xf32>) -> tensor<5x4x2xf32>
// CANON-NEXT: return
func.func @result(%x: tensor<5x2x3xf32>, %y: tensor<5x3x4xf32>) -> tensor<5x4x2xf32> {
  %0 = bm.dot_general %x, %y batch = [0] x [0] contract = [2] x [1] {precision = [#bm<precision high>, #bm<precision default>]} : (tensor<5x2x3xf32>, tensor<5x3x4xf32>) -> tensor<5x2x4xf32>
  %1 = bm.transpose %0 dims = [0, 2, 1] : (tensor<5x2x4xf32>) -> tensor<5x4x2xf32>
  return %1 : tensor<5x4x2xf32>
}
