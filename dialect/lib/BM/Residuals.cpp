//===- Residuals.cpp - The rules of the ops of Residuals.td ---------------===//

#include "bmgrad/Dialect/BM/Residuals.h"
#include "ControlUtils.h"

#include "mlir/IR/Builders.h"

using namespace mlir;
using namespace bmgrad::bm;

#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Residuals.cpp.inc"

void bmgrad::bm::addResidualsOps(BMDialect &dialect) {
  dialect.addFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/Residuals.cpp.inc"
      >();
}

//===----------------------------------------------------------------------===//
// saveable
//===----------------------------------------------------------------------===//

LogicalResult SaveableOp::emitJvp(JvpFrame &frame) {
  frame.results.push_back(SaveableOp::create(frame.b, frame.primals.front()));
  frame.resultTangents.push_back(frame.tangents.front());
  return success();
}

LogicalResult SaveableOp::emitTranspose(TransposeFrame &frame) {
  frame.operandCotangents.front() = frame.cotangents.front();
  return success();
}

LogicalResult SaveableOp::emitLowering(LoweringFrame &frame) {
  frame.results.push_back(getX());
  return success();
}

//===----------------------------------------------------------------------===//
// optimization_barrier
//===----------------------------------------------------------------------===//

LogicalResult OptimizationBarrierOp::verify() {
  if (getOperandTypes() != getResultTypes())
    return emitOpError("gives its operands, so it has their types: expected (")
           << getOperandTypes() << "), got (" << getResultTypes() << ")";
  return success();
}

/// A barrier of the values that are there, or nulls where there are none.
static SmallVector<Value> barrierOf(ImplicitLocOpBuilder &b,
                                    ArrayRef<Value> values) {
  auto given = llvm::to_vector(
      llvm::make_filter_range(values, [](Value v) { return v; }));
  auto made =
      OptimizationBarrierOp::create(b, ValueRange(given).getTypes(), given);
  SmallVector<Value> results;
  unsigned next = 0;
  for (Value value : values)
    results.push_back(value ? made.getResult(next++) : Value());
  return results;
}

SmallVector<bool> OptimizationBarrierOp::flowResults(ArrayRef<bool> marked,
                                                     BlockFlow) {
  return SmallVector<bool>(marked);
}

LogicalResult OptimizationBarrierOp::emitJvp(JvpFrame &frame) {
  frame.results = barrierOf(frame.b, frame.primals);
  frame.resultTangents = barrierOf(frame.b, frame.tangents);
  return success();
}

LogicalResult OptimizationBarrierOp::emitSplit(SplitFrame &frame) {
  SmallVector<bool> isLinear = control::flagsOf(getInputs(), frame.linear);
  for (bool wanted : {false, true}) {
    SmallVector<Value> inputs = control::pick(getInputs(), isLinear, wanted);
    if (inputs.empty())
      continue;
    SmallVector<Value> made = barrierOf(frame.b, inputs);
    if (wanted)
      frame.linear.insert(made.begin(), made.end());
    for (auto [result, value] :
         llvm::zip_equal(control::pick(getResults(), isLinear, wanted), made))
      result.replaceAllUsesWith(value);
  }
  erase();
  return success();
}

LogicalResult OptimizationBarrierOp::emitTranspose(TransposeFrame &frame) {
  frame.operandCotangents = barrierOf(frame.b, frame.cotangents);
  return success();
}

LogicalResult OptimizationBarrierOp::emitBatch(BatchFrame &frame) {
  frame.results = barrierOf(frame.b, frame.operands);
  frame.resultBatched.assign(frame.batched.begin(), frame.batched.end());
  return success();
}
