"""The verbs on networks of `keras.applications`, with random weights and random moments."""

import keras
import numpy as np
import pytest

import keras_norm

NORMS = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras_norm.BatchNormalization,
)
SHAPE = (64, 64, 3)
NETWORKS = {
    "ResNet50": {},
    "MobileNetV2": {"alpha": 0.35},
    "EfficientNetB0": {},
    "DenseNet121": {},
    "ConvNeXtTiny": {},
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    make = getattr(keras.applications, request.param)
    model = make(weights=None, input_shape=SHAPE, classes=5, **NETWORKS[request.param])
    random = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name == "moving_mean":
            weight.assign(random.normal(size=weight.shape) * 0.1)
        elif weight.name == "moving_variance":
            weight.assign(random.uniform(0.8, 1.5, weight.shape))
    return model


@pytest.fixture
def x():
    return np.random.default_rng(1).uniform(0, 255, (4, *SHAPE)).astype("float32")


def infer(model, x):
    return np.asarray(model(x, training=False))


def check_same(model, network, x):
    np.testing.assert_allclose(infer(model, x), infer(network, x), rtol=0, atol=1e-4)


def test_accelerated_replaced_saved_and_loaded(network, x, tmp_path):
    fast = keras_norm.accelerate(network, verbose=False)
    check_same(fast, network, x)
    table = {keras_norm.BatchNormalization: keras_norm.GhostBatchNormalization}
    ghost = keras_norm.replace(fast, table, verbose=False)
    check_same(ghost, network, x)
    ghost.save(tmp_path / "ghost.keras")
    loaded = keras.saving.load_model(tmp_path / "ghost.keras")
    np.testing.assert_array_equal(infer(loaded, x), infer(ghost, x))
    kinds = {type(layer) for layer in loaded._flatten_layers()}
    assert keras.layers.BatchNormalization not in kinds


def test_folded_and_exported(network, x, tmp_path):
    folded = keras_norm.fold(network, verbose=False)
    check_same(folded, network, x)
    left = [one for one in folded._flatten_layers() if isinstance(one, NORMS)]
    before = [one for one in network._flatten_layers() if isinstance(one, NORMS)]
    assert len(left) < len(before) or network.name.startswith("convnext")
    path = keras_norm.export_litert(folded, tmp_path / "folded.tflite")
    assert keras_norm.verify(network, path, data=x[:2], bound=1e-4).passed


def test_recalibrated_and_frozen(network, x):
    new = keras_norm.recalibrate(network, x, batch_size=4, verbose=0)
    for old, weight in zip(network.weights, new.weights, strict=True):
        moves = old.name in ("moving_mean", "moving_variance")
        assert np.isfinite(np.asarray(weight)).all()
        assert moves != np.array_equal(np.asarray(weight), np.asarray(old)), weight.path
    for affine in (True, False):
        frozen = keras_norm.freeze(network, affine, verbose=False)
        frozen(x, training=True)
        for old, weight in zip(network.weights, frozen.weights, strict=True):
            if old.name != "seed_generator_state":
                np.testing.assert_array_equal(weight, old)
        check_same(frozen, network, x)
