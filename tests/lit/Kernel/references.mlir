// RUN: bm-opt %s -bm-lower -allow-unregistered-dialect | FileCheck %s

// The value of a reference is threaded as a token is, by the reference's name; a kernel may be
// there for several of them.
// CHECK-DAG: func.func private @bm_kernel_0(tensor<2xf32>) -> (tensor<2xf32>, tensor<f32>) attributes {bm.tokens = ["{{a|b}}"]}
// CHECK-DAG: func.func private @bm_kernel_1(tensor<2xf32>, tensor<f32>) -> (tensor<2xf32>, tensor<f32>) attributes {bm.tokens = ["b"]}
// CHECK-DAG: func.func private @bm_kernel_2(!stablehlo.token, tensor<f32>) -> !stablehlo.token attributes {bm.tokens = ["Z"]}
// CHECK-LABEL: func @main
// CHECK-SAME: (%[[Z0:.*]]: !stablehlo.token, %[[A0:.*]]: tensor<2xf32>, %[[B0:.*]]: tensor<2xf32>, %[[XS:.*]]: tensor<3xf32>, %[[I:.*]]: tensor<i32>)
// CHECK-SAME: -> (!stablehlo.token, tensor<2xf32>, tensor<2xf32>, tensor<f32>) attributes {bm.tokens = ["Z", "a", "b"]}
func.func @main(%xs: tensor<3xf32>, %i: tensor<i32>) -> tensor<f32> {
  // CHECK-NEXT: %[[A1:.*]]:2 = call @bm_kernel_0(%[[A0]])
  %0 = bm.kernel {id = 0 : i64, name = "get", has_side_effect, ordered = ["a"], reference = tensor<2xf32>}()
      : () -> tensor<f32>
  // CHECK-NEXT: %[[Z1:.*]] = call @bm_kernel_2(%[[Z0]], %[[A1]]#1)
  bm.kernel {id = 2 : i64, name = "note", has_side_effect, ordered = ["Z"]}(%0) : (tensor<f32>) -> ()
  // CHECK: %[[LOOP:.*]]:4 = "stablehlo.while"(%{{.*}}, %[[XS]], %[[A1]]#1, %[[B0]])
  // CHECK: }, {
  // CHECK: ^bb0(%{{.*}}: tensor<i32>, %{{.*}}: tensor<3xf32>, %{{.*}}: tensor<f32>, %[[B1:.*]]: tensor<2xf32>)
  // CHECK: %[[B2:.*]]:2 = func.call @bm_kernel_1(%[[B1]],
  // CHECK: "stablehlo.return"({{.*}}, %[[B2]]#0)
  %1 = bm.scan consts() init(%0) xs(%xs) length 3 : (tensor<f32>, tensor<3xf32>) -> tensor<f32> {
  ^bb0(%c: tensor<f32>, %x: tensor<f32>):
    %2 = bm.kernel {id = 1 : i64, name = "swap", has_side_effect, ordered = ["b"], reference = tensor<2xf32>}(%x)
        : (tensor<f32>) -> tensor<f32>
    %3 = bm.mul %c, %2 : tensor<f32>
    bm.yield %3 : tensor<f32>
  }
  // CHECK: %[[CASE:.*]]:2 = "stablehlo.case"
  // CHECK: %[[B3:.*]]:2 = func.call @bm_kernel_0(%[[LOOP]]#3)
  // CHECK-NEXT: "stablehlo.return"(%[[B3]]#1, %[[B3]]#0)
  // CHECK: }, {
  // CHECK-NEXT: "stablehlo.return"(%[[LOOP]]#2, %[[LOOP]]#3)
  %2 = bm.cond %i(%1) : (tensor<i32>, tensor<f32>) -> tensor<f32> {
  ^bb0(%y: tensor<f32>):
    %3 = bm.kernel {id = 0 : i64, name = "get", has_side_effect, ordered = ["b"], reference = tensor<2xf32>}()
        : () -> tensor<f32>
    bm.yield %3 : tensor<f32>
  }, {
  ^bb0(%y: tensor<f32>):
    bm.yield %y : tensor<f32>
  }
  // CHECK: return %[[Z1]], %[[A1]]#0, %[[CASE]]#1, %[[CASE]]#0
  return %2 : tensor<f32>
}
