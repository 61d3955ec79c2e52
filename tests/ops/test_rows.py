"""Short rows in files: two passes less, and how exact they stay."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

import keras_norm
from keras_norm import audit, export_litert
from keras_norm.ops import rows
from tests.conformance.support import randomize

KERNELS = (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
"""XNNPACK's, and those that add up one by one."""
BATCH = 32
LONG = (4, rows.LONGEST + 1)


def model_of(shape, axis=-1):
    inputs = keras.Input(shape, batch_size=BATCH)
    return keras.Model(inputs, keras_norm.LayerNormalization(axis)(inputs))


def error_of(path, axes, shape, mean, kernels):
    """The largest error over the largest output, of data with a mean and a deviation of 1."""
    random = np.random.default_rng(0)
    x = (random.standard_normal((BATCH, *shape)) + mean).astype("float32")
    run = Interpreter(str(path), experimental_op_resolver_type=kernels).get_signature_runner()
    (name,) = run.get_input_details()
    (actual,) = run(**{name: x}).values()
    wide = x.astype("float64")
    expected = wide - wide.mean(axes, keepdims=True)
    expected /= np.sqrt(wide.var(axes, keepdims=True) + 1e-3)
    return np.abs(actual - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize(("shape", "passes"), [((4, 16), 7), (LONG, 9)])
def test_two_passes_less(shape, passes, tmp_path):
    path = export_litert(randomize(model_of(shape)), tmp_path / "model.tflite")
    assert audit(path).blocks[0].full_passes == passes


@pytest.mark.parametrize("features", [16, 768, rows.LONGEST])
def test_short_rows_are_as_exact_as_asked(features, tmp_path):
    shape = (4, features)
    path = export_litert(model_of(shape), tmp_path / "model.tflite")
    for kernels in KERNELS:
        assert error_of(path, -1, shape, 0.0, kernels) <= 1e-6
        assert error_of(path, -1, shape, 1000.0, kernels) <= 2e-4


@pytest.mark.parametrize(("axis", "shape"), [(-1, LONG), ((1, 2), (64, 64))])
def test_all_others_keep_what_float32_leaves_of_the_mean(axis, shape, tmp_path):
    path = export_litert(model_of(shape, axis), tmp_path / "model.tflite")
    for kernels in KERNELS:
        assert error_of(path, axis, shape, 1000.0, kernels) <= 1e-6


def test_declines_what_belongs_to_training():
    x = np.ones((2, 3), "float32")
    for declined in ({"synchronized": True}, {"correct": lambda *parts: parts}):
        answer = rows.moments_and_quotient(x, (1,), None, None, 1e-3, **declined)
        assert answer is NotImplemented
