//===- BMDialect.cpp - The bm dialect -------------------------------------===//

#include "bmgrad/Dialect/BM/BMDialect.h"
#include "bmgrad/Dialect/BM/Elementwise.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "mlir/Transforms/InliningUtils.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace bmgrad::bm;

#include "bmgrad/Dialect/BM/BMDialect.cpp.inc"
#include "bmgrad/Dialect/BM/BMEnums.cpp.inc"
#include "bmgrad/Dialect/BM/BMInterfaces.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "bmgrad/Dialect/BM/BMAttributes.cpp.inc"

namespace {
/// Every bm op is pure or symbolic, so it may go wherever a call stood.
struct BMInlinerInterface : DialectInlinerInterface {
  using DialectInlinerInterface::DialectInlinerInterface;

  bool isLegalToInline(Operation *, Operation *, bool) const final {
    return true;
  }
  bool isLegalToInline(Region *, Region *, bool, IRMapping &) const final {
    return true;
  }
  bool isLegalToInline(Operation *, Region *, bool, IRMapping &) const final {
    return true;
  }
};
} // namespace

// Declared here and not by BMDialect.h: a new family compiles no other anew.
namespace bmgrad::bm {
#define BM_FAMILY(name) void add##name##Ops(BMDialect &dialect);
#include "bmgrad/Dialect/BM/BMFamilies.def"
#undef BM_FAMILY
} // namespace bmgrad::bm

void BMDialect::initialize() {
#define BM_FAMILY(name) add##name##Ops(*this);
#include "bmgrad/Dialect/BM/BMFamilies.def"
#undef BM_FAMILY
  addAttributes<
#define GET_ATTRDEF_LIST
#include "bmgrad/Dialect/BM/BMAttributes.cpp.inc"
      >();
  addInterfaces<BMInlinerInterface>();
}

Operation *BMDialect::materializeConstant(OpBuilder &builder, Attribute value,
                                          Type type, Location loc) {
  if (auto elements = dyn_cast<ElementsAttr>(value))
    return ConstantOp::create(builder, loc, type, elements);
  return nullptr;
}
