"""What is peculiar to whitening: the covariance it leaves, its matrix, its gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

import keras_norm
from keras_norm.ops.whitening import convergent_factors, inverse_sqrt, newton_schulz
from tests.conformance.support import (
    arguments,
    assert_close,
    compiled,
    data,
    differences,
    oracle,
    randomize,
    weights_of,
)

ITERATIVE = keras_norm.IterativeNormalization
DECORRELATED = keras_norm.DecorrelatedBatchNormalization
BOTH = [ITERATIVE, DECORRELATED]
PLAIN = {"center": False, "scale": False, "dtype": "float64"}


def mixed(shape, seed=0, dtype="float64"):
    """Data of correlated channels, of variances from 0.01 to 100."""
    generator = np.random.default_rng(seed)
    mixture = generator.standard_normal((shape[-1],) * 2) * np.geomspace(0.1, 10, shape[-1])
    return (generator.standard_normal(shape) @ mixture + 3.0).astype(dtype)


def covariance(y):
    rows = np.reshape(y, (-1, y.shape[-1]))
    centred = rows - rows.mean(0)
    return centred.T @ centred / len(rows)


def gradient_of(layer, x, dy):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
        loss = tf.reduce_sum(y * dy)
    return y.numpy(), tape.gradient(loss, x).numpy()


@pytest.mark.parametrize(("layer", "more"), [(ITERATIVE, {"iterations": 30}), (DECORRELATED, {})])
def test_the_covariance_of_each_group_becomes_the_identity(layer, more):
    y = layer(group_size=3, epsilon=1e-12, **more, **PLAIN)(mixed((8, 5, 5, 6)), training=True)
    left = covariance(y.numpy())
    for group in (slice(0, 3), slice(3, 6)):
        np.testing.assert_allclose(left[group, group], np.eye(3), atol=1e-8)
    assert np.abs(left[:3, 3:]).max() > 0.05, "other groups' channels stay correlated"
    np.testing.assert_allclose(y.numpy().mean((0, 1, 2)), 0.0, atol=1e-9)


def test_few_iterations_whiten_large_directions_first_and_overshoot_none():
    x = mixed((8, 5, 5, 6))
    before = []
    for iterations in (1, 3, 5, 8):
        y = ITERATIVE(epsilon=1e-12, iterations=iterations, **PLAIN)(x, training=True)
        variances = np.linalg.eigvalsh(covariance(y.numpy()))
        assert (variances < 1 + 1e-9).all() and variances.max() > 0.5
        before.append(variances.sum())
    assert before == sorted(before)


def test_iterated_to_the_end_it_is_the_decorrelated_norm():
    x, dy = mixed((8, 5, 6)), data((8, 5, 6), 3, "float64")
    exact = gradient_of(DECORRELATED(epsilon=1e-3, **PLAIN), x, dy)
    iterated = gradient_of(ITERATIVE(epsilon=1e-3, iterations=40, **PLAIN), x, dy)
    for actual, expected in zip(iterated, exact, strict=True):
        assert_close(actual, expected, 1e-9)


@pytest.mark.parametrize("layer", BOTH)
def test_groups_of_one_channel_are_batch_normalization(layer):
    x, dy = data((6, 4, 4, 3)), data((6, 4, 4, 3), 3)
    plain = keras_norm.BatchNormalization(momentum=0.9, epsilon=1e-3)
    ours = layer(group_size=1, epsilon=1e-3)
    expected, actual = gradient_of(plain, x, dy), gradient_of(ours, x, dy)
    assert_close(actual[0], expected[0], 1e-6)
    assert_close(actual[1], expected[1], 1e-5)
    np.testing.assert_array_equal(ours.moving_mean, plain.moving_mean)


def test_no_other_whitening_changes_the_data_less():
    x = mixed((40, 5), 2)
    centred = x - x.mean(0)
    y = DECORRELATED(epsilon=1e-12, **PLAIN)(x, training=True).numpy()
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    pca = centred @ directions.T / singular * np.sqrt(len(x))
    cholesky = centred @ np.linalg.inv(np.linalg.cholesky(covariance(x))).T
    # Nearest in direction: the sum of correlations with the input's channels is the largest.
    gain = np.trace(y.T @ centred)
    for other in (pca, -pca, cholesky):
        np.testing.assert_allclose(covariance(other), np.eye(5), atol=1e-9)
        assert gain > 1.01 * np.trace(other.T @ centred)


def test_axes_do_not_swap_where_eigenvalues_cross():
    """PCA's output jumps when two variances change places; this one moves as little as they do."""
    orthogonal = np.linalg.qr(np.random.default_rng(0).standard_normal((30, 3)))[0]
    orthogonal = np.linalg.qr(orthogonal - orthogonal.mean(0))[0]
    outputs = []
    for step in (-1e-4, 0.0, 1e-4):
        x = orthogonal * np.array([1.0 + step, 1.0 - step, 2.0])
        outputs.append(DECORRELATED(epsilon=1e-9, **PLAIN)(x, training=True).numpy())
    assert np.abs(outputs[2] - outputs[0]).max() < 1e-3


