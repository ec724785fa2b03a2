// RUN: bm-opt %s -split-input-file -verify-diagnostics

func.func @axes(%x: tensor<2x3xf32>, %zero: tensor<f32>) {
  // expected-error@+1 {{axes has 2, which is no dimension of an operand of rank 2}}
  %0 = bm.reduce xs(%x) init(%zero) axes = [2] : (tensor<2x3xf32>, tensor<f32>) -> tensor<2xf32> {
  ^bb0(%a: tensor<f32>, %b: tensor<f32>):
    bm.yield %a : tensor<f32>
  }
  return
}

// -----

func.func @init(%x: tensor<2x3xf32>, %zero: tensor<f64>) {
  // expected-error@+1 {{initial value for 'tensor<2x3xf32>' must be a scalar of its type, but is 'tensor<f64>'}}
  %0 = bm.reduce xs(%x) init(%zero) axes = [1] : (tensor<2x3xf32>, tensor<f64>) -> tensor<2xf32> {
  ^bb0(%a: tensor<f32>, %b: tensor<f32>):
    bm.yield %a : tensor<f32>
  }
  return
}

// -----

func.func @result(%x: tensor<2x3xf32>, %zero: tensor<f32>) {
  // expected-error@+1 {{result for 'tensor<2x3xf32>' must have shape [2], but is 'tensor<3xf32>'}}
  %0 = bm.reduce xs(%x) init(%zero) axes = [1] : (tensor<2x3xf32>, tensor<f32>) -> tensor<3xf32> {
  ^bb0(%a: tensor<f32>, %b: tensor<f32>):
    bm.yield %a : tensor<f32>
  }
  return
}

// -----

func.func @yield(%x: tensor<2x3xf32>, %zero: tensor<f32>) {
  // expected-error@+1 {{region must yield a scalar for each array}}
  %0 = bm.reduce xs(%x) init(%zero) axes = [1] : (tensor<2x3xf32>, tensor<f32>) -> tensor<2xf32> {
  ^bb0(%a: tensor<f32>, %b: tensor<f32>):
    bm.yield %a, %b : tensor<f32>, tensor<f32>
  }
  return
}

// -----

func.func @arguments(%x: tensor<2x3xf32>, %zero: tensor<f32>) {
  // expected-error@+1 {{region must take two scalars for each array}}
  %0 = bm.reduce xs(%x) init(%zero) axes = [1] : (tensor<2x3xf32>, tensor<f32>) -> tensor<2xf32> {
  ^bb0(%a: tensor<f32>):
    bm.yield %a : tensor<f32>
  }
  return
}

// -----

func.func @windows(%x: tensor<3xf32>, %zero: tensor<f32>) {
  // expected-error@+1 {{there are [2] windows, not as many as in 'tensor<3xf32>'}}
  %0 = bm.reduce_window xs(%x) init(%zero) window = [2] strides = [1] low = [0] high = [0] dilations = [1] x [1] : (tensor<3xf32>, tensor<f32>) -> tensor<3xf32> {
  ^bb0(%a: tensor<f32>, %b: tensor<f32>):
    bm.yield %a : tensor<f32>
  }
  return
}
