"""Each override against the definition: values, gradients, second gradients; and the one rule."""

import importlib
import inspect
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_norm import backend, portable_only
from tests.conformance.support import assert_close

# Arguments on which the override answers and the definition holds.
EXAMPLES = {
    "reciprocal_sqrt": lambda dtype: (tf.constant([1e-3, 0.5, 2.0, 3e4], dtype),),
    "rounded": lambda dtype: (tf.constant([-3e4, -1.5, 0.0, 7.0], dtype),),
    "spread": lambda dtype: (tf.random.normal((3, 2, 1), dtype=dtype), 4),
    "widely": lambda dtype: (tf.constant([[[2.0, 0.5], [0.5, 1.0]]], dtype), tf.linalg.inv),
    "larger": lambda dtype: (tf.constant([1.0, 2.0, 3.0], dtype), tf.constant(2.0, dtype)),
    "replica_sum": lambda dtype: (tf.constant([1.0, 2.0], dtype),),
}
WITHOUT_VALUE = {"write_rows", "loop_of"}  # see tests/ops/test_steps.py
OF_KERNELS = {
    "moments_and_quotient",
    "root_and_quotient",
    "mixture_and_quotient",
    "widened",
}  # see tests/test_kernels.py
DECLINES = {"replica_sum"}  # outside of a strategy there is nothing to sum
OF_JAX_ALONE = {"larger", "loop_of"}  # TensorFlow's own operation is what the definition says
OF_EXPORTERS_ALONE = {"mean_and_deviation", "relative_length", "root"}  # see tests/ops/test_half.py


def overrides():
    module = importlib.import_module("keras_norm.backend.tensorflow")
    return {n: f for n, f in vars(module).items() if inspect.isfunction(f) and n[0] != "_"}


def test_every_override_overrides_an_op_of_the_same_signature():
    assert set(overrides()) <= set(backend.OVERRIDABLE)
    tested = set(EXAMPLES) | WITHOUT_VALUE | OF_KERNELS | OF_EXPORTERS_ALONE
    assert tested == set(backend.OVERRIDABLE)
    assert set(overrides()) == set(backend.OVERRIDABLE) - OF_JAX_ALONE - OF_EXPORTERS_ALONE
    for name, function in overrides().items():
        ours = inspect.signature(function).parameters
        definition = inspect.signature(backend.OVERRIDABLE[name].portable).parameters
        assert list(ours) == list(definition)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - DECLINES - OF_JAX_ALONE))
def test_override_equals_definition(name, dtype):
    x, *rest = EXAMPLES[name](dtype)
    results = []
    for function in (overrides()[name], backend.OVERRIDABLE[name].portable):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = function(x, *rest)
                places = tf.reshape(tf.range(1, tf.size(y) + 1), tf.shape(y))
                loss = tf.reduce_sum(tf.sin(y) * tf.cast(places, dtype))
            first = inner.gradient(loss, x)
        results.append((y, first, outer.gradient(first, x, unconnected_gradients="zero")))
    bound = 1e-6 if dtype == "float32" else 1e-13
    for actual, expected in zip(*results, strict=True):
        assert_close(actual, expected, 4 * bound)


@pytest.mark.parametrize("name", sorted(DECLINES))
def test_override_declines_where_it_has_nothing_to_add(name):
    arguments = EXAMPLES[name]("float32")
    assert overrides()[name](*arguments) is NotImplemented
    np.testing.assert_array_equal(backend.OVERRIDABLE[name](*arguments), arguments)


def test_portable_only_runs_the_definitions(monkeypatch):
    def answer(x):
        return "override"

    @backend.overridable
    def answering(x):
        return "definition"

    monkeypatch.delitem(backend.OVERRIDABLE, "answering")
    monkeypatch.setattr(backend, "override_of", lambda name: answer)
    assert answering(1) == "override"
    with portable_only():
        assert answering(1) == "definition"
        with ThreadPoolExecutor(1) as pool:  # another thread goes on as before
            assert pool.submit(answering, 1).result() == "override"
    assert answering(1) == "override"
    monkeypatch.setattr(backend, "override_of", lambda name: lambda x: NotImplemented)
    assert answering(1) == "definition"


def test_forms_answer_for_the_ops_they_name(monkeypatch):
    @backend.overridable
    def answering(x):
        return "definition"

    monkeypatch.delitem(backend.OVERRIDABLE, "answering")
    monkeypatch.setattr(backend, "override_of", lambda name: lambda x: "override")
    with backend.answered_by({"answering": lambda x: "form" if x else NotImplemented}):
        assert answering(1) == "form"
        assert answering(0) == "definition"
        with portable_only():
            assert answering(1) == "definition"
        assert answering(1) == "form"
    with backend.answered_by({"another": lambda x: "form"}):
        assert answering(1) == "definition"
    assert answering(1) == "override"


def test_only_modules_of_the_running_backend_are_asked():
    assert keras.backend.backend() == "tensorflow"
    assert backend.override_of("rounded").__module__ == "keras_norm.backend.tensorflow"
    assert backend.override_of("no_such_op") is None