@pytest.mark.parametrize("layer", BOTH)
def test_inference_of_a_converged_layer_is_training(layer):
    norm, x = layer(group_size=3), data((64, 3, 3, 6))
    for _ in range(120):
        expected = norm(x, training=True).numpy()
    assert_close(norm(x), expected, 1e-4)
    kept = layer(group_size=3, momentum=0.0)
    expected = kept(x, training=True).numpy()
    assert_close(kept(x), expected, 5e-6)


@pytest.mark.parametrize("layer", BOTH)
def test_momentum_none_averages_by_the_positions_that_count(layer):
    batches = [mixed((size, 4, 6), size) for size in (20, 50, 30)]
    mask = np.random.default_rng(0).random((20, 4)) > 0.5
    norm = layer(momentum=None, group_size=3, dtype="float64")
    matrices, counts = [], []
    for index, x in enumerate(batches):
        alone = layer(momentum=0.0, group_size=3, dtype="float64")
        chosen = mask if index == 0 else None
        for each in (norm, alone):
            each(x, training=True, mask=chosen)
        matrices.append(alone.moving_matrix.numpy())
        counts.append(mask.sum() if index == 0 else x[..., 0].size)
    expected = np.average(matrices, axis=0, weights=counts)
    assert_close(norm.moving_matrix, expected, 1e-12)
    np.testing.assert_allclose(norm.moving_count, np.full(6, sum(counts)))
    norm.reset_moving_moments()
    np.testing.assert_array_equal(norm.moving_matrix, np.stack([np.eye(3)] * 2))
    np.testing.assert_array_equal(norm.moving_count, np.zeros(6))


def test_a_new_layer_changes_nothing_in_inference():
    for layer in BOTH:
        x = data((4, 3, 6))
        np.testing.assert_array_equal(layer()(x, training=False), x)


HARD = {
    "fewer samples than channels": mixed((3, 6)),
    "one sample": mixed((1, 6)),
    "constant channels": mixed((20, 6)) * [1, 0, 1, 0, 0, 1] + 7.0,
    "equal channels": np.repeat(mixed((20, 2)), 3, axis=1),
    "all the same": np.full((20, 6), 3.25),
}


