// RUN: bm-opt %s -bm-differentiate -split-input-file | FileCheck %s

// Over its own axis each becomes plain ops, and what all elements have has no batch axis.
func.func private @all(%x: tensor<4x3xf32>) -> (tensor<4x3xf32>, tensor<4x4x3xf32>, tensor<4x3xf32>, tensor<3xf32>, tensor<i32>) {
  %0 = bm.psum %x over "i" : (tensor<4x3xf32>) -> tensor<4x3xf32>
  %1 = bm.all_gather %x over "i" dim = 1 : (tensor<4x3xf32>) -> tensor<4x4x3xf32>
  %2 = bm.all_to_all %x over "i" dim = 0 : (tensor<4x3xf32>) -> tensor<4x3xf32>
  %3 = bm.reduce_scatter %x over "i" dim = 0 : (tensor<4x3xf32>) -> tensor<3xf32>
  %4 = bm.axis_index over "i" : tensor<i32>
  return %0, %1, %2, %3, %4 : tensor<4x3xf32>, tensor<4x4x3xf32>, tensor<4x3xf32>, tensor<3xf32>, tensor<i32>
}
// CHECK-LABEL: func @own_axis
// CHECK-SAME: %[[X:.*]]: tensor<4x4x3xf32>
// CHECK: %[[SUM:.*]] = bm.reduce_sum %[[X]] axes = [0]
// CHECK: %[[GATHERED:.*]] = bm.transpose %[[X]] dims = [1, 0, 2]
// CHECK: %[[EXCHANGED:.*]] = bm.transpose %[[X]] dims = [1, 0, 2]
// CHECK: %[[PARTS:.*]] = bm.reduce_sum %[[X]] axes = [0]
// CHECK: %[[INDEX:.*]] = bm.iota dim = 0 : tensor<4xi32>
// CHECK: return %[[SUM]], %[[GATHERED]], %[[EXCHANGED]], %[[PARTS]], %[[INDEX]]
func.func @own_axis(%x: tensor<4x4x3xf32>)
    -> (tensor<4x3xf32>, tensor<4x4x3xf32>, tensor<4x4x3xf32>, tensor<4x3xf32>, tensor<4xi32>) {
  %0:5 = bm.batch @all(%x)
      {in_axes = array<i64: 0>, out_axes = array<i64: -1, -1, 0, 0, 0>, size = 4 : i64, axis_name = "i"}
      : (tensor<4x4x3xf32>) -> (tensor<4x3xf32>, tensor<4x4x3xf32>, tensor<4x4x3xf32>, tensor<4x3xf32>, tensor<4xi32>)
  return %0#0, %0#1, %0#2, %0#3, %0#4
      : tensor<4x3xf32>, tensor<4x4x3xf32>, tensor<4x4x3xf32>, tensor<4x3xf32>, tensor<4xi32>
}

// Over another axis they stay.
// CHECK-LABEL: func @other_axis
// CHECK-DAG: bm.psum %{{.*}} over "i" : (tensor<2x4x3xf32>) -> tensor<2x4x3xf32>
// CHECK-DAG: bm.all_gather %{{.*}} over "i" dim = 2 : (tensor<2x4x3xf32>) -> tensor<2x4x4x3xf32>
// CHECK-DAG: bm.all_to_all %{{.*}} over "i" dim = 1 : (tensor<2x4x3xf32>) -> tensor<2x4x3xf32>
// CHECK-DAG: bm.reduce_scatter %{{.*}} over "i" dim = 1 : (tensor<2x4x3xf32>) -> tensor<2x3xf32>
// CHECK-DAG: bm.axis_index over "i" : tensor<i32>
func.func @other_axis(%x: tensor<2x4x3xf32>)
    -> (tensor<2x4x3xf32>, tensor<2x4x4x3xf32>, tensor<2x4x3xf32>, tensor<2x3xf32>, tensor<i32>) {
  %0:5 = bm.batch @all(%x)
      {in_axes = array<i64: 0>, out_axes = array<i64: 0, 0, 0, 0, -1>, size = 2 : i64, axis_name = "j"}
      : (tensor<2x4x3xf32>) -> (tensor<2x4x3xf32>, tensor<2x4x4x3xf32>, tensor<2x4x3xf32>, tensor<2x3xf32>, tensor<i32>)
  return %0#0, %0#1, %0#2, %0#3, %0#4
      : tensor<2x4x3xf32>, tensor<2x4x4x3xf32>, tensor<2x4x3xf32>, tensor<2x3xf32>, tensor<i32>
}

