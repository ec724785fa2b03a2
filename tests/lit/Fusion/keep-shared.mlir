// RUN: bm-opt %s -allow-unregistered-dialect -bm-keep-shared="max-repeated=1 max-repeated-in-all=1 max-reads=4 max-reads-of-piece=2" -split-input-file | FileCheck %s
// RUN: bm-opt %s -allow-unregistered-dialect -bm-keep-shared="max-repeated=1 max-repeated-in-all=1 max-ops=3" -split-input-file | FileCheck %s --check-prefix=SPLIT
// RUN: bm-opt %s -allow-unregistered-dialect -bm-keep-shared -split-input-file | FileCheck %s --check-prefix=FEW

// Few repeated ops are left to XLA.
// FEW-NOT: call @

// A product reads %2 from memory, and so would the sum compute it and what is before it again.
// CHECK-LABEL: func.func @leaky
// CHECK: %[[SHARED:.*]] = "stablehlo.multiply"
// CHECK: %[[KEPT:.*]] = call @[[IDENTITY:.*]](%[[SHARED]]) {mhlo.frontend_attributes = {inlineable = "false"}}
// CHECK: %[[DOT:.*]] = "stablehlo.dot_general"(%{{.*}}, %[[KEPT]])
// CHECK: "stablehlo.add"(%[[KEPT]], %[[DOT]])
// CHECK: func.func private @[[IDENTITY]](%[[X:.*]]: tensor<4xf32>)
// CHECK: return %[[X]]
func.func @leaky(%w: tensor<4x4xf32>, %x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "stablehlo.dot_general"(%w, %x) : (tensor<4x4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %1 = "stablehlo.add"(%x, %0) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %2 = "stablehlo.multiply"(%1, %1) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %3 = "stablehlo.dot_general"(%w, %2) : (tensor<4x4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %4 = "stablehlo.add"(%2, %3) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %4 : tensor<4xf32>
}

// -----

// One kernel reads %1 at two indices: its code would be there twice.
// CHECK-LABEL: func.func @indices
// CHECK: call @kept
// CHECK: "stablehlo.slice"
func.func @indices(%x: tensor<2xf32>) -> tensor<1xf32> {
  %0 = "stablehlo.add"(%x, %x) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %1 = "stablehlo.multiply"(%0, %x) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %2 = "stablehlo.slice"(%1) {start = 0} : (tensor<2xf32>) -> tensor<1xf32>
  %3 = "stablehlo.slice"(%1) {start = 1} : (tensor<2xf32>) -> tensor<1xf32>
  %4 = "stablehlo.multiply"(%2, %3) : (tensor<1xf32>, tensor<1xf32>) -> tensor<1xf32>
  return %4 : tensor<1xf32>
}

// -----

// What is expensive is not repeated, and what leads to one place only is in that kernel.
// CHECK-LABEL: func.func @expensive
// CHECK-NOT: call
// CHECK: return
func.func @expensive(%x: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
  %0 = "stablehlo.add"(%x, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %1 = "stablehlo.multiply"(%0, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %2 = "stablehlo.tanh"(%1) : (tensor<4xf32>) -> tensor<4xf32>
  %3 = "stablehlo.add"(%2, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %4 = "stablehlo.multiply"(%2, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %3, %4 : tensor<4xf32>, tensor<4xf32>
}

// -----

// A sum of many is made in pieces.
// CHECK-LABEL: func.func @sum
// CHECK: %[[S2:.*]] = "stablehlo.add"(%{{.*}}, %arg2)
// CHECK: %[[PIECE:.*]] = call @kept{{.*}}(%[[S2]])
// CHECK: "stablehlo.add"(%[[PIECE]], %arg3)
func.func @sum(%a: tensor<f32>, %b: tensor<f32>, %c: tensor<f32>, %d: tensor<f32>, %e: tensor<f32>) -> tensor<f32> {
  %0 = "stablehlo.add"(%a, %b) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %1 = "stablehlo.add"(%0, %c) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %2 = "stablehlo.add"(%1, %d) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %3 = "stablehlo.add"(%2, %e) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %3 : tensor<f32>
}

// -----

// What a reduction does with two numbers is a part of its kernel.
// CHECK-LABEL: func.func @reducer
// CHECK-NOT: call
// CHECK: return
func.func @reducer(%x: tensor<4xf32>, %init: tensor<f32>) -> tensor<f32> {
  %0 = "stablehlo.reduce"(%x, %init) ({
  ^bb0(%a: tensor<f32>, %b: tensor<f32>):
    %1 = "stablehlo.add"(%a, %b) : (tensor<f32>, tensor<f32>) -> tensor<f32>
    %2 = "stablehlo.multiply"(%1, %a) : (tensor<f32>, tensor<f32>) -> tensor<f32>
    %3 = "stablehlo.reshape"(%2) : (tensor<f32>) -> tensor<f32>
    %4 = "stablehlo.add"(%3, %2) : (tensor<f32>, tensor<f32>) -> tensor<f32>
    "stablehlo.return"(%4) : (tensor<f32>) -> ()
  }) : (tensor<4xf32>, tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// -----

// All of it would be one kernel, which is too large: what is read twice is kept.
// CHECK-LABEL: func.func @large
// CHECK-NOT: call
// CHECK: return
// SPLIT-LABEL: func.func @large
// SPLIT: %[[SQUARE:.*]] = "stablehlo.multiply"(%[[SUM:.*]], %[[SUM]])
// SPLIT: call @kept{{.*}}(%[[SQUARE]])
// SPLIT: return
func.func @large(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "stablehlo.add"(%x, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %1 = "stablehlo.multiply"(%0, %0) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %2 = "stablehlo.multiply"(%1, %1) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %3 = "stablehlo.add"(%2, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %3 : tensor<4xf32>
}