@pytest.mark.parametrize("layer", BOTH)
def test_gradients_of_degenerate_batches(layer):
    row = keras_norm.catalog[layer.__name__]
    size = 0.01 / np.sqrt(layer().epsilon)
    steps = {}
    for mode in ("eager", "xla"):
        for dtype, bound in (("float64", 1e-5), ("float32", 1e-3)):
            norm = layer(**{**PLAIN, "dtype": dtype})
            norm.build((None, 6))
            steps[mode, dtype, bound] = compiled(lambda x, dy, n=norm: _slope(n, x, dy), mode)
    for x in HARD.values():
        dy = data(x.shape, 3, "float64")

        def loss(value, dy=dy):
            norm = layer(**PLAIN)
            norm.build(value.shape)
            settings = {"center": False, "scale": False}
            return (oracle(row, value, weights_of(norm), settings, True)[0] * dy).sum()

        expected = differences(loss, x, 1e-6)
        for (_, dtype, bound), step in steps.items():
            actual = step(tf.constant(x, dtype), tf.constant(dy, dtype))
            assert_close(actual, expected, bound, size * np.abs(dy).max())


def _slope(norm, x, dy):
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(norm(x, training=True) * dy)
    return tape.gradient(loss, x)


def spd(eigenvalues, seed=0):
    size = len(eigenvalues)
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]
    return ((basis * eigenvalues) @ basis.T)[None], basis


@pytest.mark.parametrize(
    ("eigenvalues", "bound"),
    [
        (np.ones(5), 1e-14),
        (np.array([2.0, 2.0, 2.0, 1e-3, 1e-3]), 1e-12),
        (np.geomspace(1.0, 1e5, 16), 1e-10),
        (np.geomspace(1e-5, 1e5, 64), 1e-5),  # condition 1e10: Σ as float64 holds six digits of it
    ],
)
def test_inverse_root_and_its_gradient_for_any_spectrum(eigenvalues, bound):
    """Against U f(Λ) Uᵀ and divided differences of f, which need no distinct eigenvalues."""
    matrix, basis = spd(eigenvalues)
    direction = np.random.default_rng(1).standard_normal(matrix.shape)
    direction = direction + np.swapaxes(direction, -1, -2)
    x = tf.constant((matrix + np.swapaxes(matrix, -1, -2)) / 2)
    with tf.GradientTape() as tape:
        tape.watch(x)
        root = inverse_sqrt(x)
        loss = tf.reduce_sum(root * direction)
    s = np.sqrt(eigenvalues)
    divided = -1.0 / (s[:, None] * s[None, :] * (s[:, None] + s[None, :]))
    expected = basis @ (divided * (basis.T @ direction[0] @ basis)) @ basis.T
    assert_close(root[0], (basis / s) @ basis.T, bound)
    actual = tape.gradient(loss, x).numpy()[0]
    assert_close((actual + actual.T) / 2, expected, 10 * bound)


def test_channels_of_very_different_sizes_keep_their_digits():
    sizes = np.diag([1e6, 1.0, 1.0])
    matrix = sizes @ (0.7 * np.eye(3) + 0.3) @ sizes
    values, vectors = np.linalg.eigh(matrix)
    expected = (vectors / np.sqrt(values)) @ vectors.T
    assert_close(inverse_sqrt(tf.constant(matrix[None]))[0], expected, 1e-12)


def test_factors_take_all_of_their_interval_to_one():
    for low in (1e-2, 1e-7):
        x = np.geomspace(low, 1.0, 1000)
        for factor in convergent_factors(low):
            assert 1.0 <= factor <= 4 / 3
            x = 0.5 * factor * x * (3.0 - factor**2 * x**2)
        np.testing.assert_allclose(x, 1.0, atol=1e-12)
    assert len(convergent_factors(1e-7)) < 30, "half of what factors of 1 need"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_iterations_without_end_stay_finite(dtype):
    """Rounding leaves a covariance of few samples with eigenvalues below 0, where P explodes."""
    for seed in range(5):
        x = tf.constant(mixed((3, 4, 64), seed), dtype)
        norm = ITERATIVE(iterations=60, epsilon=1e-12, dtype=dtype)
        assert np.isfinite(norm(x, training=True)).all()
        assert np.isfinite(_slope(norm, x, tf.ones_like(x))).all()
    assert np.isfinite(newton_schulz(tf.eye(3, batch_shape=[1]), [1.0] * 60)).all()


