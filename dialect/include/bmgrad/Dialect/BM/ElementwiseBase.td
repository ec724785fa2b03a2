//===- ElementwiseBase.td - Classes of elementwise ops -*- tablegen -*------===//
//
// A record's `partials` are its derivative rule: the partial derivative with
// respect to each operand, as a C++ expression over the operands x, y, z and
// the result r (class Expr in Expr.h). No partials: the derivative is zero;
// `undefined()`: differentiating is an error.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_DIALECT_BM_ELEMENTWISEBASE_TD
#define BMGRAD_DIALECT_BM_ELEMENTWISEBASE_TD

include "bmgrad/Dialect/BM/BMBase.td"

class BM_Elementwise<string mnemonic, list<Trait> traits>
    : BM_Op<mnemonic, !listconcat(traits, BM_HasJvp,
                                  BM_HasBatching, BM_HasLowering)> {
  list<string> partials = [];
  code jvp = [{
    ::mlir::LogicalResult $cppClass::emitJvp(::bmgrad::bm::JvpFrame &frame) {
      using ::bmgrad::bm::Expr;
      using namespace ::bmgrad::bm::expr;
      return ::bmgrad::bm::detail::jvpFromPartials(*this, frame, {}] #
        !interleave(!foreach(p, partials,
          "[&]([[maybe_unused]] Expr x, [[maybe_unused]] Expr y, "
          "[[maybe_unused]] Expr z, [[maybe_unused]] Expr r) -> Expr { return " # p # "; }"),
          ", ") # [{});
    }
  }];
  code lowering = BM_OneToOneLowering;
  let definition = !strconcat(jvp, BM_LeadingBatching, lowering);
}

class BM_Unary<string mnemonic, string hlo, Type type, list<string> d,
               list<Trait> traits = []>
    : BM_Elementwise<mnemonic, !listconcat([SameOperandsAndResultType], traits)> {
  let arguments = (ins type:$x);
  let results = (outs type:$r);
  let assemblyFormat = "$x attr-dict `:` type($r)";
  let stablehlo = hlo;
  let partials = d;
}

class BM_Binary<string mnemonic, string hlo, Type type, list<string> d,
                list<Trait> traits = []>
    : BM_Elementwise<mnemonic, !listconcat([SameOperandsAndResultType], traits)> {
  let arguments = (ins type:$x, type:$y);
  let results = (outs type:$r);
  let assemblyFormat = "$x `,` $y attr-dict `:` type($r)";
  let stablehlo = hlo;
  let partials = d;
}

#endif // BMGRAD_DIALECT_BM_ELEMENTWISEBASE_TD
