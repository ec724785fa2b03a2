// RUN: bm-opt %s -split-input-file -verify-diagnostics -allow-unregistered-dialect

func.func @terminator(%c: tensor<f32>) {
  // expected-error@+1 {{body must end with bm.yield}}
  %0 = bm.scan consts() init(%c) xs() length 2 : (tensor<f32>) -> tensor<f32> {
  ^bb0(%c_: tensor<f32>):
    "other.end"() : () -> ()
  }
  return
}

// -----

func.func @number_of_arguments(%c: tensor<f32>, %xs: tensor<2xf32>) {
  // expected-error@+1 {{body takes 1 arguments, expected 2: 0 constants, 1 carries and 1 slices}}
  %0 = bm.scan consts() init(%c) xs(%xs) length 2 : (tensor<f32>, tensor<2xf32>) -> tensor<f32> {
  ^bb0(%c_: tensor<f32>):
    bm.yield %c_ : tensor<f32>
  }
  return
}

// -----

func.func @constant_type(%w: tensor<f32>) {
  // expected-error@+1 {{body takes 'tensor<f64>' as constant 0, expected 'tensor<f32>'}}
  bm.scan consts(%w) init() xs() length 2 : (tensor<f32>) -> () {
  ^bb0(%w_: tensor<f64>):
    bm.yield
  }
  return
}

// -----

func.func @leading_axis(%a: tensor<2xf32>, %b: tensor<3xf32>) {
  // expected-error@+1 {{x 1 is 'tensor<3xf32>', expected a leading axis of length 2}}
  bm.scan consts() init() xs(%a, %b) length 2 : (tensor<2xf32>, tensor<3xf32>) -> () {
  ^bb0(%a_: tensor<f32>, %b_: tensor<f32>):
    bm.yield
  }
  return
}

// -----

func.func @slice_type(%xs: tensor<2x3xf32>) {
  // expected-error@+1 {{body takes 'tensor<2xf32>' as slice 0, expected 'tensor<3xf32>'}}
  bm.scan consts() init() xs(%xs) length 2 : (tensor<2x3xf32>) -> () {
  ^bb0(%x: tensor<2xf32>):
    bm.yield
  }
  return
}

// -----

func.func @carry_changes_type(%a: tensor<f32>, %b: tensor<i32>) {
  // expected-error@+1 {{body yields 'tensor<f32>' as carry 1, expected 'tensor<i32>'}}
  %0:2 = bm.scan consts() init(%a, %b) xs() length 2
      : (tensor<f32>, tensor<i32>) -> (tensor<f32>, tensor<i32>) {
  ^bb0(%a_: tensor<f32>, %b_: tensor<i32>):
    bm.yield %a_, %a_ : tensor<f32>, tensor<f32>
  }
  return
}

// -----

func.func @too_few_yields(%c: tensor<f32>) {
  // expected-error@+1 {{body yields 0 values, expected at least its 1 carries}}
  %0 = bm.scan consts() init(%c) xs() length 2 : (tensor<f32>) -> tensor<f32> {
  ^bb0(%c_: tensor<f32>):
    bm.yield
  }
  return
}

// -----

func.func @too_few_results(%c: tensor<f32>) {
  // expected-error@+1 {{has 0 results, expected at least its 1 carries}}
  bm.scan consts() init(%c) xs() length 2 : (tensor<f32>) -> () {
  ^bb0(%c_: tensor<f32>):
    bm.yield %c_ : tensor<f32>
  }
  return
}

// -----

func.func @final_carry(%c: tensor<f32>) {
  // expected-error@+1 {{gives 'tensor<2xf32>' as final carry 0, expected 'tensor<f32>'}}
  %0 = bm.scan consts() init(%c) xs() length 2 : (tensor<f32>) -> tensor<2xf32> {
  ^bb0(%c_: tensor<f32>):
    bm.yield %c_ : tensor<f32>
  }
  return
}

// -----

func.func @stacked_result(%c: tensor<f32>) {
  // expected-error@+1 {{gives 'tensor<3xf32>' as stacked result 0, expected 'tensor<2xf32>'}}
  %0:2 = bm.scan consts() init(%c) xs() length 2 : (tensor<f32>) -> (tensor<f32>, tensor<3xf32>) {
  ^bb0(%c_: tensor<f32>):
    bm.yield %c_, %c_ : tensor<f32>, tensor<f32>
  }
  return
}

// -----

