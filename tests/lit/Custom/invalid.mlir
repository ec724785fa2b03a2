// RUN: bm-opt %s -split-input-file -verify-diagnostics

func.func @no_primal(%x: tensor<f32>) {
  // expected-error@+1 {{has @missing as primal, which is no function}}
  %0 = bm.custom_jvp @missing, @missing(%x) : (tensor<f32>) -> tensor<f32>
  return
}

// -----

func.func private @f(%x: tensor<f32>) -> tensor<f32>
func.func @primal_type(%x: tensor<f64>) {
  // expected-error@+1 {{has @f as primal of type '(tensor<f32>) -> tensor<f32>', expected '(tensor<f64>) -> tensor<f64>'}}
  %0 = bm.custom_jvp @f, @f(%x) : (tensor<f64>) -> tensor<f64>
  return
}

// -----

// Integers have no tangents.
func.func private @f(%x: tensor<f32>, %i: tensor<i32>) -> tensor<f32>
func.func @rule_type(%x: tensor<f32>, %i: tensor<i32>) {
  // expected-error@+1 {{has @f as rule of type '(tensor<f32>, tensor<i32>) -> tensor<f32>', expected '(tensor<f32>, tensor<i32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)'}}
  %0 = bm.custom_jvp @f, @f(%x, %i) : (tensor<f32>, tensor<i32>) -> tensor<f32>
  return
}

// -----

func.func private @f(%x: tensor<f32>) -> tensor<f32>
func.func @too_few_residuals(%x: tensor<f32>) {
  // expected-error@+1 {{has @f as fwd with 1 results, expected 1 outputs and 2 residuals}}
  %0 = bm.custom_vjp @f, @f, @f(%x) {num_residuals = 2 : i64} : (tensor<f32>) -> tensor<f32>
  return
}

// -----

func.func private @f(%x: tensor<f32>) -> tensor<f32>
func.func private @f.fwd(%x: tensor<f32>) -> (tensor<f32>, tensor<3xi32>)
func.func @bwd_type(%x: tensor<f32>) {
  // expected-error@+1 {{has @f as bwd of type '(tensor<f32>) -> tensor<f32>', expected '(tensor<3xi32>, tensor<f32>) -> tensor<f32>'}}
  %0 = bm.custom_vjp @f, @f.fwd, @f(%x) {num_residuals = 1 : i64} : (tensor<f32>) -> tensor<f32>
  return
}

// -----

func.func private @f(%x: tensor<f32>) -> tensor<f32>
func.func @linear(%x: tensor<f64>) {
  // expected-error@+1 {{has @f as bwd of type '(tensor<f32>) -> tensor<f32>', expected '(tensor<f64>) -> tensor<f64>'}}
  %0 = bm.custom_lin @f residuals() tangents(%x) : (tensor<f64>) -> tensor<f64>
  return
}

// -----

func.func private @f(%x: tensor<f32>) -> tensor<f32>
func.func @solve_type(%b: tensor<f64>) {
  // expected-error@+1 {{has @f as solve of type '(tensor<f32>) -> tensor<f32>', expected '(tensor<f64>) -> tensor<f64>'}}
  %0 = bm.linear_solve @f of @f params() rhs(%b) : (tensor<f64>) -> tensor<f64>
  return
}

// -----

func.func private @f(%x: tensor<f32>) -> tensor<2xf32>
func.func private @g(%x: tensor<f32>) -> tensor<f32>
func.func @solution_type(%b: tensor<f32>) {
  // expected-error@+1 {{has results of types 'tensor<2xf32>', expected those of the right-hand side first: 'tensor<f32>'}}
  %0 = bm.linear_solve @f of @g params() rhs(%b) : (tensor<f32>) -> tensor<2xf32>
  return
}

// -----

func.func private @f(%x: tensor<f32>) -> tensor<f32>
func.func @half_transposed(%b: tensor<f32>) {
  // expected-error@+1 {{needs transpose_solve and vecmat, or neither of the two}}
  %0 = "bm.linear_solve"(%b) <{solve = @f, matvec = @f, vecmat = @f, operandSegmentSizes = array<i32: 0, 1>}>
      : (tensor<f32>) -> tensor<f32>
  return
}

// -----

func.func private @f(%x: tensor<f32>) -> tensor<f32>
func.func @transposes(%x: tensor<f32>) {
  // expected-error@+1 {{needs a list of linear operands for each transpose}}
  %0 = bm.custom_jvp @f(%x) {transposes = [@f]} : (tensor<f32>) -> tensor<f32>
  return
}

// -----

func.func private @f(%x: tensor<2xf32>) -> tensor<f32>
func.func private @g(%x: tensor<2xf32>) -> tensor<2xf32>
func.func @transpose_type(%x: tensor<2xf32>) {
  // expected-error@+1 {{has @g as transpose of type '(tensor<2xf32>) -> tensor<2xf32>', expected '(tensor<f32>) -> tensor<2xf32>'}}
  %0 = bm.custom_jvp @f(%x) {linear = [array<i64: 0>], transposes = [@g]} : (tensor<2xf32>) -> tensor<f32>
  return
}
