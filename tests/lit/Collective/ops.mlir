// RUN: bm-opt %s | bm-opt | FileCheck %s

// CHECK-LABEL: func.func @f
func.func @f(%x: tensor<4x3xf32>) -> tensor<4x3xf32> {
  // CHECK: bm.axis_index over "i" : tensor<i32>
  %index = bm.axis_index over "i" : tensor<i32>
  // CHECK: bm.psum %{{.*}} over "i" : (tensor<4x3xf32>) -> tensor<4x3xf32>
  %0 = bm.psum %x over "i" : (tensor<4x3xf32>) -> tensor<4x3xf32>
  // CHECK: bm.pmax %{{.*}} over "i"
  %1 = bm.pmax %0 over "i" : (tensor<4x3xf32>) -> tensor<4x3xf32>
  // CHECK: bm.pmin %{{.*}} over "j"
  %2 = bm.pmin %1 over "j" : (tensor<4x3xf32>) -> tensor<4x3xf32>
  // CHECK: bm.ppermute %{{.*}} over "i" from [0, 1] to [1, 0]
  %3 = bm.ppermute %2 over "i" from [0, 1] to [1, 0] : (tensor<4x3xf32>) -> tensor<4x3xf32>
  // CHECK: bm.pbroadcast %{{.*}} over "i" from 2
  %4 = bm.pbroadcast %3 over "i" from 2 : (tensor<4x3xf32>) -> tensor<4x3xf32>
  // CHECK: bm.all_to_all %{{.*}} over "i" dim = 0
  %5 = bm.all_to_all %4 over "i" dim = 0 : (tensor<4x3xf32>) -> tensor<4x3xf32>
  // CHECK: bm.reduce_scatter %{{.*}} over "i" dim = 0 : (tensor<4x3xf32>) -> tensor<3xf32>
  %6 = bm.reduce_scatter %5 over "i" dim = 0 : (tensor<4x3xf32>) -> tensor<3xf32>
  // CHECK: bm.all_gather %{{.*}} over "i" dim = 0 : (tensor<3xf32>) -> tensor<4x3xf32>
  %7 = bm.all_gather %6 over "i" dim = 0 : (tensor<3xf32>) -> tensor<4x3xf32>
  return %7 : tensor<4x3xf32>
}
