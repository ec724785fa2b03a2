// RUN: bm-opt %s -allow-unregistered-dialect -bm-lower-to-stablehlo | FileCheck %s

// CHECK-LABEL: func @slices
// CHECK: "stablehlo.slice"(%{{.*}}) {limit_indices = array<i64: 4, 4>, start_indices = array<i64: 1, 0>, strides = array<i64: 2, 1>}
// CHECK: "stablehlo.dynamic_slice"(%{{.*}}, %[[I:.*]], %[[I]]) {slice_sizes = array<i64: 1, 2>}
// CHECK: "stablehlo.dynamic_update_slice"(%{{.*}}, %{{.*}}, %[[I]], %[[I]]) :
func.func @slices(%x: tensor<5x4xf32>, %i: tensor<i32>) -> tensor<2x4xf32> {
  %0 = bm.slice %x [1:4:2, 0:4] : tensor<5x4xf32> -> tensor<2x4xf32>
  %1 = bm.dynamic_slice %0 at [%i, %i] : (tensor<2x4xf32>, tensor<i32>, tensor<i32>) -> tensor<1x2xf32>
  %2 = bm.dynamic_update_slice %0, %1 at [%i, %i] : (tensor<2x4xf32>, tensor<1x2xf32>, tensor<i32>, tensor<i32>) -> tensor<2x4xf32>
  return %2 : tensor<2x4xf32>
}

// Gathers clamp by themselves.
// CHECK-LABEL: func @gather_clip
// CHECK-NEXT: "stablehlo.gather"(%{{.*}}, %{{.*}}) {dimension_numbers = #stablehlo.gather<offset_dims = [1], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, indices_are_sorted = false, slice_sizes = array<i64: 1, 4>}
// CHECK-NEXT: return
func.func @gather_clip(%x: tensor<5x4xf32>, %i: tensor<3x1xi32>) -> tensor<3x4xf32> {
  %0 = bm.gather %x at %i slice_sizes = [1, 4] offset_dims = [1] collapsed_slice_dims = [0] start_index_map = [0] mode = clip : (tensor<5x4xf32>, tensor<3x1xi32>) -> tensor<3x4xf32>
  return %0 : tensor<3x4xf32>
}

// To fill, they get a mask: 0 <= index <= size - window.
// CHECK-LABEL: func @gather_fill
// CHECK-SAME: %[[I:[^ ]*]]: tensor<5x1xi32>
// CHECK-DAG: %[[LAST:.*]] = "stablehlo.constant"() {value = dense<3> : tensor<5x1xi32>}
// CHECK-DAG: %[[BELOW:.*]] = "stablehlo.compare"(%[[I]], %[[LAST]])
// CHECK-DAG: %[[ZERO:.*]] = "stablehlo.constant"() {value = dense<0> : tensor<5x1xi32>}
// CHECK-DAG: %[[ABOVE:.*]] = "stablehlo.compare"(%[[I]], %[[ZERO]])
// CHECK: %[[BOTH:.*]] = "stablehlo.and"(%[[ABOVE]], %[[BELOW]])
// CHECK: %[[MASK:.*]] = "stablehlo.reshape"(%[[BOTH]]) : (tensor<5x1xi1>) -> tensor<5xi1>
// CHECK-DAG: %[[FILL:.*]] = "stablehlo.constant"() {value = dense<7.000000e+00> : tensor<5xf32>}
// CHECK-DAG: %[[GATHERED:.*]] = "stablehlo.gather"(%{{.*}}, %[[I]]) {dimension_numbers = #stablehlo.gather<collapsed_slice_dims = [1], operand_batching_dims = [0], start_indices_batching_dims = [0], start_index_map = [1], index_vector_dim = 1>
// CHECK: "stablehlo.select"(%[[MASK]], %[[GATHERED]], %[[FILL]])
func.func @gather_fill(%x: tensor<5x4xf32>, %i: tensor<5x1xi32>) -> tensor<5xf32> {
  %0 = bm.gather %x at %i slice_sizes = [1, 1] collapsed_slice_dims = [1] start_index_map = [1] operand_batching_dims = [0] start_indices_batching_dims = [0] mode = fill_or_drop {fill_value = dense<7.0> : tensor<f32>} : (tensor<5x4xf32>, tensor<5x1xi32>) -> tensor<5xf32>
  return %0 : tensor<5xf32>
}

