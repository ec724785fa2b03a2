// RUN: bm-opt %s -bm-expand-transforms -mlir-print-debuginfo | FileCheck %s

// What a call is replaced by is in the named scopes of the call.

// CHECK-LABEL: func.func private @f(
//       CHECK: bm.sin %{{.*}} loc(#[[SIN:.*]])
//       CHECK: bm.cos %{{.*}} loc(#[[COS:.*]])
//       CHECK: bm.exp %{{.*}} loc(#[[EXP:.*]])
//   CHECK-DAG: #[[SIN]] = loc(callsite(#[[SIN_NAME:.*]] at #[[SIN_AT:.*]]))
//   CHECK-DAG: #[[SIN_NAME]] = loc("layer/jit/part/sin"(#[[SIN_AT]]))
//   CHECK-DAG: #[[SIN_AT]] = loc("a.py":1:2)
//   CHECK-DAG: #[[COS]] = loc(callsite(#[[COS_NAME:.*]] at #[[COS_AT:.*]]))
//   CHECK-DAG: #[[COS_NAME]] = loc("layer/jit"(#[[COS_AT]]))
//   CHECK-DAG: #[[COS_AT]] = loc("a.py":2:2)
//   CHECK-DAG: #[[EXP]] = loc(callsite(#[[EXP_NAME:.*]] at #[[EXP_AT:.*]]))
//   CHECK-DAG: #[[EXP_NAME]] = loc("layer/jit"(#[[EXP_AT]]))
//   CHECK-DAG: #[[EXP_AT]] = loc("a.py":9:2)
func.func @main(%x: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0:2 = bm.jvp @f(%x, %x) {wrt = array<i64: 0>} : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#0, %0#1 : tensor<f32>, tensor<f32>
}
func.func private @f(%x: tensor<f32>) -> tensor<f32> {
  %0 = call @g(%x) : (tensor<f32>) -> tensor<f32> loc(callsite("layer/jit"("a.py":9:2) at "a.py":9:2))
  return %0 : tensor<f32>
}
func.func private @g(%x: tensor<f32>) -> tensor<f32> {
  %0 = bm.sin %x : tensor<f32> loc(callsite("part/sin"("a.py":1:2) at "a.py":1:2))
  %1 = bm.cos %0 : tensor<f32> loc("a.py":2:2)
  %2 = bm.exp %1 : tensor<f32> loc(unknown)
  return %2 : tensor<f32>
}
