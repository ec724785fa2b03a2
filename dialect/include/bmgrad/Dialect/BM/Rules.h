//===- Rules.h - What the rules of ops are given ----------------*- C++ -*-===//
//
// The frames that the interface methods of BMInterfaces.td read and fill, the
// rules that whole families share, and the walks over blocks that rules of ops
// with regions call for their bodies.
//
//===----------------------------------------------------------------------===//

#ifndef BMGRAD_DIALECT_BM_RULES_H
#define BMGRAD_DIALECT_BM_RULES_H

#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "mlir/IR/OpDefinition.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/SmallVector.h"

namespace bmgrad::bm {
class Expr;

//===----------------------------------------------------------------------===//
// Frames
//===----------------------------------------------------------------------===//

/// A null tangent is a symbolic zero. Integers and booleans have no tangent.
struct JvpFrame {
  mlir::ImplicitLocOpBuilder &b;
  llvm::ArrayRef<mlir::Value> primals;
  llvm::ArrayRef<mlir::Value> tangents;
  llvm::SmallVector<mlir::Value> results = {};
  llvm::SmallVector<mlir::Value> resultTangents = {};
};

struct TransposeFrame {
  mlir::ImplicitLocOpBuilder &b;
  /// Null where the op is linear in the operand: its value must not be used.
  llvm::ArrayRef<mlir::Value> operands;
  /// One a result; null is zero. At least one is not null.
  llvm::ArrayRef<mlir::Value> cotangents;
  /// One an operand, null to begin with; filled for linear operands.
  llvm::SmallVector<mlir::Value> operandCotangents = {};

  bool isLinear(unsigned index) const { return !operands[index]; }
};

/// Splitting acts in place: `linear` holds every value that depends on a
/// tangent; `b` inserts before the op that is split.
struct SplitFrame {
  mlir::ImplicitLocOpBuilder &b;
  llvm::DenseSet<mlir::Value> &linear;
};

/// What a function is batched over: how many elements, and the name by which
/// collectives refer to them, empty if there is none.
struct BatchAxis {
  int64_t size;
  llvm::StringRef name = {};
  /// Whether all results are to have the axis, so that none need be shared
  /// where it is not known yet whether its tangent may be.
  bool isOfAllResults = false;

  /// What tells the names of functions batched over different axes apart.
  std::string suffix() const { return name.empty() ? "" : ("@" + name).str(); }
};

struct BatchFrame {
  mlir::ImplicitLocOpBuilder &b;
  llvm::ArrayRef<mlir::Value> operands;
  /// Which operands carry the batch dimension, at axis 0.
  llvm::ArrayRef<bool> batched;
  BatchAxis axis;
  int64_t size = axis.size;
  llvm::SmallVector<mlir::Value> results = {};
  /// Left empty when all results are batched.
  llvm::SmallVector<bool> resultBatched = {};

  /// The operand with a batch dimension, broadcast if it had none.
  mlir::Value getBatched(unsigned index);
};

struct LoweringFrame {
  mlir::ImplicitLocOpBuilder &b;
  llvm::SmallVector<mlir::Value> results = {};
};

/// Which results of a block depend on its marked arguments.
using BlockFlow = llvm::function_ref<llvm::SmallVector<bool>(
    mlir::Block &, llvm::ArrayRef<bool>)>;

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

/// Whether values of this type have tangents: float or complex elements.
bool isDifferentiable(mlir::Type type);

mlir::RankedTensorType tensorType(mlir::Value value);

/// The type with a batch dimension of `size` in front.
mlir::RankedTensorType batchedType(mlir::Type type, int64_t size);

/// A splat constant of a float, complex, integer or boolean tensor type.
mlir::Value makeConstant(mlir::ImplicitLocOpBuilder &b, mlir::Type type,
                         double value);
mlir::Value makeZero(mlir::ImplicitLocOpBuilder &b, mlir::Type type);
bool isZeroConstant(mlir::Value value);

/// `value`, or a zero of this type if it is null.
mlir::Value materialize(mlir::ImplicitLocOpBuilder &b, mlir::Value value,
                        mlir::Type type);

/// The value with a batch dimension of `size` in front, broadcast along it.
mlir::Value broadcastBatch(mlir::ImplicitLocOpBuilder &b, mlir::Value value,
                           int64_t size);

/// What the first element of a batch has, for where all have the same.
mlir::Value firstOfBatch(mlir::ImplicitLocOpBuilder &b, mlir::Value value);

/// A value that a `select` keeps where `predicate` says and sets to zero
/// elsewhere.
struct Masked {
  mlir::Value predicate, value;
  /// Whether it is kept where the predicate is true.
  bool keepsTrue;

