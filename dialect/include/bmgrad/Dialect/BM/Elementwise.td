//===- Elementwise.td - Ops that act on each element -*- tablegen -*-------===//
//
// The special functions are in Special.td, the op classes in ElementwiseBase.td.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_DIALECT_BM_ELEMENTWISE_TD
#define BMGRAD_DIALECT_BM_ELEMENTWISE_TD

include "bmgrad/Dialect/BM/ElementwiseBase.td"

//===----------------------------------------------------------------------===//
// Constants
//===----------------------------------------------------------------------===//

def BM_ConstantOp : BM_Op<"constant", !listconcat([ConstantLike, AllTypesMatch<["value", "r"]>],
                                                  BM_HasLowering)> {
  let summary = "A constant array";
  let description = [{
    An array known at compile time. Example:
    ```mlir
    %0 = bm.constant dense<1.0> : tensor<3xf32>
    ```
  }];
  let primitives = [];
  let arguments = (ins ElementsAttr:$value);
  let results = (outs BM_Tensor:$r);
  let assemblyFormat = "attr-dict $value";
  let hasFolder = 1;
}

//===----------------------------------------------------------------------===//
// Unary
//===----------------------------------------------------------------------===//

def BM_NegOp : BM_Unary<"neg", "stablehlo.negate", BM_NumberTensor, [], BM_HasTranspose> {
  let summary = "Negation";
  let description = [{`r = -x`. Example: `%1 = bm.neg %0 : tensor<3xf32>`}];
  let jvp = BM_LinearJvp;
  let hasFolder = 1;
}
def BM_ExpOp : BM_Unary<"exp", "stablehlo.exponential", BM_InexactTensor, ["r"]> {
  let summary = "Exponential";
  let description = [{`r = e^x`, derivative `r`. Example: `%1 = bm.exp %0 : tensor<3xf32>`}];
}
def BM_Exp2Op : BM_Unary<"exp2", "", BM_InexactTensor, ["r * 0.693147180559945309417"]> {
  let summary = "Power of two";
  let description = [{`r = 2^x`, derivative `r log 2`. Example: `%1 = bm.exp2 %0 : tensor<3xf32>`}];
  let lowering = "";
}
def BM_Expm1Op : BM_Unary<"expm1", "stablehlo.exponential_minus_one", BM_InexactTensor, ["exp(x)"]> {
  let summary = "Exponential minus one";
  let description = [{`r = e^x - 1`, exact near zero; derivative `e^x`, as `r + 1` loses digits below zero.
    Example: `%1 = bm.expm1 %0 : tensor<3xf32>`}];
}
def BM_LogOp : BM_Unary<"log", "stablehlo.log", BM_InexactTensor, ["1.0 / x"]> {
  let summary = "Natural logarithm";
  let description = [{`r = log x`, derivative `1/x`. Example: `%1 = bm.log %0 : tensor<3xf32>`}];
}
def BM_Log1pOp : BM_Unary<"log1p", "stablehlo.log_plus_one", BM_InexactTensor, ["1.0 / (x + 1.0)"]> {
  let summary = "Logarithm of one plus x";
  let description = [{`r = log(1 + x)`, derivative `1/(1 + x)`. Example: `%1 = bm.log1p %0 : tensor<3xf32>`}];
}
def BM_SinOp : BM_Unary<"sin", "stablehlo.sine", BM_InexactTensor, ["cos(x)"]> {
  let summary = "Sine";
  let description = [{`r = sin x` (radians), derivative `cos x`. Example: `%1 = bm.sin %0 : tensor<3xf32>`}];
}
def BM_CosOp : BM_Unary<"cos", "stablehlo.cosine", BM_InexactTensor, ["-sin(x)"]> {
  let summary = "Cosine";
  let description = [{`r = cos x` (radians), derivative `-sin x`. Example: `%1 = bm.cos %0 : tensor<3xf32>`}];
}
def BM_TanOp : BM_Unary<"tan", "stablehlo.tan", BM_InexactTensor, ["r * r + 1.0"]> {
  let summary = "Tangent";
  let description = [{`r = tan x` (radians), derivative `1 + r^2`. Example: `%1 = bm.tan %0 : tensor<3xf32>`}];
}
def BM_AsinOp : BM_Unary<"asin", "chlo.asin", BM_InexactTensor, ["rsqrt(oneMinusSquare(x))"]> {
  let summary = "Inverse sine";
  let description = [{`r = asin x`, derivative `1/sqrt(1 - x^2)`. Example: `%1 = bm.asin %0 : tensor<3xf32>`}];
}
def BM_AcosOp : BM_Unary<"acos", "chlo.acos", BM_InexactTensor, ["-rsqrt(oneMinusSquare(x))"]> {
  let summary = "Inverse cosine";
  let description = [{`r = acos x`, derivative `-1/sqrt(1 - x^2)`. Example: `%1 = bm.acos %0 : tensor<3xf32>`}];
}
def BM_AtanOp : BM_Unary<"atan", "chlo.atan", BM_InexactTensor, ["1.0 / (x * x + 1.0)"]> {
  let summary = "Inverse tangent";
  let description = [{`r = atan x`, derivative `1/(1 + x^2)`. Example: `%1 = bm.atan %0 : tensor<3xf32>`}];
}
def BM_SinhOp : BM_Unary<"sinh", "chlo.sinh", BM_InexactTensor, ["cosh(x)"]> {
  let summary = "Hyperbolic sine";
  let description = [{`r = sinh x`, derivative `cosh x`. Example: `%1 = bm.sinh %0 : tensor<3xf32>`}];
}
def BM_CoshOp : BM_Unary<"cosh", "chlo.cosh", BM_InexactTensor, ["sinh(x)"]> {
  let summary = "Hyperbolic cosine";
  let description = [{`r = cosh x`, derivative `sinh x`. Example: `%1 = bm.cosh %0 : tensor<3xf32>`}];
}
def BM_TanhOp : BM_Unary<"tanh", "stablehlo.tanh", BM_InexactTensor, ["oneMinusSquare(r)"]> {
  let summary = "Hyperbolic tangent";
  let description = [{`r = tanh x`, derivative `1 - r^2`. Example: `%1 = bm.tanh %0 : tensor<3xf32>`}];
}
def BM_AsinhOp : BM_Unary<"asinh", "chlo.asinh", BM_InexactTensor, ["asinhPartial(x)"]> {
  let summary = "Inverse hyperbolic sine";
  let description = [{`r = asinh x`, derivative `1/sqrt(x^2 + 1)`. Example: `%1 = bm.asinh %0 : tensor<3xf32>`}];
}
def BM_AcoshOp : BM_Unary<"acosh", "chlo.acosh", BM_InexactTensor, ["acoshPartial(x)"]> {
  let summary = "Inverse hyperbolic cosine";
  let description = [{`r = acosh x`, derivative `1/sqrt(x^2 - 1)`. Example: `%1 = bm.acosh %0 : tensor<3xf32>`}];
}
def BM_AtanhOp : BM_Unary<"atanh", "chlo.atanh", BM_InexactTensor, ["1.0 / oneMinusSquare(x)"]> {
  let summary = "Inverse hyperbolic tangent";
  let description = [{`r = atanh x`, derivative `1/(1 - x^2)`. Example: `%1 = bm.atanh %0 : tensor<3xf32>`}];
}
def BM_LogisticOp : BM_Unary<"logistic", "stablehlo.logistic", BM_InexactTensor, ["r * (1.0 - r)"]> {
  let summary = "Logistic function";
  let description = [{`r = 1/(1 + e^-x)`, derivative `r (1 - r)`. Example: `%1 = bm.logistic %0 : tensor<3xf32>`}];
}
def BM_SqrtOp : BM_Unary<"sqrt", "stablehlo.sqrt", BM_InexactTensor, ["0.5 / r"]> {
  let summary = "Square root";
  let description = [{`r = sqrt x`, derivative `1/(2 r)`. Example: `%1 = bm.sqrt %0 : tensor<3xf32>`}];
}
def BM_RsqrtOp : BM_Unary<"rsqrt", "stablehlo.rsqrt", BM_InexactTensor, ["-0.5 * (r / x)"]> {
  let summary = "Reciprocal square root";
  let description = [{`r = 1/sqrt x`, derivative `-r/(2 x)`. Example: `%1 = bm.rsqrt %0 : tensor<3xf32>`}];
}
def BM_CbrtOp : BM_Unary<"cbrt", "stablehlo.cbrt", BM_FloatTensor, ["0.333333333333333333333 * integerPow(r, -2)"]> {
  let summary = "Cube root";
  let description = [{`r = x^(1/3)`, derivative `1/(3 r^2)`. Example: `%1 = bm.cbrt %0 : tensor<3xf32>`}];
}
def BM_SquareOp : BM_Unary<"square", "", BM_NumberTensor, ["2.0 * x"]> {
  let summary = "Square";
  let description = [{`r = x^2`, derivative `2 x`. Example: `%1 = bm.square %0 : tensor<3xf32>`}];
  let lowering = "";
}
def BM_OneMinusSquareOp : BM_Unary<"one_minus_square", "", BM_InexactTensor, ["-2.0 * x"]> {
  let summary = "One minus the square";
  let description = [{`r = (1 + x)(1 - x)`, exact near one, and so is its derivative `-2 x` near zero.
    Example: `%1 = bm.one_minus_square %0 : tensor<3xf32>`}];
  let lowering = "";
}
def BM_ErfOp : BM_Unary<"erf", "chlo.erf", BM_FloatTensor, ["1.12837916709551257390 * exp(-(x * x))"]> {
  let summary = "Error function";
  let description = [{`r = erf x`, derivative `2/sqrt(pi) e^(-x^2)`. Example: `%1 = bm.erf %0 : tensor<3xf32>`}];
}
def BM_ErfcOp : BM_Unary<"erfc", "chlo.erfc", BM_FloatTensor, ["-1.12837916709551257390 * exp(-(x * x))"]> {
  let summary = "Complementary error function";
  let description = [{`r = 1 - erf x`, derivative `-2/sqrt(pi) e^(-x^2)`. Example: `%1 = bm.erfc %0 : tensor<3xf32>`}];
}
def BM_SignOp : BM_Unary<"sign", "stablehlo.sign", BM_NumberTensor, []> {
  let summary = "Sign";
  let description = [{`-1`, `0` or `1`; NaN stays NaN; derivative zero. Of a complex number `x/|x|`, with tangent
    `i r Im(conj(r) dx)/|x|`. Example: `%1 = bm.sign %0 : tensor<3xf32>`}];
  let jvp = "";
}
def BM_FloorOp : BM_Unary<"floor", "stablehlo.floor", BM_FloatTensor, []> {
  let summary = "Rounding down";
  let description = [{The largest integer not above `x`; derivative zero. Example: `%1 = bm.floor %0 : tensor<3xf32>`}];
}
def BM_CeilOp : BM_Unary<"ceil", "stablehlo.ceil", BM_FloatTensor, []> {
  let summary = "Rounding up";
  let description = [{The smallest integer not below `x`; derivative zero. Example: `%1 = bm.ceil %0 : tensor<3xf32>`}];
}
def BM_RoundOp : BM_Unary<"round", "stablehlo.round_nearest_afz", BM_FloatTensor, []> {
  let summary = "Rounding to nearest, ties away from zero";
  let description = [{The nearest integer; derivative zero. Example: `%1 = bm.round %0 : tensor<3xf32>`}];
  let primitives = ["round"];
}
def BM_RoundEvenOp : BM_Unary<"round_even", "stablehlo.round_nearest_even", BM_FloatTensor, []> {
  let summary = "Rounding to nearest, ties to even";
  let description = [{The nearest integer; derivative zero. Example: `%1 = bm.round_even %0 : tensor<3xf32>`}];
  let primitives = [];
}
def BM_NotOp : BM_Unary<"not", "stablehlo.not", BM_IntOrBoolTensor, []> {
  let summary = "Bitwise or logical complement";
  let description = [{`r = ~x`. Example: `%1 = bm.not %0 : tensor<3xi1>`}];
}
def BM_PopulationCountOp : BM_Unary<"population_count", "stablehlo.popcnt", BM_IntTensor, []> {
  let summary = "Number of bits that are set";
  let description = [{Example: `%1 = bm.population_count %0 : tensor<3xi32>`}];
}
def BM_ClzOp : BM_Unary<"clz", "stablehlo.count_leading_zeros", BM_IntTensor, []> {
  let summary = "Number of leading zero bits";
  let description = [{Example: `%1 = bm.clz %0 : tensor<3xi32>`}];
}
def BM_ConjOp : BM_Unary<"conj", "chlo.conj", BM_ComplexTensor, [], BM_HasTranspose> {
  let summary = "Complex conjugate";
  let description = [{`r = conj x`; linear over the reals, its own transpose.
    Example: `%1 = bm.conj %0 : tensor<3xcomplex<f32>>`}];
  let jvp = BM_LinearJvp;
}
def BM_IntegerPowOp : BM_Unary<"integer_pow", "", BM_NumberTensor,
    ["integerPowPartial(x, getExponent())"]> {
  let summary = "Power with a constant integer exponent";
  let description = [{`r = x^n`, derivative `n x^(n-1)`. Example: `%1 = bm.integer_pow %0 {exponent = 3 : i64} : tensor<3xf32>`}];
  let arguments = (ins BM_NumberTensor:$x, I64Attr:$exponent);
  let lowering = "";
}
def BM_ReducePrecisionOp : BM_Unary<"reduce_precision", "stablehlo.reduce_precision", BM_FloatTensor, [],
                                    BM_HasTranspose> {
  let summary = "Rounding to fewer exponent and mantissa bits";
  let description = [{The tangent is rounded alike. Example:
    `%1 = bm.reduce_precision %0 {exponent_bits = 5 : i32, mantissa_bits = 10 : i32} : tensor<3xf32>`}];
  let arguments = (ins BM_FloatTensor:$x, I32Attr:$exponent_bits, I32Attr:$mantissa_bits);
  let jvp = BM_LinearJvp;
}

