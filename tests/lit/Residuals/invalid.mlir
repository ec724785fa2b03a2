// RUN: bm-opt %s -split-input-file -verify-diagnostics

func.func @types(%x: tensor<f32>, %n: tensor<i32>) {
  // expected-error@+1 {{gives its operands, so it has their types: expected ('tensor<f32>', 'tensor<i32>'), got ('tensor<f32>', 'tensor<f32>')}}
  %0:2 = bm.optimization_barrier(%x, %n) : (tensor<f32>, tensor<i32>) -> (tensor<f32>, tensor<f32>)
  return
}
