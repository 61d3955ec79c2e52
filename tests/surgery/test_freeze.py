"""What is frozen stays under training, all else trains on, and `unfreeze` undoes it."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_norm
from keras_norm.layers.base import BaseBatchNormalization
from tests.surgery.conftest import some

BN = layers.BatchNormalization
MOVING = ("moving_mean", "moving_variance", "moving_matrix", "moving_count", "step")
X = some(16, 4, 6) * np.float32([1, 2, 3, 1, 2, 3]) + 1.0


def every_kind():
    """A compiled model with each norm that keeps moving moments, after one step of training."""
    inputs = keras.Input((4, 6))
    x = layers.Dense(6)(inputs)
    stack = [
        BN(name="theirs"),
        layers.TimeDistributed(BN(name="within"), name="each"),
        keras_norm.BatchNormalization(momentum=None, name="batch"),
        keras_norm.BatchRenormalization(name="renorm"),
        keras_norm.GhostBatchNormalization(virtual_batch_size=4, name="ghost"),
        keras_norm.MeanOnlyBatchNormalization(name="mean_only"),
        keras_norm.SwitchableNormalization(name="switchable"),
        keras_norm.EvoNormB0(name="evonorm"),
        keras_norm.IterativeNormalization(group_size=2, name="iterative"),
        layers.LayerNormalization(name="layer"),
    ]
    for layer in stack:
        x = layer(x)
    inner = keras_norm.BatchNormalization(center=False, scale=False, name="inner")
    pooled = layers.GlobalAveragePooling1D()(inputs)
    x = keras_norm.ConditionalNormalization(inner, name="conditional")([x, pooled])
    cell = keras_norm.BatchNormLSTMCell(6, max_steps=4, name="cell")
    model = keras.Model(inputs, layers.RNN(cell, name="rnn")(x), name="m")
    model.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=True)
    return fitted(model)


def fitted(model):
    """The model after one more step."""
    model.fit(X, X[:, 0], batch_size=len(X), verbose=0)
    return model


def values(model):
    return [np.array(weight) for weight in model.weights]


def is_moving(weight):
    return weight.name.endswith(MOVING)


@pytest.mark.parametrize("affine", [True, False])
def test_what_is_frozen_stays_and_all_else_trains(affine, said, tmp_path):
    model = every_kind()
    before = values(model)
    frozen = keras_norm.freeze(model, affine=affine, print_fn=said)
    if affine:
        assert said == ["m: froze 11 norms"]
    else:
        head = "m: froze the statistics of 11 norms"
        assert said == [head, "exchanged 2 norms of Keras for ours"]
    np.testing.assert_array_equal(frozen(X, training=True), frozen(X))
    np.testing.assert_allclose(frozen(X), model(X), rtol=1e-5, atol=1e-6)
    frozen.save(tmp_path / "frozen.keras")
    loaded = keras.saving.load_model(tmp_path / "frozen.keras")
    np.testing.assert_array_equal(loaded(X, training=True), frozen(X))
    assert fitted(frozen).optimizer.iterations == 2
    of_norms = {id(w) for one in stateful(frozen) for w in one.weights}
    for weight, old in zip(frozen.weights, before, strict=True):
        stays = is_moving(weight) or (affine and id(weight) in of_norms)
        assert np.array_equal(weight, old) == stays, weight.path
    for weight, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)


def stateful(model):
    """The norms whose trained weights can be told from others'."""
    kinds = (BN, BaseBatchNormalization)
    return [one for one in model._flatten_layers() if isinstance(one, kinds)]