/// Unary ops whose result has another element type than the operand.
class BM_Changing<string mnemonic, string hlo, Type from, Type to, list<Trait> traits = []>
    : BM_Elementwise<mnemonic, !listconcat([SameOperandsAndResultShape], traits)> {
  let arguments = (ins from:$x);
  let results = (outs to:$r);
  let assemblyFormat = "$x attr-dict `:` functional-type(operands, results)";
  let stablehlo = hlo;
}

def BM_AbsOp : BM_Changing<"abs", "stablehlo.abs", BM_NumberTensor, BM_RealTensor> {
  let summary = "Absolute value";
  let description = [{`r = |x|`, derivative `-1` below zero, else `1`; of a complex number the modulus, with
    tangent `Re(conj(x) dx)/r`. Example: `%1 = bm.abs %0 : (tensor<3xf32>) -> tensor<3xf32>`}];
  let jvp = "";
}
def BM_IsFiniteOp : BM_Changing<"is_finite", "stablehlo.is_finite", BM_FloatTensor, BM_BoolTensor> {
  let summary = "Whether neither infinite nor NaN";
  let description = [{Example: `%1 = bm.is_finite %0 : (tensor<3xf32>) -> tensor<3xi1>`}];
}
def BM_RealOp : BM_Changing<"real", "stablehlo.real", BM_ComplexTensor, BM_FloatTensor, BM_HasTranspose> {
  let summary = "Real part";
  let description = [{Linear. Example: `%1 = bm.real %0 : (tensor<3xcomplex<f32>>) -> tensor<3xf32>`}];
  let jvp = BM_LinearJvp;
}
def BM_ImagOp : BM_Changing<"imag", "stablehlo.imag", BM_ComplexTensor, BM_FloatTensor, BM_HasTranspose> {
  let summary = "Imaginary part";
  let description = [{Linear. Example: `%1 = bm.imag %0 : (tensor<3xcomplex<f32>>) -> tensor<3xf32>`}];
  let jvp = BM_LinearJvp;
}
def BM_ConvertOp : BM_Changing<"convert", "stablehlo.convert", BM_Tensor, BM_Tensor, BM_HasTranspose> {
  let summary = "Conversion of the element type";
  let description = [{Linear between float and complex types; zero derivative where integers or booleans
    take part. Example: `%1 = bm.convert %0 : (tensor<3xf32>) -> tensor<3xf64>`}];
  let primitives = ["convert_element_type"];
  let jvp = "";
  let lowering = "";
  let hasFolder = 1;
}
def BM_BitcastOp : BM_Op<"bitcast_convert", !listconcat(BM_HasJvp, BM_HasBatching, BM_HasLowering)> {
  let summary = "Reinterpretation of the bits";
  let description = [{Where the element widths differ the last dimension appears or disappears, as in
    StableHLO. Zero derivative. Example: `%1 = bm.bitcast_convert %0 : (tensor<3xf32>) -> tensor<3xi32>`}];
  let primitives = ["bitcast_convert_type"];
  let stablehlo = "stablehlo.bitcast_convert";
  let arguments = (ins BM_Tensor:$x);
  let results = (outs BM_Tensor:$r);
  let assemblyFormat = "$x attr-dict `:` functional-type(operands, results)";
  let definition = !strconcat(BM_ZeroJvp, BM_OneToOneLowering, BM_LeadingBatching);
}
def BM_StopGradientOp : BM_Unary<"stop_gradient", "", BM_Tensor, []> {
  let summary = "Identity with zero derivative";
  let description = [{Example: `%1 = bm.stop_gradient %0 : tensor<3xf32>`}];
  let lowering = "";
}