def test_what_float32_cannot_tell_from_zero_is_not_blown_up():
    for seed in range(5):
        x = 1e6 * data((3, 6), seed)
        exact = DECORRELATED(epsilon=1e-6, **PLAIN)(x.astype("float64"), training=True).numpy()
        y = DECORRELATED(epsilon=1e-6)(x, training=True)
        assert_close(y, exact, 2e-2)


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize(("channels", "size"), [(256, 16), (320, 64), (192, 192), (130, 2)])
def test_inference_of_many_channels(channels, size, axis):
    """Blocks that join groups, blocks of one group, and one block for all."""
    row = keras_norm.catalog["iternorm"]
    x = np.random.default_rng(0).standard_normal((2, 3, 4, channels)).astype("float32")
    x = np.moveaxis(x, -1, axis)
    layer = row.build(group_size=size, axis=axis)
    layer.build(x.shape)
    randomize(layer)
    settings = arguments(row, group_size=size, axis=axis)
    expected, _, _ = oracle(row, x, weights_of(layer), settings, False)
    assert_close(layer(x), expected, 5e-6)


def test_wide_layers_export_without_a_matrix_of_all_channels(tmp_path):
    inputs = keras.Input((4, 4, 1024))
    model = randomize(keras.Model(inputs, ITERATIVE()(inputs)))
    path = keras_norm.export_litert(model, tmp_path / "model.tflite")
    assert path.stat().st_size < 800_000, "1024 · 128 numbers, not 1024²"
    assert keras_norm.verify(model, path).passed
    narrow = keras.Sequential([keras.Input((4, 4, 64)), DECORRELATED()])
    path = keras_norm.export_litert(randomize(narrow), tmp_path / "narrow.tflite")
    interpreter = Interpreter(str(path))
    names = [d["op_name"] for d in interpreter._get_ops_details()]
    assert names == ["SUB", "CONV_2D"]


@pytest.mark.parametrize("layer", BOTH)
def test_a_position_counts_where_all_of_its_channels_do(layer):
    x = data((6, 5, 6))
    mask = np.ones(x.shape, bool)
    mask[2, 3, 1] = mask[4, 1, 5] = False
    one, other = layer(group_size=3), layer(group_size=3)
    expected = one(x, training=True, mask=mask.all(-1))
    np.testing.assert_array_equal(other(x, training=True, mask=mask), expected)
    np.testing.assert_array_equal(other.moving_matrix, one.moving_matrix)


@pytest.mark.parametrize("layer", BOTH)
def test_group_sizes(layer):
    for size, shape in ((64, (1, 6, 6)), (6, (1, 6, 6)), (2, (3, 2, 2)), (1, (6, 1, 1))):
        norm = layer(group_size=size)
        norm.build((4, 6))
        assert tuple(norm.moving_matrix.shape) == shape
    with pytest.raises(ValueError) as error:
        layer(group_size=4).build((2, 3, 6))
    text = "`group_size` must divide the number of channels, or be no less than it. Received: "
    assert text + "group_size=4 (6 channels on axis -1, input shape (2, 3, 6))" in str(error.value)
    assert "Use one of 1, 2, 3, or 6 for one group." in str(error.value)


@pytest.mark.parametrize("layer", BOTH)
@pytest.mark.parametrize("value", [0, -1, 2.0, "8", None, True])
def test_group_sizes_that_are_none(layer, value):
    with pytest.raises(ValueError, match="`group_size` must be an integer of at least 1"):
        layer(group_size=value)


def test_arguments_that_do_not_fit():
    with pytest.raises(ValueError, match="`iterations` must be an integer of at least 1"):
        ITERATIVE(iterations=0)
    for layer in BOTH:
        with pytest.raises(ValueError, match="Unrecognized keyword arguments"):
            layer(moving_variance_initializer="ones")
        with pytest.raises(TypeError, match="positional"):
            layer(-1, 0.9, 1e-3, True, True, "zeros")
