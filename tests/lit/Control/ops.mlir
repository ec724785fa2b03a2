// RUN: bm-opt %s | bm-opt | FileCheck %s
// RUN: bm-opt %s -mlir-print-op-generic | bm-opt | FileCheck %s

// CHECK-LABEL: func @scan
// CHECK: bm.scan consts(%{{.*}}) init(%{{.*}}) xs(%{{.*}}) length 5 reverse
// CHECK-SAME: : (tensor<f32>, tensor<3xf32>, tensor<5x3xf32>) -> (tensor<3xf32>, tensor<5xf32>) {
// CHECK-NEXT: ^bb0(%[[W:.*]]: tensor<f32>, %[[C:.*]]: tensor<3xf32>, %[[X:.*]]: tensor<3xf32>):
// CHECK-NEXT:   %[[N:.*]] = bm.add %[[C]], %[[X]] : tensor<3xf32>
// CHECK-NEXT:   bm.yield %[[N]], %[[W]] : tensor<3xf32>, tensor<f32>
func.func @scan(%w: tensor<f32>, %c: tensor<3xf32>, %xs: tensor<5x3xf32>) -> tensor<3xf32> {
  %0:2 = bm.scan consts(%w) init(%c) xs(%xs) length 5 reverse
      : (tensor<f32>, tensor<3xf32>, tensor<5x3xf32>) -> (tensor<3xf32>, tensor<5xf32>) {
  ^bb0(%w_: tensor<f32>, %c_: tensor<3xf32>, %x: tensor<3xf32>):
    %1 = bm.add %c_, %x : tensor<3xf32>
    bm.yield %1, %w_ : tensor<3xf32>, tensor<f32>
  }
  return %0#0 : tensor<3xf32>
}

// A loop may have nothing but its length.
// CHECK-LABEL: func @empty
// CHECK: bm.scan consts() init() xs() length 0 : () -> () {
// CHECK-NEXT:   bm.yield
// CHECK-NEXT: }
func.func @empty() {
  bm.scan consts() init() xs() length 0 : () -> () {
    bm.yield
  }
  return
}

// CHECK-LABEL: func @while
// CHECK: bm.while cond_consts(%{{.*}}) body_consts() init(%{{.*}}) : (tensor<f32>, tensor<f32>) -> tensor<f32> {
// CHECK-NEXT: ^bb0(%[[N:.*]]: tensor<f32>, %[[C:.*]]: tensor<f32>):
// CHECK-NEXT:   %[[P:.*]] = bm.compare lt %[[C]], %[[N]]
// CHECK-NEXT:   bm.yield %[[P]] : tensor<i1>
// CHECK-NEXT: } do {
func.func @while(%n: tensor<f32>, %c: tensor<f32>) -> tensor<f32> {
  %0 = bm.while cond_consts(%n) body_consts() init(%c) : (tensor<f32>, tensor<f32>) -> tensor<f32> {
  ^bb0(%n_: tensor<f32>, %c_: tensor<f32>):
    %1 = bm.compare lt %c_, %n_ : tensor<f32> -> tensor<i1>
    bm.yield %1 : tensor<i1>
  } do {
  ^bb0(%c_: tensor<f32>):
    %1 = bm.add %c_, %c_ : tensor<f32>
    bm.yield %1 : tensor<f32>
  }
  return %0 : tensor<f32>
}

// CHECK-LABEL: func @cond
// CHECK: bm.cond %{{.*}}(%{{.*}}) : (tensor<i32>, tensor<f32>) -> tensor<f32> {
// CHECK: }, {
// CHECK-NEXT: ^bb0(%[[X:.*]]: tensor<f32>):
// CHECK-NEXT:   bm.yield %[[X]] : tensor<f32>
func.func @cond(%i: tensor<i32>, %x: tensor<f32>) -> tensor<f32> {
  %0 = bm.cond %i(%x) : (tensor<i32>, tensor<f32>) -> tensor<f32> {
  ^bb0(%x_: tensor<f32>):
    %1 = bm.sin %x_ : tensor<f32>
    bm.yield %1 : tensor<f32>
  }, {
  ^bb0(%x_: tensor<f32>):
    bm.yield %x_ : tensor<f32>
  }
  return %0 : tensor<f32>
}

// CHECK-LABEL: func @remat
// CHECK: bm.remat(%{{.*}}) differentiated prevent_cse : (tensor<f32>) -> tensor<f32> {
// CHECK-NEXT: ^bb0(%[[X:.*]]: tensor<f32>):
// CHECK-NEXT:   bm.yield %[[X]] : tensor<f32>
func.func @remat(%x: tensor<f32>) -> tensor<f32> {
  %0 = bm.remat(%x) differentiated prevent_cse : (tensor<f32>) -> tensor<f32> {
  ^bb0(%x_: tensor<f32>):
    bm.yield %x_ : tensor<f32>
  }
  return %0 : tensor<f32>
}
