// RUN: bm-opt %s -split-input-file -verify-diagnostics

func.func @no_lengths(%x: tensor<3x8xcomplex<f32>>) {
  // expected-error@+1 {{transforms 1 to 3 dimensions, not 0}}
  %0 = bm.fft %x kind = fft lengths = [] : (tensor<3x8xcomplex<f32>>) -> tensor<3x8xcomplex<f32>>
  return
}

// -----

func.func @lengths(%x: tensor<3x8xcomplex<f32>>) {
  // expected-error@+1 {{has lengths [3], but the last dimensions of the signal are those of 'tensor<3x8xcomplex<f32>>'}}
  %0 = bm.fft %x kind = fft lengths = [3] : (tensor<3x8xcomplex<f32>>) -> tensor<3x8xcomplex<f32>>
  return
}

// -----

func.func @real(%x: tensor<3x8xf32>) {
  // expected-error@+1 {{has operand and result of one complex type, not 'tensor<3x8xf32>' and 'tensor<3x8xf32>'}}
  %0 = bm.fft %x kind = fft lengths = [8] : (tensor<3x8xf32>) -> tensor<3x8xf32>
  return
}

// -----

func.func @half(%x: tensor<3x8xf32>) {
  // expected-error@+1 {{pairs a real signal with its frequencies up to half the last length, not 'tensor<3x8xf32>' with 'tensor<3x8xcomplex<f32>>'}}
  %0 = bm.fft %x kind = rfft lengths = [8] : (tensor<3x8xf32>) -> tensor<3x8xcomplex<f32>>
  return
}