@pytest.mark.parametrize("affine", [True, False])
def test_unfreeze_undoes_it(affine, said):
    model = every_kind()
    frozen = fitted(keras_norm.freeze(model, affine=affine, verbose=False))
    new = keras_norm.unfreeze(frozen, print_fn=said)
    assert said == ["m: unfroze 11 norms"]
    for one, twin in zip(model._flatten_layers(), new._flatten_layers(), strict=True):
        assert one.trainable == twin.trainable
        for name in ("freeze_statistics", "momentum"):
            assert getattr(twin, name, False) == getattr(one, name, False)
    old = values(frozen)
    for now, then in zip(values(new), old, strict=True):
        np.testing.assert_array_equal(now, then)
    for mine, its in zip(frozen.optimizer.variables, new.optimizer.variables, strict=True):
        np.testing.assert_array_equal(its, mine)
    assert fitted(new).optimizer.iterations == 3
    for weight, then in zip(new.weights, old, strict=True):
        assert not np.array_equal(weight, then), weight.path
    for now, then in zip(values(frozen), old, strict=True):
        np.testing.assert_array_equal(now, then)


def test_an_optimizer_that_does_not_know_gamma_and_beta_starts_anew():
    stack = [keras.Input((6,)), layers.Dense(6), BN(trainable=False)]
    model = keras.Sequential(stack)
    model.compile("adam", "mse", run_eagerly=True)
    for _ in range(2):
        model.fit(X[:, 0], X[:, 1], verbose=0)
    new = keras_norm.unfreeze(model, verbose=False)
    assert new.optimizer.iterations == 0
    new.fit(X[:, 0], X[:, 1], verbose=0)
    assert np.any(new.layers[1].beta)


def test_what_is_frozen_around_a_norm_stays_frozen(said):
    """Training must not move the moments of a network that is frozen as a whole."""
    base = keras.Sequential([keras.Input((6,)), layers.Dense(6), BN(name="inner")], name="base")
    base.trainable = False
    model = keras.Sequential([keras.Input((6,)), base, BN(name="last")], name="m")
    new = keras_norm.unfreeze(keras_norm.freeze(model, verbose=False), print_fn=said)
    left = "left alone: inner (BatchNormalization): a layer that holds it is frozen"
    assert said == ["m: unfroze 1 norm", left]
    assert not new.trainable_weights[2:] and new.get_layer("last").trainable
    new(X[:, 0], training=True)
    for layer in (model, new):
        np.testing.assert_array_equal(layer.get_layer("base").get_layer("inner").moving_mean, 0.0)
    assert np.any(new.get_layer("last").moving_mean)


class Derived(BN):
    pass


@pytest.mark.parametrize(
    ("norm", "why"),
    [
        (Derived, "of class Derived: its class is derived from BatchNormalization"),
        (lambda **k: BN(renorm=True, **k), "of class BatchNormalization: `renorm` must be False"),
    ],
)
def test_norms_that_ours_cannot_stand_in_for(norm, why):
    model = keras.Sequential([keras.Input((6,)), BN(), norm(name="other")])
    with pytest.raises(ValueError, match=rf"`affine` must be True where.*layer 'other' {why}"):
        keras_norm.freeze(model, affine=False)
    assert [type(layer) for layer in model.layers[:1]] == [BN]
    frozen = keras_norm.freeze(model, verbose=False)
    assert not frozen.trainable_weights
    assert len(keras_norm.unfreeze(frozen, verbose=False).trainable_weights) == 4


def test_one_layer_and_bad_models(capsys):
    layer = keras_norm.BatchNormalization(name="one")
    layer.build((None, 3))
    assert keras_norm.freeze(layer, affine=False).freeze_statistics
    assert not keras_norm.unfreeze(keras_norm.freeze(layer, affine=False)).freeze_statistics
    assert capsys.readouterr().out.startswith("one: froze the statistics of 1 norm\n")
    assert not layer.freeze_statistics
    keras_norm.freeze(keras.Sequential([keras.Input((2,)), layers.ReLU()], name="none"))
    assert capsys.readouterr().out == "none: froze no norm\n"
    for verb in (keras_norm.freeze, keras_norm.unfreeze):
        with pytest.raises(TypeError, match="`model` must be a Keras model or layer"):
            verb(3)
        with pytest.raises(ValueError, match="`model` must be built"):
            verb(keras_norm.BatchNormalization())
