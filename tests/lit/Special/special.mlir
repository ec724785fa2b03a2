// RUN: bm-opt %s -allow-unregistered-dialect -bm-lower-to-stablehlo | FileCheck %s

// Kernels of equal types are declared once.
// CHECK-DAG: func.func private @bm_kernel_igamma_0(tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32> attributes {bm.kernel = "igamma", bm.params = {}}
// CHECK-DAG: func.func private @bm_kernel_igamma_1(tensor<2xf64>, tensor<2xf64>) -> tensor<2xf64>

// CHECK-LABEL: func.func @lowering
func.func @lowering(%x: tensor<3xf32>, %y: tensor<2xf64>) -> (tensor<3xf32>, tensor<2xf64>) {
  // CHECK: "chlo.zeta"
  %0 = bm.zeta %x, %x : tensor<3xf32>
  // CHECK: call @bm_kernel_igamma_0
  // CHECK: call @bm_kernel_igamma_0
  %1 = bm.igamma %0, %x : tensor<3xf32>
  %2 = bm.igamma %1, %x : tensor<3xf32>
  // CHECK: call @bm_kernel_igamma_1
  %3 = bm.igamma %y, %y : tensor<2xf64>
  return %2, %3 : tensor<3xf32>, tensor<2xf64>
}
