// RUN: bm-opt %s -allow-unregistered-dialect -bm-lower-to-stablehlo | FileCheck %s

// One declaration for each batched form of a kernel.
// CHECK-DAG: func.func private @bm_kernel_7(tensor<3xf32>) -> tensor<3xf32>
// CHECK-DAG: func.func private @bm_kernel_7_5x0(tensor<5x3xf32>) -> tensor<5x3xf32> attributes {bm.in_axes = [array<i64: 0>]}
// CHECK-DAG: func.func private @bm_kernel_8_4x0n_5xn0(tensor<4x2xf32>, tensor<5x3xf32>) -> tensor<5x4xf32> attributes {bm.in_axes = [array<i64: 0, -1>, array<i64: -1, 0>]}
// What its batching rule gives goes with what is batched.
// CHECK-DAG: func.func private @bm_kernel_9_5x0(tensor<5x2xf32>) -> tensor<2xf32> attributes {bm.in_axes = [array<i64: 0>], bm.out_axes = [array<i64: -1>]}

// CHECK-LABEL: func.func @f
func.func @f(%x: tensor<3xf32>, %xs: tensor<5x3xf32>, %ys: tensor<4x2xf32>)
    -> (tensor<3xf32>, tensor<5x3xf32>, tensor<5x4xf32>) {
  // CHECK: %[[A:.*]] = call @bm_kernel_7(%{{.*}}) : (tensor<3xf32>) -> tensor<3xf32>
  %0 = bm.kernel {id = 7 : i64, name = "k"} (%x) : (tensor<3xf32>) -> tensor<3xf32>
  // CHECK: call @bm_kernel_7(%[[A]])
  %1 = bm.kernel {id = 7 : i64, name = "k"} (%0) : (tensor<3xf32>) -> tensor<3xf32>
  // CHECK: call @bm_kernel_7_5x0(
  %2 = bm.kernel {id = 7 : i64, name = "k", batches = [array<i64: 0>]} (%xs) : (tensor<5x3xf32>) -> tensor<5x3xf32>
  // CHECK: call @bm_kernel_8_4x0n_5xn0(
  %3 = bm.kernel {id = 8 : i64, name = "l", batches = [array<i64: 0, -1>, array<i64: -1, 0>]} (%ys, %xs)
      : (tensor<4x2xf32>, tensor<5x3xf32>) -> tensor<5x4xf32>
  return %1, %2, %3 : tensor<3xf32>, tensor<5x3xf32>, tensor<5x4xf32>
}

func.func @shared(%x: tensor<5x2xf32>) -> tensor<2xf32> {
  %0 = bm.kernel {id = 9 : i64, name = "shared", batches = [array<i64: 0>], has_batching_rule, result_batches = [array<i64: -1>]} (%x) : (tensor<5x2xf32>) -> tensor<2xf32>
  return %0 : tensor<2xf32>
}
