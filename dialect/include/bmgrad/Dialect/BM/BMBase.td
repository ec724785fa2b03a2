//===- BMBase.td - The bm dialect, its types and op classes -*- tablegen -*-===//
//
// In: nothing. Out: the dialect, type constraints and the base classes of the
// op families. Next: one family a file (Elementwise.td, Shape.td, ...).
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_DIALECT_BM_BMBASE_TD
#define BMGRAD_DIALECT_BM_BMBASE_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/OpAsmInterface.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "bmgrad/Dialect/BM/BMInterfaces.td"

def BM_Dialect : Dialect {
  let name = "bm";
  let cppNamespace = "::bmgrad::bm";
  let summary = "Differentiable array programs";
  let description = [{
    Array programs as they are differentiated: ops on statically shaped
    tensors with the meaning of `jax.lax`, loops and branches with regions,
    and transforms (`bm.jvp`, `bm.vjp`, `bm.batch`) of functions. Each op
    carries one derivative rule, one batching rule and one lowering to
    StableHLO.
  }];
  let hasConstantMaterializer = 1;
  let extraClassDeclaration = [{
    /// Each family registers its ops in its own file: op classes are heavy to
    /// compile, so no file holds them all.
    template <typename... Ops> void addFamily() { addOperations<Ops...>(); }
  }];
  let useDefaultAttributePrinterParser = 1;
}

//===----------------------------------------------------------------------===//
// Types
//===----------------------------------------------------------------------===//

// What XLA has, and so not the ones of six bits.
def BM_NarrowFloat : AnyTypeOf<[F4E2M1FN, F8E3M4, F8E4M3, F8E4M3B11FNUZ,
                                F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ,
                                F8E8M0FNU], "narrow float">;
def BM_Float : AnyTypeOf<[F16, BF16, F32, F64, BM_NarrowFloat], "float">;
def BM_Complex : AnyTypeOf<[Complex<F32>, Complex<F64>], "complex">;
def BM_SignedInt : SignlessIntOfWidths<[2, 4, 8, 16, 32, 64]>;
def BM_UnsignedInt : UnsignedIntOfWidths<[2, 4, 8, 16, 32, 64]>;
def BM_Int : AnyTypeOf<[BM_SignedInt, BM_UnsignedInt], "integer">;
def BM_Bool : TypeAlias<I1, "bool">;
def BM_Element : AnyTypeOf<[BM_Float, BM_Complex, BM_Int, BM_Bool],
                           "float, complex, integer or bool">;

def BM_Tensor : StaticShapeTensorOf<[BM_Element]>;
def BM_FloatTensor : StaticShapeTensorOf<[BM_Float]>;
def BM_InexactTensor : StaticShapeTensorOf<[BM_Float, BM_Complex]>;
def BM_ComplexTensor : StaticShapeTensorOf<[BM_Complex]>;
def BM_IntTensor : StaticShapeTensorOf<[BM_Int]>;
def BM_IntOrBoolTensor : StaticShapeTensorOf<[BM_Int, BM_Bool]>;
def BM_NumberTensor : StaticShapeTensorOf<[BM_Float, BM_Complex, BM_Int]>;
def BM_RealTensor : StaticShapeTensorOf<[BM_Float, BM_Int]>;
def BM_OrderedTensor : StaticShapeTensorOf<[BM_Float, BM_Int, BM_Bool]>;
def BM_BoolTensor : StaticShapeTensorOf<[BM_Bool]>;

//===----------------------------------------------------------------------===//
// Enumerations
//===----------------------------------------------------------------------===//

def BM_CompareDirection : I32EnumAttr<"CompareDirection", "Which comparison", [
  I32EnumAttrCase<"EQ", 0, "eq">, I32EnumAttrCase<"NE", 1, "ne">,
  I32EnumAttrCase<"LT", 2, "lt">, I32EnumAttrCase<"LE", 3, "le">,
  I32EnumAttrCase<"GT", 4, "gt">, I32EnumAttrCase<"GE", 5, "ge">]> {
  let cppNamespace = "::bmgrad::bm";
  let genSpecializedAttr = 0;
}
def BM_CompareDirectionAttr : EnumAttr<BM_Dialect, BM_CompareDirection, "compare">;

//===----------------------------------------------------------------------===//
// Op classes
//===----------------------------------------------------------------------===//

