//===- Precision.td - How exactly products are computed -*- tablegen -*-----===//

#ifndef BMGRAD_DIALECT_BM_PRECISION_TD
#define BMGRAD_DIALECT_BM_PRECISION_TD

include "bmgrad/Dialect/BM/BMBase.td"

def BM_Precision : I32EnumAttr<"Precision", "How exactly a matrix unit multiplies", [
  I32EnumAttrCase<"Default", 0, "default">, I32EnumAttrCase<"High", 1, "high">,
  I32EnumAttrCase<"Highest", 2, "highest">]> {
  let cppNamespace = "::bmgrad::bm";
  let genSpecializedAttr = 0;
}
def BM_PrecisionAttr : EnumAttr<BM_Dialect, BM_Precision, "precision">;
def BM_PrecisionPairAttr
    : ConfinedAttr<TypedArrayAttrBase<BM_PrecisionAttr, "precisions of the operands">,
                   [ArrayCount<2>]>;

#endif // BMGRAD_DIALECT_BM_PRECISION_TD
