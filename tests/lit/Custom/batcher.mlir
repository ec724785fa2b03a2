// RUN: bm-opt %s | bm-opt | FileCheck %s
// RUN: bm-opt %s -bm-differentiate -verify-diagnostics

// Batches that a batching rule makes are asked for; here nobody answers.

func.func private @scale(%w: tensor<f32>, %x: tensor<f32>) -> tensor<f32> {
  %0 = bm.kernel {id = 0 : i64, name = "scale", has_batching_rule}(%w, %x) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}
func.func private @scale.jvp(tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)

func.func private @g(%w: tensor<f32>, %x: tensor<f32>) -> tensor<f32> {
  // CHECK: bm.custom_jvp @scale, @scale.jvp(%{{.*}}, %{{.*}}) {batcher = 7 : i64} : (tensor<f32>, tensor<f32>) -> tensor<f32>
  // expected-error@+1 {{nothing that knows the batching rule of 'scale'}}
  %0 = bm.custom_jvp @scale, @scale.jvp(%w, %x) {batcher = 7 : i64} : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}
func.func @asked(%w: tensor<f32>, %x: tensor<3xf32>) -> tensor<3xf32> {
  // expected-remark@+1 {{while expanding this transform}}
  %0 = bm.batch @g(%w, %x) {in_axes = array<i64: -1, 0>, out_axes = array<i64: 0>, size = 3 : i64} : (tensor<f32>, tensor<3xf32>) -> tensor<3xf32>
  return %0 : tensor<3xf32>
}
