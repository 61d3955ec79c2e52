"""Masked elements do not count: padded and masked equals unpadded."""

import keras
import numpy as np
import pytest

from tests.conformance.support import (
    MODES,
    affine,
    arguments,
    assert_close,
    backward,
    built,
    data,
    forward,
    oracle,
    oracle_gradients,
    randomize,
    tiny_epsilon,
    weights_of,
)

SMALL = {3: (3, 4, 6), 4: (3, 2, 3, 6)}


def random_mask(shape, seed=5):
    mask = np.random.default_rng(seed).random(shape[:-1]) > 0.4
    mask[(0,) * mask.ndim] = True
    return mask


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("training", [True, False])
def test_values_and_state(norm, training, mode):
    layer, mask = built(norm), random_mask(norm.input_shape)
    x = data(norm.input_shape)
    expected, state, _ = oracle(norm, x, weights_of(layer), arguments(norm), training, mask)
    assert_close(forward(layer, mode, training)(x, mask), expected, norm.tolerance)
    for name, value in state.items():
        assert_close(weights_of(layer)[name], value, norm.tolerance, 1.0)


def test_gradients(norm):
    shape = SMALL[len(norm.input_shape)]
    layer, mask = built(norm, shape), random_mask(shape)
    x, dy = data(shape, 2), data(shape, 3)
    dx, dweights = oracle_gradients(norm, layer, x, dy, arguments(norm), True, mask=mask)
    _, actual_dx, actual = backward(layer, "graph", True)(x, dy, mask)
    assert_close(actual_dx, dx, 1e-5)
    for name, gradient in dweights.items():
        assert_close(actual[name], gradient, 1e-5)


def test_padded_and_masked_equals_unpadded(norm):
    x = data(norm.input_shape)
    padded = np.concatenate([x, np.full_like(x[:, :2], 99.0)], axis=1)
    mask = np.ones(padded.shape[:-1], bool)
    mask[:, -2:] = False
    for training in (True, False):
        plain, masked = built(norm), built(norm, padded.shape)
        expected = plain(x, training=training).numpy()
        y = masked(padded, training=training, mask=mask).numpy()
        assert_close(y[:, :-2], expected, norm.tolerance)
        for name, value in weights_of(plain).items():
            assert_close(weights_of(masked)[name], value, norm.tolerance, 1.0)


def test_what_is_masked_cannot_be_seen(norm):
    """Not even a NaN gets out, into other elements, into the weights, or into gradients."""
    x, mask = data(norm.input_shape), random_mask(norm.input_shape)
    hidden, dy = x.copy(), data(norm.input_shape, 3) * mask[..., None]
    hidden[~mask] = np.nan
    hidden[~mask & random_mask(norm.input_shape, 6)] = np.inf
    first, second = built(norm), built(norm)
    expected, dx, dweights = backward(first, "eager", True)(x, dy, mask)
    y, actual_dx, actual = backward(second, "eager", True)(hidden, dy, mask)
    np.testing.assert_array_equal(y[mask], expected[mask])
    assert_close(actual_dx[mask], dx[mask], 1e-6)
    assert np.isfinite(actual_dx).all()
    for name, gradient in dweights.items():
        assert_close(actual[name], gradient, 1e-6)
    for name, value in weights_of(first).items():
        np.testing.assert_array_equal(weights_of(second)[name], value)


@pytest.mark.parametrize("mode", MODES)
def test_all_masked_is_finite_and_leaves_the_statistics(norm, mode):
    layer = built(norm, dtype="mixed_float16", **tiny_epsilon(norm))
    before = weights_of(layer)
    x = np.random.default_rng(0).uniform(0, 2e4, norm.input_shape).astype("float16")
    y = forward(layer, mode, True)(x, np.zeros(norm.input_shape[:-1], bool))
    assert np.isfinite(y.astype("float32")).all()
    for name, value in weights_of(layer).items():
        assert name == "step" or np.array_equal(value, before[name]), name


def test_shapes_that_a_mask_may_have(norm):
    x = data(norm.input_shape)
    rank = x.ndim
    plain = random_mask(norm.input_shape)
    expected = built(norm)(x, training=True, mask=plain).numpy()
    full = built(norm)(x, training=True, mask=plain[..., None])
    np.testing.assert_array_equal(full, expected)
    as_float = built(norm)(x, training=True, mask=plain.astype("float32"))
    np.testing.assert_array_equal(as_float, expected)
    whole = built(norm)(x, training=True, mask=np.broadcast_to(plain[..., None], x.shape))
    assert_close(whole.numpy()[plain], expected[plain], norm.tolerance)
    leading = random_mask(norm.input_shape[:3])  # [B, T] for [B, T, ..., C]
    spelled = np.broadcast_to(leading.reshape(leading.shape + (1,) * (rank - 3)), x.shape[:-1])
    assert_close(
        built(norm)(x, training=True, mask=leading),
        built(norm)(x, training=True, mask=spelled).numpy(),
        norm.tolerance,
    )


def test_channels_first_masks_lack_the_channel_axis(norm):
    x, mask = data(norm.input_shape), random_mask(norm.input_shape)
    expected = built(norm)(x, training=True, mask=mask).numpy()
    first = np.moveaxis(x, -1, 1)
    layer = built(norm, first.shape, axis=1)
    assert_close(
        np.moveaxis(layer(first, training=True, mask=mask), 1, -1), expected, norm.tolerance
    )


def test_masks_come_through_models(norm):
    """`Masking` reaches the layer, and the layer passes the mask on."""
    inputs = keras.Input((None, 6))
    masked = keras.layers.Masking(mask_value=0.0)(inputs)
    layer = norm.build(**affine(norm))
    outputs = layer(masked)
    pooled = keras.layers.GlobalAveragePooling1D()(outputs)  # takes masks
    model = keras.Model(inputs, [outputs, pooled])
    randomize(layer)
    x = data((4, 5, 6))
    padded = np.concatenate([x, np.zeros_like(x)], axis=1)
    long, long_pooled = model(padded, training=False)
    short, short_pooled = model(x, training=False)
    assert_close(np.array(long)[:, : x.shape[1]], np.array(short), norm.tolerance)
    assert_close(long_pooled, np.array(short_pooled), norm.tolerance)
