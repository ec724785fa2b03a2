//===- Kernel.cpp - The rules of the ops of Kernel.td ---------------------===//

#include "bmgrad/Dialect/BM/KernelBatching.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace bmgrad::bm;

#define GET_OP_CLASSES
#include "bmgrad/Dialect/BM/Kernel.cpp.inc"

void bmgrad::bm::addKernelOps(BMDialect &dialect) {
  dialect.addFamily<
#define GET_OP_LIST
#include "bmgrad/Dialect/BM/Kernel.cpp.inc"
      >();
}

/// On a write to a reference: the elements of a batch share it, whether or not
/// what is written depends on the batch.
static constexpr StringLiteral kShared("bm.shared");

static ArrayRef<int64_t> axesOf(Attribute batch) {
  return cast<DenseI64ArrayAttr>(batch).asArrayRef();
}

LogicalResult KernelOp::verify() {
  if (getReference() &&
      !(getHasSideEffect() && getOrdered() && getOrdered()->size() == 1))
    return emitOpError(
        "reads or changes a reference, so it must have a side effect and one "
        "name in `ordered`");
  SmallVector<int64_t> leading(getNumOperands(), 0);
  for (Attribute batch : getBatches()) {
    ArrayRef<int64_t> axes = axesOf(batch);
    if (axes.size() != getNumOperands())
      return emitOpError("has ")
             << getNumOperands() << " operands, but a batch with "
             << axes.size() << " axes";
    for (auto [count, axis] : llvm::zip_equal(leading, axes)) {
      if (axis != 0 && axis != -1)
        return emitOpError("has batch axis ")
               << axis << ": it must be 0, or -1 for none";
      count += axis == 0;
    }
    if (!llvm::is_contained(axes, 0))
      return emitOpError("has a batch without a batched operand");
  }
  if (ArrayAttr resultBatches = getResultBatchesAttr()) {
    if (!getHasBatchingRule() || resultBatches.size() != getBatches().size())
      return emitOpError("has batches of results, so it must have a batching "
                         "rule and as many batches of operands");
    for (Attribute batch : resultBatches)
      if (axesOf(batch).size() != getNumResults())
        return emitOpError("has ")
               << getNumResults() << " results, but a batch of results with "
               << axesOf(batch).size() << " axes";
  }
  for (auto [index, operand, count] : llvm::enumerate(getOperands(), leading))
    if (tensorType(operand).getRank() < count)
      return emitOpError("batches operand #")
             << index << " " << count << " times, but it has type "
             << operand.getType();
  return success();
}

LogicalResult KernelOp::emitJvp(JvpFrame &frame) {
  if (getReference() || llvm::any_of(getResultTypes(), isDifferentiable))
    return emitError("no derivative rule for primitive '") << getName() << "'";
  return detail::jvpZero(*this, frame);
}

static SmallVector<int64_t> asAxes(ArrayRef<bool> batched) {
  return llvm::map_to_vector(
      batched, [](bool flag) -> int64_t { return flag ? 0 : -1; });
}

LogicalResult KernelOp::emitBatch(BatchFrame &frame) {
  std::string reason;
  SmallVector<bool> differs =
      batchedKernelResults(*this, frame.batched, frame.size, reason);
  if (!reason.empty())
    return emitError() << reason;
  SmallVector<int64_t> axes = asAxes(frame.batched);
  SmallVector<Type> types;
  for (auto [type, flag] : llvm::zip_equal(getResultTypes(), differs))
    types.push_back(flag ? Type(batchedType(type, frame.size)) : type);
  SmallVector<Attribute> batches(getBatches().getValue());
  batches.push_back(frame.b.getDenseI64ArrayAttr(axes));
  auto batched =
      cast<KernelOp>(detail::cloneWith(frame.b, *this, frame.operands, types));
  batched.setBatchesAttr(frame.b.getArrayAttr(batches));
  if (getHasBatchingRule()) {
    SmallVector<Attribute> resultBatches;
    if (ArrayAttr before = getResultBatchesAttr())
      llvm::append_range(resultBatches, before);
    resultBatches.push_back(frame.b.getDenseI64ArrayAttr(asAxes(differs)));
    batched.setResultBatchesAttr(frame.b.getArrayAttr(resultBatches));
  }
  frame.resultBatched = differs;
  llvm::append_range(frame.results, batched.getResults());
  return success();
}

