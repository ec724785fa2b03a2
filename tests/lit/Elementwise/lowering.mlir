// RUN: bm-opt %s -bm-lower -allow-unregistered-dialect | FileCheck %s

// CHECK-LABEL: func.func @one_to_one
// CHECK: "stablehlo.sine"(%{{.*}}) : (tensor<3xf32>) -> tensor<3xf32>
// CHECK: "chlo.erf_inv"
func.func @one_to_one(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = bm.sin %x : tensor<3xf32>
  %1 = bm.erf_inv %0 : tensor<3xf32>
  return %1 : tensor<3xf32>
}

// XLA converts booleans slowly on CPUs.
// CHECK-LABEL: func.func @conversions
// CHECK-SAME: (%[[P:[^:]+]]: tensor<3xi1>
// CHECK: "stablehlo.select"(%[[P]], %{{.*}}, %{{.*}}) : (tensor<3xi1>, tensor<3xf32>, tensor<3xf32>)
// CHECK: "stablehlo.convert"(%[[P]]) : (tensor<3xi1>) -> tensor<3xi32>
func.func @conversions(%p: tensor<3xi1>) -> (tensor<3xf32>, tensor<3xi32>) {
  %0 = bm.convert %p : (tensor<3xi1>) -> tensor<3xf32>
  %1 = bm.convert %p : (tensor<3xi1>) -> tensor<3xi32>
  return %0, %1 : tensor<3xf32>, tensor<3xi32>
}

// x^5 takes three products.
// CHECK-LABEL: func.func @integer_power
// CHECK-COUNT-3: "stablehlo.multiply"
// CHECK-NEXT: return
func.func @integer_power(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = bm.integer_pow %x {exponent = 5 : i64} : tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func.func @comparisons
// CHECK: "stablehlo.compare"{{.*}}#stablehlo<comparison_type FLOAT>{{.*}}#stablehlo<comparison_direction LT>
// CHECK: "stablehlo.compare"{{.*}}#stablehlo<comparison_type TOTALORDER>
// CHECK: "stablehlo.compare"{{.*}}#stablehlo<comparison_type UNSIGNED>
func.func @comparisons(%x: tensor<3xf32>, %u: tensor<3xui8>) -> (tensor<3xi1>, tensor<3xi1>, tensor<3xi1>) {
  %0 = bm.compare lt %x, %x : tensor<3xf32> -> tensor<3xi1>
  %1 = bm.compare lt %x, %x {total_order} : tensor<3xf32> -> tensor<3xi1>
  %2 = bm.compare ge %u, %u : tensor<3xui8> -> tensor<3xi1>
  return %0, %1, %2 : tensor<3xi1>, tensor<3xi1>, tensor<3xi1>
}