//===----------------------------------------------------------------------===//
// Binary
//===----------------------------------------------------------------------===//

def BM_AddOp : BM_Binary<"add", "stablehlo.add", BM_Tensor, [],
                         !listconcat([Commutative], BM_HasTranspose)> {
  let summary = "Addition";
  let description = [{`r = x + y`; of booleans, disjunction. Example: `%2 = bm.add %0, %1 : tensor<3xf32>`}];
  let primitives = ["add", "add_any"];
  let jvp = BM_LinearJvp;
  let hasFolder = 1;
  let hasCanonicalizeMethod = 1;
}
def BM_SubOp : BM_Binary<"sub", "stablehlo.subtract", BM_NumberTensor, [], BM_HasTranspose> {
  let summary = "Subtraction";
  let description = [{`r = x - y`. Example: `%2 = bm.sub %0, %1 : tensor<3xf32>`}];
  let jvp = BM_LinearJvp;
  let hasFolder = 1;
  let hasCanonicalizeMethod = 1;
}
def BM_MulOp : BM_Binary<"mul", "stablehlo.multiply", BM_Tensor, [],
                         !listconcat([Commutative], BM_HasTranspose)> {
  let summary = "Multiplication";
  let description = [{`r = x y`, bilinear; of booleans, conjunction. Example: `%2 = bm.mul %0, %1 : tensor<3xf32>`}];
  let jvp = BM_MultilinearJvp;
  let hasFolder = 1;
  let hasCanonicalizeMethod = 1;
}
def BM_DivOp : BM_Binary<"div", "stablehlo.divide", BM_NumberTensor, [], BM_HasTranspose> {
  let summary = "Division";
  let description = [{`r = x / y`; linear in `x`, tangent `dx/y - (r/y) dy`. Integers round toward zero.
    `allow_reciprocal`, as divisions of derivatives have it, lets `bm-use-reciprocals` multiply by `1/y`.
    Example: `%2 = bm.div %0, %1 : tensor<3xf32>`}];
  let arguments = (ins BM_NumberTensor:$x, BM_NumberTensor:$y, UnitAttr:$allow_reciprocal);
  let jvp = "";
  let hasFolder = 1;
  let hasCanonicalizeMethod = 1;
}
def BM_RemOp : BM_Binary<"rem", "stablehlo.remainder", BM_RealTensor,
    ["constantLike(x, 1.0)", "-(sign(x / y) * floor(abs(x / y)))"]> {
  let summary = "Remainder with the sign of the dividend";
  let description = [{`r = x - y trunc(x/y)`. Example: `%2 = bm.rem %0, %1 : tensor<3xf32>`}];
}
def BM_PowOp : BM_Elementwise<"pow", [SameOperandsAndResultShape]> {
  let summary = "Power";
  let description = [{`r = x^y`, partial derivatives `y x^(y-1)` (0 where `x = y = 0`) and `r log x` (0 where
    `x = 0` and `y >= 0`). The exponent may be an integer array.
    Example: `%2 = bm.pow %0, %1 : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>`}];
  let arguments = (ins BM_NumberTensor:$x, BM_NumberTensor:$y);
  let results = (outs BM_NumberTensor:$r);
  let assemblyFormat = "$x `,` $y attr-dict `:` functional-type(operands, results)";
  let stablehlo = "stablehlo.power";
  let partials = ["powPartialBase(x, y)", "powPartialExponent(x, y, r)"];
  let lowering = "";
}
def BM_MaxOp : BM_Binary<"max", "stablehlo.maximum", BM_Tensor,
    ["winner(gt(x, y), eq(x, y), x)", "winner(gt(y, x), eq(x, y), x)"], [Commutative]> {
  let summary = "Maximum";
  let description = [{The larger operand gets the derivative; equal ones a half each. NaN propagates.
    Complex numbers are ordered by real, then imaginary part.
    Example: `%2 = bm.max %0, %1 : tensor<3xf32>`}];
  let lowering = "";
}
def BM_MinOp : BM_Binary<"min", "stablehlo.minimum", BM_Tensor,
    ["winner(lt(x, y), eq(x, y), x)", "winner(lt(y, x), eq(x, y), x)"], [Commutative]> {
  let summary = "Minimum";
  let description = [{The smaller operand gets the derivative; equal ones a half each. NaN propagates.
    Complex numbers are ordered by real, then imaginary part.
    Example: `%2 = bm.min %0, %1 : tensor<3xf32>`}];
  let lowering = "";
}
def BM_Atan2Op : BM_Binary<"atan2", "stablehlo.atan2", BM_InexactTensor,
    ["y / (x * x + y * y)", "-x / (x * x + y * y)"]> {
  let summary = "Angle of the point (y, x)";
  let description = [{`r = atan2(x, y)`, the angle whose tangent is `x/y`. Example: `%2 = bm.atan2 %0, %1 : tensor<3xf32>`}];
}
def BM_NextafterOp : BM_Binary<"nextafter", "chlo.next_after", BM_FloatTensor,
    ["constantLike(x, 1.0)", "constantLike(x, 0.0)"]> {
  let summary = "Next representable number from x towards y";
  let description = [{Its derivative is 1 in `x` and 0 in `y`. Example: `%2 = bm.nextafter %0, %1 : tensor<3xf32>`}];
}
def BM_AndOp : BM_Binary<"and", "stablehlo.and", BM_IntOrBoolTensor, [], [Commutative]> {
  let summary = "Bitwise or logical and";
  let description = [{Example: `%2 = bm.and %0, %1 : tensor<3xi1>`}];
}
def BM_OrOp : BM_Binary<"or", "stablehlo.or", BM_IntOrBoolTensor, [], [Commutative]> {
  let summary = "Bitwise or logical or";
  let description = [{Example: `%2 = bm.or %0, %1 : tensor<3xi1>`}];
}
def BM_XorOp : BM_Binary<"xor", "stablehlo.xor", BM_IntOrBoolTensor, [], [Commutative]> {
  let summary = "Bitwise or logical exclusive or";
  let description = [{Example: `%2 = bm.xor %0, %1 : tensor<3xi1>`}];
}
def BM_ShiftLeftOp : BM_Binary<"shift_left", "stablehlo.shift_left", BM_IntTensor, []> {
  let summary = "Shift of bits to the left";
  let description = [{Example: `%2 = bm.shift_left %0, %1 : tensor<3xi32>`}];
}
def BM_ShiftRightArithmeticOp
    : BM_Binary<"shift_right_arithmetic", "stablehlo.shift_right_arithmetic", BM_IntTensor, []> {
  let summary = "Shift of bits to the right, keeping the sign";
  let description = [{Example: `%2 = bm.shift_right_arithmetic %0, %1 : tensor<3xi32>`}];
}
def BM_ShiftRightLogicalOp
    : BM_Binary<"shift_right_logical", "stablehlo.shift_right_logical", BM_IntTensor, []> {
  let summary = "Shift of bits to the right, filling with zeros";
  let description = [{Example: `%2 = bm.shift_right_logical %0, %1 : tensor<3xi32>`}];
}
def BM_ComplexOp : BM_Elementwise<"complex", !listconcat([SameOperandsAndResultShape, SameTypeOperands],
                                                         BM_HasTranspose)> {
  let summary = "Complex number from its parts";
  let description = [{`r = x + i y`, linear.
    Example: `%2 = bm.complex %0, %1 : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xcomplex<f32>>`}];
  let arguments = (ins BM_FloatTensor:$x, BM_FloatTensor:$y);
  let results = (outs BM_ComplexTensor:$r);
  let assemblyFormat = "$x `,` $y attr-dict `:` functional-type(operands, results)";
  let stablehlo = "stablehlo.complex";
  let jvp = BM_LinearJvp;
}

