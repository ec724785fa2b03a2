/*===- BM.h - C interface of the bm dialect and its passes --------*- C -*-===*\
|*                                                                            *|
|* What the Python bindings need beyond MLIR's own C interface.               *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/

#ifndef BMGRAD_C_BM_H
#define BMGRAD_C_BM_H

#include "mlir-c/IR.h"
#include "mlir-c/Support.h"

#ifdef __cplusplus
extern "C" {
#endif

/// Adds bm, func and the inlining of func to the registry.
MLIR_CAPI_EXPORTED void bmRegisterDialects(MlirDialectRegistry registry);

/// Registers every pass and pipeline that textual pipelines may name.
MLIR_CAPI_EXPORTED void bmRegisterPasses(void);

/// The facts of one op's ODS record, and which rules the op has. Strings live
/// as long as the process; the array of primitives only during the callback.
typedef struct BMOpRecord {
  MlirStringRef name;
  MlirStringRef family;
  MlirStringRef stablehlo;
  intptr_t numPrimitives;
  const MlirStringRef *primitives;
  bool hasJvp;
  bool hasTranspose;
  bool hasBatching;
  bool hasLowering;
} BMOpRecord;

typedef void (*BMOpRecordCallback)(const BMOpRecord *record, void *userData);

/// Calls back once for each op of the dialect, family by family.
MLIR_CAPI_EXPORTED void bmForEachOp(BMOpRecordCallback callback,
                                    void *userData);

/// Calls back with the name of each pipeline that bmRegisterPasses registers.
MLIR_CAPI_EXPORTED void bmForEachPipeline(MlirStringCallback callback,
                                          void *userData);

/// Says of a kernel that is called `symbol` once it is lowered which of its
/// `count` results have the outermost batch: clears `results` of the others.
/// What it gives to `reason` is why it cannot tell.
typedef void (*BMBatchingRuleCallback)(MlirStringRef symbol, bool *results,
                                       intptr_t count,
                                       MlirStringCallback reason,
                                       void *reasonData);

/// Makes what the batching rule makes of a call over `batch`: gives the
/// module to `module`, or to `reason` why there is none.
typedef void (*BMMakeBatchCallback)(int64_t number, MlirStringRef batch,
                                    MlirStringCallback module,
                                    MlirStringCallback reason, void *moduleData,
                                    void *reasonData);

/// Whom to ask, from now on, what batching rules give.
MLIR_CAPI_EXPORTED void bmSetBatchingRules(BMBatchingRuleCallback ask,
                                           BMMakeBatchCallback make);

#ifdef __cplusplus
}
#endif

#endif /* BMGRAD_C_BM_H */
