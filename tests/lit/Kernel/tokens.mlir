// RUN: bm-opt %s -bm-lower -allow-unregistered-dialect | FileCheck %s

// One token for each kind of effect, by name; loops carry them, branches read them from around.
// CHECK-DAG: func.func private @bm_kernel_1(!stablehlo.token, tensor<f32>) -> !stablehlo.token attributes {bm.tokens = ["B"]}
// CHECK-DAG: func.func private @bm_kernel_2(!stablehlo.token) -> (!stablehlo.token, tensor<f32>) attributes {bm.tokens = ["A"]}
// CHECK-LABEL: func @main
// CHECK-SAME: (%[[A0:.*]]: !stablehlo.token, %[[B0:.*]]: !stablehlo.token, %[[X:.*]]: tensor<f32>, %[[XS:.*]]: tensor<3xf32>, %[[I:.*]]: tensor<i32>)
// CHECK-SAME: -> (!stablehlo.token, !stablehlo.token, tensor<f32>) attributes {bm.tokens = ["A", "B"]}
func.func @main(%x: tensor<f32>, %xs: tensor<3xf32>, %i: tensor<i32>) -> tensor<f32> {
  // CHECK-NEXT: %[[B1:.*]] = call @bm_kernel_1(%[[B0]], %[[X]])
  bm.kernel {id = 1 : i64, name = "write", has_side_effect, ordered = ["B"]}(%x) : (tensor<f32>) -> ()
  // CHECK-NEXT: %[[A1:.*]]:2 = call @bm_kernel_2(%[[A0]])
  %0 = bm.kernel {id = 2 : i64, name = "read", has_side_effect, ordered = ["A"]}() : () -> tensor<f32>
  // CHECK: %[[LOOP:.*]]:4 = "stablehlo.while"(%{{.*}}, %[[XS]], %[[A1]]#1, %[[B1]])
  // CHECK: ^bb0(%{{.*}}: tensor<i32>, %{{.*}}: tensor<3xf32>, %{{.*}}: tensor<f32>, %[[B2:.*]]: !stablehlo.token)
  // CHECK: }, {
  // CHECK: ^bb0(%{{.*}}: tensor<i32>, %{{.*}}: tensor<3xf32>, %{{.*}}: tensor<f32>, %[[B2:.*]]: !stablehlo.token)
  // CHECK: %[[B3:.*]] = func.call @bm_kernel_1(%[[B2]],
  // CHECK: "stablehlo.return"({{.*}}, %[[B3]])
  %1 = bm.scan consts() init(%0) xs(%xs) length 3 : (tensor<f32>, tensor<3xf32>) -> tensor<f32> {
  ^bb0(%c: tensor<f32>, %x_: tensor<f32>):
    bm.kernel {id = 1 : i64, name = "write", has_side_effect, ordered = ["B"]}(%x_) : (tensor<f32>) -> ()
    %2 = bm.mul %c, %x_ : tensor<f32>
    bm.yield %2 : tensor<f32>
  }
  // CHECK: %[[CASE:.*]]:2 = "stablehlo.case"
  // CHECK: %[[B4:.*]] = func.call @bm_kernel_1(%[[LOOP]]#3,
  // CHECK-NEXT: "stablehlo.return"(%{{.*}}, %[[B4]])
  // CHECK: }, {
  // CHECK-NEXT: "stablehlo.return"(%{{.*}}, %[[LOOP]]#3)
  %2 = bm.cond %i(%1) : (tensor<i32>, tensor<f32>) -> tensor<f32> {
  ^bb0(%y: tensor<f32>):
    bm.kernel {id = 1 : i64, name = "write", has_side_effect, ordered = ["B"]}(%y) : (tensor<f32>) -> ()
    bm.yield %y : tensor<f32>
  }, {
  ^bb0(%y: tensor<f32>):
    bm.yield %y : tensor<f32>
  }
  // CHECK: return %[[A1]]#0, %[[CASE]]#1, %[[CASE]]#0
  return %2 : tensor<f32>
}
