// RUN: bm-opt %s -bm-differentiate -split-input-file | FileCheck %s

// The transposes, before any batch: of psum psum, of all_gather reduce_scatter and back.
func.func private @f(%x: tensor<4x3xf32>) -> tensor<4x3xf32> {
  %0 = bm.psum %x over "i" : (tensor<4x3xf32>) -> tensor<4x3xf32>
  %1 = bm.reduce_scatter %0 over "i" dim = 0 : (tensor<4x3xf32>) -> tensor<3xf32>
  %2 = bm.all_gather %1 over "i" dim = 1 : (tensor<3xf32>) -> tensor<3x4xf32>
  %3 = bm.transpose %2 dims = [1, 0] : (tensor<3x4xf32>) -> tensor<4x3xf32>
  %4 = bm.all_to_all %3 over "i" dim = 0 : (tensor<4x3xf32>) -> tensor<4x3xf32>
  %5 = bm.ppermute %4 over "i" from [0, 1, 2] to [1, 2, 3] : (tensor<4x3xf32>) -> tensor<4x3xf32>
  return %5 : tensor<4x3xf32>
}
// CHECK-LABEL: func @transposed
// CHECK-SAME: %{{.*}}: tensor<4x3xf32>, %[[CT:.*]]: tensor<4x3xf32>
// CHECK: %[[A:.*]] = bm.ppermute %[[CT]] over "i" from [1, 2, 3] to [0, 1, 2]
// CHECK: %[[B:.*]] = bm.all_to_all %[[A]] over "i" dim = 0
// CHECK: %[[C:.*]] = bm.transpose %[[B]]
// CHECK: %[[D:.*]] = bm.reduce_scatter %[[C]] over "i" dim = 1 : (tensor<3x4xf32>) -> tensor<3xf32>
// CHECK: %[[E:.*]] = bm.all_gather %[[D]] over "i" dim = 0 : (tensor<3xf32>) -> tensor<4x3xf32>
// CHECK: %[[F:.*]] = bm.psum %[[E]] over "i"
// CHECK: return %[[F]]
func.func @transposed(%x: tensor<4x3xf32>, %ct: tensor<4x3xf32>) -> tensor<4x3xf32> {
  %0:2 = bm.vjp @f(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>}
      : (tensor<4x3xf32>, tensor<4x3xf32>) -> (tensor<4x3xf32>, tensor<4x3xf32>)
  return %0#1 : tensor<4x3xf32>
}

// -----

func.func private @f(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = bm.pbroadcast %x over "i" from 2 : (tensor<3xf32>) -> tensor<3xf32>
  return %0 : tensor<3xf32>
}
// CHECK-LABEL: func @source
// CHECK-DAG: %[[SUM:.*]] = bm.psum %{{.*}} over "i"
// CHECK-DAG: %[[INDEX:.*]] = bm.axis_index over "i"
// CHECK: bm.compare eq %[[INDEX]]
// CHECK: bm.select %{{.*}}, %[[SUM]], %{{.*}}
func.func @source(%x: tensor<3xf32>, %ct: tensor<3xf32>) -> tensor<3xf32> {
  %0:2 = bm.vjp @f(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>}
      : (tensor<3xf32>, tensor<3xf32>) -> (tensor<3xf32>, tensor<3xf32>)
  return %0#1 : tensor<3xf32>
}

// -----

// The rule of a function may be over the axis though the function is not, and what all
// elements have has one cotangent.
func.func private @g(%x: tensor<f32>) -> tensor<f32> {
  %0 = bm.psum %x over "i" : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}
func.func private @g.fwd(%x: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0 = bm.custom_vjp @g, @g.fwd, @g.bwd(%x) {num_residuals = 1 : i64} : (tensor<f32>) -> tensor<f32>
  return %0, %x : tensor<f32>, tensor<f32>
}
func.func private @g.bwd(%x: tensor<f32>, %ct: tensor<f32>) -> tensor<f32> {
  %0 = bm.psum %ct over "i" : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}
func.func private @call(%x: tensor<f32>) -> tensor<f32> {
  %0 = bm.custom_vjp @g, @g.fwd, @g.bwd(%x) {num_residuals = 1 : i64} : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}
func.func private @batched(%x: tensor<4xf32>) -> tensor<f32> {
  %0 = bm.batch @call(%x) {in_axes = array<i64: 0>, out_axes = array<i64: -1>, size = 4 : i64, axis_name = "i"}
      : (tensor<4xf32>) -> tensor<f32>
  return %0 : tensor<f32>
}
// CHECK-LABEL: func @shared
// CHECK-SAME: %{{.*}}: tensor<4xf32>, %[[CT:.*]]: tensor<f32>
// CHECK: %[[FOUR:.*]] = bm.constant dense<4.0
// CHECK: %[[N:.*]] = bm.mul %[[CT]], %[[FOUR]]
// CHECK: bm.broadcast_in_dim %[[N]] dims = [] : (tensor<f32>) -> tensor<4xf32>
func.func @shared(%x: tensor<4xf32>, %ct: tensor<f32>) -> tensor<4xf32> {
  %0:2 = bm.vjp @batched(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>}
      : (tensor<4xf32>, tensor<f32>) -> (tensor<f32>, tensor<4xf32>)
  return %0#1 : tensor<4xf32>
}
