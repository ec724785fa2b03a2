// RUN: bm-opt %s -split-input-file -verify-diagnostics

func.func @count(%x: tensor<5x2xf32>) -> tensor<5x2xf32> {
  // expected-error @+1 {{has 1 operands, but a batch with 2 axes}}
  %0 = bm.kernel {id = 0 : i64, name = "k", batches = [array<i64: 0, 0>]} (%x)
      : (tensor<5x2xf32>) -> tensor<5x2xf32>
  return %0 : tensor<5x2xf32>
}

// -----

func.func @axis(%x: tensor<5x2xf32>) -> tensor<5x2xf32> {
  // expected-error @+1 {{has batch axis 1: it must be 0, or -1 for none}}
  %0 = bm.kernel {id = 0 : i64, name = "k", batches = [array<i64: 1>]} (%x)
      : (tensor<5x2xf32>) -> tensor<5x2xf32>
  return %0 : tensor<5x2xf32>
}

// -----

func.func @none(%x: tensor<5x2xf32>) -> tensor<5x2xf32> {
  // expected-error @+1 {{has a batch without a batched operand}}
  %0 = bm.kernel {id = 0 : i64, name = "k", batches = [array<i64: -1>]} (%x)
      : (tensor<5x2xf32>) -> tensor<5x2xf32>
  return %0 : tensor<5x2xf32>
}

// -----

func.func @rank(%x: tensor<5xf32>) -> tensor<5xf32> {
  // expected-error @+1 {{batches operand #0 2 times, but it has type 'tensor<5xf32>'}}
  %0 = bm.kernel {id = 0 : i64, name = "k", batches = [array<i64: 0>, array<i64: 0>]} (%x)
      : (tensor<5xf32>) -> tensor<5xf32>
  return %0 : tensor<5xf32>
}

// -----

func.func @rule(%x: tensor<5x2xf32>) -> tensor<2xf32> {
  // expected-error @+1 {{must have a batching rule and as many batches of operands}}
  %0 = bm.kernel {id = 3 : i64, name = "copy", batches = [array<i64: 0>], result_batches = [array<i64: -1>]} (%x) : (tensor<5x2xf32>) -> tensor<2xf32>
  return %0 : tensor<2xf32>
}

// -----

func.func @results(%x: tensor<5x2xf32>) -> tensor<2xf32> {
  // expected-error @+1 {{has 1 results, but a batch of results with 2 axes}}
  %0 = bm.kernel {id = 3 : i64, name = "copy", batches = [array<i64: 0>], has_batching_rule, result_batches = [array<i64: -1, 0>]} (%x) : (tensor<5x2xf32>) -> tensor<2xf32>
  return %0 : tensor<2xf32>
}
