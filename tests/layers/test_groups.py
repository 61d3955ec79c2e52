"""What is peculiar to group and instance normalization, and to filter and global responses."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_norm
from tests.conformance import test_dtypes, test_export, test_gradients, test_masks, test_oracle
from tests.conformance.support import MODES, assert_close, compiled, data, forward

SHAPE = (3, 4, 5, 6)


def test_one_group_per_channel_is_instance_norm():
    x = data(SHAPE)
    expected = keras_norm.InstanceNormalization()(x).numpy()
    for arguments in ({"groups": -1}, {"groups": 6}, {"group_size": 1}):
        assert_close(keras_norm.GroupNormalization(**arguments)(x), expected, 1e-6)


def test_minus_one_stays_minus_one():
    layer = keras_norm.GroupNormalization(groups=-1)
    for _ in range(2):
        assert layer.get_config()["groups"] == -1
        layer(data(SHAPE))


def test_group_size_is_the_channels_of_a_group():
    x = data(SHAPE)
    for size, groups in ((1, 6), (2, 3), (3, 2), (6, 1)):
        layer = keras_norm.GroupNormalization(group_size=size)
        assert_close(layer(x), keras_norm.GroupNormalization(groups)(x).numpy(), 1e-7)
        assert layer.get_config()["group_size"] == size


@pytest.mark.parametrize("argument", ["groups", "group_size"])
@pytest.mark.parametrize("value", [0, -2, 2.0, "2", True, [2]])
def test_groups_that_are_no_number_of_groups(argument, value):
    with pytest.raises(ValueError) as error:
        keras_norm.GroupNormalization(**{argument: value})
    assert f"`{argument}` must be a positive integer" in str(error.value)
    assert f"Received: {argument}={value!r}" in str(error.value)


def test_no_groups_at_all():
    with pytest.raises(ValueError, match="Received: groups=None"):
        keras_norm.GroupNormalization(groups=None)


def test_groups_and_group_size():
    with pytest.raises(ValueError, match=r"groups=2, group_size=3\. Pass one of the two"):
        keras_norm.GroupNormalization(groups=2, group_size=3)


def test_groups_that_do_not_divide_the_channels():
    for groups, argument in ((4, "groups"), (64, "groups"), (7, "group_size")):
        with pytest.raises(ValueError) as error:
            keras_norm.GroupNormalization(**{argument: groups})(keras.Input((8, 8, 30)))
        text = str(error.value)
        assert f"`{argument}` must divide the number of channels" in text
        assert f"Received: {argument}={groups} (30 channels" in text
        assert "Use one of 1, 2, 3, 5, 6, 10, 15, 30." in text


def test_permuting_channels_within_a_group_permutes_the_output():
    x = data(SHAPE)
    order = [1, 2, 0, 5, 3, 4]
    layer = keras_norm.GroupNormalization(groups=2)
    assert_close(layer(x[..., order]), layer(x).numpy()[..., order], 1e-6)
    across = [3, 1, 2, 0, 4, 5]
    assert abs(layer(x[..., across]).numpy() - layer(x).numpy()[..., across]).max() > 1e-2


def test_instance_norm_needs_positions():
    with pytest.raises(ValueError, match=r"must have rank 3 or higher.*Add axes of space or time"):
        keras_norm.InstanceNormalization()(data((4, 6)))


# The row of filter response normalization leaves ε as it is; this one learns it.
LEARNED = dataclasses.replace(
    keras_norm.catalog["frn"], arguments={"learned_epsilon": True, "epsilon": 1e-3}
)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_learned_epsilon_has_the_papers_values(mode, dtype):
    test_oracle.test_values_and_state_over_several_steps(LEARNED, dtype, mode)


def test_a_learned_epsilon_in_gradients_half_precision_and_masks():
    for policy in test_dtypes.POLICIES:
        test_dtypes.test_values_weights_and_outputs(LEARNED, policy, True)
        test_dtypes.test_half_precision_gradients(LEARNED, policy)
    for dtype in test_oracle.BOUNDS:
        test_oracle.test_gradients(LEARNED, dtype, True)
    test_masks.test_gradients(LEARNED)
    test_gradients.test_second_order_gradients(LEARNED, True)


def test_a_learned_epsilon_is_exported(tmp_path):
    test_export.test_litert(LEARNED, tmp_path)


def test_a_learned_epsilon_is_one_number_from_1e_4():
    layer = keras_norm.FilterResponseNormalization(learned_epsilon=True)
    layer.build(SHAPE)
    assert [(w.name, w.shape, w.trainable) for w in layer.weights] == [
        ("gamma", (6,), True),
        ("beta", (6,), True),
        ("learned_epsilon", (), True),
    ]
    assert float(layer.added_epsilon) == pytest.approx(1e-4)
    assert layer.learned_epsilon is True and layer.get_config()["learned_epsilon"] is True
    x = data(SHAPE) * 1e-2
    with_sum = keras_norm.FilterResponseNormalization(epsilon=1e-6 + 1e-4)(x).numpy()
    for sign in (1.0, -1.0):
        layer.added_epsilon.assign(sign * 1e-4)
        assert_close(layer(x), with_sum, 1e-6)


def test_filter_response_of_centred_maps_is_instance_norm():
    x = data(SHAPE)
    centred = x - x.mean((1, 2), keepdims=True)
    expected = keras_norm.InstanceNormalization(epsilon=1e-6)(x).numpy()
    layer = keras_norm.FilterResponseNormalization()
    assert_close(layer(centred), expected, 1e-6)
    assert abs(layer(x).numpy() - expected).max() > 0.1  # it subtracts no mean of its own


def test_filter_response_of_one_position_is_a_sign():
    x = data((5, 1, 1, 6))
    assert_close(keras_norm.FilterResponseNormalization()(x), np.sign(x), 1e-2)


def test_maps_are_needed_for_responses():
    for name in ("FilterResponseNormalization", "GlobalResponseNormalization"):
        with pytest.raises(ValueError, match=r"must have rank 3 or higher\..*Add axes of space"):
            getattr(keras_norm, name)()(data((4, 6)))


def test_global_response_starts_as_the_identity():
    x = data(SHAPE)
    np.testing.assert_array_equal(keras_norm.GlobalResponseNormalization()(x), x)


def test_global_response_is_the_share_of_each_channel():
    x = data(SHAPE)
    layer = keras_norm.GlobalResponseNormalization(gamma_initializer="ones")
    share = layer(x).numpy() / x - 1.0
    size = np.linalg.norm(x.reshape(3, 20, 6), axis=1)
    expected = size / size.mean(-1, keepdims=True)
    assert_close(share, np.broadcast_to(expected[:, None, None], SHAPE), 1e-5)
    plain = keras_norm.GlobalResponseNormalization(scale=False)(x)
    np.testing.assert_array_equal(plain, layer(x))


@pytest.mark.parametrize("mode", MODES)
def test_global_response_to_zeros_has_finite_gradients(mode):
    """The root has an infinite slope at 0, times 0 is NaN."""
    layer = keras_norm.GlobalResponseNormalization(gamma_initializer="ones")
    layer.build(SHAPE)
    some = data(SHAPE)
    some[..., 2], some[1] = 0.0, 0.0

    def both(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(tf.sin(layer(x) + 0.5))
            first = inner.gradient(loss, x)
            slope = tf.reduce_sum(first * first)
        return first, outer.gradient(slope, x)

    for x in (some, 0.0 * some):
        first, second = compiled(both, mode)(tf.constant(x))
        assert np.isfinite(first).all() and np.isfinite(second).all()
        zero = x == 0.0
        assert_close(first.numpy()[zero], np.full(zero.sum(), np.cos(0.5)), 1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_global_response_of_sums_beyond_float32(mode):
    """256 · 256 numbers of size 1e17: their squares add up to 7e38."""
    x = (data((1, 256, 256, 2)) * 1e17).astype("float32")
    layer = keras_norm.GlobalResponseNormalization(gamma_initializer="ones")
    size = np.sqrt((x.astype("float64") ** 2).sum((1, 2), keepdims=True))
    expected = x * (1.0 + size / size.mean(-1, keepdims=True))
    assert_close(forward(layer, mode, True)(x), expected, 1e-5)


def test_global_response_knows_no_size_by_heart():
    """ε stands beside a sum: where it matters, maps of unknown sizes and padded ones agree."""
    x = (data(SHAPE) * 1e-6).astype("float32")
    layer = keras_norm.GlobalResponseNormalization(gamma_initializer="ones")
    expected = layer(x).numpy()
    size = np.linalg.norm(x.reshape(3, 20, 6).astype("float64"), axis=1)[:, None, None]
    assert_close(expected, x * (1.0 + size / (size.mean(-1, keepdims=True) + 1e-6)), 1e-6)
    for free in ((None, None, None, 6), (None, 4, None, 6), (None, None, 5, 6)):
        traced = tf.function(lambda x: layer(x), input_signature=[tf.TensorSpec(free)])
        assert_close(traced(x), expected, 1e-6)
    padded = np.pad(x, ((0, 0), (0, 3), (0, 2), (0, 0)), constant_values=9.0)
    mask = np.zeros(padded.shape[:-1], bool)
    mask[:, :4, :5] = True
    again = keras_norm.GlobalResponseNormalization(gamma_initializer="ones")
    assert_close(again(padded, mask=mask).numpy()[:, :4, :5], expected, 1e-6)
