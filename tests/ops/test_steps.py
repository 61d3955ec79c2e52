"""Rows of a variable that a loop writes; which loop is being traced."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_norm import portable_only
from keras_norm.ops import loop_of, write_rows
from tests.backends import run_on
from tests.conformance.support import MODES, compiled


def table():
    return keras.Variable(np.zeros((6, 2), "float32"), trainable=False, autocast=False)


@pytest.mark.parametrize("mode", MODES)
def test_rows_written_in_a_loop_are_there_after_it(mode):
    variable = table()

    def body(step):
        write_rows(variable, step, tf.cast([[step, -step]], "float32"))
        return [step + 1]

    def run():
        tf.while_loop(lambda step: step < 5, body, [tf.constant(1)], parallel_iterations=10)
        return tf.identity(variable.value)

    expected = np.array([[n, -n] for n in (0, 1, 2, 3, 4, 0)], "float32")
    np.testing.assert_array_equal(compiled(run, mode)(), expected)


def test_definition_and_override_write_the_same_rows():
    rows = np.arange(4, dtype="float32").reshape(2, 2)
    first, second = table(), table()
    write_rows(first, 3, rows)
    with portable_only():
        write_rows(second, 3, rows)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first.numpy()[3:5], rows)
    assert not first.numpy()[:3].any() and not first.numpy()[5:].any()


def test_loops_of_tensorflow_are_all_alike():
    assert loop_of() is None


SCRIPT = """
import jax
from keras_norm.ops import loop_of
outer, seen = loop_of(), []
assert outer == loop_of()
def body(carry, x):
    seen.append(loop_of())
    return carry, x
def step(x):
    inside = loop_of()
    assert inside == loop_of()
    jax.lax.scan(body, 0.0, jax.numpy.ones(3))
    assert seen[-1] != inside
    return x
step(1.0)
jax.jit(jax.grad(step))(1.0)
"""


def test_a_scan_of_jax_is_another_loop():
    run_on("jax", SCRIPT)
