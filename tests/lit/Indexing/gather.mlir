// RUN: bm-opt %s | bm-opt | FileCheck %s
// RUN: bm-opt %s -canonicalize | FileCheck %s --check-prefix=CANON

// CHECK-LABEL: func @rows
// CHECK: bm.gather %{{.*}} at %{{.*}} slice_sizes = [1, 4] offset_dims = [1] collapsed_slice_dims = [0] start_index_map = [0] mode = clip
// CHECK-SAME: {indices_are_sorted, unique_indices} : (tensor<5x4xf32>, tensor<3x1xi32>) -> tensor<3x4xf32>
func.func @rows(%x: tensor<5x4xf32>, %i: tensor<3x1xi32>) -> tensor<3x4xf32> {
  %0 = bm.gather %x at %i slice_sizes = [1, 4] offset_dims = [1] collapsed_slice_dims = [0] start_index_map = [0] mode = clip {indices_are_sorted, unique_indices} : (tensor<5x4xf32>, tensor<3x1xi32>) -> tensor<3x4xf32>
  return %0 : tensor<3x4xf32>
}

// One row of its own for each element of the batching dimension.
// CHECK-LABEL: func @batching
// CHECK: operand_batching_dims = [0] start_indices_batching_dims = [1] mode = fill_or_drop {fill_value = dense<0x7FC00000> : tensor<f32>}
func.func @batching(%x: tensor<2x5xf32>, %i: tensor<3x2x1xi32>) -> tensor<3x2xf32> {
  %0 = bm.gather %x at %i slice_sizes = [1, 1] collapsed_slice_dims = [1] start_index_map = [1] operand_batching_dims = [0] start_indices_batching_dims = [1] mode = fill_or_drop {fill_value = dense<0x7FC00000> : tensor<f32>} : (tensor<2x5xf32>, tensor<3x2x1xi32>) -> tensor<3x2xf32>
  return %0 : tensor<3x2xf32>
}

// No index vector needs a check at run time.
// CANON-LABEL: func @in_bounds
// CANON: mode = promise_in_bounds :
func.func @in_bounds(%x: tensor<5xf32>) -> tensor<2x2xf32> {
  %i = bm.constant dense<[[0], [3]]> : tensor<2x1xi32>
  %0 = bm.gather %x at %i slice_sizes = [2] offset_dims = [1] start_index_map = [0] mode = fill_or_drop {fill_value = dense<1.0> : tensor<f32>} : (tensor<5xf32>, tensor<2x1xi32>) -> tensor<2x2xf32>
  return %0 : tensor<2x2xf32>
}

// The second window would end one element too late.
// CANON-LABEL: func @out_of_bounds
// CANON: mode = fill_or_drop
func.func @out_of_bounds(%x: tensor<5xf32>) -> tensor<2x2xf32> {
  %i = bm.constant dense<[[0], [4]]> : tensor<2x1xi32>
  %0 = bm.gather %x at %i slice_sizes = [2] offset_dims = [1] start_index_map = [0] mode = fill_or_drop : (tensor<5xf32>, tensor<2x1xi32>) -> tensor<2x2xf32>
  return %0 : tensor<2x2xf32>
}

// CANON-LABEL: func @of_splat
// CANON-NEXT: %[[C:.*]] = bm.constant dense<1.000000e+00> : tensor<3xf32>
// CANON-NEXT: return %[[C]]
func.func @of_splat(%i: tensor<3x1xi32>) -> tensor<3xf32> {
  %x = bm.constant dense<1.0> : tensor<5xf32>
  %0 = bm.gather %x at %i slice_sizes = [1] collapsed_slice_dims = [0] start_index_map = [0] mode = clip : (tensor<5xf32>, tensor<3x1xi32>) -> tensor<3xf32>
  return %0 : tensor<3xf32>
}