// No element of an 8 bit type is out of these bounds, which it cannot hold.
// CHECK-LABEL: func @narrow_indices
// CHECK: "stablehlo.convert"(%{{.*}}) : (tensor<3x1xi8>) -> tensor<3x1xi32>
// CHECK: dense<999> : tensor<3x1xi32>
func.func @narrow_indices(%x: tensor<1000xf32>, %i: tensor<3x1xi8>) -> tensor<3xf32> {
  %0 = bm.gather %x at %i slice_sizes = [1] collapsed_slice_dims = [0] start_index_map = [0] mode = fill_or_drop : (tensor<1000xf32>, tensor<3x1xi8>) -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// CHECK-LABEL: func @gather_nothing
// CHECK-NEXT: "stablehlo.constant"() {value = dense<0.000000e+00> : tensor<0x4xf32>}
func.func @gather_nothing(%x: tensor<0x4xf32>, %i: tensor<0x1xi32>) -> tensor<0x4xf32> {
  %0 = bm.gather %x at %i slice_sizes = [1, 4] offset_dims = [1] collapsed_slice_dims = [0] start_index_map = [0] mode = clip : (tensor<0x4xf32>, tensor<0x1xi32>) -> tensor<0x4xf32>
  return %0 : tensor<0x4xf32>
}

// Scatters drop by themselves; to clip, their indices are clamped.
// CHECK-LABEL: func @scatter_clip
// CHECK-DAG: %[[ZERO:.*]] = "stablehlo.constant"() {value = dense<0> : tensor<3x2xi32>}
// CHECK-DAG: %[[LAST:.*]] = "stablehlo.broadcast_in_dim"
// CHECK: %[[CLAMPED:.*]] = "stablehlo.clamp"(%[[ZERO]], %{{.*}}, %[[LAST]])
// CHECK: "stablehlo.scatter"(%{{.*}}, %[[CLAMPED]], %{{.*}}) ({
// CHECK-NEXT: ^bb0(%[[THERE:.*]]: tensor<f32>, %[[UPDATE:.*]]: tensor<f32>):
// CHECK-NEXT: %[[SUM:.*]] = "stablehlo.add"(%[[THERE]], %[[UPDATE]])
// CHECK-NEXT: "stablehlo.return"(%[[SUM]])
// CHECK-NEXT: }) {indices_are_sorted = false, scatter_dimension_numbers = #stablehlo.scatter<inserted_window_dims = [0, 1], scatter_dims_to_operand_dims = [0, 1], index_vector_dim = 1>, unique_indices = true}
func.func @scatter_clip(%x: tensor<5x4xf32>, %i: tensor<3x2xi32>, %u: tensor<3xf32>) -> tensor<5x4xf32> {
  %0 = bm.scatter_add %x at %i, %u inserted_window_dims = [0, 1] scatter_dims_to_operand_dims = [0, 1] mode = clip {unique_indices} : (tensor<5x4xf32>, tensor<3x2xi32>, tensor<3xf32>) -> tensor<5x4xf32>
  return %0 : tensor<5x4xf32>
}

// CHECK-LABEL: func @scatter_bodies
// CHECK: ^bb0(%{{.*}}: tensor<i32>, %[[UPDATE:.*]]: tensor<i32>):
// CHECK-NEXT: "stablehlo.return"(%[[UPDATE]])
// CHECK: "stablehlo.subtract"
// CHECK: "stablehlo.multiply"
// CHECK: "stablehlo.minimum"
// CHECK: "stablehlo.maximum"
func.func @scatter_bodies(%x: tensor<5xi32>, %i: tensor<3x1xi32>, %u: tensor<3xi32>) -> tensor<5xi32> {
  %0 = bm.scatter %x at %i, %u inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = fill_or_drop : (tensor<5xi32>, tensor<3x1xi32>, tensor<3xi32>) -> tensor<5xi32>
  %1 = bm.scatter_sub %0 at %i, %u inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = fill_or_drop : (tensor<5xi32>, tensor<3x1xi32>, tensor<3xi32>) -> tensor<5xi32>
  %2 = bm.scatter_mul %1 at %i, %u inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = fill_or_drop : (tensor<5xi32>, tensor<3x1xi32>, tensor<3xi32>) -> tensor<5xi32>
  %3 = bm.scatter_min %2 at %i, %u inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = fill_or_drop : (tensor<5xi32>, tensor<3x1xi32>, tensor<3xi32>) -> tensor<5xi32>
  %4 = bm.scatter_max %3 at %i, %u inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = fill_or_drop : (tensor<5xi32>, tensor<3x1xi32>, tensor<3xi32>) -> tensor<5xi32>
  return %4 : tensor<5xi32>
}

// CHECK-LABEL: func @scatter_complex
// CHECK: "stablehlo.scatter"{{.*}}
// CHECK: (tensor<5xf64>, tensor<3x1xi32>, tensor<3xf64>) -> tensor<5xf64>
// CHECK: "stablehlo.complex"
func.func @scatter_complex(%x: tensor<5xcomplex<f64>>, %i: tensor<3x1xi32>, %u: tensor<3xcomplex<f64>>) -> tensor<5xcomplex<f64>> {
  %0 = bm.scatter_add %x at %i, %u inserted_window_dims = [0] scatter_dims_to_operand_dims = [0] mode = fill_or_drop : (tensor<5xcomplex<f64>>, tensor<3x1xi32>, tensor<3xcomplex<f64>>) -> tensor<5xcomplex<f64>>
  return %0 : tensor<5xcomplex<f64>>
}
