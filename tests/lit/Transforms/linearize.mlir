// @main becomes the primal part with residuals and the linear part; that, transposed.
// RUN: bm-opt %s -bm-linearize="function=main wrt=0" | FileCheck %s
// RUN: bm-opt %s -bm-linearize="function=main wrt=0" -bm-transpose="function=main.lin residuals=1" | FileCheck %s --check-prefix=TRANSPOSED

// CHECK-LABEL: func.func @main.fwd
// CHECK-SAME: (%[[X:[^:]+]]: tensor<3xf32>) -> (tensor<3xf32>, tensor<3xf32>)
// CHECK: %[[Y:.*]] = bm.sin %[[X]]
// CHECK: %[[C:.*]] = bm.cos %[[X]]
// CHECK: %[[Z:.*]] = bm.mul %[[Y]]
// CHECK: return %[[Z]], %[[C]]
// CHECK-LABEL: func.func @main.lin
// CHECK-SAME: (%[[R:[^:]+]]: tensor<3xf32>, %[[DX:[^:]+]]: tensor<3xf32>) -> tensor<3xf32>
// The factor is a constant: it is made again, not kept.
// CHECK: bm.constant dense<2.000000e+00>
// CHECK: return

// TRANSPOSED-LABEL: func.func @main.lin
// TRANSPOSED-SAME: (%[[R:[^:]+]]: tensor<3xf32>, %[[CT:[^:]+]]: tensor<3xf32>) -> tensor<3xf32>
// TRANSPOSED: bm.mul %{{.*}}, %[[R]]
func.func @main(%x: tensor<3xf32>) -> tensor<3xf32> {
  %two = bm.constant dense<2.0> : tensor<3xf32>
  %y = bm.sin %x : tensor<3xf32>
  %z = bm.mul %y, %two : tensor<3xf32>
  return %z : tensor<3xf32>
}
