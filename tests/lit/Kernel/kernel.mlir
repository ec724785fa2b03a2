// RUN: bm-opt %s | bm-opt | FileCheck %s

// CHECK-LABEL: func.func @f
// CHECK: bm.kernel {id = 3 : i64, name = "cholesky"}(%{{.*}}) : (tensor<2x2xf32>) -> tensor<2x2xf32>
// CHECK: bm.kernel {batches = [array<i64: 0, -1>], id = 4 : i64, name = "dot"}(%{{.*}}, %{{.*}})
func.func @f(%x: tensor<2x2xf32>, %y: tensor<5x2xf32>) -> (tensor<2x2xf32>, tensor<5x3xf32>) {
  %0 = bm.kernel {id = 3 : i64, name = "cholesky"} (%x) : (tensor<2x2xf32>) -> tensor<2x2xf32>
  %1 = bm.kernel {id = 4 : i64, name = "dot", batches = [array<i64: 0, -1>]} (%y, %x)
      : (tensor<5x2xf32>, tensor<2x2xf32>) -> tensor<5x3xf32>
  return %0, %1 : tensor<2x2xf32>, tensor<5x3xf32>
}
