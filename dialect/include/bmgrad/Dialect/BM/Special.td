//===- Special.td - Special functions -*- tablegen -*-----------------------===//
//
// Elementwise. What StableHLO's companion CHLO has is lowered to it, the rest by
// JAX's own implementations. Formulas: NIST Digital Library of Mathematical
// Functions (DLMF), https://dlmf.nist.gov.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_DIALECT_BM_SPECIAL_TD
#define BMGRAD_DIALECT_BM_SPECIAL_TD

include "bmgrad/Dialect/BM/ElementwiseBase.td"

//===----------------------------------------------------------------------===//
// Error and gamma functions
//===----------------------------------------------------------------------===//

def BM_ErfInvOp : BM_Unary<"erf_inv", "chlo.erf_inv", BM_FloatTensor, ["0.88622692545275801365 * exp(r * r)"]> {
  let summary = "Inverse error function";
  let description = [{`r = erf^-1 x`, derivative `sqrt(pi)/2 e^(r^2)`. Example: `%1 = bm.erf_inv %0 : tensor<3xf32>`}];
}
def BM_LgammaOp : BM_Unary<"lgamma", "chlo.lgamma", BM_FloatTensor, ["digamma(x)"]> {
  let summary = "Logarithm of the absolute gamma function";
  let description = [{`r = log |Gamma(x)|`, derivative `digamma x`. Example: `%1 = bm.lgamma %0 : tensor<3xf32>`}];
}
def BM_DigammaOp : BM_Unary<"digamma", "chlo.digamma", BM_FloatTensor, ["polygamma(constantLike(x, 1.0), x)"]> {
  let summary = "Logarithmic derivative of the gamma function";
  let description = [{`r = psi(x)`, derivative `psi_1(x)`. Example: `%1 = bm.digamma %0 : tensor<3xf32>`}];
}
def BM_PolygammaOp : BM_Binary<"polygamma", "chlo.polygamma", BM_FloatTensor,
    ["undefined()", "polygamma(x + 1.0, y)"]> {
  let summary = "Derivative of order x of digamma at y";
  let description = [{`r = psi^(x)(y)`; there is no derivative with respect to the order.
    Example: `%2 = bm.polygamma %0, %1 : tensor<3xf32>`}];
}
def BM_ZetaOp : BM_Binary<"zeta", "chlo.zeta", BM_FloatTensor,
    ["undefined()", "-x * zeta(x + 1.0, y)"]> {
  let summary = "Hurwitz zeta function";
  let description = [{`r = sum over n >= 0 of (n + y)^-x`, derivative `-x zeta(x + 1, y)` with respect to `y`;
    there is none with respect to `x`. Example: `%2 = bm.zeta %0, %1 : tensor<3xf32>`}];
}

/// Where JAX's implementation is a program of many ops.
class BM_BinaryKernel<string mnemonic, list<string> d> : BM_Binary<mnemonic, "", BM_FloatTensor, d> {
  let lowering = BM_KernelLowering;
}

def BM_IgammaOp : BM_BinaryKernel<"igamma", ["igammaGradA(x, y)", "gammaDensity(x, y)"]> {
  let summary = "Regularized lower incomplete gamma function";
  let description = [{`r = P(x, y)`, the integral from 0 to `y` of `t^(x-1) e^-t / Gamma(x)` (DLMF 8.2).
    Example: `%2 = bm.igamma %0, %1 : tensor<3xf32>`}];
}
def BM_IgammacOp : BM_BinaryKernel<"igammac", ["-igammaGradA(x, y)", "-gammaDensity(x, y)"]> {
  let summary = "Regularized upper incomplete gamma function";
  let description = [{`r = Q(x, y) = 1 - P(x, y)` (DLMF 8.2). Example: `%2 = bm.igammac %0, %1 : tensor<3xf32>`}];
}
def BM_IgammaGradAOp : BM_BinaryKernel<"igamma_grad_a",
    ["undefined()", "gammaDensity(x, y) * (log(y) - digamma(x))"]> {
  let summary = "Derivative of igamma with respect to its first operand";
  let description = [{`r = dP(x, y)/dx`. Its derivative with respect to `y` is that of the gamma density with
    respect to `x`; there is none with respect to `x`. Example: `%2 = bm.igamma_grad_a %0, %1 : tensor<3xf32>`}];
}

//===----------------------------------------------------------------------===//
// Beta and Bessel functions
//===----------------------------------------------------------------------===//

def BM_RegularizedIncompleteBetaOp
    : BM_Elementwise<"regularized_incomplete_beta", [SameOperandsAndResultType]> {
  let summary = "Regularized incomplete beta function";
  let description = [{`r = I_z(x, y)`, the integral from 0 to `z` of `t^(x-1) (1-t)^(y-1) / B(x, y)` (DLMF 8.17);
    there is no derivative with respect to `x` and `y`.
    Example: `%3 = bm.regularized_incomplete_beta %0, %1, %2 : tensor<3xf32>`}];
  let arguments = (ins BM_FloatTensor:$x, BM_FloatTensor:$y, BM_FloatTensor:$z);
  let results = (outs BM_FloatTensor:$r);
  let assemblyFormat = "$x `,` $y `,` $z attr-dict `:` type($r)";
  let partials = ["undefined()", "undefined()", "betaDensity(x, y, z)"];
  let lowering = BM_KernelLowering;
}
def BM_BesselI0eOp : BM_Unary<"bessel_i0e", "", BM_FloatTensor, ["besselI1e(x) - sign(x) * r"]> {
  let summary = "Scaled modified Bessel function of order 0";
  let description = [{`r = e^-|x| I_0(x)` (DLMF 10.25). Example: `%1 = bm.bessel_i0e %0 : tensor<3xf32>`}];
  let lowering = BM_KernelLowering;
}
def BM_BesselI1eOp : BM_Unary<"bessel_i1e", "chlo.bessel_i1e", BM_FloatTensor, ["besselI1ePartial(x, r)"]> {
  let summary = "Scaled modified Bessel function of order 1";
  let description = [{`r = e^-|x| I_1(x)`, derivative `I_0(x) e^-|x| - r (sign x + 1/x)`, 1/2 at 0 (DLMF 10.29).
    Example: `%1 = bm.bessel_i1e %0 : tensor<3xf32>`}];
}

#endif // BMGRAD_DIALECT_BM_SPECIAL_TD
