//===- BMDialect.h - The bm dialect and its ops -----------------*- C++ -*-===//

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

#include "bmgrad/Dialect/BM/BMDialect.h.inc"
#include "bmgrad/Dialect/BM/BMEnums.h.inc"
#include "bmgrad/Dialect/BM/BMInterfaces.h.inc"

#define GET_ATTRDEF_CLASSES
#include "bmgrad/Dialect/BM/BMAttributes.h.inc"

#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Elementwise.h.inc"
#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Shape.h.inc"
#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Indexing.h.inc"
#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Sorting.h.inc"
#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Reduction.h.inc"
#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Contraction.h.inc"
#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Control.h.inc"
#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Transforms.h.inc"
#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Custom.h.inc"
#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Kernel.h.inc"

#endif // BMGRAD_DIALECT_BM_BMDIALECT_H
