// RUN: bm-opt %s -allow-unregistered-dialect -bm-lower | FileCheck %s

// CHECK-LABEL: func @sum
// CHECK: %[[INIT:.*]] = "stablehlo.constant"() {value = dense<0.000000e+00> : tensor<f32>} : () -> tensor<f32>
// CHECK: "stablehlo.reduce"(%{{.*}}, %[[INIT]]) ({
// CHECK-NEXT: ^bb0(%[[X:.*]]: tensor<f32>, %[[Y:.*]]: tensor<f32>):
// CHECK-NEXT: %[[S:.*]] = "stablehlo.add"(%[[X]], %[[Y]]) : (tensor<f32>, tensor<f32>) -> tensor<f32>
// CHECK-NEXT: "stablehlo.return"(%[[S]]) : (tensor<f32>) -> ()
// CHECK-NEXT: }) {dimensions = array<i64: 1>} : (tensor<2x3xf32>, tensor<f32>) -> tensor<2xf32>
func.func @sum(%x: tensor<2x3xf32>) -> tensor<2xf32> {
  %0 = bm.reduce_sum %x axes = [1] : (tensor<2x3xf32>) -> tensor<2xf32>
  return %0 : tensor<2xf32>
}

// What a reduction begins with depends on the type.
// CHECK-LABEL: func @identities
// CHECK: value = dense<0xFF800000> : tensor<f32>
// CHECK: stablehlo.maximum
// CHECK: value = dense<127> : tensor<i8>
// CHECK: stablehlo.minimum
// CHECK: value = dense<0> : tensor<ui8>
// CHECK: stablehlo.maximum
// CHECK: value = dense<true> : tensor<i1>
// CHECK: stablehlo.and
// CHECK: value = dense<-1> : tensor<i32>
// CHECK: stablehlo.and
// CHECK: value = dense<(1.000000e+00,0.000000e+00)> : tensor<complex<f32>>
// CHECK: stablehlo.multiply
func.func @identities(%f: tensor<3xf32>, %i: tensor<3xi8>, %u: tensor<3xui8>, %p: tensor<3xi1>, %n: tensor<3xi32>, %c: tensor<3xcomplex<f32>>)
    -> (tensor<f32>, tensor<i8>, tensor<ui8>, tensor<i1>, tensor<i32>, tensor<complex<f32>>) {
  %0 = bm.reduce_max %f axes = [0] : (tensor<3xf32>) -> tensor<f32>
  %1 = bm.reduce_min %i axes = [0] : (tensor<3xi8>) -> tensor<i8>
  %2 = bm.reduce_max %u axes = [0] : (tensor<3xui8>) -> tensor<ui8>
  %3 = bm.reduce_and %p axes = [0] : (tensor<3xi1>) -> tensor<i1>
  %4 = bm.reduce_and %n axes = [0] : (tensor<3xi32>) -> tensor<i32>
  %5 = bm.reduce_prod %c axes = [0] : (tensor<3xcomplex<f32>>) -> tensor<complex<f32>>
  return %0, %1, %2, %3, %4, %5 : tensor<f32>, tensor<i8>, tensor<ui8>, tensor<i1>, tensor<i32>, tensor<complex<f32>>
}

// StableHLO does not order complex numbers.
// CHECK-LABEL: func @complex_max
// CHECK: value = dense<(0xFF800000,0.000000e+00)> : tensor<complex<f32>>
// CHECK: stablehlo.reduce
// CHECK-NOT: stablehlo.maximum
// CHECK: stablehlo.real
// CHECK: stablehlo.imag
// CHECK: stablehlo.select
// CHECK: stablehlo.return
func.func @complex_max(%x: tensor<3xcomplex<f32>>) -> tensor<complex<f32>> {
  %0 = bm.reduce_max %x axes = [0] : (tensor<3xcomplex<f32>>) -> tensor<complex<f32>>
  return %0 : tensor<complex<f32>>
}

// Values and indices are reduced together; NaN wins, then the first index.
// CHECK-LABEL: func @argmax
// CHECK: %[[I:.*]] = "stablehlo.iota"() {iota_dimension = 1 : i64} : () -> tensor<2x3xi32>
// CHECK: "stablehlo.reduce"(%{{.*}}, %[[I]], %{{.*}}, %{{.*}}) ({
// CHECK-NEXT: ^bb0(%[[X:.*]]: tensor<f32>, %[[AT:.*]]: tensor<i32>, %[[NEW:.*]]: tensor<f32>, %[[NEW_AT:.*]]: tensor<i32>):
// CHECK: "stablehlo.compare"(%[[X]], %[[X]]) {{.*}}comparison_direction NE>
// CHECK: "stablehlo.compare"(%[[X]], %[[NEW]]) {{.*}}comparison_direction GT>
// CHECK: "stablehlo.return"(%{{.*}}, %{{.*}}) : (tensor<f32>, tensor<i32>) -> ()
// CHECK: dimensions = array<i64: 1>
func.func @argmax(%x: tensor<2x3xf32>) -> tensor<2xi32> {
  %0 = bm.argmax %x axis = 1 : (tensor<2x3xf32>) -> tensor<2xi32>
  return %0 : tensor<2xi32>
}

// A scan of 4 elements: sums of pairs, their running sums, and those between. In reverse the pairs
// are counted from the end.
// CHECK-LABEL: func @cumsum
// CHECK-SAME: %[[X:.*]]: tensor<4xf32>
// CHECK-NOT: stablehlo.reverse
// CHECK: %[[FIRST:.*]] = "stablehlo.slice"(%[[X]]) {limit_indices = array<i64: 4>, start_indices = array<i64: 1>, strides = array<i64: 2>}
// CHECK: %[[SECOND:.*]] = "stablehlo.slice"(%[[X]]) {limit_indices = array<i64: 3>, start_indices = array<i64: 0>, strides = array<i64: 2>}
// CHECK: "stablehlo.add"(%[[FIRST]], %[[SECOND]]) : (tensor<2xf32>, tensor<2xf32>)
// CHECK: "stablehlo.add"(%{{.*}}, %{{.*}}) : (tensor<1xf32>, tensor<1xf32>)
// CHECK: "stablehlo.add"(%{{.*}}, %{{.*}}) : (tensor<1xf32>, tensor<1xf32>)
// CHECK-NOT: stablehlo.add
// CHECK-NOT: stablehlo.reverse
func.func @cumsum(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = bm.cumsum %x axis = 0 reverse : tensor<4xf32>
  return %0 : tensor<4xf32>
}
