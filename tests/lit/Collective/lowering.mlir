// RUN: bm-opt %s -allow-unregistered-dialect -bm-lower-to-stablehlo | FileCheck %s

// JAX has the lowering of those that are left.
// CHECK-DAG: func.func private @bm_kernel_psum_0(tensor<3xf32>) -> tensor<3xf32> attributes {bm.kernel = "psum", bm.params = {axis = "i"}}
// CHECK-DAG: func.func private @bm_kernel_all_gather_0(tensor<3xf32>) -> tensor<4x3xf32> attributes {bm.kernel = "all_gather", bm.params = {axis = "i", dimension = 0 : i64}}
// CHECK-DAG: func.func private @bm_kernel_axis_index_0() -> tensor<i32> attributes {bm.kernel = "axis_index", bm.params = {axis = "i"}}
// CHECK-LABEL: func.func @f
// CHECK-DAG: call @bm_kernel_psum_0
// CHECK-DAG: call @bm_kernel_all_gather_0
// CHECK-DAG: call @bm_kernel_axis_index_0
func.func @f(%x: tensor<3xf32>) -> (tensor<4x3xf32>, tensor<i32>) {
  %0 = bm.psum %x over "i" : (tensor<3xf32>) -> tensor<3xf32>
  %1 = bm.all_gather %0 over "i" dim = 0 : (tensor<3xf32>) -> tensor<4x3xf32>
  %2 = bm.axis_index over "i" : tensor<i32>
  return %1, %2 : tensor<4x3xf32>, tensor<i32>
}
