// Bits, and what has no derivative: as text and in StableHLO.
// RUN: bm-opt %s | bm-opt | FileCheck %s
// RUN: bm-opt %s -bm-lower -allow-unregistered-dialect | FileCheck %s --check-prefix=LOWERED

// CHECK-LABEL: func.func @bits
// LOWERED-LABEL: func.func @bits
func.func @bits(%x: tensor<3xi32>, %n: tensor<3xi32>) -> tensor<3xf32> {
  // CHECK: bm.shift_left %{{.*}}, %{{.*}} : tensor<3xi32>
  // LOWERED: "stablehlo.shift_left"
  %0 = bm.shift_left %x, %n : tensor<3xi32>
  // CHECK: bm.shift_right_arithmetic
  // LOWERED: "stablehlo.shift_right_arithmetic"
  %1 = bm.shift_right_arithmetic %0, %n : tensor<3xi32>
  // CHECK: bm.shift_right_logical
  // LOWERED: "stablehlo.shift_right_logical"
  %2 = bm.shift_right_logical %1, %n : tensor<3xi32>
  // CHECK: bm.clz
  // LOWERED: "stablehlo.count_leading_zeros"
  %3 = bm.clz %2 : tensor<3xi32>
  // CHECK: bm.population_count
  // LOWERED: "stablehlo.popcnt"
  %4 = bm.population_count %3 : tensor<3xi32>
  // CHECK: bm.bitcast_convert %{{.*}} : (tensor<3xi32>) -> tensor<3xf32>
  // LOWERED: "stablehlo.bitcast_convert"
  %5 = bm.bitcast_convert %4 : (tensor<3xi32>) -> tensor<3xf32>
  return %5 : tensor<3xf32>
}

// CHECK-LABEL: func.func @floats
// LOWERED-LABEL: func.func @floats
func.func @floats(%x: tensor<3xf32>, %y: tensor<3xf32>) -> (tensor<3xf32>, tensor<3xi1>) {
  // CHECK: bm.nextafter
  // LOWERED: "chlo.next_after"
  %0 = bm.nextafter %x, %y : tensor<3xf32>
  // CHECK: bm.polygamma
  // LOWERED: "chlo.polygamma"
  %1 = bm.polygamma %y, %0 : tensor<3xf32>
  // CHECK: bm.is_finite %{{.*}} : (tensor<3xf32>) -> tensor<3xi1>
  // LOWERED: "stablehlo.is_finite"
  %2 = bm.is_finite %1 : (tensor<3xf32>) -> tensor<3xi1>
  return %1, %2 : tensor<3xf32>, tensor<3xi1>
}