  static std::optional<Masked> match(mlir::Value value);
  mlir::Value build(mlir::ImplicitLocOpBuilder &b) const;
  /// With the mask of `value` as a part of this one, if both have one shape.
  Masked joined(mlir::ImplicitLocOpBuilder &b) const;
};

/// Sum of two tangents or cotangents, either of which may be a symbolic zero.
/// Sums of masked values are masked (see `Masked`), where either value is kept.
mlir::Value accumulate(mlir::ImplicitLocOpBuilder &b, mlir::Value lhs,
                       mlir::Value rhs);

/// `scale(cotangent)` for a map that scales element by element. A cotangent
/// that a `select` masks with zero stays masked: the mask moves outward past
/// the scaling, so an infinite or NaN factor in the branch not taken, as in
/// `where(x == 0, 1, sin(x) / x)`, cannot turn the zero into NaN.
mlir::Value scaleMasked(mlir::ImplicitLocOpBuilder &b, mlir::Value cotangent,
                        llvm::function_ref<mlir::Value(mlir::Value)> scale);

/// The cotangent as `type`, which holds as many elements. One that is masked
/// stays so: the mask moves outward past the reshape.
mlir::Value reshapeMasked(mlir::ImplicitLocOpBuilder &b, mlir::Value cotangent,
                          mlir::RankedTensorType type);

//===----------------------------------------------------------------------===//
// Rules that families share
//===----------------------------------------------------------------------===//

namespace detail {
using Partial = std::function<Expr(Expr, Expr, Expr, Expr)>;

/// Sum over the active operands of partial derivative times tangent.
llvm::LogicalResult jvpFromPartials(mlir::Operation *op, JvpFrame &frame,
                                    llvm::ArrayRef<Partial> partials);
llvm::LogicalResult jvpZero(mlir::Operation *op, JvpFrame &frame);
llvm::LogicalResult jvpLinear(mlir::Operation *op, JvpFrame &frame);
llvm::LogicalResult jvpMultilinear(mlir::Operation *op, JvpFrame &frame);

/// Clones the op with other operands; result types are those of the op.
mlir::Operation *cloneWith(mlir::ImplicitLocOpBuilder &b, mlir::Operation *op,
                           mlir::ValueRange operands);
mlir::Operation *cloneWith(mlir::ImplicitLocOpBuilder &b, mlir::Operation *op,
                           mlir::ValueRange operands,
                           mlir::TypeRange resultTypes);

llvm::LogicalResult batchLeading(mlir::Operation *op, BatchFrame &frame);

/// Replaces the op by the unregistered op `name` with the same operands, result
/// types and attributes.
llvm::LogicalResult lowerOneToOne(mlir::Operation *op, llvm::StringRef name,
                                  LoweringFrame &frame);

/// Replaces the op by a call of a function of its operands.
llvm::LogicalResult lowerToCall(mlir::Operation *op,
                                mlir::FlatSymbolRefAttr callee,
                                LoweringFrame &frame);

/// Replaces the op by a call of a function that is only declared: the runtime
/// asks JAX for the kernel of the op's name, per platform. The declaration
/// holds the op's attributes, which must be builtin ones.
llvm::LogicalResult lowerToKernel(mlir::Operation *op, LoweringFrame &frame);

/// Creates an op of a dialect that is not loaded here (StableHLO, CHLO).
mlir::Operation *
createForeign(mlir::ImplicitLocOpBuilder &b, llvm::StringRef name,
              mlir::TypeRange results, mlir::ValueRange operands,
              llvm::ArrayRef<mlir::NamedAttribute> attributes = {},
              unsigned regions = 0);
/// An attribute of such a dialect: `foreignAttr(b, "stablehlo", "dot<...>")`.
mlir::Attribute foreignAttr(mlir::OpBuilder &b, llvm::StringRef dialect,
                            llvm::StringRef text);
} // namespace detail

//===----------------------------------------------------------------------===//
// Walks over blocks
//===----------------------------------------------------------------------===//

/// Emits the JVP of the ops of `block`, terminator excluded, at `b`. `mapping`
/// maps block arguments to primal values and is extended; `tangents` is keyed
/// by the values of `block` and holds no zeros.
llvm::LogicalResult
jvpBlock(mlir::ImplicitLocOpBuilder &b, mlir::Block &block,
         mlir::IRMapping &mapping,
         llvm::DenseMap<mlir::Value, mlir::Value> &tangents);

/// Which results of `block` (operands of its terminator) depend on the marked
/// block arguments in a differentiable way. No IR is made.
llvm::SmallVector<bool> activeResults(mlir::Block &block,
                                      llvm::ArrayRef<bool> activeArguments);

/// Which results of `block` depend on the marked block arguments at all: what
/// becomes linear when a block is split, or batched when it is batched.
llvm::SmallVector<bool> dependentResults(mlir::Block &block,
                                         llvm::ArrayRef<bool> markedArguments);

/// Which results of `block` are batched over `axis` when the marked arguments
/// are. Collectives over the axis, whatever they read, are what they make of
/// it.
llvm::SmallVector<bool> batchedResults(mlir::Block &block,
                                       llvm::ArrayRef<bool> batchedArguments,
                                       BatchAxis axis);

/// Those that differ between the elements themselves: the tangents of others
/// may, by the derivative rule of a user.
llvm::SmallVector<bool> batchedValues(mlir::Block &block,
                                      llvm::ArrayRef<bool> batchedArguments,
                                      BatchAxis axis);

/// The same as `batchedResults` of a function that `op` calls.
llvm::SmallVector<bool> batchedCallResults(mlir::Operation *op,
                                           llvm::StringRef callee,
                                           llvm::ArrayRef<bool> batched,
                                           BatchAxis axis);

inline auto flowOf(BatchAxis axis) {
  return [axis](mlir::Block &block, llvm::ArrayRef<bool> batchedArguments) {
    return batchedResults(block, batchedArguments, axis);
  };
}

/// Whether the op, what is inside it or what it refers to is a collective over
/// the axis: then it is batched even if no operand is.
bool isOverAxis(mlir::Operation *op, BatchAxis axis);

/// Splits the ops of `block` with `linear` seeded by its linear arguments.
/// After it each op is wholly primal or wholly linear; the linear ones are
/// returned in order.
llvm::FailureOr<llvm::SmallVector<mlir::Operation *>>
splitBlock(mlir::Block &block, llvm::DenseSet<mlir::Value> &linear);

/// The primal values that the linear ops read, in a fixed order, each once:
/// what the linear part needs to be kept. Values that cost nothing to make
/// again (constants, iotas, broadcasts of them) are left out; see
/// cloneFreeInto.
llvm::SmallVector<mlir::Value>
collectResiduals(llvm::ArrayRef<mlir::Operation *> linearOps,
                 const llvm::DenseSet<mlir::Value> &linear);

/// Makes a value that collectResiduals left out again at `b` and maps it; does
/// nothing for linear and mapped values and for residuals.
void cloneFreeInto(mlir::OpBuilder &b, mlir::Value value,
                   const llvm::DenseSet<mlir::Value> &linear,
                   mlir::IRMapping &mapping);

/// Emits at `b` the transposes of `linearOps`, last first. `cotangents` is
/// keyed by linear values and extended. `mapping` maps primal values to those
/// usable at `b`.
llvm::LogicalResult transposeOps(
    mlir::ImplicitLocOpBuilder &b, llvm::ArrayRef<mlir::Operation *> linearOps,
    const llvm::DenseSet<mlir::Value> &linear, mlir::IRMapping &mapping,
    llvm::DenseMap<mlir::Value, mlir::Value> &cotangents);

/// Emits the batched ops of `block`, terminator excluded, at `b`; `batched`
/// holds the values of `block` whose image in `mapping` carries the batch
/// dimension.
llvm::LogicalResult batchBlock(mlir::ImplicitLocOpBuilder &b,
                               mlir::Block &block, BatchAxis axis,
                               mlir::IRMapping &mapping,
                               llvm::DenseSet<mlir::Value> &batched);

/// Lowers the ops of `block` and of the regions inside it to StableHLO in
/// place.
llvm::LogicalResult lowerBlock(mlir::Block &block);

} // namespace bmgrad::bm

#endif // BMGRAD_DIALECT_BM_RULES_H
