// RUN: bm-opt %s -allow-unregistered-dialect -bm-lower | FileCheck %s

// CHECK-LABEL: func @plain
// CHECK: "stablehlo.dot_general"(
// CHECK-SAME: dot_dimension_numbers = #stablehlo.dot<lhs_batching_dimensions = [0], rhs_batching_dimensions = [0], lhs_contracting_dimensions = [2], rhs_contracting_dimensions = [1]>
// CHECK-SAME: precision_config = [#stablehlo<precision HIGHEST>, #stablehlo<precision DEFAULT>]
// CHECK-SAME: (tensor<5x2x3xf32>, tensor<5x3x4xf32>) -> tensor<5x2x4xf32>
func.func @plain(%x: tensor<5x2x3xf32>, %y: tensor<5x3x4xf32>) -> tensor<5x2x4xf32> {
  %0 = bm.dot_general %x, %y batch = [0] x [0] contract = [2] x [1] {precision = [#bm<precision highest>, #bm<precision default>]} : (tensor<5x2x3xf32>, tensor<5x3x4xf32>) -> tensor<5x2x4xf32>
  return %0 : tensor<5x2x4xf32>
}

// Operands of two types are first made one.
// CHECK-LABEL: func @mixed
// CHECK-SAME: %[[X:[^:]+]]: tensor<3xbf16>, %[[Y:[^:]+]]: tensor<3xf32>
// CHECK: %[[C:.*]] = "stablehlo.convert"(%[[X]]) : (tensor<3xbf16>) -> tensor<3xf32>
// CHECK-NEXT: "stablehlo.dot_general"(%[[C]], %[[Y]])
func.func @mixed(%x: tensor<3xbf16>, %y: tensor<3xf32>) -> tensor<f32> {
  %0 = bm.dot_general %x, %y contract = [0] x [0] : (tensor<3xbf16>, tensor<3xf32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// An algorithm says what is multiplied and what it is summed in.
// CHECK-LABEL: func @algorithm
// CHECK: "stablehlo.convert"(%{{.*}}) : (tensor<3xf32>) -> tensor<3xf16>
// CHECK: %[[R:.*]] = "stablehlo.dot_general"(
// CHECK-SAME: algorithm = #stablehlo.dot_algorithm<lhs_precision_type = f16, rhs_precision_type = f16, accumulation_type = f32, lhs_component_count = 1, rhs_component_count = 1, num_primitive_operations = 1, allow_imprecise_accumulation = false>
// CHECK-SAME: -> tensor<f32>
// CHECK-NEXT: "stablehlo.convert"(%[[R]]) : (tensor<f32>) -> tensor<f16>
func.func @algorithm(%x: tensor<3xf32>, %y: tensor<3xf16>) -> tensor<f16> {
  %0 = bm.dot_general %x, %y contract = [0] x [0] {algorithm = #bm<dot_algorithm f16_f16_f32>} : (tensor<3xf32>, tensor<3xf16>) -> tensor<f16>
  return %0 : tensor<f16>
}
