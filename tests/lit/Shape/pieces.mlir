// RUN: bm-opt %s | bm-opt | FileCheck %s
// RUN: bm-opt %s -canonicalize | FileCheck %s --check-prefix=CANON

// CHECK-LABEL: func @round_trip
// CHECK: bm.concatenate %{{.*}}, %{{.*}} dim = 0 : (tensor<2x3xf32>, tensor<1x3xf32>) -> tensor<3x3xf32>
// CHECK: bm.split %{{.*}} sizes = [1, 2] axis = 1 : (tensor<3x3xf32>) -> (tensor<3x1xf32>, tensor<3x2xf32>)
// CHECK: bm.pad %{{.*}}, %{{.*}} low = [1, 0] high = [-1, 2] interior = [0, 1] : (tensor<3x2xf32>, tensor<f32>) -> tensor<3x5xf32>
func.func @round_trip(%x: tensor<2x3xf32>, %y: tensor<1x3xf32>, %p: tensor<f32>) -> tensor<3x5xf32> {
  %0 = bm.concatenate %x, %y dim = 0 : (tensor<2x3xf32>, tensor<1x3xf32>) -> tensor<3x3xf32>
  %1:2 = bm.split %0 sizes = [1, 2] axis = 1 : (tensor<3x3xf32>) -> (tensor<3x1xf32>, tensor<3x2xf32>)
  %2 = bm.pad %1#1, %p low = [1, 0] high = [-1, 2] interior = [0, 1] : (tensor<3x2xf32>, tensor<f32>) -> tensor<3x5xf32>
  return %2 : tensor<3x5xf32>
}

// CANON-LABEL: func @undone
// CANON-SAME: %[[X:[^:]+]]: tensor<2xf32>, %[[Y:[^:]+]]: tensor<3xf32>, %[[Z:[^:]+]]: tensor<5xf32>, %[[P:[^:]+]]: tensor<f32>
// CANON-NEXT: return %[[X]], %[[Y]], %[[Z]], %[[Z]]
func.func @undone(%x: tensor<2xf32>, %y: tensor<3xf32>, %z: tensor<5xf32>, %p: tensor<f32>)
    -> (tensor<2xf32>, tensor<3xf32>, tensor<5xf32>, tensor<5xf32>) {
  %0 = bm.concatenate %x, %y dim = 0 : (tensor<2xf32>, tensor<3xf32>) -> tensor<5xf32>
  %1:2 = bm.split %0 sizes = [2, 3] axis = 0 : (tensor<5xf32>) -> (tensor<2xf32>, tensor<3xf32>)
  %2:2 = bm.split %z sizes = [1, 4] axis = 0 : (tensor<5xf32>) -> (tensor<1xf32>, tensor<4xf32>)
  %3 = bm.concatenate %2#0, %2#1 dim = 0 : (tensor<1xf32>, tensor<4xf32>) -> tensor<5xf32>
  %4 = bm.pad %z, %p low = [0] high = [0] interior = [0] : (tensor<5xf32>, tensor<f32>) -> tensor<5xf32>
  return %1#0, %1#1, %3, %4 : tensor<2xf32>, tensor<3xf32>, tensor<5xf32>, tensor<5xf32>
}

// Nested ones become one; empty operands go.
// CANON-LABEL: func @flattened
// CANON-SAME: %[[X:[^:]+]]: tensor<2xf32>, %[[E:[^:]+]]: tensor<0xf32>
// CANON-NEXT: %[[R:.*]] = bm.concatenate %[[X]], %[[X]], %[[X]] dim = 0
// CANON-NEXT: return %[[R]]
func.func @flattened(%x: tensor<2xf32>, %e: tensor<0xf32>) -> tensor<6xf32> {
  %0 = bm.concatenate %x, %x dim = 0 : (tensor<2xf32>, tensor<2xf32>) -> tensor<4xf32>
  %1 = bm.concatenate %e, %0, %x dim = 0 : (tensor<0xf32>, tensor<4xf32>, tensor<2xf32>) -> tensor<6xf32>
  return %1 : tensor<6xf32>
}

// CANON-LABEL: func @splats
// CANON-DAG: %[[SIX:.*]] = bm.constant dense<7> : tensor<6xi32>
// CANON-DAG: %[[TWO:.*]] = bm.constant dense<7> : tensor<2xi32>
// CANON-NEXT: return %[[SIX]], %[[TWO]]
func.func @splats() -> (tensor<6xi32>, tensor<2xi32>) {
  %a = bm.constant dense<7> : tensor<2xi32>
  %b = bm.constant dense<7> : tensor<3xi32>
  %p = bm.constant dense<7> : tensor<i32>
  %0 = bm.concatenate %a, %b dim = 0 : (tensor<2xi32>, tensor<3xi32>) -> tensor<5xi32>
  %1 = bm.pad %0, %p low = [1] high = [0] interior = [0] : (tensor<5xi32>, tensor<i32>) -> tensor<6xi32>
  %2:2 = bm.split %0 sizes = [2, 3] axis = 0 : (tensor<5xi32>) -> (tensor<2xi32>, tensor<3xi32>)
  return %1, %2#0 : tensor<6xi32>, tensor<2xi32>
}
