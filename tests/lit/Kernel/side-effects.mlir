// RUN: bm-opt %s -bm-differentiate -bm-optimize | FileCheck %s

// A kernel with side effects stays though nothing reads it, twice where it is there twice.
func.func private @f(%x: tensor<f32>) -> tensor<f32> {
  bm.kernel {id = 0 : i64, name = "print", has_side_effect} (%x) : (tensor<f32>) -> ()
  bm.kernel {id = 0 : i64, name = "print", has_side_effect} (%x) : (tensor<f32>) -> ()
  %0 = bm.mul %x, %x : tensor<f32>
  return %0 : tensor<f32>
}

// Of the derivative it is in the primal part, so runs as often as in the function.
// CHECK-LABEL: func.func @vjp
// CHECK-COUNT-2: bm.kernel {has_side_effect, id = 0 : i64, name = "print"}
// CHECK-NOT: bm.kernel
// CHECK: return
func.func @vjp(%x: tensor<f32>, %ct: tensor<f32>) -> tensor<f32> {
  %0:2 = bm.vjp @f(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>}
      : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#1 : tensor<f32>
}

// A loop that holds one is not dead, and its reverse loop has none.
// CHECK-LABEL: func.func @loop
// CHECK: bm.scan
// CHECK: bm.kernel
// CHECK-NOT: bm.kernel
// CHECK: return
func.func private @in_a_loop(%x: tensor<f32>) -> tensor<f32> {
  %0 = bm.scan consts() init(%x) xs() length 3 : (tensor<f32>) -> tensor<f32> {
  ^bb0(%c: tensor<f32>):
    bm.kernel {id = 0 : i64, name = "print", has_side_effect} (%c) : (tensor<f32>) -> ()
    %1 = bm.sin %c : tensor<f32>
    bm.yield %1 : tensor<f32>
  }
  return %0 : tensor<f32>
}
func.func @loop(%x: tensor<f32>, %ct: tensor<f32>) -> tensor<f32> {
  %0:2 = bm.vjp @in_a_loop(%x, %ct) {wrt = array<i64: 0>, of = array<i64: 0>}
      : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#1 : tensor<f32>
}

// CHECK-LABEL: func.func @unread
// CHECK: bm.scan
// CHECK: bm.kernel
func.func @unread(%x: tensor<f32>) -> tensor<f32> {
  %0 = func.call @in_a_loop(%x) : (tensor<f32>) -> tensor<f32>
  return %x : tensor<f32>
}
