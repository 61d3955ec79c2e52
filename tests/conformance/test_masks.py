"""Masked elements do not count: padded and masked equals unpadded."""

import keras
import numpy as np
import pytest

from tests.conformance.support import (
    MODES,
    arguments,
    assert_close,
    backward,
    built,
    data,
    forward,
    oracle,
    oracle_gradients,
    weights_of,
)

SMALL = {3: (3, 4, 6), 4: (3, 2, 3, 6)}


def random_mask(shape, seed=5):
    mask = np.random.default_rng(seed).random(shape[:-1]) > 0.4
    mask[(0,) * mask.ndim] = True
    return mask


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("training", [True, False])
def test_values_and_state(row, training, mode):
    layer, mask = built(row), random_mask(row.input_shape)
    x = data(row.input_shape)
    expected, state, _ = oracle(row, x, weights_of(layer), arguments(row), training, mask)
    assert_close(forward(layer, mode, training)(x, mask), expected, 2e-6)
    for name, value in state.items():
        assert_close(weights_of(layer)[name], value, 2e-6, 1.0)


def test_gradients(row):
    shape = SMALL[len(row.input_shape)]
    layer, mask = built(row, shape), random_mask(shape)
    x, dy = data(shape, 2), data(shape, 3)
    dx, dweights = oracle_gradients(row, layer, x, dy, arguments(row), True, mask=mask)
    _, actual_dx, actual = backward(layer, "graph", True)(x, dy, mask)
    assert_close(actual_dx, dx, 1e-5)
    for name, gradient in dweights.items():
        assert_close(actual[name], gradient, 1e-5)


def test_padded_and_masked_equals_unpadded(row):
    x = data(row.input_shape)
    padded = np.concatenate([x, np.full_like(x[:, :2], 99.0)], axis=1)
    mask = np.ones(padded.shape[:-1], bool)
    mask[:, -2:] = False
    for training in (True, False):
        plain, masked = built(row), built(row, padded.shape)
        expected = plain(x, training=training).numpy()
        y = masked(padded, training=training, mask=mask).numpy()
        assert_close(y[:, :-2], expected, 2e-6)
        for name, value in weights_of(plain).items():
            assert_close(weights_of(masked)[name], value, 2e-6, 1.0)


def test_what_is_masked_cannot_be_seen(row):
    """Not even a NaN gets out, into other elements or into the weights."""
    x, mask = data(row.input_shape), random_mask(row.input_shape)
    hidden = x.copy()
    hidden[~mask] = np.nan
    first, second = built(row), built(row)
    expected = first(x, training=True, mask=mask).numpy()
    y = second(hidden, training=True, mask=mask).numpy()
    np.testing.assert_array_equal(y[mask], expected[mask])
    for name, value in weights_of(first).items():
        np.testing.assert_array_equal(weights_of(second)[name], value)


@pytest.mark.parametrize("mode", MODES)
def test_all_masked_is_finite_and_leaves_the_statistics(row, mode):
    layer = built(row, dtype="mixed_float16", epsilon=1e-12)
    before = weights_of(layer)
    x = np.random.default_rng(0).uniform(0, 2e4, row.input_shape).astype("float16")
    y = forward(layer, mode, True)(x, np.zeros(row.input_shape[:-1], bool))
    assert np.isfinite(y.astype("float32")).all()
    for name, value in weights_of(layer).items():
        assert name == "step" or np.array_equal(value, before[name]), name


def test_shapes_that_a_mask_may_have(row):
    x = data(row.input_shape)
    rank = x.ndim
    plain = random_mask(row.input_shape)
    expected = built(row)(x, training=True, mask=plain).numpy()
    full = built(row)(x, training=True, mask=plain[..., None])
    np.testing.assert_array_equal(full, expected)
    as_float = built(row)(x, training=True, mask=plain.astype("float32"))
    np.testing.assert_array_equal(as_float, expected)
    whole = built(row)(x, training=True, mask=np.broadcast_to(plain[..., None], x.shape))
    assert_close(whole.numpy()[plain], expected[plain], 2e-6)
    leading = random_mask(row.input_shape[:3])  # [B, T] for [B, T, ..., C]
    spelled = np.broadcast_to(leading.reshape(leading.shape + (1,) * (rank - 3)), x.shape[:-1])
    assert_close(
        built(row)(x, training=True, mask=leading),
        built(row)(x, training=True, mask=spelled).numpy(),
        2e-6,
    )


def test_channels_first_masks_lack_the_channel_axis(row):
    x, mask = data(row.input_shape), random_mask(row.input_shape)
    expected = built(row)(x, training=True, mask=mask).numpy()
    first = np.moveaxis(x, -1, 1)
    layer = built(row, first.shape, axis=1)
    assert_close(np.moveaxis(layer(first, training=True, mask=mask), 1, -1), expected, 2e-6)


def test_masks_come_through_models(row):
    """`Masking` reaches the layer, and the layer passes the mask on."""
    inputs = keras.Input((None, 6))
    masked = keras.layers.Masking(mask_value=0.0)(inputs)
    layer = row.build(name="norm", center=True)
    outputs = layer(masked)
    pooled = keras.layers.GlobalAveragePooling1D()(outputs)  # takes masks
    model = keras.Model(inputs, [outputs, pooled])
    randomize_model = np.random.default_rng(0)
    layer.beta.assign(randomize_model.normal(size=6))
    x = data((4, 5, 6))
    padded = np.concatenate([x, np.zeros_like(x)], axis=1)
    long, long_pooled = model(padded, training=False)
    short, short_pooled = model(x, training=False)
    assert_close(np.array(long)[:, : x.shape[1]], np.array(short), 2e-6)
    assert_close(long_pooled, np.array(short_pooled), 2e-6)
