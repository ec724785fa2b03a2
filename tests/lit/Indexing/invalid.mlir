// RUN: bm-opt %s -split-input-file -verify-diagnostics

func.func @f(%x: tensor<5x4xf32>) {
  // expected-error @below {{needs start, limit and stride for each of the 2 dimensions of the operand, but has 1, 1 and 1}}
  %0 = bm.slice %x [0:5] : tensor<5x4xf32> -> tensor<5x4xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>) {
  // expected-error @below {{bounds 3:6 of dimension 0 must be ascending and in [0, 5]}}
  %0 = bm.slice %x [3:6, 0:4] : tensor<5x4xf32> -> tensor<3x4xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>) {
  // expected-error @below {{bounds 3:2 of dimension 0 must be ascending and in [0, 5]}}
  %0 = bm.slice %x [3:2, 0:4] : tensor<5x4xf32> -> tensor<0x4xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>) {
  // expected-error @below {{stride of dimension 1 must be positive, but it is 0}}
  %0 = bm.slice %x [0:5, 0:4:0] : tensor<5x4xf32> -> tensor<5x4xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>) {
  // expected-error @below {{result must have type 'tensor<3x4xf32>', but has 'tensor<2x4xf32>'}}
  %0 = bm.slice %x [0:5:2, 0:4] : tensor<5x4xf32> -> tensor<2x4xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>, %i: tensor<i32>, %j: tensor<i64>, %v: tensor<1xi32>) {
  // expected-error @below {{needs one start index for each of the 2 dimensions of the operand, but has 1}}
  %0 = bm.dynamic_slice %x at [%i] : (tensor<5x4xf32>, tensor<i32>) -> tensor<1x1xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>, %i: tensor<i32>, %j: tensor<i64>, %v: tensor<1xi32>) {
  // expected-error @below {{start indices must be scalars of one type, but there is 'tensor<i64>'}}
  %0 = bm.dynamic_slice %x at [%i, %j] : (tensor<5x4xf32>, tensor<i32>, tensor<i64>) -> tensor<1x1xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>, %i: tensor<i32>, %j: tensor<i64>, %v: tensor<1xi32>) {
  // expected-error @below {{start indices must be scalars of one type, but there is 'tensor<1xi32>'}}
  %0 = bm.dynamic_slice %x at [%v, %v] : (tensor<5x4xf32>, tensor<1xi32>, tensor<1xi32>) -> tensor<1x1xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>, %i: tensor<i32>, %j: tensor<i64>, %v: tensor<1xi32>) {
  // expected-error @below {{a window of type 'tensor<6x1xf32>' does not fit into the operand of type 'tensor<5x4xf32>'}}
  %0 = bm.dynamic_slice %x at [%i, %i] : (tensor<5x4xf32>, tensor<i32>, tensor<i32>) -> tensor<6x1xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>, %i: tensor<i32>, %j: tensor<i64>, %v: tensor<1xi32>, %u: tensor<1x1xf64>) {
  // expected-error @below {{a window of type 'tensor<1x1xf64>' does not fit into the operand of type 'tensor<5x4xf32>'}}
  %0 = bm.dynamic_update_slice %x, %u at [%i, %i] : (tensor<5x4xf32>, tensor<1x1xf64>, tensor<i32>, tensor<i32>) -> tensor<5x4xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>, %i: tensor<i32>) {
  // expected-error @below {{indices must have a last dimension that holds the index vectors}}
  %0 = bm.gather %x at %i slice_sizes = [1, 4] mode = clip : (tensor<5x4xf32>, tensor<i32>) -> tensor<3x4xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>, %i: tensor<3x1xi32>) {
  // expected-error @below {{offset_dims must be in [0, 2), but it is [2]}}
  %0 = bm.gather %x at %i slice_sizes = [1, 4] offset_dims = [2] collapsed_slice_dims = [0] start_index_map = [0] mode = clip : (tensor<5x4xf32>, tensor<3x1xi32>) -> tensor<3x4xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>, %i: tensor<3x1xi32>) {
  // expected-error @below {{offset_dims must not repeat a dimension, but it is [1, 1]}}
  %0 = bm.gather %x at %i slice_sizes = [1, 4] offset_dims = [1, 1] start_index_map = [0] mode = clip : (tensor<5x4xf32>, tensor<3x1xi32>) -> tensor<3x4xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>, %i: tensor<3x1xi32>) {
  // expected-error @below {{collapsed_slice_dims must be ascending, but it is [1, 0]}}
  %0 = bm.gather %x at %i slice_sizes = [1, 1] collapsed_slice_dims = [1, 0] start_index_map = [0] mode = clip : (tensor<5x4xf32>, tensor<3x1xi32>) -> tensor<3xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>, %i: tensor<3x1xi32>) {
  // expected-error @below {{start_index_map has 2 entries, but the index vectors have 1}}
  %0 = bm.gather %x at %i slice_sizes = [1, 4] offset_dims = [1] collapsed_slice_dims = [0] start_index_map = [0, 1] mode = clip : (tensor<5x4xf32>, tensor<3x1xi32>) -> tensor<3x4xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>, %i: tensor<3x1xi32>) {
  // expected-error @below {{dimension 0 is both in start_index_map and in operand_batching_dims}}
  %0 = bm.gather %x at %i slice_sizes = [1, 4] offset_dims = [1] start_index_map = [0] operand_batching_dims = [0] start_indices_batching_dims = [0] mode = clip : (tensor<5x4xf32>, tensor<3x1xi32>) -> tensor<3x4xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>, %i: tensor<3x1xi32>) {
  // expected-error @below {{operand_batching_dims and start_indices_batching_dims must have equal lengths, but they have 1 and 0}}
  %0 = bm.gather %x at %i slice_sizes = [1, 1] collapsed_slice_dims = [1] start_index_map = [1] operand_batching_dims = [0] mode = clip : (tensor<5x4xf32>, tensor<3x1xi32>) -> tensor<3x4xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>, %i: tensor<3x1xi32>) {
  // expected-error @below {{batching dimension 0 of the operand has size 5, but dimension 0 of the indices has size 3}}
  %0 = bm.gather %x at %i slice_sizes = [1, 1] collapsed_slice_dims = [1] start_index_map = [1] operand_batching_dims = [0] start_indices_batching_dims = [0] mode = clip : (tensor<5x4xf32>, tensor<3x1xi32>) -> tensor<3x4xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>, %i: tensor<3x1xi32>) {
  // expected-error @below {{each of the 2 operand dimensions must be one of offset_dims, collapsed_slice_dims or operand_batching_dims, but these name 1}}
  %0 = bm.gather %x at %i slice_sizes = [1, 4] offset_dims = [1] start_index_map = [0] mode = clip : (tensor<5x4xf32>, tensor<3x1xi32>) -> tensor<3x4xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>, %i: tensor<3x1xi32>) {
  // expected-error @below {{slice_sizes must have one entry for each of the 2 operand dimensions, but has 1}}
  %0 = bm.gather %x at %i slice_sizes = [1] offset_dims = [1] collapsed_slice_dims = [0] start_index_map = [0] mode = clip : (tensor<5x4xf32>, tensor<3x1xi32>) -> tensor<3x4xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>, %i: tensor<3x1xi32>) {
  // expected-error @below {{a collapsed dimension must have slice size 1, but dimension 0 has 2}}
  %0 = bm.gather %x at %i slice_sizes = [2, 4] offset_dims = [1] collapsed_slice_dims = [0] start_index_map = [0] mode = clip : (tensor<5x4xf32>, tensor<3x1xi32>) -> tensor<3x4xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>, %i: tensor<5x1xi32>) {
  // expected-error @below {{a batching dimension must have slice size 0 or 1, but dimension 0 has 2}}
  %0 = bm.gather %x at %i slice_sizes = [2, 1] collapsed_slice_dims = [1] start_index_map = [1] operand_batching_dims = [0] start_indices_batching_dims = [0] mode = clip : (tensor<5x4xf32>, tensor<5x1xi32>) -> tensor<5xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>, %i: tensor<3x1xi32>) {
  // expected-error @below {{a window of size 5 does not fit into dimension 1 of the operand, of size 4}}
  %0 = bm.gather %x at %i slice_sizes = [1, 5] offset_dims = [1] collapsed_slice_dims = [0] start_index_map = [0] mode = clip : (tensor<5x4xf32>, tensor<3x1xi32>) -> tensor<3x5xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>, %i: tensor<3x1xi32>) {
  // expected-error @below {{result must have type 'tensor<3x4xf32>', but has 'tensor<4x3xf32>'}}
  %0 = bm.gather %x at %i slice_sizes = [1, 4] offset_dims = [1] collapsed_slice_dims = [0] start_index_map = [0] mode = clip : (tensor<5x4xf32>, tensor<3x1xi32>) -> tensor<4x3xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>, %i: tensor<3x1xi32>) {
  // expected-error @below {{fill_value needs mode fill_or_drop, but the mode is clip}}
  %0 = bm.gather %x at %i slice_sizes = [1, 4] offset_dims = [1] collapsed_slice_dims = [0] start_index_map = [0] mode = clip {fill_value = dense<0.0> : tensor<f32>} : (tensor<5x4xf32>, tensor<3x1xi32>) -> tensor<3x4xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>, %i: tensor<3x1xi32>) {
  // expected-error @below {{fill_value must have type 'tensor<f32>', but has 'tensor<1xf32>'}}
  %0 = bm.gather %x at %i slice_sizes = [1, 4] offset_dims = [1] collapsed_slice_dims = [0] start_index_map = [0] mode = fill_or_drop {fill_value = dense<0.0> : tensor<1xf32>} : (tensor<5x4xf32>, tensor<3x1xi32>) -> tensor<3x4xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>, %i: tensor<3x1xi32>, %u: tensor<3x4xf64>) {
  // expected-error @below {{operand and updates must have one element type, but they have 'f32' and 'f64'}}
  %0 = bm.scatter_add %x at %i, %u update_window_dims = [1] inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = clip : (tensor<5x4xf32>, tensor<3x1xi32>, tensor<3x4xf64>) -> tensor<5x4xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>, %i: tensor<3x1xi32>, %u: tensor<3x4xf32>) {
  // expected-error @below {{update_window_dims must be in [0, 2), but it is [2]}}
  %0 = bm.scatter_add %x at %i, %u update_window_dims = [2] inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = clip : (tensor<5x4xf32>, tensor<3x1xi32>, tensor<3x4xf32>) -> tensor<5x4xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>, %i: tensor<3x1xi32>, %u: tensor<3x5xf32>) {
  // expected-error @below {{a window of size 5 does not fit into dimension 1 of the operand, of size 4}}
  %0 = bm.scatter_add %x at %i, %u update_window_dims = [1] inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = clip : (tensor<5x4xf32>, tensor<3x1xi32>, tensor<3x5xf32>) -> tensor<5x4xf32>
  return
}

// -----

func.func @f(%x: tensor<5x4xf32>, %i: tensor<3x1xi32>, %u: tensor<2x4xf32>) {
  // expected-error @below {{updates must have type 'tensor<3x4xf32>', but has 'tensor<2x4xf32>'}}
  %0 = bm.scatter_add %x at %i, %u update_window_dims = [1] inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = clip : (tensor<5x4xf32>, tensor<3x1xi32>, tensor<2x4xf32>) -> tensor<5x4xf32>
  return
}
