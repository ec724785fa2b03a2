//===- BMDialect.h - The bm dialect, its interfaces and attributes -*- C++ -*-//
//
// The ops of a family are in <Family>.h, all of them in BMOps.h.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_DIALECT_BM_BMDIALECT_H
#define BMGRAD_DIALECT_BM_BMDIALECT_H

#include "bmgrad/Dialect/BM/Rules.h"
#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/ControlFlowInterfaces.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

namespace bmgrad::bm {
// Their regions end with the `bm.yield` of another family.
class ReduceOp;
class ReduceWindowOp;
} // namespace bmgrad::bm

#include "bmgrad/Dialect/BM/BMDialect.h.inc"
#include "bmgrad/Dialect/BM/BMEnums.h.inc"
#include "bmgrad/Dialect/BM/BMInterfaces.h.inc"

#define GET_ATTRDEF_CLASSES
#include "bmgrad/Dialect/BM/BMAttributes.h.inc"

#endif // BMGRAD_DIALECT_BM_BMDIALECT_H
