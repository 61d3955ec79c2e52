"""Norms of activations: every rank, unknown sizes, empty batches, no needless rank."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.support import (
    arguments,
    assert_close,
    backward,
    built,
    data,
    oracle,
    weights_of,
)

SHAPES = {2: (5, 6), 3: (4, 5, 6), 4: (3, 2, 4, 6), 5: (2, 3, 2, 3, 6)}


def shapes_of(row):
    return [shape for rank, shape in SHAPES.items() if rank >= row.layer.minimum_rank]


@pytest.mark.parametrize("training", [True, False])
def test_every_rank(norm, training):
    assert len(shapes_of(norm)) >= 3
    for shape in shapes_of(norm):
        layer, x = built(norm, shape), data(shape)
        expected, state, _ = oracle(norm, x, weights_of(layer), arguments(norm), training)
        assert_close(layer(x, training=training), expected, norm.tolerance)
        for name, value in state.items():
            assert_close(weights_of(layer)[name], value, norm.tolerance, 1.0)


def test_unknown_sizes_fit_on_two_of_them(norm):
    for shape in shapes_of(norm):
        inputs = keras.Input((None,) * (len(shape) - 2) + (6,))
        outputs = norm.build()(inputs)
        assert outputs.shape == inputs.shape
        model = keras.Model(inputs, outputs)
        model.compile("sgd", "mse")
        for factor in (1, 2):
            x = data((shape[0] * factor, *(n * factor for n in shape[1:-1]), 6))
            assert np.isfinite(model.train_on_batch(x, x))
            layer = model.layers[1]
            expected, _, _ = oracle(norm, x, weights_of(layer), arguments(norm), False)
            assert_close(model.predict(x, verbose=0), expected, norm.tolerance)


def test_no_tensor_has_a_rank_above_the_inputs_and_the_weights(norm):
    for shape in shapes_of(norm):
        for training in (True, False):
            layer = built(norm, shape)
            highest = max(len(shape), *(len(w.shape) for w in layer.weights), 0)
            free = tf.TensorSpec((None,) * (len(shape) - 1) + shape[-1:])
            for spec in (tf.TensorSpec(shape), free):
                traced = tf.function(lambda x, call=layer, t=training: call(x, training=t))
                graph = traced.get_concrete_function(spec).graph
                ranks = [
                    (len(output.shape), operation.name)
                    for operation in graph.get_operations()
                    for output in operation.outputs
                    # TensorFlow itself makes a convolution of rank 3 one of rank 4.
                    if output.shape.rank is not None and "/convolution" not in operation.name
                ]
                assert max(ranks)[0] <= highest, max(ranks)


def test_static_shape_is_kept(norm):
    for shape in shapes_of(norm):
        layer = built(norm, shape)
        known = tf.TensorSpec((None, *shape[1:]))
        traced = tf.function(lambda x, call=layer: call(x, training=False))
        assert traced.get_concrete_function(known).output_shapes.as_list() == [None, *shape[1:]]


def test_empty_batch(norm):
    for shape in shapes_of(norm):
        layer = built(norm, shape)
        before = weights_of(layer)
        empty = np.zeros((0, *shape[1:]), "float32")
        for mode in ("eager", "graph", "xla"):
            y, dx, dweights = backward(layer, mode, True)(empty, empty)
            assert y.shape == dx.shape == empty.shape
            for name, gradient in dweights.items():
                assert np.isfinite(gradient).all(), (mode, name)
        assert layer(empty, training=False).shape == empty.shape
        for name, value in weights_of(layer).items():
            assert name == "step" or np.array_equal(value, before[name]), name


def test_empty_batch_of_unknown_size(norm):
    layer = built(norm)
    before = weights_of(layer)
    spec = tf.TensorSpec((None, *norm.input_shape[1:]))
    traced = tf.function(lambda x: layer(x, training=True), input_signature=[spec])
    assert traced(np.zeros((0, *norm.input_shape[1:]), "float32")).shape[0] == 0
    for name, value in weights_of(layer).items():
        assert name == "step" or np.array_equal(value, before[name]), name


def test_empty_space(norm):
    empty = np.zeros((2, 0, 4, 6), "float32")
    layer = built(norm, empty.shape)
    before = weights_of(layer)
    y, dx, dweights = backward(layer, "eager", True)(empty, empty)
    assert y.shape == dx.shape == empty.shape
    assert all(np.isfinite(gradient).all() for gradient in dweights.values())
    for name, value in weights_of(layer).items():
        assert name == "step" or np.array_equal(value, before[name]), name


def test_one_sample_of_one_position(norm):
    for shape in shapes_of(norm):
        one = (1,) * (len(shape) - 1) + shape[-1:]
        layer, x = built(norm, one), data(one)
        dy = data(one, 5)
        expected, _, _ = oracle(norm, x, weights_of(layer), arguments(norm), True)
        for mode in ("eager", "xla"):
            layer = built(norm, one)
            y, dx, dweights = backward(layer, mode, True)(x, dy)
            assert_close(y, expected, norm.tolerance)
            assert np.isfinite(dx).all()
            assert all(np.isfinite(g).all() for g in dweights.values())
            assert all(np.isfinite(w.numpy()).all() for w in layer.weights)
