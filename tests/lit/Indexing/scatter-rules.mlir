// RUN: bm-opt %s -split-input-file -bm-expand-transforms -symbol-dce -canonicalize -verify-diagnostics | FileCheck %s

// The updates' cotangent is gathered where they went; the operand's is the
// cotangent itself.
func.func private @add(%x: tensor<5xf32>, %i: tensor<3x1xi32>, %u: tensor<3xf32>) -> tensor<5xf32> {
  %0 = bm.scatter_add %x at %i, %u inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = clip : (tensor<5xf32>, tensor<3x1xi32>, tensor<3xf32>) -> tensor<5xf32>
  return %0 : tensor<5xf32>
}
// CHECK-LABEL: func @add_vjp
// CHECK-SAME: %[[CT:[^ ]*]]: tensor<5xf32>)
// CHECK: %[[DU:.*]] = bm.gather %[[CT]] at %{{.*}} slice_sizes = [1] collapsed_slice_dims = [0] start_index_map = [0] mode = clip
// CHECK: return %{{.*}}, %[[CT]], %[[DU]]
func.func @add_vjp(%x: tensor<5xf32>, %i: tensor<3x1xi32>, %u: tensor<3xf32>, %ct: tensor<5xf32>) -> (tensor<5xf32>, tensor<5xf32>, tensor<3xf32>) {
  %0:3 = bm.vjp @add(%x, %i, %u, %ct) {wrt = array<i64: 0, 2>, of = array<i64: 0>} : (tensor<5xf32>, tensor<3x1xi32>, tensor<3xf32>, tensor<5xf32>) -> (tensor<5xf32>, tensor<5xf32>, tensor<3xf32>)
  return %0#0, %0#1, %0#2 : tensor<5xf32>, tensor<5xf32>, tensor<3xf32>
}
// A tangent of the operand alone is the tangent of the result.
// CHECK-LABEL: func @add_jvp
// CHECK-SAME: %[[DX:[^ ]*]]: tensor<5xf32>)
// CHECK: %[[Y:.*]] = bm.scatter_add
// CHECK-NEXT: return %[[Y]], %[[DX]]
func.func @add_jvp(%x: tensor<5xf32>, %i: tensor<3x1xi32>, %u: tensor<3xf32>, %dx: tensor<5xf32>) -> (tensor<5xf32>, tensor<5xf32>) {
  %0:2 = bm.jvp @add(%x, %i, %u, %dx) {wrt = array<i64: 0>} : (tensor<5xf32>, tensor<3x1xi32>, tensor<3xf32>, tensor<5xf32>) -> (tensor<5xf32>, tensor<5xf32>)
  return %0#0, %0#1 : tensor<5xf32>, tensor<5xf32>
}
// CHECK-LABEL: func @add_batched_operand
// CHECK: bm.scatter_add %{{.*}} update_window_dims = [0] inserted_window_dims = [1] scatter_dims_to_operand_dims = [1] mode
func.func @add_batched_operand(%x: tensor<7x5xf32>, %i: tensor<3x1xi32>, %u: tensor<3xf32>) -> tensor<7x5xf32> {
  %0 = bm.batch @add(%x, %i, %u) {in_axes = array<i64: 0, -1, -1>, out_axes = array<i64: 0>, size = 7 : i64} : (tensor<7x5xf32>, tensor<3x1xi32>, tensor<3xf32>) -> tensor<7x5xf32>
  return %0 : tensor<7x5xf32>
}
// CHECK-LABEL: func @add_batched_indices
// CHECK: bm.scatter_add %{{.*}} inserted_window_dims = [1] scatter_dims_to_operand_dims = [1] operand_batching_dims = [0] scatter_indices_batching_dims = [0] mode = clip : (tensor<7x5xf32>, tensor<7x3x1xi32>, tensor<7x3xf32>)
func.func @add_batched_indices(%x: tensor<5xf32>, %i: tensor<7x3x1xi32>, %u: tensor<3xf32>) -> tensor<7x5xf32> {
  %0 = bm.batch @add(%x, %i, %u) {in_axes = array<i64: -1, 0, -1>, out_axes = array<i64: 0>, size = 7 : i64} : (tensor<5xf32>, tensor<7x3x1xi32>, tensor<3xf32>) -> tensor<7x5xf32>
  return %0 : tensor<7x5xf32>
}

// -----

