"""Bad input gets a ValueError or TypeError with rule, value received and fix."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_norm
from keras_norm.catalog import catalog
from tests.conformance.support import built, data

NAN, INF = float("nan"), float("inf")

BAD_ARGUMENTS = [
    ("epsilon", -1e-3, "`epsilon` must be a finite number above 0. Received: epsilon=-0.001"),
    ("epsilon", 0.0, "above 0"),
    ("epsilon", NAN, "Received: epsilon=nan"),
    ("epsilon", INF, "Received: epsilon=inf"),
    ("epsilon", "1e-3", "Received: epsilon='1e-3'"),
    ("epsilon", True, "Received: epsilon=True"),
    ("epsilon", None, "Received: epsilon=None"),
    ("momentum", 1.5, "`momentum` must be a finite number from 0 to 1. Received: momentum=1.5"),
    ("momentum", -0.1, "from 0 to 1"),
    ("momentum", NAN, "Received: momentum=nan"),
    ("momentum", "0.9", "Received: momentum='0.9'"),
    ("epsilon", 1e-38, "`epsilon` must be at least 1e-30"),
    ("epsilon", 1e-60, "Received: epsilon=1e-60"),
    ("axis", [], "`axis` must name at least one axis"),
    ("axis", [-1, -1], "none twice"),
]


@pytest.mark.parametrize(("name", "value", "text"), BAD_ARGUMENTS)
def test_bad_arguments(norm, name, value, text):
    if norm.default(name) is None:  # the layer has no such argument, and Keras says so
        with pytest.raises(ValueError, match="Unrecognized keyword arguments"):
            norm.build(**{name: value})
        return
    with pytest.raises(ValueError) as error:
        norm.build(**{name: value})
    assert text in str(error.value)


FLAGS = [
    (row, name)
    for row in catalog
    for name in inspect.signature(row.layer).parameters
    if isinstance(row.default(name), bool)
]


@pytest.mark.parametrize(("row", "name"), FLAGS, ids=lambda one: getattr(one, "name", one))
def test_what_is_neither_true_nor_false(row, name):
    for value in ("False", None, 2, 0.5, []):
        with pytest.raises(ValueError, match=f"`{name}` must be .*Received: {name}="):
            row.build(**{name: value})


def test_other_spellings_of_true_and_false():
    """Files may hold 0 and 1; a config holds what JSON does."""
    for value in (0, np.False_):
        config = keras_norm.BatchNormalization(center=value).get_config()
        assert config["center"] is False


def test_the_smallest_epsilon_divides(norm):
    if norm.default("epsilon") is None:
        return
    layer, x = built(norm, epsilon=1e-30), np.full(norm.input_shape, 3.0, "float32")
    for constant in (x, np.zeros_like(x)):
        assert np.isfinite(layer(constant, training=True)).all()


@pytest.mark.parametrize("axis", [1.0, "channels", None, [1.5], True, {"a": 1}])
def test_axis_of_the_wrong_type(norm, axis):
    with pytest.raises(TypeError, match=r"`axis` must be an integer.*Received: axis=.*Use -1"):
        norm.build(axis=axis)


@pytest.mark.parametrize(
    ("axis", "text"),
    [
        (0, "`axis` must not contain the batch axis 0. Received: axis=0 (input shape"),
        (9, "`axis` must lie between -4 and 3 for an input of rank 4. Received: axis=9"),
        (-5, "Received: axis=-5"),
        ([-1, 3], "`axis` must not name an axis twice. Received: axis=[-1, 3]"),
        (-4, "batch axis"),
    ],
)
def test_axis_that_the_input_has_not(norm, axis, text):
    with pytest.raises(ValueError) as error:
        norm.build(axis=axis).build((2, 3, 4, 6))
    assert text in str(error.value)


def test_unknown_channels(norm):
    with pytest.raises(ValueError) as error:
        norm.build()(keras.Input((4, 4, None)))
    assert "axis -1 must be defined" in str(error.value)
    assert "(None, 4, 4, None)" in str(error.value)


def test_rank_too_low(norm):
    for rank in range(1, norm.layer.minimum_rank):
        with pytest.raises(ValueError, match=f"rank {norm.layer.minimum_rank} or higher"):
            norm.build()(np.ones((6,) * rank, "float32"))


def test_other_channels_after_build(norm):
    layer = built(norm)
    shape = norm.input_shape
    for channels in (shape[-1] + 1, 1):
        with pytest.raises(ValueError, match="incompatible with the layer"):
            layer(data((*shape[:-1], channels)))


def test_other_rank_after_build(norm):
    """Layers whose statistics stay within one position take any rank, as Keras's do."""
    layer, other = built(norm), (2, *norm.input_shape)
    if norm.layer.any_rank:
        expected = built(norm, other)(data(other))
        np.testing.assert_array_equal(layer(data(other)), expected)
    else:
        with pytest.raises(ValueError, match="incompatible with the layer"):
            layer(data(other))


@pytest.mark.parametrize(
    "dtype",
    ["complex64", "bool", "string"],
)
def test_inputs_of_the_wrong_dtype(norm, dtype):
    shape = norm.input_shape
    x = tf.fill(shape, "a") if dtype == "string" else tf.cast(tf.ones(shape), dtype)
    with pytest.raises(TypeError, match=rf"floating or integer dtype\. Received: dtype={dtype}"):
        norm.build()(x)


def test_ragged_and_sparse_tensors(norm):
    shape = norm.input_shape
    sparse = tf.sparse.from_dense(np.ones(shape, "float32"))
    ragged = tf.RaggedTensor.from_tensor(tf.ones(shape), ragged_rank=1)
    for tensor, fix in ((sparse, "to_dense"), (ragged, "to_tensor")):
        layer = built(norm)
        with pytest.raises(TypeError) as error:
            layer(tensor)
        assert "must be a dense tensor" in str(error.value) and fix in str(error.value)


def test_symbolic_inputs_are_refused_while_the_model_is_built(norm):
    shape = norm.input_shape[1:]
    for wrong in ({"dtype": "complex64"}, {"dtype": "string"}, {"sparse": True}):
        with pytest.raises(TypeError, match="must be"):
            norm.build()(keras.Input(shape, **wrong))


def test_masks_that_do_not_fit(norm):
    layer, shape = built(norm), norm.input_shape
    wrong = [
        np.ones((shape[0] + 1, *shape[1:-1]), bool),
        np.ones((*shape, 1), bool),
        np.ones((), bool),
        np.ones((*shape[:-1], shape[-1] + 1), bool),
    ]
    for mask in wrong:
        with pytest.raises(ValueError) as error:
            layer(data(shape), mask=mask)
        assert "`mask` must have the input's shape without the feature axis" in str(error.value)
        assert f"Received: mask of shape {mask.shape} (input shape {shape})" in str(error.value)
        assert f"Pass a mask of shape {shape[:-1]}" in str(error.value)


def test_errors_in_build_leave_the_layer_usable(norm):
    layer = norm.build()
    with pytest.raises(ValueError):
        layer.build((2, 3, 4, None))
    assert not layer.weights
    assert layer(data(norm.input_shape)).shape == norm.input_shape
