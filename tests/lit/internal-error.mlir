// RUN: not bm-opt %s 2>&1 | FileCheck %s

// MLIR's parser asserts on this one. The tool says so and fails as for any other error; a signal
// would end `not` with another status.
// CHECK: error: internal error; please report it with this input
func.func @f() attributes {a = array<index: 0>} {
  return
}
