// RUN: bm-opt %s -bm-find-batched='function=f axis=i size=4 batched=0' | FileCheck %s

// CHECK: func.func @f({{.*}}) {{.*}}attributes {bm.batched = array<i1: true, false, false, true>}
func.func @f(%x: tensor<f32>, %y: tensor<f32>) -> (tensor<f32>, tensor<f32>, tensor<f32>, tensor<i32>) {
  %0 = bm.psum %x over "i" : (tensor<f32>) -> tensor<f32>
  %1 = bm.scan consts(%0) init(%y) xs() length 2 : (tensor<f32>, tensor<f32>) -> tensor<f32> {
  ^bb0(%s: tensor<f32>, %c: tensor<f32>):
    %3 = bm.add %s, %c : tensor<f32>
    %4 = bm.psum %3 over "i" : (tensor<f32>) -> tensor<f32>
    bm.yield %4 : tensor<f32>
  }
  %2 = bm.axis_index over "i" : tensor<i32>
  return %x, %0, %1, %2 : tensor<f32>, tensor<f32>, tensor<f32>, tensor<i32>
}
