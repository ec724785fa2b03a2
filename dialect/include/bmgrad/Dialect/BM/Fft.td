//===- Fft.td - Discrete Fourier transforms -*- tablegen -*-----------------===//

#ifndef BMGRAD_DIALECT_BM_FFT_TD
#define BMGRAD_DIALECT_BM_FFT_TD

include "bmgrad/Dialect/BM/BMBase.td"

def BM_FftKind : I32EnumAttr<"FftKind", "Which transform", [
  I32EnumAttrCase<"Fft", 0, "fft">, I32EnumAttrCase<"Ifft", 1, "ifft">,
  I32EnumAttrCase<"Rfft", 2, "rfft">, I32EnumAttrCase<"Irfft", 3, "irfft">]> {
  let cppNamespace = "::bmgrad::bm";
  let genSpecializedAttr = 0;
}
def BM_FftKindAttr : EnumAttr<BM_Dialect, BM_FftKind, "fft">;

def BM_FftOp : BM_Op<"fft", !listconcat(BM_HasJvp, BM_HasTranspose, BM_HasBatching,
                                        BM_HasLowering)> {
  let summary = "Discrete Fourier transform of the last dimensions";
  let description = [{
    Over the last dimensions, whose `lengths` are those of the signal:

    * `fft`: `r[k] = sum over j of x[j] e^(-2 pi i j k / n)`;
    * `ifft`: `r[j] = 1/n sum over k of x[k] e^(2 pi i j k / n)`;
    * `rfft`: `fft` of real numbers, of which only the frequencies `k <= n / 2` along the last dimension are kept;
    * `irfft`: the inverse of `rfft`. What it reads of imaginary parts and doubled frequencies is what makes it so.

    Linear. `fft` and `ifft` are their own transposes; those of `rfft` and `irfft` are one another, with weights for the frequencies
    that stand for two. Example:
    ```mlir
    %1 = bm.fft %0 kind = rfft lengths = [8] : (tensor<3x8xf32>) -> tensor<3x5xcomplex<f32>>
    ```
  }];
  let arguments = (ins BM_InexactTensor:$x, BM_FftKindAttr:$kind, DenseI64ArrayAttr:$lengths);
  let results = (outs BM_InexactTensor:$r);
  let assemblyFormat = [{
    $x `kind` `=` `` $kind `lengths` `=` $lengths attr-dict `:` functional-type(operands, results)
  }];
  let definition = BM_LinearJvp;
  let hasVerifier = 1;
}

#endif // BMGRAD_DIALECT_BM_FFT_TD
