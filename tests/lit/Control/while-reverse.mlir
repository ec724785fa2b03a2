// RUN: bm-opt %s -bm-differentiate -verify-diagnostics

func.func private @f(%n: tensor<f32>, %x: tensor<f32>) -> tensor<f32> {
  // expected-error@+1 {{reverse-mode derivative of a while loop whose trip count is not known; use scan or jax.lax.fori_loop with constant bounds}}
  %0 = bm.while cond_consts(%n) body_consts() init(%x) : (tensor<f32>, tensor<f32>) -> tensor<f32> {
  ^bb0(%n_: tensor<f32>, %c: tensor<f32>):
    %1 = bm.compare lt %c, %n_ : tensor<f32> -> tensor<i1>
    bm.yield %1 : tensor<i1>
  } do {
  ^bb0(%c: tensor<f32>):
    %1 = bm.exp %c : tensor<f32>
    bm.yield %1 : tensor<f32>
  }
  return %0 : tensor<f32>
}

func.func @vjp(%n: tensor<f32>, %x: tensor<f32>, %ct: tensor<f32>) -> tensor<f32> {
  // expected-remark@+1 {{while expanding this transform}}
  %0:2 = bm.vjp @f(%n, %x, %ct) {wrt = array<i64: 1>, of = array<i64: 0>}
      : (tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#1 : tensor<f32>
}
