// RUN: bm-opt %s -split-input-file -verify-diagnostics

func.func @direction(%x: tensor<f32>) {
  // expected-error @below {{expected one of eq, ne, lt, le, gt, ge, got 'less'}}
  %0 = bm.compare less %x, %x : tensor<f32> -> tensor<i1>
  return
}

// -----

func.func @predicate(%p: tensor<2xi1>, %x: tensor<3xf32>) {
  // expected-error @below {{predicate must have rank 0 or the shape of the cases, but it is 'tensor<2xi1>' and they are 'tensor<3xf32>'}}
  %0 = bm.select %p, %x, %x : tensor<2xi1>, tensor<3xf32>
  return
}

// -----

func.func @dynamic(%x: tensor<?xf32>) {
  // expected-error @below {{must be statically shaped tensor}}
  %0 = bm.sin %x : tensor<?xf32>
  return
}

// -----

func.func @element(%x: tensor<3xi32>) {
  // expected-error @below {{'bm.sin' op operand #0 must be statically shaped tensor of float or complex values}}
  %0 = bm.sin %x : tensor<3xi32>
  return
}
