// RUN: bm-opt %s -bm-lower -allow-unregistered-dialect | FileCheck %s

// Slices of xs are read at the counter, stacked results written at it; backwards, at
// what is left.
// CHECK-LABEL: func @scan
// CHECK-SAME: %[[W:.*]]: tensor<3xf32>, %[[C:.*]]: tensor<3xf32>, %[[XS:.*]]: tensor<5x3xf32>
// CHECK-DAG: %[[YS:.*]] = "stablehlo.constant"() {value = dense<0.000000e+00> : tensor<5x3xf32>}
// CHECK-DAG: %[[ZERO:.*]] = "stablehlo.constant"() {value = dense<0> : tensor<i32>}
// CHECK: %[[R:.*]]:5 = "stablehlo.while"(%[[ZERO]], %[[W]], %[[XS]], %[[C]], %[[YS]]) ({
// CHECK-NEXT: ^bb0(%[[I0:.*]]: tensor<i32>,
// CHECK-NEXT: %[[FIVE:.*]] = "stablehlo.constant"() {value = dense<5> : tensor<i32>}
// CHECK-NEXT: %[[MORE:.*]] = "stablehlo.compare"(%[[I0]], %[[FIVE]]) {{.*}}comparison_direction LT
// CHECK-NEXT: "stablehlo.return"(%[[MORE]])
// CHECK: ^bb0(%[[I:.*]]: tensor<i32>, %[[W1:.*]]: tensor<3xf32>, %[[XS1:.*]]: tensor<5x3xf32>, %[[C1:.*]]: tensor<3xf32>, %[[YS1:.*]]: tensor<5x3xf32>):
// CHECK: %[[J:.*]] = "stablehlo.add"(%[[I]],
// CHECK-NEXT: %[[FOUR:.*]] = "stablehlo.constant"() {value = dense<4> : tensor<i32>}
// CHECK-NEXT: %[[AT:.*]] = "stablehlo.subtract"(%[[FOUR]], %[[I]])
// CHECK-NEXT: %[[Z:.*]] = "stablehlo.constant"() {value = dense<0> : tensor<i32>}
// CHECK-NEXT: %[[S:.*]] = "stablehlo.dynamic_slice"(%[[XS1]], %[[AT]], %[[Z]]) {slice_sizes = array<i64: 1, 3>}
// CHECK-NEXT: %[[X:.*]] = "stablehlo.reshape"(%[[S]])
// CHECK-NEXT: %[[Y:.*]] = "stablehlo.multiply"(%[[C1]], %[[W1]])
// CHECK-NEXT: %[[N:.*]] = "stablehlo.add"(%[[Y]], %[[X]])
// CHECK: %[[U:.*]] = "stablehlo.dynamic_update_slice"(%[[YS1]], %{{.*}}, %[[AT]], %[[Z]])
// CHECK-NEXT: "stablehlo.return"(%[[J]], %[[W1]], %[[XS1]], %[[N]], %[[U]])
// CHECK: return %[[R]]#3, %[[R]]#4
func.func @scan(%w: tensor<3xf32>, %c: tensor<3xf32>, %xs: tensor<5x3xf32>) -> (tensor<3xf32>, tensor<5x3xf32>) {
  %0:2 = bm.scan consts(%w) init(%c) xs(%xs) length 5 reverse
      : (tensor<3xf32>, tensor<3xf32>, tensor<5x3xf32>) -> (tensor<3xf32>, tensor<5x3xf32>) {
  ^bb0(%w_: tensor<3xf32>, %c_: tensor<3xf32>, %x: tensor<3xf32>):
    %1 = bm.mul %c_, %w_ : tensor<3xf32>
    %2 = bm.add %1, %x : tensor<3xf32>
    bm.yield %2, %1 : tensor<3xf32>, tensor<3xf32>
  }
  return %0#0, %0#1 : tensor<3xf32>, tensor<5x3xf32>
}

// No loop for one step, nor for none.
// CHECK-LABEL: func @short
// CHECK-SAME: %[[C:.*]]: tensor<f32>, %[[XS:.*]]: tensor<1xf32>
// CHECK-NEXT: %[[X:.*]] = "stablehlo.reshape"(%[[XS]]) : (tensor<1xf32>) -> tensor<f32>
// CHECK-NEXT: %[[N:.*]] = "stablehlo.add"(%[[C]], %[[X]])
// CHECK-NEXT: %[[Y:.*]] = "stablehlo.reshape"(%[[C]]) : (tensor<f32>) -> tensor<1xf32>
// CHECK-NEXT: %[[E:.*]] = "stablehlo.constant"() {{.*}} -> tensor<0xf32>
// CHECK-NEXT: return %[[N]], %[[Y]], %[[E]]
func.func @short(%c: tensor<f32>, %xs: tensor<1xf32>) -> (tensor<f32>, tensor<1xf32>, tensor<0xf32>) {
  %0:2 = bm.scan consts() init(%c) xs(%xs) length 1 : (tensor<f32>, tensor<1xf32>) -> (tensor<f32>, tensor<1xf32>) {
  ^bb0(%c_: tensor<f32>, %x: tensor<f32>):
    %1 = bm.add %c_, %x : tensor<f32>
    bm.yield %1, %c_ : tensor<f32>, tensor<f32>
  }
  %2:2 = bm.scan consts() init(%0#0) xs() length 0 : (tensor<f32>) -> (tensor<f32>, tensor<0xf32>) {
  ^bb0(%c_: tensor<f32>):
    %1 = bm.sin %c_ : tensor<f32>
    bm.yield %1, %1 : tensor<f32>, tensor<f32>
  }
  return %2#0, %0#1, %2#1 : tensor<f32>, tensor<1xf32>, tensor<0xf32>
}

