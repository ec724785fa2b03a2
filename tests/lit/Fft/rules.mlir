// RUN: bm-opt %s -bm-expand-transforms -bm-optimize | FileCheck %s

func.func private @rfft(%x: tensor<6xf32>) -> tensor<4xcomplex<f32>> {
  %0 = bm.fft %x kind = rfft lengths = [6] : (tensor<6xf32>) -> tensor<4xcomplex<f32>>
  return %0 : tensor<4xcomplex<f32>>
}

// The inner frequencies stand for two.
// CHECK-LABEL: func @rfft_vjp
// CHECK-SAME: %[[CT:[^:]+]]: tensor<4xcomplex<f32>>)
// CHECK: %[[CONJ:.*]] = bm.conj %[[CT]]
// CHECK: %[[SCALED:.*]] = bm.mul %[[CONJ]], %{{.*}}
// CHECK: bm.fft %[[SCALED]] kind = irfft lengths = [6] : (tensor<4xcomplex<f32>>) -> tensor<6xf32>
func.func @rfft_vjp(%x: tensor<6xf32>, %ct: tensor<4xcomplex<f32>>) -> tensor<6xf32> {
  %0:2 = bm.vjp @rfft(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<6xf32>, tensor<4xcomplex<f32>>) -> (tensor<4xcomplex<f32>>, tensor<6xf32>)
  return %0#1 : tensor<6xf32>
}

func.func private @fft(%x: tensor<6xcomplex<f32>>) -> tensor<6xcomplex<f32>> {
  %0 = bm.fft %x kind = fft lengths = [6] : (tensor<6xcomplex<f32>>) -> tensor<6xcomplex<f32>>
  return %0 : tensor<6xcomplex<f32>>
}

// Its own transpose.
// CHECK-LABEL: func @fft_vjp
// CHECK-SAME: %[[CT:[^:]+]]: tensor<6xcomplex<f32>>)
// CHECK: %[[R:.*]] = bm.fft %[[CT]] kind = fft lengths = [6]
// CHECK: return %[[R]]
func.func @fft_vjp(%x: tensor<6xcomplex<f32>>, %ct: tensor<6xcomplex<f32>>) -> tensor<6xcomplex<f32>> {
  %0:2 = bm.vjp @fft(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>} : (tensor<6xcomplex<f32>>, tensor<6xcomplex<f32>>) -> (tensor<6xcomplex<f32>>, tensor<6xcomplex<f32>>)
  return %0#1 : tensor<6xcomplex<f32>>
}

// CHECK-LABEL: func @batched
// CHECK: bm.fft %{{.*}} kind = rfft lengths = [6] : (tensor<5x6xf32>) -> tensor<5x4xcomplex<f32>>
func.func @batched(%x: tensor<5x6xf32>) -> tensor<5x4xcomplex<f32>> {
  %0 = bm.batch @rfft(%x) {in_axes = array<i64: 0>, out_axes = array<i64: 0>, size = 5 : i64} : (tensor<5x6xf32>) -> tensor<5x4xcomplex<f32>>
  return %0 : tensor<5x4xcomplex<f32>>
}
