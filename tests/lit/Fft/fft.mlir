// RUN: bm-opt %s | bm-opt | FileCheck %s
// RUN: bm-opt %s -allow-unregistered-dialect -bm-lower | FileCheck %s --check-prefix=LOWER

// CHECK-LABEL: func @round_trip
// LOWER-LABEL: func @round_trip
func.func @round_trip(%x: tensor<3x8xf32>, %c: tensor<2x3xcomplex<f64>>) -> tensor<3x8xf32> {
  // CHECK: bm.fft %{{.*}} kind = rfft lengths = [8] : (tensor<3x8xf32>) -> tensor<3x5xcomplex<f32>>
  // LOWER: "stablehlo.fft"(%{{.*}}) {fft_length = array<i64: 8>, fft_type = #stablehlo<fft_type RFFT>}
  %0 = bm.fft %x kind = rfft lengths = [8] : (tensor<3x8xf32>) -> tensor<3x5xcomplex<f32>>
  // CHECK: bm.fft %{{.*}} kind = irfft lengths = [8]
  // LOWER: "stablehlo.fft"
  // LOWER-SAME: IRFFT
  %1 = bm.fft %0 kind = irfft lengths = [8] : (tensor<3x5xcomplex<f32>>) -> tensor<3x8xf32>
  // CHECK: bm.fft %{{.*}} kind = fft lengths = [2, 3]
  %2 = bm.fft %c kind = fft lengths = [2, 3] : (tensor<2x3xcomplex<f64>>) -> tensor<2x3xcomplex<f64>>
  // CHECK: bm.fft %{{.*}} kind = ifft lengths = [3]
  %3 = bm.fft %2 kind = ifft lengths = [3] : (tensor<2x3xcomplex<f64>>) -> tensor<2x3xcomplex<f64>>
  return %1 : tensor<3x8xf32>
}

// The outer dimension first, then the last.
// LOWER-LABEL: func @inverse_of_two
// LOWER: "stablehlo.transpose"
// LOWER-SAME: -> tensor<5x3x2xcomplex<f32>>
// LOWER: "stablehlo.fft"
// LOWER-SAME: fft_length = array<i64: 2>, fft_type = #stablehlo<fft_type IFFT>
// LOWER: "stablehlo.transpose"
// LOWER-SAME: -> tensor<5x2x3xcomplex<f32>>
// LOWER: "stablehlo.fft"
// LOWER-SAME: fft_length = array<i64: 4>, fft_type = #stablehlo<fft_type IRFFT>
func.func @inverse_of_two(%x: tensor<5x2x3xcomplex<f32>>) -> tensor<5x2x4xf32> {
  %0 = bm.fft %x kind = irfft lengths = [2, 4] : (tensor<5x2x3xcomplex<f32>>) -> tensor<5x2x4xf32>
  return %0 : tensor<5x2x4xf32>
}

// LOWER-LABEL: func @nothing
// LOWER-NOT: stablehlo.fft
func.func @nothing(%x: tensor<0x8xf32>) -> tensor<0x5xcomplex<f32>> {
  %0 = bm.fft %x kind = rfft lengths = [8] : (tensor<0x8xf32>) -> tensor<0x5xcomplex<f32>>
  return %0 : tensor<0x5xcomplex<f32>>
}
