//===- Transforms.cpp - Verifiers of the ops of Transforms.td -------------===//

#include "bmgrad/Dialect/BM/Transforms.h"

#include "mlir/IR/Builders.h"
#include "mlir/Interfaces/FunctionInterfaces.h"

using namespace mlir;
using namespace bmgrad::bm;

#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Transforms.cpp.inc"

void bmgrad::bm::addTransformsOps(BMDialect &dialect) {
  dialect.addFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/Transforms.cpp.inc"
      >();
}

static FailureOr<FunctionOpInterface>
lookupCallee(Operation *op, FlatSymbolRefAttr callee,
             SymbolTableCollection &symbols) {
  auto function =
      symbols.lookupNearestSymbolFrom<FunctionOpInterface>(op, callee);
  if (!function)
    return op->emitOpError("refers to ")
           << callee << ", which is no function of this module";
  if (function.isExternal())
    return op->emitOpError("cannot transform ") << callee << ": it has no body";
  return function;
}

static LogicalResult expectTypes(Operation *op, StringRef what,
                                 TypeRange actual, ArrayRef<Type> expected) {
  if (llvm::equal(actual, expected))
    return success();
  InFlightDiagnostic diagnostic = op->emitOpError("has ") << what << " (";
  llvm::interleaveComma(actual, diagnostic);
  diagnostic << ") where (";
  llvm::interleaveComma(expected, diagnostic);
  return diagnostic << ") are expected";
}

/// Checks what `attribute` says of the arguments or results (`kind`) of the
/// function.
static LogicalResult verifyChosen(Operation *op, StringRef attribute,
                                  StringRef kind, ArrayRef<int64_t> chosen,
                                  TypeRange types) {
  for (int64_t index : chosen) {
    if (index < 0 || index >= static_cast<int64_t>(types.size()))
      return op->emitOpError(attribute)
             << " names " << kind << " " << index << ", but the function has "
             << types.size();
    if (!isDifferentiable(types[index]))
      return op->emitOpError(attribute)
             << " names " << kind << " " << index << " of type " << types[index]
             << ", which has no derivative";
  }
  return success();
}

LogicalResult JvpOp::verifySymbolUses(SymbolTableCollection &symbols) {
  auto function = lookupCallee(*this, getCalleeAttr(), symbols);
  if (failed(function) ||
      failed(verifyChosen(*this, "wrt", "argument", getWrt(),
                          function->getArgumentTypes())))
    return failure();
  SmallVector<Type> operands(function->getArgumentTypes()),
      results(function->getResultTypes());
  for (int64_t index : getWrt())
    operands.push_back(function->getArgumentTypes()[index]);
  for (Type type : function->getResultTypes())
    if (isDifferentiable(type))
      results.push_back(type);
  return success(
      succeeded(expectTypes(*this, "operands", getOperandTypes(), operands)) &&
      succeeded(expectTypes(*this, "results", getResultTypes(), results)));
}

LogicalResult VjpOp::verifySymbolUses(SymbolTableCollection &symbols) {
  auto function = lookupCallee(*this, getCalleeAttr(), symbols);
  if (failed(function) ||
      failed(verifyChosen(*this, "wrt", "argument", getWrt(),
                          function->getArgumentTypes())) ||
      failed(verifyChosen(*this, "of", "result", getOf(),
                          function->getResultTypes())))
    return failure();
  SmallVector<Type> operands(function->getArgumentTypes()),
      results(function->getResultTypes());
  for (int64_t index : getOf())
    operands.push_back(function->getResultTypes()[index]);
  for (int64_t index : getWrt())
    results.push_back(function->getArgumentTypes()[index]);
  return success(
      succeeded(expectTypes(*this, "operands", getOperandTypes(), operands)) &&
      succeeded(expectTypes(*this, "results", getResultTypes(), results)));
}

/// The type without the batch axis, or null if the axis is not one of `size`.
static Type withoutAxis(Type type, int64_t axis, int64_t size) {
  auto tensor = cast<RankedTensorType>(type);
  if (axis == -1)
    return tensor;
  if (axis < 0 || axis >= tensor.getRank() || tensor.getDimSize(axis) != size)
    return {};
  SmallVector<int64_t> shape(tensor.getShape());
  shape.erase(shape.begin() + axis);
  return tensor.clone(shape);
}

static LogicalResult verifyBatched(Operation *op, StringRef what,
                                   TypeRange types, ArrayRef<int64_t> axes,
                                   int64_t size, TypeRange expected) {
  if (types.size() != axes.size() || types.size() != expected.size())
    return op->emitOpError("has ")
           << types.size() << " " << what << "s and " << axes.size()
           << " axes for a function with " << expected.size();
  for (auto [index, type] : llvm::enumerate(types)) {
    Type inner = withoutAxis(type, axes[index], size);
    if (inner != expected[index])
      return op->emitOpError(what)
             << " " << index << " of type " << type << ", without batch axis "
             << axes[index] << " of size " << size << ", is not the function's "
             << expected[index];
  }
  return success();
}

LogicalResult BatchOp::verifySymbolUses(SymbolTableCollection &symbols) {
  auto function = lookupCallee(*this, getCalleeAttr(), symbols);
  if (failed(function))
    return failure();
  return success(
      succeeded(verifyBatched(*this, "operand", getOperandTypes(), getInAxes(),
                              getSize(), function->getArgumentTypes())) &&
      succeeded(verifyBatched(*this, "result", getResultTypes(), getOutAxes(),
                              getSize(), function->getResultTypes())));
}
