// RUN: bm-opt %s -split-input-file -bm-expand-transforms -verify-diagnostics | FileCheck %s

// Integer results have no derivative.
func.func private @bits(%key: tensor<2xui32>, %x: tensor<3xf32>) -> (tensor<3xui32>, tensor<3xf32>) {
  %0 = bm.kernel {id = 1 : i64, name = "bits"} (%key, %x)
      : (tensor<2xui32>, tensor<3xf32>) -> tensor<3xui32>
  return %0, %x : tensor<3xui32>, tensor<3xf32>
}

// CHECK-LABEL: func.func @jvp_of_bits(
// CHECK-SAME: %[[KEY:.*]]: tensor<2xui32>, %[[X:.*]]: tensor<3xf32>, %[[DX:.*]]: tensor<3xf32>)
// CHECK: %[[BITS:.*]] = bm.kernel {id = 1 : i64, name = "bits"}(%[[KEY]], %[[X]])
// CHECK: return %[[BITS]], %[[X]], %[[DX]]
func.func @jvp_of_bits(%key: tensor<2xui32>, %x: tensor<3xf32>, %dx: tensor<3xf32>)
    -> (tensor<3xui32>, tensor<3xf32>, tensor<3xf32>) {
  %0:3 = bm.jvp @bits(%key, %x, %dx) {wrt = array<i64: 1>}
      : (tensor<2xui32>, tensor<3xf32>, tensor<3xf32>) -> (tensor<3xui32>, tensor<3xf32>, tensor<3xf32>)
  return %0#0, %0#1, %0#2 : tensor<3xui32>, tensor<3xf32>, tensor<3xf32>
}

// CHECK-LABEL: func.func @batches_of_bits(
// CHECK: bm.kernel {batches = [array<i64: 0, -1>, array<i64: -1, 0>], id = 1 : i64, name = "bits"}
// CHECK-SAME: (tensor<4x2xui32>, tensor<5x3xf32>) -> tensor<5x4x3xui32>
func.func private @over_keys(%keys: tensor<4x2xui32>, %x: tensor<3xf32>) -> tensor<4x3xui32> {
  %0:2 = bm.batch @bits(%keys, %x) {in_axes = array<i64: 0, -1>, out_axes = array<i64: 0, -1>, size = 4 : i64}
      : (tensor<4x2xui32>, tensor<3xf32>) -> (tensor<4x3xui32>, tensor<3xf32>)
  return %0#0 : tensor<4x3xui32>
}
func.func @batches_of_bits(%keys: tensor<4x2xui32>, %xs: tensor<5x3xf32>) -> tensor<5x4x3xui32> {
  %0 = bm.batch @over_keys(%keys, %xs) {in_axes = array<i64: -1, 0>, out_axes = array<i64: 0>, size = 5 : i64}
      : (tensor<4x2xui32>, tensor<5x3xf32>) -> tensor<5x4x3xui32>
  return %0 : tensor<5x4x3xui32>
}

// -----

func.func private @cholesky(%x: tensor<2x2xf32>) -> tensor<2x2xf32> {
  // expected-error @+1 {{no derivative rule for primitive 'cholesky'}}
  %0 = bm.kernel {id = 0 : i64, name = "cholesky"} (%x) : (tensor<2x2xf32>) -> tensor<2x2xf32>
  return %0 : tensor<2x2xf32>
}
func.func @no_rule(%x: tensor<2x2xf32>, %dx: tensor<2x2xf32>) -> tensor<2x2xf32> {
  // expected-remark @+1 {{while expanding this transform}}
  %0:2 = bm.jvp @cholesky(%x, %dx) {wrt = array<i64: 0>}
      : (tensor<2x2xf32>, tensor<2x2xf32>) -> (tensor<2x2xf32>, tensor<2x2xf32>)
  return %0#1 : tensor<2x2xf32>
}
