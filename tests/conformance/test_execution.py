"""Eager, graph and XLA agree; one trace per signature; threads do not disturb each other."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.support import (
    MODES,
    assert_close,
    backward,
    built,
    data,
    output_data,
    several,
    weights_of,
)


def free(shape):
    """The signature of inputs of any batch size."""
    if several(shape):
        return [free(one) for one in shape]
    return tf.TensorSpec((None, *shape[1:]))


def of_batch(size, shape):
    """The shape, or shapes, with another batch size."""
    return tuple((size, *one[1:]) for one in shape) if several(shape) else (size, *shape[1:])


@pytest.mark.parametrize("training", [True, False])
def test_modes_agree(row, training):
    x, results = data(row.input_shape), []
    for mode in MODES:
        layer = built(row)
        dy = output_data(layer, row.input_shape)
        y, dx, dweights = backward(layer, mode, training)(x, dy)
        results.append(([y, dx, *dweights.values()], weights_of(layer)))
    for tensors, weights in results[1:]:
        for actual, expected in zip(tensors, results[0][0], strict=True):
            assert_close(actual, expected, 2 * row.tolerance)
        for name, expected in results[0][1].items():
            assert_close(weights[name], expected, row.tolerance, 1.0)


def test_one_trace_serves_every_batch_size(row):
    layer, traces = built(row), []

    @tf.function(input_signature=[free(row.input_shape)], autograph=False)
    def call(x):
        traces.append(1)
        return layer(x, training=True)

    for size in range(1, 20):
        call(data(of_batch(size, row.input_shape)))
    assert len(traces) == 1


def test_inference_is_bitwise_repeatable_and_changes_nothing(row):
    layer, x = built(row), data(row.input_shape)
    before = weights_of(layer)
    first = layer(x, training=False).numpy()
    for _ in range(3):
        np.testing.assert_array_equal(layer(x, training=False), first)
    for name, value in weights_of(layer).items():
        np.testing.assert_array_equal(value, before[name])


def test_inference_graph_assigns_nothing(row):
    layer = built(row)
    traced = tf.function(lambda x: layer(x, training=False), autograph=False)
    graph = traced.get_concrete_function(free(row.input_shape)).graph
    assert not [op.name for op in graph.get_operations() if "Assign" in op.type]


def test_eight_threads_get_the_answers_of_one(row):
    layer = built(row)
    inputs = [data(row.input_shape, seed) for seed in range(8)]
    expected = [layer(x, training=False).numpy() for x in inputs]
    calls = 5 if row.kind == "recurrent" else 25  # those loop over time

    def many(index):
        return [layer(inputs[index], training=False).numpy() for _ in range(calls)]

    with ThreadPoolExecutor(8) as pool:
        for answers, wanted in zip(pool.map(many, range(8)), expected, strict=True):
            for answer in answers:
                np.testing.assert_array_equal(answer, wanted)