// Constants are passed on, as XLA has it.
// CHECK-LABEL: func @while
// CHECK-SAME: %[[N:.*]]: tensor<f32>, %[[W:.*]]: tensor<f32>, %[[C:.*]]: tensor<f32>
// CHECK-NEXT: %[[R:.*]]:3 = "stablehlo.while"(%[[N]], %[[W]], %[[C]]) ({
// CHECK-NEXT: ^bb0(%[[N0:.*]]: tensor<f32>, %{{.*}}: tensor<f32>, %[[C0:.*]]: tensor<f32>):
// CHECK-NEXT: %[[P:.*]] = "stablehlo.compare"(%[[C0]], %[[N0]])
// CHECK-NEXT: "stablehlo.return"(%[[P]])
// CHECK: ^bb0(%[[N1:.*]]: tensor<f32>, %[[W1:.*]]: tensor<f32>, %[[C1:.*]]: tensor<f32>):
// CHECK-NEXT: %[[M:.*]] = "stablehlo.multiply"(%[[C1]], %[[W1]])
// CHECK-NEXT: "stablehlo.return"(%[[N1]], %[[W1]], %[[M]])
// CHECK: return %[[R]]#2
func.func @while(%n: tensor<f32>, %w: tensor<f32>, %c: tensor<f32>) -> tensor<f32> {
  %0 = bm.while cond_consts(%n) body_consts(%w) init(%c) : (tensor<f32>, tensor<f32>, tensor<f32>) -> tensor<f32> {
  ^bb0(%n_: tensor<f32>, %c_: tensor<f32>):
    %1 = bm.compare lt %c_, %n_ : tensor<f32> -> tensor<i1>
    bm.yield %1 : tensor<i1>
  } do {
  ^bb0(%w_: tensor<f32>, %c_: tensor<f32>):
    %1 = bm.mul %c_, %w_ : tensor<f32>
    bm.yield %1 : tensor<f32>
  }
  return %0 : tensor<f32>
}

// The index is clamped: XLA would take the last branch for a negative one.
// CHECK-LABEL: func @cond
// CHECK-SAME: %[[I:.*]]: tensor<i32>, %[[X:.*]]: tensor<f32>
// CHECK: %[[J:.*]] = "stablehlo.clamp"(%{{.*}}, %[[I]], %{{.*}})
// CHECK-NEXT: %[[R:.*]] = "stablehlo.case"(%[[J]]) ({
// CHECK-NEXT: %[[S:.*]] = "stablehlo.sine"(%[[X]])
// CHECK-NEXT: "stablehlo.return"(%[[S]])
// CHECK-NEXT: }, {
// CHECK-NEXT: "stablehlo.return"(%[[X]])
// CHECK: %[[T:.*]] = "stablehlo.cosine"(%[[R]])
// CHECK-NEXT: return %[[T]]
func.func @cond(%i: tensor<i32>, %x: tensor<f32>) -> tensor<f32> {
  %0 = bm.cond %i(%x) : (tensor<i32>, tensor<f32>) -> tensor<f32> {
  ^bb0(%x_: tensor<f32>):
    %1 = bm.sin %x_ : tensor<f32>
    bm.yield %1 : tensor<f32>
  }, {
  ^bb0(%x_: tensor<f32>):
    bm.yield %x_ : tensor<f32>
  }
  %1 = bm.cond %i(%0) : (tensor<i32>, tensor<f32>) -> tensor<f32> {
  ^bb0(%x_: tensor<f32>):
    %2 = bm.cos %x_ : tensor<f32>
    bm.yield %2 : tensor<f32>
  }
  return %1 : tensor<f32>
}

// XLA must not find that what is run again is there already.
// CHECK-LABEL: func @remat
// CHECK-SAME: %[[X:.*]]: tensor<f32>
// CHECK: %[[S:.*]] = "stablehlo.sine"(%[[X]])
// CHECK: %[[B:.*]]:2 = "stablehlo.optimization_barrier"(%[[X]], %[[S]])
// CHECK: %[[T:.*]] = "stablehlo.sine"(%[[B]]#0)
// CHECK: "stablehlo.multiply"(%[[T]], %[[B]]#1)
// CHECK-NOT: "stablehlo.optimization_barrier"
func.func @remat(%x: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0 = bm.sin %x : tensor<f32>
  %1 = bm.remat(%x, %0) differentiated prevent_cse : (tensor<f32>, tensor<f32>) -> tensor<f32> {
  ^bb0(%x_: tensor<f32>, %ct: tensor<f32>):
    %3 = bm.sin %x_ : tensor<f32>
    %4 = bm.mul %3, %ct : tensor<f32>
    bm.yield %4 : tensor<f32>
  }
  %2 = bm.remat(%x) differentiated : (tensor<f32>) -> tensor<f32> {
  ^bb0(%x_: tensor<f32>):
    %3 = bm.sin %x_ : tensor<f32>
    bm.yield %3 : tensor<f32>
  }
  return %1, %2 : tensor<f32>, tensor<f32>
}

