"""Statistics as functions: what layers combine them into is tested with the layers."""

import numpy as np
import pytest

from keras_norm.ops import (
    Moments,
    axes,
    blend,
    count,
    mean,
    mean_square,
    merge,
    moments,
    without_residuals,
)
from keras_norm.ops import normalize as normalize_op
from tests.conformance.support import assert_close, data

SHAPE = (4, 3, 5, 6)


def test_shift_and_residual_hold_a_mean_that_one_float_cannot():
    x = (data(SHAPE) + 1e6).astype("float32")
    result = moments(x, (0, 1, 2))
    exact = x.astype("float64").mean((0, 1, 2), keepdims=True)
    pair = np.asarray(result.shift, "float64") + np.asarray(result.residual, "float64")
    assert np.abs(pair - exact).max() < 1e-6
    assert np.abs(np.float32(exact) - exact).max() > 1e-3
    assert_close(result.variance, x.astype("float64").var((0, 1, 2), keepdims=True), 1e-6)


def test_moments_without_residuals():
    x = data(SHAPE)
    with without_residuals():
        whole = moments(x, (0, 1, 2, 3))
        merged = merge(moments(x, (1, 2)), (0, 3))
    for result in (whole, merged):
        assert result.residual is None
        assert_close(result.mean, x.astype("float64").mean(keepdims=True), 1e-6)
        assert_close(result.variance, x.astype("float64").var(keepdims=True), 1e-6)
    assert moments(x, (0,)).residual is not None


def test_merged_slices_are_the_whole():
    x = data(SHAPE) + 1e4
    slices = moments(x, (1, 2))
    for joined, over in (((0,), (0, 1, 2)), ((3,), (1, 2, 3)), ((0, 3), (0, 1, 2, 3))):
        merged = merge(slices, joined)
        whole = moments(x, over)
        assert_close(merged.mean, whole.mean.numpy(), 1e-6)
        assert_close(merged.variance, whole.variance.numpy(), 1e-6)


def test_merged_runs_are_slices_of_the_batch():
    """So many that a product of two of their numbers is no int32."""
    size = 70_000
    x = data((size, 2)) + 1e3
    x[: size // 2] += 1e3
    runs = merge(moments(x, ()), (), run=2)
    pairs = x.reshape(-1, 2, 2).astype("float64")
    for result, expected in ((runs.mean, pairs.mean(1)), (runs.variance, pairs.var(1))):
        assert result.shape == x.shape
        assert_close(result, np.repeat(expected, 2, axis=0), 1e-6)


def test_merging_counts_what_masks_leave():
    x = data(SHAPE)
    mask = np.random.default_rng(0).random((4, 3, 5, 1)) > 0.4
    mask[1] = False
    weights = mean(mask.astype("float32"), (1, 2))
    merged = merge(moments(x, (1, 2), mask=mask), (0,), weights=weights)
    chosen = x[mask[..., 0]].astype("float64")
    assert_close(np.ravel(merged.mean), chosen.mean(0), 1e-6)
    assert_close(np.ravel(merged.variance), chosen.var(0), 1e-6)


def test_nothing_has_mean_zero_and_variance_one():
    x, nothing = data(SHAPE), np.zeros((4, 3, 5, 1), bool)
    empty = moments(x, (0, 1, 2), mask=nothing)
    assert not np.any(empty.mean) and np.all(empty.variance == 1.0)
    assert np.all(mean_square(x, (3,), np.zeros(SHAPE, bool)) == 1.0)
    assert not np.any(count(x, (0, 1, 2), nothing))
    assert not np.any(mean(x[:0], (0, 1, 2)))


def test_group_moments_are_spread_over_the_channels_of_the_group():
    x = data(SHAPE)
    for groups in (1, 2, 3, 6):
        result = moments(x, (1, 2), group_axis=3, groups=groups)
        assert result.shift.shape == (4, 1, 1, 6)
        spread = x.reshape(4, 15, groups, -1).astype("float64").mean((1, 3))
        assert_close(result.mean[:, 0, 0], np.repeat(spread, 6 // groups, axis=1), 1e-6)


def test_count_is_the_number_of_elements():
    x = data(SHAPE)
    assert float(count(x, (0, 1, 2))) == 60.0
    mask = np.random.default_rng(0).random((4, 3, 5, 1)) > 0.4
    assert_close(np.ravel(count(x, (0, 1, 2), mask)), [mask.sum()], 1e-6)


def test_blended_moments():
    parts = [
        Moments(np.float32(1.0), np.float32(0.5), np.float32(2.0)),
        Moments(np.float32(4.0), None, np.float32(6.0)),
    ]
    result = blend(parts, [0.25, 0.75], [0.5, 0.5])
    assert float(result.mean) == pytest.approx(0.25 * 1.5 + 0.75 * 4.0)
    assert float(result.variance) == pytest.approx(4.0)


def test_normalize_without_gamma_or_beta():
    x = data(SHAPE)
    statistics = moments(x, (0, 1, 2))
    values = x.astype("float64")
    plain = values - values.mean((0, 1, 2))
    plain /= np.sqrt(values.var((0, 1, 2)) + 1e-3)
    weight = np.arange(1.0, 7.0, dtype="float32").reshape(1, 1, 1, 6)
    assert_close(normalize_op(x, statistics, None, None, 1e-3), plain, 2e-6)
    assert_close(normalize_op(x, statistics, weight, None, 1e-3), plain * weight, 2e-6)
    assert_close(normalize_op(x, statistics, None, weight, 1e-3), plain + weight, 2e-6)
    known = Moments(statistics.mean, None, statistics.variance)
    assert_close(normalize_op(x, known, None, None, 1e-3), plain, 2e-6)


def test_axes_are_sorted_and_not_negative():
    assert axes.canonical(-1, (2, 3, 4)) == (2,)
    assert axes.canonical([-1, 1], (2, 3, 4)) == (1, 2)
    assert axes.others((0, 2), 4) == (1, 3)
    assert axes.broadcastable((1, 2), (2, 3, 4)) == (1, 3, 4)