//===----------------------------------------------------------------------===//
// Comparison and choice
//===----------------------------------------------------------------------===//

def BM_CompareOp : BM_Elementwise<"compare", [SameTypeOperands, SameOperandsAndResultShape]> {
  let summary = "Comparison";
  let description = [{`total_order` puts -NaN below and NaN above every number.
    Example: `%2 = bm.compare lt %0, %1 : tensor<3xf32> -> tensor<3xi1>`}];
  let primitives = ["eq", "ne", "lt", "le", "gt", "ge", "eq_to", "le_to", "lt_to"];
  let arguments = (ins BM_Tensor:$x, BM_Tensor:$y, BM_CompareDirectionAttr:$direction,
                       UnitAttr:$total_order);
  let results = (outs BM_BoolTensor:$r);
  let assemblyFormat = "custom<Direction>($direction) $x `,` $y attr-dict `:` type($x) `->` type($r)";
  let lowering = "";
  let hasFolder = 1;
}

def BM_SelectOp : BM_Elementwise<"select", !listconcat([
    AllTypesMatch<["on_true", "on_false", "r"]>], BM_HasTranspose)> {
  let summary = "Choice between two arrays by a predicate";
  let description = [{`r = predicate ? on_true : on_false`, element by element; a predicate of rank 0 chooses
    whole arrays. Linear in both cases, together. Example:
    `%3 = bm.select %p, %a, %b : tensor<3xi1>, tensor<3xf32>`}];
  let primitives = ["select_n"];
  let arguments = (ins BM_BoolTensor:$predicate, BM_Tensor:$on_true, BM_Tensor:$on_false);
  let results = (outs BM_Tensor:$r);
  let assemblyFormat = "$predicate `,` $on_true `,` $on_false attr-dict `:` type($predicate) `,` type($r)";
  let stablehlo = "stablehlo.select";
  let jvp = "";
  let hasFolder = 1;
  let hasVerifier = 1;
  let definition = BM_OneToOneLowering;
}

def BM_ClampOp : BM_Elementwise<"clamp", [SameOperandsAndResultType]> {
  let summary = "Restriction to an interval";
  let description = [{`r = min(max(y, x), z)` for the value `y` between the bounds `x` and `z`. The derivative goes to
    the operand that is the result; a value on a bound counts as restricted.
    Example: `%3 = bm.clamp %low, %value, %high : tensor<3xf32>`}];
  let arguments = (ins BM_Tensor:$low, BM_Tensor:$value, BM_Tensor:$high);
  let results = (outs BM_Tensor:$r);
  let assemblyFormat = "$low `,` $value `,` $high attr-dict `:` type($r)";
  let stablehlo = "stablehlo.clamp";
  let partials = [
    "mask(gt(x, y) & lt(x, z), x)", "mask(gt(y, x) & lt(y, z), y)", "mask(lt(z, y), z)"];
}

#endif // BMGRAD_DIALECT_BM_ELEMENTWISE_TD