// Two steps in each turn; backwards, the one left over is the first.
// CHECK-LABEL: func @unrolled
// CHECK-SAME: %[[C:.*]]: tensor<f32>, %[[XS:.*]]: tensor<5xf32>
// CHECK: %[[R:.*]]:4 = "stablehlo.while"(
// CHECK: %[[FOUR:.*]] = "stablehlo.constant"() {value = dense<4> : tensor<i32>}
// CHECK-NEXT: "stablehlo.compare"(%{{.*}}, %[[FOUR]])
// CHECK: ^bb0(%[[I:.*]]: tensor<i32>, %[[XS1:.*]]: tensor<5xf32>, %[[C1:.*]]: tensor<f32>, %[[YS1:.*]]: tensor<5xf32>):
// CHECK: %[[AT:.*]] = "stablehlo.subtract"(%{{.*}}, %[[I]])
// CHECK: %[[S:.*]] = "stablehlo.dynamic_slice"(%[[XS1]], %[[AT]]) {slice_sizes = array<i64: 2>}
// CHECK-NEXT: %[[S1:.*]] = "stablehlo.slice"(%[[S]]) {{.*}}start_indices = array<i64: 1>
// CHECK-NEXT: %[[X1:.*]] = "stablehlo.reshape"(%[[S1]])
// CHECK-NEXT: %[[N1:.*]] = "stablehlo.multiply"(%[[C1]], %[[X1]])
// CHECK-NEXT: %[[S0:.*]] = "stablehlo.slice"(%[[S]]) {{.*}}start_indices = array<i64: 0>
// CHECK-NEXT: %[[X0:.*]] = "stablehlo.reshape"(%[[S0]])
// CHECK-NEXT: %[[N0:.*]] = "stablehlo.multiply"(%[[N1]], %[[X0]])
// CHECK-NEXT: %[[Y0:.*]] = "stablehlo.reshape"(%[[N1]]) : (tensor<f32>) -> tensor<1xf32>
// CHECK-NEXT: %[[Y1:.*]] = "stablehlo.reshape"(%[[C1]]) : (tensor<f32>) -> tensor<1xf32>
// CHECK-NEXT: %[[Y:.*]] = "stablehlo.concatenate"(%[[Y0]], %[[Y1]])
// CHECK-NEXT: %[[YS2:.*]] = "stablehlo.dynamic_update_slice"(%[[YS1]], %[[Y]], %[[AT]])
// CHECK-NEXT: "stablehlo.return"(%{{.*}}, %[[XS1]], %[[N0]], %[[YS2]])
// CHECK: %[[FIRST:.*]] = "stablehlo.constant"() {value = dense<0> : tensor<i32>}
// CHECK: "stablehlo.dynamic_slice"(%[[XS]], %[[FIRST]]) {slice_sizes = array<i64: 1>}
// CHECK: %[[N:.*]] = "stablehlo.multiply"(%[[R]]#2,
// CHECK: %[[YS:.*]] = "stablehlo.dynamic_update_slice"(%[[R]]#3, %{{.*}}, %[[FIRST]])
// CHECK-NEXT: return %[[N]], %[[YS]]
func.func @unrolled(%c: tensor<f32>, %xs: tensor<5xf32>) -> (tensor<f32>, tensor<5xf32>) {
  %0:2 = bm.scan consts() init(%c) xs(%xs) length 5 reverse unroll 2
      : (tensor<f32>, tensor<5xf32>) -> (tensor<f32>, tensor<5xf32>) {
  ^bb0(%c_: tensor<f32>, %x: tensor<f32>):
    %1 = bm.mul %c_, %x : tensor<f32>
    bm.yield %1, %c_ : tensor<f32>, tensor<f32>
  }
  return %0#0, %0#1 : tensor<f32>, tensor<5xf32>
}

// CHECK-LABEL: func @all_steps_in_one_turn
// CHECK-NOT: stablehlo.while
// CHECK-NOT: dynamic
// CHECK: return
func.func @all_steps_in_one_turn(%c: tensor<f32>, %xs: tensor<3xf32>) -> (tensor<f32>, tensor<3xf32>) {
  %0:2 = bm.scan consts() init(%c) xs(%xs) length 3 unroll 4
      : (tensor<f32>, tensor<3xf32>) -> (tensor<f32>, tensor<3xf32>) {
  ^bb0(%c_: tensor<f32>, %x: tensor<f32>):
    %1 = bm.mul %c_, %x : tensor<f32>
    bm.yield %1, %c_ : tensor<f32>, tensor<f32>
  }
  return %0#0, %0#1 : tensor<f32>, tensor<3xf32>
}
