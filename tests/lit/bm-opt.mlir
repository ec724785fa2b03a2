// RUN: bm-opt %s -inline -canonicalize -cse -symbol-dce | FileCheck %s
// RUN: not bm-opt %s -bm-no-such-pass 2>&1 | FileCheck %s --check-prefix=UNKNOWN

// The tool knows the dialect, calls of functions are inlined, and dead functions
// go.

// CHECK-LABEL: func.func @main(
// CHECK-SAME:    %[[X:.*]]: tensor<3xf32>)
// CHECK-NEXT:    %[[SIN:.*]] = bm.sin %[[X]] : tensor<3xf32>
// CHECK-NEXT:    return %[[SIN]] : tensor<3xf32>
// CHECK-NOT:   func.func
func.func @main(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = call @f(%x) : (tensor<3xf32>) -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

func.func private @f(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = bm.sin %x : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// UNKNOWN: Unknown command line argument '-bm-no-such-pass'
