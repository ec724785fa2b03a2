// RUN: bm-opt %s -allow-unregistered-dialect -bm-lower-to-stablehlo | FileCheck %s

// CHECK-DAG: func.func private @bm_kernel_svd_0(tensor<4x3xf32>) -> (tensor<3xf32>, tensor<4x3xf32>, tensor<3x3xf32>) attributes {bm.kernel = "svd", bm.params = {compute_uv}}
// CHECK-DAG: func.func private @bm_kernel_triangular_solve_0({{.*}}) -> tensor<4x3xf32> attributes {bm.kernel = "triangular_solve", bm.params = {lower, transpose_a}}
// CHECK-LABEL: func.func @kernels
func.func @kernels(%x: tensor<4x3xf32>) -> (tensor<3xf32>, tensor<4x3xf32>) {
  // CHECK: call @bm_kernel_svd_0
  %s, %u, %vh = bm.svd %x {compute_uv} : tensor<4x3xf32> -> tensor<3xf32>, tensor<4x3xf32>, tensor<3x3xf32>
  // CHECK: call @bm_kernel_triangular_solve_0
  %0 = bm.triangular_solve %vh, %u {lower, transpose_a} : tensor<3x3xf32>, tensor<4x3xf32>
  return %s, %0 : tensor<3xf32>, tensor<4x3xf32>
}

// One mask for the whole batch: column <= row - 1.
// CHECK-LABEL: func.func @triangle
// CHECK-DAG: %[[ROW:.*]] = "stablehlo.iota"() {iota_dimension = 0 : i64} : () -> tensor<3x3xi32>
// CHECK-DAG: %[[COLUMN:.*]] = "stablehlo.iota"() {iota_dimension = 1 : i64} : () -> tensor<3x3xi32>
// CHECK-DAG: %[[OFF:.*]] = "stablehlo.constant"() {value = dense<-1> : tensor<3x3xi32>}
// CHECK: %[[SHIFTED:.*]] = "stablehlo.add"(%[[ROW]], %[[OFF]])
// CHECK: %[[MASK:.*]] = "stablehlo.compare"(%[[COLUMN]], %[[SHIFTED]]) {{.*}}comparison_direction LE
// CHECK: %[[MASKS:.*]] = "stablehlo.broadcast_in_dim"(%[[MASK]])
// CHECK: "stablehlo.select"(%[[MASKS]], %{{.*}}, %{{.*}}) : (tensor<5x3x3xi1>
func.func @triangle(%x: tensor<5x3x3xf32>) -> tensor<5x3x3xf32> {
  %0 = bm.triangle %x {lower, diagonal = -1 : i64} : tensor<5x3x3xf32>
  return %0 : tensor<5x3x3xf32>
}
