"""Forms for float16: the definitions in float32, and safe where every number is a float16."""

import warnings

import keras
import numpy as np
import pytest

from keras_norm import backend, export_litert
from keras_norm.catalog import catalog
from keras_norm.ops import half, root
from tests import half_simulator
from tests.conformance.support import (
    assert_close,
    built,
    data,
    forward,
    mapped,
    oracle,
    randomize,
    weights_of,
)

WIDE, DEEP = (1, 512, 512, 4), (1, 4, 8, 1280)
SIMULATED = [
    ("group", WIDE, {"groups": 2}),
    ("group", DEEP, {"groups": 32}),
    ("instance", WIDE, {}),
    ("layer", DEEP, {}),
    ("rms", DEEP, {}),
    ("switchable", WIDE, {}),
    ("pixel", DEEP, {}),
    ("frn", WIDE, {}),
]
AMPLITUDES = (1.0, 45.0, 2000.0)

ROWS = [row for row in catalog if row.kind in ("activations", "conditional", "recurrent")]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_forms_are_the_definitions(row):
    layer = built(row)
    for size in (1.0, 1e-3, 1e3):
        x = mapped(lambda one, size=size: one * np.float32(size), data(row.input_shape))
        with backend.answered_by(half.FORMS):
            actual = forward(layer, "eager", False)(x)
        assert_close(actual, forward(layer, "eager", False)(x), 1e-5)


def test_forms_take_masks(norm):
    """What a mask hides may be large, too."""
    layer, x = built(norm), data(norm.input_shape)
    mask = np.random.default_rng(0).random(norm.input_shape[:-1]) > 0.4
    mask[0] = False
    hidden = np.where(mask[..., None], x, np.float32(1e4))
    with backend.answered_by(half.FORMS):
        actual = forward(layer, "eager", False)(hidden, mask)
    expected = forward(layer, "eager", False)(x, mask)
    assert_close(actual[mask], expected[mask], 1e-5)


def test_statistics_are_those_of_the_input():
    x = data((4, 3, 5, 6)) * 30.0 + 5.0
    for name, (axes, *rest) in {
        "moments_and_quotient": ((1, 2), None, None, 1e-3),
        "mixture_and_quotient": ((1, 2), lambda *own: own[:3], None, (), None, None, 1e-3),
    }.items():
        _, shift, residual, variance = half.FORMS[name](x, axes, *rest)
        assert_close(shift + residual, x.mean(axes, keepdims=True), 1e-6)
        assert_close(variance, x.var(axes, keepdims=True), 1e-5)


def test_training_keeps_the_definitions():
    how = {"gamma": None, "beta": None, "epsilon": 1e-3}
    for declined in ({"synchronized": True}, {"correct": lambda *parts: parts}):
        answer = half.moments_and_quotient(np.ones((2, 3)), (1,), **how, **declined)
        assert answer is NotImplemented


def test_root_has_a_gradient_at_zero():
    assert_close(root(np.array([0.0, 4.0], "float32")), np.array([0.0, 2.0]), 1e-6)


def test_an_epsilon_that_float16_lacks_is_raised():
    x = np.array([[3e-5, -3e-5, 3e-5, -3e-5]], "float32")
    with pytest.warns(UserWarning, match=r"epsilon=1e-12 is raised to 3.7e-09.*target='any'"):
        y = half.root_and_quotient(x, (1,), None, None, 1e-12)
    assert_close(y, x / np.sqrt(9e-10 + 2.0**-28), 1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        half.root_and_quotient(x, (1,), None, None, 4e-9)


def files_of(row, shape, overrides, folder):
    """A layer, and the files for every runtime and for GPUs."""
    layer, inputs = row.build(**overrides), keras.Input(shape[1:], name="x")
    model = randomize(keras.Model(inputs, layer(inputs)))
    targets = ("any", "gpu")
    return layer, [export_litert(model, folder / f"{t}.tflite", target=t) for t in targets]


def correlation(actual, expected):
    """Of two arrays; 0 where one is constant or not finite."""
    actual = actual.astype("float64")
    if not np.isfinite(actual).all() or actual.std() == 0.0:
        return 0.0
    return np.corrcoef(actual.ravel(), expected.ravel())[0, 1]


@pytest.mark.parametrize(
    ("short", "shape", "overrides"), SIMULATED, ids=lambda v: str(v).replace(" ", "")
)
def test_every_number_a_float16(short, shape, overrides, tmp_path):
    row = catalog[short]
    layer, (plain, safe) = files_of(row, shape, overrides, tmp_path)
    settings = {"epsilon": layer.epsilon, **row.arguments, **overrides}
    found = []
    for amplitude in AMPLITUDES:
        x = data(shape) * np.float32(amplitude / 4.0)
        expected, *_ = oracle(row, x, weights_of(layer), settings, False)
        assert correlation(half_simulator.run(safe, x), expected) >= 0.999
        found.append(correlation(half_simulator.run(plain, x), expected))
    assert min(found) < 0.9, "the plain form would do"


@pytest.mark.parametrize("short", ["group", "instance", "layer", "switchable", "rms", "grn"])
def test_flat_inputs_stay_finite(short, tmp_path):
    """Their variance is 0, and ε is lost beside numbers of this size."""
    shape = (1, 8, 8, 6)
    _, (_, safe) = files_of(catalog[short], shape, {}, tmp_path)
    for value in (0.0, 700.0, 12345.0):
        x = np.full(shape, value, "float32")
        for flush in (True, False):
            assert np.isfinite(half_simulator.run(safe, x, flush)).all()