/// Every op. `primitives` names the jaxpr primitives that the op is imported
/// from; `stablehlo` the StableHLO or CHLO op it becomes where that is one to
/// one. Families add C++ through `declaration` and `definition`. `memory` says what
/// the op does beside computing its results.
class BM_Op<string mnemonic, list<Trait> traits = [], list<Trait> memory = [Pure]>
    : Op<BM_Dialect, mnemonic, !listconcat(memory, [BM_RecordInterface], traits)> {
  list<string> primitives = [mnemonic];
  string stablehlo = "";
  code declaration = "";
  code definition = "";

  let extraClassDeclaration = [{
    static ::llvm::ArrayRef<::llvm::StringLiteral> getPrimitives();
    static ::llvm::StringLiteral getStablehloName();
  }] # declaration;
  let extraClassDefinition = [{
    ::llvm::ArrayRef<::llvm::StringLiteral> $cppClass::getPrimitives() {
      static constexpr ::std::array<::llvm::StringLiteral, }] #
      !size(primitives) # [{> names = {}] #
      !interleave(!foreach(p, primitives, "::llvm::StringLiteral(\"" # p # "\")"), ", ") #
      [{};
      return names;
    }
    ::llvm::StringLiteral $cppClass::getStablehloName() { return "}] # stablehlo # [{"; }
  }] # definition;
}

/// The four rules, as lists of the interface methods an op class defines.
defvar BM_HasJvp = [DeclareOpInterfaceMethods<BM_DifferentiableOpInterface, ["emitJvp"]>];
defvar BM_HasTranspose = [DeclareOpInterfaceMethods<BM_LinearOpInterface, ["emitTranspose"]>];
defvar BM_HasBatching = [DeclareOpInterfaceMethods<BM_BatchableOpInterface, ["emitBatch"]>];
defvar BM_HasLowering = [DeclareOpInterfaceMethods<BM_LowerableOpInterface, ["emitLowering"]>];
defvar BM_HasSplit = [DeclareOpInterfaceMethods<BM_SplittableOpInterface, ["emitSplit"]>];

/// What an op does that has the attribute `has_side_effect`: then it is neither dead
/// nor equal to another one, whoever reads its results.
defvar BM_MayHaveSideEffect = [DeclareOpInterfaceMethods<MemoryEffectsOpInterface>];
defvar BM_SideEffect = [{
  void $cppClass::getEffects(
      ::llvm::SmallVectorImpl<::mlir::MemoryEffects::EffectInstance> &effects) {
    if (getHasSideEffect())
      effects.emplace_back(::mlir::MemoryEffects::Write::get());
  }
}];

/// Rules that many ops share, each a few lines of C++ for `definition`. Join them with
/// !strconcat: after `#` the name of a global defvar would be pasted verbatim.
defvar BM_ZeroJvp = [{
  ::mlir::LogicalResult $cppClass::emitJvp(::bmgrad::bm::JvpFrame &frame) {
    return ::bmgrad::bm::detail::jvpZero(*this, frame);
  }
}];
/// Linear in every operand of float or complex type, taken together.
defvar BM_LinearJvp = [{
  ::mlir::LogicalResult $cppClass::emitJvp(::bmgrad::bm::JvpFrame &frame) {
    return ::bmgrad::bm::detail::jvpLinear(*this, frame);
  }
}];
/// Linear in each operand of float or complex type, the others held.
defvar BM_MultilinearJvp = [{
  ::mlir::LogicalResult $cppClass::emitJvp(::bmgrad::bm::JvpFrame &frame) {
    return ::bmgrad::bm::detail::jvpMultilinear(*this, frame);
  }
}];
defvar BM_OneToOneLowering = [{
  ::mlir::LogicalResult $cppClass::emitLowering(::bmgrad::bm::LoweringFrame &frame) {
    return ::bmgrad::bm::detail::lowerOneToOne(*this, getStablehloName(), frame);
  }
}];
defvar BM_KernelLowering = [{
  ::mlir::LogicalResult $cppClass::emitLowering(::bmgrad::bm::LoweringFrame &frame) {
    return ::bmgrad::bm::detail::lowerToKernel(*this, frame);
  }
}];
/// Operands and results are batched by a leading dimension, whatever they are otherwise.
defvar BM_LeadingBatching = [{
  ::mlir::LogicalResult $cppClass::emitBatch(::bmgrad::bm::BatchFrame &frame) {
    return ::bmgrad::bm::detail::batchLeading(*this, frame);
  }
}];

#endif // BMGRAD_DIALECT_BM_BMBASE_TD
