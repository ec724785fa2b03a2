// RUN: bm-opt %s | bm-opt | FileCheck %s
// RUN: bm-opt %s -canonicalize | FileCheck %s --check-prefix=CANON

// CHECK-LABEL: func @round_trip
// CHECK-NEXT: bm.scatter %{{.*}} at %{{.*}}, %{{.*}} update_window_dims = [1] inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = clip : (tensor<5x4xf32>, tensor<3x1xi32>, tensor<3x4xf32>) -> tensor<5x4xf32>
// CHECK-NEXT: bm.scatter_add {{.*}} mode = fill_or_drop
// CHECK-NEXT: bm.scatter_sub {{.*}} mode = promise_in_bounds
// CHECK-NEXT: bm.scatter_mul {{.*}} {indices_are_sorted, unique_indices}
// CHECK-NEXT: bm.scatter_min
// CHECK-NEXT: bm.scatter_max
func.func @round_trip(%x: tensor<5x4xf32>, %i: tensor<3x1xi32>, %u: tensor<3x4xf32>) -> tensor<5x4xf32> {
  %0 = bm.scatter %x at %i, %u update_window_dims = [1] inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = clip : (tensor<5x4xf32>, tensor<3x1xi32>, tensor<3x4xf32>) -> tensor<5x4xf32>
  %1 = bm.scatter_add %0 at %i, %u update_window_dims = [1] inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = fill_or_drop : (tensor<5x4xf32>, tensor<3x1xi32>, tensor<3x4xf32>) -> tensor<5x4xf32>
  %2 = bm.scatter_sub %1 at %i, %u update_window_dims = [1] inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = promise_in_bounds : (tensor<5x4xf32>, tensor<3x1xi32>, tensor<3x4xf32>) -> tensor<5x4xf32>
  %3 = bm.scatter_mul %2 at %i, %u update_window_dims = [1] inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = clip {indices_are_sorted, unique_indices} : (tensor<5x4xf32>, tensor<3x1xi32>, tensor<3x4xf32>) -> tensor<5x4xf32>
  %4 = bm.scatter_min %3 at %i, %u update_window_dims = [1] inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = clip : (tensor<5x4xf32>, tensor<3x1xi32>, tensor<3x4xf32>) -> tensor<5x4xf32>
  %5 = bm.scatter_max %4 at %i, %u update_window_dims = [1] inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = clip : (tensor<5x4xf32>, tensor<3x1xi32>, tensor<3x4xf32>) -> tensor<5x4xf32>
  return %5 : tensor<5x4xf32>
}

// CANON-LABEL: func @of_nothing
// CANON-SAME: %[[X:.*]]: tensor<5xf32>
// CANON-NEXT: return %[[X]], %[[X]]
func.func @of_nothing(%x: tensor<5xf32>, %none: tensor<0x1xi32>, %e: tensor<0xf32>, %i: tensor<3x1xi32>) -> (tensor<5xf32>, tensor<5xf32>) {
  %0 = bm.scatter_mul %x at %none, %e inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = clip : (tensor<5xf32>, tensor<0x1xi32>, tensor<0xf32>) -> tensor<5xf32>
  %z = bm.constant dense<0.0> : tensor<3xf32>
  %1 = bm.scatter_sub %x at %i, %z inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = clip : (tensor<5xf32>, tensor<3x1xi32>, tensor<3xf32>) -> tensor<5xf32>
  return %0, %1 : tensor<5xf32>, tensor<5xf32>
}

// CANON-LABEL: func @in_bounds
// CANON: bm.scatter {{.*}} mode = promise_in_bounds
func.func @in_bounds(%x: tensor<5xf32>, %u: tensor<2xf32>) -> tensor<5xf32> {
  %i = bm.constant dense<[[0], [4]]> : tensor<2x1xi32>
  %0 = bm.scatter %x at %i, %u inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = clip : (tensor<5xf32>, tensor<2x1xi32>, tensor<2xf32>) -> tensor<5xf32>
  return %0 : tensor<5xf32>
}
