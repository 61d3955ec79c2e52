"""Arguments and inputs that Dense and convolution by cosine refuse, and what configs keep."""

import keras
import pytest
import tensorflow as tf

from keras_norm import CosineConv1D, CosineConv2D, CosineDense
from tests.conformance.support import data

IMAGE = (2, 5, 6, 6)


def test_the_data_format_is_that_of_when_the_layer_was_made():
    """A saved model must not depend on the settings of who loads it."""
    before = keras.config.image_data_format()
    config = CosineConv2D(4, 3).get_config()
    try:
        keras.config.set_image_data_format("channels_first")
        assert CosineConv2D.from_config(config).data_format == before == "channels_last"
        assert CosineConv2D(4, 3).data_format == "channels_first"
    finally:
        keras.config.set_image_data_format(before)


BAD_ARGUMENTS = [
    (CosineDense, {"units": 0}, "`units` must be an integer of at least 1. Received: units=0"),
    (CosineDense, {"units": 2.0}, "Received: units=2.0"),
    (CosineDense, {"units": 2, "epsilon": 0.0}, "`epsilon` must be a finite number above 0"),
    (CosineConv1D, {"filters": True, "kernel_size": 3}, "`filters` must be an integer"),
    (CosineConv1D, {"filters": 4, "kernel_size": 0}, "`kernel_size` must be a positive integer"),
    (CosineConv2D, {"filters": 4, "kernel_size": (3,)}, "a list of 2 of them. Received: kernel_si"),
    (CosineConv2D, {"filters": 4, "kernel_size": "3"}, "Received: kernel_size='3'"),
    (CosineConv2D, {"filters": 4, "kernel_size": 3, "strides": (1, -1)}, "strides=(1, -1)"),
    (CosineConv2D, {"filters": 4, "kernel_size": 3, "dilation_rate": 1.5}, "`dilation_rate` must"),
    (
        CosineConv2D,
        {"filters": 4, "kernel_size": 3, "padding": "causal"},
        "one of 'valid', 'same'.",
    ),
    (CosineConv1D, {"filters": 4, "kernel_size": 3, "padding": 1}, "`padding` must be one of"),
    (CosineConv2D, {"filters": 4, "kernel_size": 3, "data_format": "NHWC"}, "`data_format` must"),
    (CosineConv2D, {"filters": 4, "kernel_size": 3, "groups": 0}, "`groups` must be an integer"),
    (
        CosineConv2D,
        {"filters": 4, "kernel_size": 3, "groups": 3},
        "`groups` must divide the number of filters. Received: groups=3, filters=4",
    ),
    (
        CosineConv2D,
        {"filters": 4, "kernel_size": 3, "strides": (1, 2), "dilation_rate": 2},
        "`strides` must be 1 where `dilation_rate` is above 1. Received: strides=(1, 2)",
    ),
]


@pytest.mark.parametrize(("layer_class", "arguments", "text"), BAD_ARGUMENTS)
def test_bad_arguments(layer_class, arguments, text):
    with pytest.raises(ValueError) as error:
        layer_class(**arguments)
    assert text in str(error.value)


BAD_SHAPES = [
    (CosineDense(2), (6,), "The input must have rank 2 or higher. Received: input shape (6,)"),
    (CosineDense(2), (2, None), "axis -1 must be defined: the kernel has its size. Received"),
    (CosineConv1D(2, 3), (2, 4, 4, 6), "The input must have rank 3. Received: input shape (2, 4"),
    (CosineConv2D(2, 3), (2, 8, 8, None), "axis -1 must be defined"),
    (CosineConv2D(2, 3, data_format="channels_first"), (2, None, 8, 8), "axis 1 must be defined"),
    (
        CosineConv2D(4, 3, groups=4),
        (2, 8, 8, 6),
        "`groups` must divide the number of channels. Received: groups=4 (6 channels on axis -1",
    ),
    (
        CosineConv2D(4, 3, dilation_rate=2),
        (2, 8, 4, 6),
        "`kernel_size` must fit into the input. Received: kernel_size=3, dilation_rate=2",
    ),
]


@pytest.mark.parametrize(("layer", "shape", "text"), BAD_SHAPES)
def test_shapes_that_do_not_fit(layer, shape, text):
    layer = type(layer).from_config(layer.get_config())
    with pytest.raises(ValueError) as error:
        layer.build(shape)
    assert text in str(error.value)
    assert not layer.weights and layer.input_spec is None


@pytest.mark.parametrize("layer_class", [CosineDense, CosineConv2D])
def test_inputs_of_the_wrong_kind(layer_class):
    def layer():
        return layer_class(2) if layer_class is CosineDense else layer_class(2, 3)

    for wrong in (tf.cast(tf.ones(IMAGE), "complex64"), tf.fill(IMAGE, "a")):
        with pytest.raises(TypeError, match="must be of a floating or integer dtype"):
            layer()(wrong)
    with pytest.raises(TypeError, match="must be a dense tensor"):
        layer()(keras.Input(IMAGE[1:], sparse=True))
    built = layer()
    built.build(IMAGE)
    with pytest.raises(ValueError, match="incompatible with the layer"):
        built(data((*IMAGE[:-1], 5)))
