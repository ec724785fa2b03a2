// RUN: bm-opt %s -split-input-file -bm-expand-transforms -verify-diagnostics | FileCheck %s

// The derivative in the shape of the distribution is an op of its own.
// CHECK-LABEL: func.func @jvp_of_igamma
// CHECK: bm.igamma %
// CHECK: bm.igamma_grad_a %
func.func private @igamma(%a: tensor<3xf32>, %x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = bm.igamma %a, %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}
func.func @jvp_of_igamma(%a: tensor<3xf32>, %x: tensor<3xf32>, %da: tensor<3xf32>) -> tensor<3xf32> {
  %0:2 = bm.jvp @igamma(%a, %x, %da) {wrt = array<i64: 0>}
      : (tensor<3xf32>, tensor<3xf32>, tensor<3xf32>) -> (tensor<3xf32>, tensor<3xf32>)
  return %0#1 : tensor<3xf32>
}

// -----

func.func private @gradient(%a: tensor<3xf32>, %x: tensor<3xf32>) -> tensor<3xf32> {
  // expected-error @+1 {{no derivative rule for primitive 'igamma_grad_a' with respect to its argument 0}}
  %0 = bm.igamma_grad_a %a, %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}
func.func @no_rule(%a: tensor<3xf32>, %x: tensor<3xf32>, %da: tensor<3xf32>) -> tensor<3xf32> {
  // expected-remark @+1 {{while expanding this transform}}
  %0:2 = bm.jvp @gradient(%a, %x, %da) {wrt = array<i64: 0>}
      : (tensor<3xf32>, tensor<3xf32>, tensor<3xf32>) -> (tensor<3xf32>, tensor<3xf32>)
  return %0#1 : tensor<3xf32>
}
