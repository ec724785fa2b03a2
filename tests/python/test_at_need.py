"""Calls in modules whose rules were imported for less than a later derivative perturbs."""

import pytest

from bmgrad.runtime import _pipeline
from bmgrad.runtime._edits import text
from bmgrad.runtime._put_off import PutOff, WithRules

# The product of `x` and `y`, with a rule that tells itself apart by a factor.
CALL = """
func.func public @main(%x: tensor<f32>, %y: tensor<f32>) -> tensor<f32> {{
  %0 = bm.custom_jvp @f, @f.jvp(%x, %y) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}}
func.func private @f(%x: tensor<f32>, %y: tensor<f32>) -> tensor<f32> {{
  %0 = bm.mul %x, %y : tensor<f32>
  return %0 : tensor<f32>
}}
func.func private @f.jvp(%x: tensor<f32>, %y: tensor<f32>, %dx: tensor<f32>, %dy: tensor<f32>)
    -> (tensor<f32>, tensor<f32>) {{
  %0 = bm.constant dense<{factor}> : tensor<f32>
  %1 = bm.mul %x, %y : tensor<f32>
  %2 = bm.mul %dy, %0 : tensor<f32>
  return %1, %2 : tensor<f32>, tensor<f32>
}}
"""
# That was imported for `x`, then for one element of a batch; now `y` is perturbed.
DERIVED = """
func.func public @main(%x: {over}, %y: {over}) -> {over} {{
  %0:2 = bm.jvp @derived(%x, %y, %y) {{wrt = array<i64: 1>}}
    : ({over}, {over}, {over}) -> ({over}, {over})
  return %0#1 : {over}
}}
func.func private @derived(%x: {over}, %y: {over}) -> {over} {{
  %0 = bm.unperturbed %y {{reason = "{reason}"}} : {over}
  %1 = bm.custom_jvp @f, @f.jvp(%x, %0) : ({over}, {over}) -> {over}
  return %1 : {over}
}}
func.func private @f({over}, {over}) -> {over}{batches}
func.func private @f.jvp({over}, {over}, {over}, {over}) -> ({over}, {over})
"""


ONE = """ attributes {bm.batches = [
  {in_axes = array<i64: 0, 0>, out_axes = array<i64: 0>, size = 3 : i64}]}"""


@pytest.mark.parametrize(("over", "batches"), [("tensor<f32>", ""), ("tensor<3xf32>", ONE)])
def test_rules_are_imported_again(over, batches):
    asked = []

    def make(flags):
        asked.append(flags)
        return WithRules(CALL.format(factor=float(sum(flags))), [])

    call = PutOff(make, 0)
    module = DERIVED.format(over=over, batches=batches, reason=call.reason_for((False, True)))
    made = text(_pipeline.run(module, "bm-expand-transforms"))
    assert asked == [(True, True)]
    assert "unperturbed" not in made
    assert "dense<2.000000e+00>" in made