// With a promise of unique indices replacement is linear as it stands.
func.func private @set_unique(%x: tensor<5xf32>, %i: tensor<3x1xi32>, %u: tensor<3xf32>) -> tensor<5xf32> {
  %0 = bm.scatter %x at %i, %u inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = fill_or_drop {unique_indices} : (tensor<5xf32>, tensor<3x1xi32>, tensor<3xf32>) -> tensor<5xf32>
  return %0 : tensor<5xf32>
}
// CHECK-LABEL: func @set_unique_vjp
// CHECK-SAME: %[[CT:[^ ]*]]: tensor<5xf32>)
// CHECK-DAG: %[[ZEROS:.*]] = bm.constant dense<0.000000e+00> : tensor<3xf32>
// CHECK-DAG: %[[DX:.*]] = bm.scatter %[[CT]] at %{{.*}}, %[[ZEROS]]
// CHECK-DAG: %[[DU:.*]] = bm.gather %[[CT]]
// CHECK: return %{{.*}}, %[[DX]], %[[DU]]
func.func @set_unique_vjp(%x: tensor<5xf32>, %i: tensor<3x1xi32>, %u: tensor<3xf32>, %ct: tensor<5xf32>) -> (tensor<5xf32>, tensor<5xf32>, tensor<3xf32>) {
  %0:3 = bm.vjp @set_unique(%x, %i, %u, %ct) {wrt = array<i64: 0, 2>, of = array<i64: 0>} : (tensor<5xf32>, tensor<3x1xi32>, tensor<3xf32>, tensor<5xf32>) -> (tensor<5xf32>, tensor<5xf32>, tensor<3xf32>)
  return %0#0, %0#1, %0#2 : tensor<5xf32>, tensor<5xf32>, tensor<3xf32>
}

// -----

// Without it, numbers of the updates are scattered to see which of them stay;
// value and tangent are sums of what stays.
func.func private @set(%x: tensor<5xf32>, %i: tensor<3x1xi32>, %u: tensor<3xf32>) -> tensor<5xf32> {
  %0 = bm.scatter %x at %i, %u inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = fill_or_drop : (tensor<5xf32>, tensor<3x1xi32>, tensor<3xf32>) -> tensor<5xf32>
  return %0 : tensor<5xf32>
}
// CHECK-LABEL: func @set_jvp
// CHECK-DAG: %[[NUMBERS:.*]] = bm.scatter %{{.*}} : (tensor<5xi32>, tensor<3x1xi32>, tensor<3xi32>) -> tensor<5xi32>
// CHECK-DAG: %[[FOUND:.*]] = bm.gather %[[NUMBERS]] at
// CHECK-DAG: %[[UNTOUCHED:.*]] = bm.compare eq %[[NUMBERS]]
// CHECK-DAG: %[[STAYED:.*]] = bm.compare eq %{{.*}}, %[[FOUND]]
// CHECK-DAG: bm.select %[[UNTOUCHED]]
// CHECK-DAG: bm.select %[[STAYED]]
// CHECK: bm.scatter_add
// CHECK: bm.scatter_add
func.func @set_jvp(%x: tensor<5xf32>, %i: tensor<3x1xi32>, %u: tensor<3xf32>, %dx: tensor<5xf32>, %du: tensor<3xf32>) -> (tensor<5xf32>, tensor<5xf32>) {
  %0:2 = bm.jvp @set(%x, %i, %u, %dx, %du) {wrt = array<i64: 0, 2>} : (tensor<5xf32>, tensor<3x1xi32>, tensor<3xf32>, tensor<5xf32>, tensor<3xf32>) -> (tensor<5xf32>, tensor<5xf32>)
  return %0#0, %0#1 : tensor<5xf32>, tensor<5xf32>
}
// Constant updates: it does not matter which of them stay.
// CHECK-LABEL: func @set_jvp_of_operand
// CHECK-SAME: %[[DX:[^ ]*]]: tensor<5xf32>)
// CHECK: %[[ZEROS:.*]] = bm.constant dense<0.000000e+00> : tensor<3xf32>
// CHECK-NOT: bm.select
// CHECK: bm.scatter %[[DX]] at %{{.*}}, %[[ZEROS]]
func.func @set_jvp_of_operand(%x: tensor<5xf32>, %i: tensor<3x1xi32>, %u: tensor<3xf32>, %dx: tensor<5xf32>) -> (tensor<5xf32>, tensor<5xf32>) {
  %0:2 = bm.jvp @set(%x, %i, %u, %dx) {wrt = array<i64: 0>} : (tensor<5xf32>, tensor<3x1xi32>, tensor<3xf32>, tensor<5xf32>) -> (tensor<5xf32>, tensor<5xf32>)
  return %0#0, %0#1 : tensor<5xf32>, tensor<5xf32>
}

// -----

// One index vector cannot collide with itself.
func.func private @set_one(%x: tensor<5xf32>, %i: tensor<1xi32>, %u: tensor<2xf32>) -> tensor<5xf32> {
  %0 = bm.scatter %x at %i, %u update_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = fill_or_drop : (tensor<5xf32>, tensor<1xi32>, tensor<2xf32>) -> tensor<5xf32>
  return %0 : tensor<5xf32>
}
// CHECK-LABEL: func @set_one_vjp
// CHECK-NOT: bm.select
// CHECK: bm.gather
func.func @set_one_vjp(%x: tensor<5xf32>, %i: tensor<1xi32>, %u: tensor<2xf32>, %ct: tensor<5xf32>) -> (tensor<5xf32>, tensor<2xf32>) {
  %0:2 = bm.vjp @set_one(%x, %i, %u, %ct) {wrt = array<i64: 2>, of = array<i64: 0>} : (tensor<5xf32>, tensor<1xi32>, tensor<2xf32>, tensor<5xf32>) -> (tensor<5xf32>, tensor<2xf32>)
  return %0#0, %0#1 : tensor<5xf32>, tensor<2xf32>
}

