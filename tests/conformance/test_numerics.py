"""Hard inputs: large means, tiny spreads, constants, extremes, long reductions."""

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
)

SHAPES = {3: (2, 3, 6), 4: (2, 3, 3, 6)}


def _outlier(n):
    x = n.copy()
    x.flat[7] = 1e6
    return x


# What is done to standard normal data, and the size of a step that differentiates the oracle.
HARD = {
    "mean 1e3": (lambda n: n + 1e3, 1e-4),
    "mean 1e4, std 1e-2": (lambda n: n * 1e-2 + 1e4, 1e-5),
    "mean 1e6": (lambda n: n + 1e6, 1e-3),
    "mean -1e6, std 0.1": (lambda n: n * 0.1 - 1e6, 1e-3),
    "mean per channel": (lambda n: n + 10.0 ** np.arange(n.shape[-1]), 1e-4),
    "constant 1e5": (lambda n: 0 * n + 1e5, 1e-4),
    "constant pi": (lambda n: 0 * n + np.pi, 1e-5),
    "size 1e-18": (lambda n: n * 1e-18, 2e-11),
    "size 1e17": (lambda n: n * 1e17, 1e12),
    "outlier 1e6": (_outlier, 1e-4),
}


def test_hard_inputs(norm):
    shape = SHAPES[len(norm.input_shape)]
    generator = np.random.default_rng(0)
    normal, dy = generator.standard_normal(shape), data(shape, 3)
    layer = built(norm, shape)
    initial = layer.get_weights()
    steps = {mode: backward(layer, mode, True) for mode in MODES}
    failures = []
    for name, (change, h) in HARD.items():
        x = change(normal).astype("float32")
        layer.set_weights(initial)
        expected, _, _ = oracle(norm, x, _named(layer), arguments(norm), True)
        dx, dweights = oracle_gradients(
            norm, layer, x, dy, arguments(norm), True, h, weight_step=1e-4
        )
        for mode, step in steps.items():
            layer.set_weights(initial)
            y, actual_dx, actual = step(x, dy)
            try:
                assert_close(y, expected, 1e-5)
                assert_close(actual_dx, dx, 1e-4)
                for weight, gradient in dweights.items():
                    bound = 5e-3 if weight.endswith("_logits") else 1e-4  # mixing weights
                    assert_close(actual[weight], gradient, bound, np.abs(dy).max())
            except AssertionError as error:
                failures.append(f"{name}, {mode}: {error}")
    assert not failures, "\n".join(failures)


def _named(layer):
    return {w.name: w.numpy() for w in layer.weights}


@pytest.mark.parametrize("mode", MODES)
def test_any_offset_leaves_everything_finite(norm, mode):
    layer = built(norm)
    step = backward(layer, mode, True)
    for offset in (0.0, 1e2, 1e4, 1e5, 1e6):
        x = (data(norm.input_shape) + offset).astype("float32")
        y, dx, dweights = step(x, np.ones_like(x))
        assert np.isfinite(y).all() and np.isfinite(dx).all()
        assert all(np.isfinite(g).all() for g in dweights.values())
        for weight in layer.weights:
            assert np.isfinite(weight.numpy()).all()
            assert weight.name != "moving_variance" or (weight.numpy() >= 0).all()


def test_half_a_million_numbers_per_statistic(norm):
    """One reduction over all of them would lose three digits on the CPU."""
    shape = (1, 384, 384, 6) if len(norm.input_shape) == 4 else (2, 2, 250_000)
    x = np.random.default_rng(0).uniform(0.0, 1.0, shape).astype("float32")
    expected, _, _ = oracle(norm, x, _named(built(norm, shape)), arguments(norm), True)
    for mode in MODES:
        assert_close(forward(built(norm, shape), mode, True)(x), expected, 1e-5)


def test_constant_input_gives_beta(norm):
    """Zero variance: what a norm that subtracts the mean leaves is its offset."""
    if "shift" not in norm.invariances:
        x = np.zeros(norm.input_shape, "float32")  # those that do not subtract it map 0 to beta
    else:
        x = np.full(norm.input_shape, 123.456, "float32")
    if not norm.takes("center"):
        return
    layer = built(norm, center=True)
    if "moving_mean" in _named(layer):
        layer.moving_mean.assign(0 * layer.moving_mean)  # renorm's d measures from it
    expected = np.broadcast_to(_named(layer)["beta"], x.shape)
    assert_close(layer(x, training=True), expected, 1e-6)