std::string bmgrad::bm::batchSuffix(int64_t size, ArrayRef<int64_t> axes) {
  std::string suffix = "_" + std::to_string(size) + "x";
  for (int64_t axis : axes)
    suffix += axis == 0 ? '0' : 'n';
  return suffix;
}

std::string bmgrad::bm::kernelSymbol(KernelOp op) {
  std::string symbol = "bm_kernel_" + std::to_string(op.getId());
  // Each batch is in front of those applied before it.
  SmallVector<int64_t> sizes;
  SmallVector<unsigned> next(op.getNumOperands(), 0);
  for (Attribute batch : llvm::reverse(op.getBatches())) {
    int64_t size = 0;
    for (auto [operand, axis, position] :
         llvm::zip_equal(op.getOperands(), axesOf(batch), next))
      if (axis == 0)
        size = tensorType(operand).getDimSize(position++);
    sizes.push_back(size);
  }
  for (auto [batch, size] :
       llvm::zip_equal(op.getBatches(), llvm::reverse(sizes)))
    symbol += batchSuffix(size, axesOf(batch));
  return symbol;
}

//===----------------------------------------------------------------------===//
// Lowering
//===----------------------------------------------------------------------===//

static func::FuncOp declare(Operation *op, const Twine &symbol) {
  auto module = op->getParentOfType<ModuleOp>();
  OpBuilder b = OpBuilder::atBlockBegin(module.getBody());
  auto declaration = func::FuncOp::create(
      b, module.getLoc(), symbol.str(),
      b.getFunctionType(op->getOperandTypes(), op->getResultTypes()));
  declaration.setPrivate();
  return declaration;
}

static func::CallOp replaceByCall(Operation *op, const Twine &symbol,
                                  LoweringFrame &frame) {
  auto call = func::CallOp::create(frame.b, symbol.str(), op->getResultTypes(),
                                   op->getOperands());
  llvm::append_range(frame.results, call.getResults());
  return call;
}

LogicalResult KernelOp::emitLowering(LoweringFrame &frame) {
  bool isShared = !getBatches().empty() || (*this)->hasAttr(kShared);
  if (getReference() && isShared && getName() != "get")
    return emitError("write to a reference that the elements of a batch share");
  std::string symbol = kernelSymbol(*this);
  if (!(*this)->getParentOfType<ModuleOp>().lookupSymbol(symbol)) {
    func::FuncOp declaration = declare(*this, symbol);
    if (!getBatches().empty())
      declaration->setAttr("bm.in_axes", getBatches());
    if (ArrayAttr resultBatches = getResultBatchesAttr())
      declaration->setAttr("bm.out_axes", resultBatches);
  }
  func::CallOp call = replaceByCall(*this, symbol, frame);
  if (ArrayAttr ordered = getOrderedAttr())
    call->setAttr(orderedName, ordered);
  if (TypeAttr reference = getReferenceAttr())
    call->setAttr(referenceName, reference);
  return success();
}

LogicalResult bmgrad::bm::detail::lowerToKernel(Operation *op,
                                                LoweringFrame &frame) {
  auto module = op->getParentOfType<ModuleOp>();
  StringAttr name = frame.b.getStringAttr(op->getName().stripDialect());
  DictionaryAttr params = op->getAttrDictionary();
  FunctionType type =
      frame.b.getFunctionType(op->getOperandTypes(), op->getResultTypes());
  for (unsigned number = 0;; ++number) {
    std::string symbol =
        ("bm_kernel_" + name.strref() + "_" + Twine(number)).str();
    auto declared = module.lookupSymbol<func::FuncOp>(symbol);
    if (!declared) {
      declared = declare(op, symbol);
      declared->setAttr("bm.kernel", name);
      declared->setAttr("bm.params", params);
    }
    if (declared.getFunctionType() == type &&
        declared->getAttr("bm.params") == params) {
      replaceByCall(op, symbol, frame);
      return success();
    }
  }
}
