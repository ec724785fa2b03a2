// RUN: bm-opt %s -bm-transpose="function=main residuals=1" | FileCheck %s

// What rules were told does not matter to the transpose of a function.

// CHECK-LABEL: func.func @main
//  CHECK-SAME: (%[[N:.*]]: tensor<f32>, %[[CT:.*]]: tensor<f32>) -> tensor<f32>
//       CHECK: %[[R:.*]] = bm.mul %[[CT]], %[[N]]
//       CHECK: return %[[R]]
func.func @main(%n: tensor<f32>, %x: tensor<f32>) -> tensor<f32> {
  %0 = bm.unperturbed %x {reason = "rules are wanted for 1"} : tensor<f32>
  %1 = bm.mul %0, %n : tensor<f32>
  return %1 : tensor<f32>
}