func.func @number_of_stacked_results(%c: tensor<f32>) {
  // expected-error@+1 {{gives 0 stacked results, expected 1}}
  %0 = bm.scan consts() init(%c) xs() length 2 : (tensor<f32>) -> tensor<f32> {
  ^bb0(%c_: tensor<f32>):
    bm.yield %c_, %c_ : tensor<f32>, tensor<f32>
  }
  return
}

// -----

func.func @negative_length() {
  // expected-error@+1 {{length -1 is negative}}
  bm.scan consts() init() xs() length -1 : () -> () {
    bm.yield
  }
  return
}

// -----

func.func @no_steps_in_a_turn() {
  // expected-error@+1 {{attribute 'unroll' failed to satisfy constraint: 64-bit signless integer attribute whose value is positive}}
  bm.scan consts() init() xs() length 2 unroll 0 : () -> () {
    bm.yield
  }
  return
}

// -----

func.func @captured(%w: tensor<f32>, %c: tensor<f32>) {
  // expected-note@+1 {{required by region isolation constraints}}
  %0 = bm.scan consts() init(%c) xs() length 2 : (tensor<f32>) -> tensor<f32> {
  ^bb0(%c_: tensor<f32>):
    // expected-error@+1 {{using value defined outside the region}}
    %1 = bm.mul %c_, %w : tensor<f32>
    bm.yield %1 : tensor<f32>
  }
  return
}

// -----

func.func @predicate_type(%c: tensor<f32>) {
  // expected-error@+1 {{condition yields 'tensor<f32>' as predicate 0, expected 'tensor<i1>'}}
  %0 = bm.while cond_consts() body_consts() init(%c) : (tensor<f32>) -> tensor<f32> {
  ^bb0(%c_: tensor<f32>):
    bm.yield %c_ : tensor<f32>
  } do {
  ^bb0(%c_: tensor<f32>):
    bm.yield %c_ : tensor<f32>
  }
  return
}

// -----

func.func @while_carry(%p: tensor<i1>, %c: tensor<f32>) {
  // expected-error@+1 {{body yields 'tensor<i1>' as carry 0, expected 'tensor<f32>'}}
  %0 = bm.while cond_consts(%p) body_consts(%p) init(%c) : (tensor<i1>, tensor<i1>, tensor<f32>) -> tensor<f32> {
  ^bb0(%p_: tensor<i1>, %c_: tensor<f32>):
    bm.yield %p_ : tensor<i1>
  } do {
  ^bb0(%p_: tensor<i1>, %c_: tensor<f32>):
    bm.yield %p_ : tensor<i1>
  }
  return
}

// -----

func.func @while_arguments(%p: tensor<i1>, %c: tensor<f32>) {
  // expected-error@+1 {{condition takes 1 arguments, expected 2}}
  %0 = bm.while cond_consts(%p) body_consts() init(%c) : (tensor<i1>, tensor<f32>) -> tensor<f32> {
  ^bb0(%p_: tensor<i1>):
    bm.yield %p_ : tensor<i1>
  } do {
  ^bb0(%c_: tensor<f32>):
    bm.yield %c_ : tensor<f32>
  }
  return
}

// -----

func.func @index_type(%i: tensor<i64>) {
  // expected-error@+1 {{operand #0 must be 0D tensor of 32-bit signless integer values, but got 'tensor<i64>'}}
  bm.cond %i() : (tensor<i64>) -> () {
    bm.yield
  }
  return
}

// -----

func.func @branch_result(%i: tensor<i32>, %x: tensor<f32>) {
  // expected-error@+1 {{branch 1 yields 'tensor<i32>' as result 0, expected 'tensor<f32>'}}
  %0 = bm.cond %i(%i, %x) : (tensor<i32>, tensor<i32>, tensor<f32>) -> tensor<f32> {
  ^bb0(%i_: tensor<i32>, %x_: tensor<f32>):
    bm.yield %x_ : tensor<f32>
  }, {
  ^bb0(%i_: tensor<i32>, %x_: tensor<f32>):
    bm.yield %i_ : tensor<i32>
  }
  return
}

// -----

func.func @branch_inputs(%i: tensor<i32>, %x: tensor<f32>) {
  // expected-error@+1 {{branch 0 takes 0 inputs, expected 1}}
  bm.cond %i(%x) : (tensor<i32>, tensor<f32>) -> () {
    bm.yield
  }
  return
}

// -----

func.func @remat_result(%x: tensor<f32>) {
  // expected-error@+1 {{body yields 1 results, expected 2}}
  %0:2 = bm.remat(%x) : (tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  ^bb0(%x_: tensor<f32>):
    bm.yield %x_ : tensor<f32>
  }
  return
}