// -----

// An element to which nothing is sent gets zero.
func.func private @send(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = bm.ppermute %x over "i" from [0] to [1] : (tensor<3xf32>) -> tensor<3xf32>
  return %0 : tensor<3xf32>
}
// CHECK-LABEL: func @sent
// CHECK: %[[FROM:.*]] = bm.constant dense<{{\[\[}}2], [0]]> : tensor<2x1xi32>
// CHECK: bm.gather %{{.*}} at %[[FROM]] slice_sizes = [1, 3] offset_dims = [1] collapsed_slice_dims = [0] start_index_map = [0] mode = fill_or_drop
func.func @sent(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = bm.batch @send(%x) {in_axes = array<i64: 0>, out_axes = array<i64: 0>, size = 2 : i64, axis_name = "i"}
      : (tensor<2x3xf32>) -> tensor<2x3xf32>
  return %0 : tensor<2x3xf32>
}

// -----

// What is over the axis is batched whether or not an operand is; an inner axis of the same
// name is another one.
func.func private @inner(%x: tensor<f32>) -> tensor<f32> {
  %0 = bm.psum %x over "i" : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}
func.func private @count(%w: tensor<5xf32>) -> (tensor<f32>, tensor<i32>, tensor<f32>) {
  %one = bm.constant dense<1.0> : tensor<f32>
  %0 = bm.psum %one over "i" : (tensor<f32>) -> tensor<f32>
  %1 = bm.scan consts() init(%one) xs(%w) length 5 : (tensor<f32>, tensor<5xf32>) -> tensor<f32> {
  ^bb0(%c: tensor<f32>, %x: tensor<f32>):
    %4 = bm.axis_index over "i" : tensor<i32>
    %5 = bm.convert %4 : (tensor<i32>) -> tensor<f32>
    %6 = bm.add %c, %5 : tensor<f32>
    bm.yield %6 : tensor<f32>
  }
  %2 = bm.convert %1 : (tensor<f32>) -> tensor<i32>
  %3 = bm.batch @inner(%w) {in_axes = array<i64: 0>, out_axes = array<i64: -1>, size = 5 : i64, axis_name = "i"}
      : (tensor<5xf32>) -> tensor<f32>
  return %0, %2, %3 : tensor<f32>, tensor<i32>, tensor<f32>
}
// CHECK-LABEL: func @no_operand
// CHECK-SAME: %[[W:.*]]: tensor<5xf32>
// CHECK: %[[TWO:.*]] = bm.constant dense<2.000000e+00> : tensor<f32>
// CHECK: bm.scan {{.*}} -> tensor<2xf32>
// CHECK: bm.iota dim = 0 : tensor<2xi32>
// CHECK: %[[INNER:.*]] = bm.reduce_sum %[[W]] axes = [0]
// CHECK: return %[[TWO]], %{{.*}}, %[[INNER]] : tensor<f32>, tensor<2xi32>, tensor<f32>
func.func @no_operand(%w: tensor<5xf32>) -> (tensor<f32>, tensor<2xi32>, tensor<f32>) {
  %0:3 = bm.batch @count(%w) {in_axes = array<i64: -1>, out_axes = array<i64: -1, 0, -1>, size = 2 : i64, axis_name = "i"}
      : (tensor<5xf32>) -> (tensor<f32>, tensor<2xi32>, tensor<f32>)
  return %0#0, %0#1, %0#2 : tensor<f32>, tensor<2xi32>, tensor<f32>
}