// -----

func.func private @multiply(%x: tensor<5xf32>, %i: tensor<3x1xi32>, %u: tensor<3xf32>) -> tensor<5xf32> {
  %0 = bm.scatter_mul %x at %i, %u inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = clip : (tensor<5xf32>, tensor<3x1xi32>, tensor<3xf32>) -> tensor<5xf32>
  return %0 : tensor<5xf32>
}
// CHECK-LABEL: func @multiply_vjp
// CHECK-SAME: %[[CT:[^ ]*]]: tensor<5xf32>)
// CHECK: bm.scatter_mul %[[CT]] at
func.func @multiply_vjp(%x: tensor<5xf32>, %i: tensor<3x1xi32>, %u: tensor<3xf32>, %ct: tensor<5xf32>) -> (tensor<5xf32>, tensor<5xf32>) {
  %0:2 = bm.vjp @multiply(%x, %i, %u, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<5xf32>, tensor<3x1xi32>, tensor<3xf32>, tensor<5xf32>) -> (tensor<5xf32>, tensor<5xf32>)
  return %0#0, %0#1 : tensor<5xf32>, tensor<5xf32>
}

// -----

func.func private @multiply(%x: tensor<5xf32>, %i: tensor<3x1xi32>, %u: tensor<3xf32>) -> tensor<5xf32> {
  // expected-error @below {{no derivative rule for primitive 'scatter-mul' with respect to its updates, unless unique_indices=True says that no two of them meet}}
  %0 = bm.scatter_mul %x at %i, %u inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = clip : (tensor<5xf32>, tensor<3x1xi32>, tensor<3xf32>) -> tensor<5xf32>
  return %0 : tensor<5xf32>
}
func.func @multiply_jvp(%x: tensor<5xf32>, %i: tensor<3x1xi32>, %u: tensor<3xf32>, %du: tensor<3xf32>) -> (tensor<5xf32>, tensor<5xf32>) {
  // expected-remark @below {{while expanding this transform}}
  %0:2 = bm.jvp @multiply(%x, %i, %u, %du) {wrt = array<i64: 2>} : (tensor<5xf32>, tensor<3x1xi32>, tensor<3xf32>, tensor<3xf32>) -> (tensor<5xf32>, tensor<5xf32>)
  return %0#0, %0#1 : tensor<5xf32>, tensor<5xf32>
}

// -----

// Each winner gets one part of as many as there are.
func.func private @maximum(%x: tensor<5xf32>, %i: tensor<3x1xi32>, %u: tensor<3xf32>) -> tensor<5xf32> {
  %0 = bm.scatter_max %x at %i, %u inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = fill_or_drop : (tensor<5xf32>, tensor<3x1xi32>, tensor<3xf32>) -> tensor<5xf32>
  return %0 : tensor<5xf32>
}
// CHECK-LABEL: func @maximum_vjp
// CHECK-SAME: %[[X:[^ ]*]]: tensor<5xf32>, %[[I:[^ ]*]]: tensor<3x1xi32>, %[[U:[^ ]*]]: tensor<3xf32>, %[[CT:[^ ]*]]: tensor<5xf32>)
// CHECK-DAG: %[[Y:.*]] = bm.scatter_max %[[X]] at %[[I]], %[[U]]
// CHECK-DAG: %[[KEPT:.*]] = bm.compare eq %[[X]], %[[Y]]
// CHECK-DAG: %[[ATTAINED:.*]] = bm.compare eq %[[U]],
// CHECK-DAG: %[[WINNERS:.*]] = bm.scatter_add
// CHECK-DAG: %[[SHARE:.*]] = bm.div %{{.*}}, %[[WINNERS]]
// CHECK-DAG: bm.select %[[KEPT]], %[[SHARE]]
// CHECK: return %[[Y]]
func.func @maximum_vjp(%x: tensor<5xf32>, %i: tensor<3x1xi32>, %u: tensor<3xf32>, %ct: tensor<5xf32>) -> (tensor<5xf32>, tensor<5xf32>, tensor<3xf32>) {
  %0:3 = bm.vjp @maximum(%x, %i, %u, %ct) {wrt = array<i64: 0, 2>, of = array<i64: 0>} : (tensor<5xf32>, tensor<3x1xi32>, tensor<3xf32>, tensor<5xf32>) -> (tensor<5xf32>, tensor<5xf32>, tensor<3xf32>)
  return %0#0, %0#1, %0#2 : tensor<5xf32>, tensor<5xf32>, tensor<3xf32>
}
