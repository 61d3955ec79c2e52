"""Layers become layers of other kinds; what both have stays, all else is said."""

import functools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from keras import layers

import keras_norm
from tests.surgery.conftest import models, some, trained

BN = layers.BatchNormalization


def replaced(model, table):
    """The new model, after checks of what must hold for every table; and what was printed."""
    before, lines = [np.array(v) for v in model.variables], []
    new = keras_norm.replace(model, table, print_fn=lines.append)
    for now, then in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert not {id(w) for w in model.weights} & {id(w) for w in new.weights}
    assert sorted(one.name for one in new._flatten_layers()) == sorted(
        one.name for one in model._flatten_layers()
    )
    return new, lines


def small(norm, shape=(6, 6, 4)):
    stack = [keras.Input(shape), layers.Conv2D(4, 3, name="conv"), norm, layers.ReLU()]
    return trained(keras.Sequential(stack, name="small"))


def weights(layer):
    return {weight.name: np.array(weight) for weight in layer.weights}


KINDS = {
    "group": (functools.partial(keras_norm.GroupNormalization, groups=2), ["gamma", "beta"]),
    "renorm": (keras_norm.BatchRenormalization, None),
    "ghost": (functools.partial(keras_norm.GhostBatchNormalization, virtual_batch_size=8), None),
    "synchronized": (functools.partial(keras_norm.BatchNormalization, synchronized=True), None),
    "mean": (keras_norm.MeanOnlyBatchNormalization, ["beta", "moving_mean"]),
    "layer": (layers.LayerNormalization, ["gamma", "beta"]),
    "identity": (layers.Identity, []),
}


@pytest.mark.parametrize("kind", KINDS)
def test_batch_norm_becomes(kind):
    value, kept = KINDS[kind]
    model = small(BN(epsilon=0.01, momentum=0.9, name="norm"))
    new, lines = replaced(model, {BN: value})
    old, norm = model.layers[1], new.layers[1]
    assert type(norm) is getattr(value, "func", value)
    kept = list(weights(old)) if kept is None else kept
    for name in kept:
        np.testing.assert_array_equal(weights(norm)[name], weights(old)[name])
    dropped = [name for name in weights(old) if name not in kept]
    assert lines[0] == "small: exchanged 1 layer"
    assert f"norm: BatchNormalization -> {type(norm).__name__}" in lines[1]
    assert (f"kept {', '.join(kept)}" in lines[1]) == bool(kept)
    assert (f"dropped {', '.join(dropped)}" in lines[1]) == bool(dropped)
    assert ("momentum=0.9" in lines[1]) == (not hasattr(norm, "momentum"))
    if hasattr(norm, "epsilon") and kind != "mean":
        assert norm.epsilon == 0.01
    x = some(3, 6, 6, 4)
    if kind in ("renorm", "ghost", "synchronized"):
        np.testing.assert_allclose(new(x), model(x), rtol=1e-5, atol=1e-5)
    assert new(x).shape == model(x).shape


def test_identities_are_saved(tmp_path):
    new, _ = replaced(small(BN(name="norm", dtype="mixed_bfloat16")), {BN: layers.Identity})
    new.save(tmp_path / "new.keras")
    loaded = keras.saving.load_model(tmp_path / "new.keras")
    assert loaded.get_layer("norm").dtype_policy.name == "mixed_bfloat16"
    np.testing.assert_array_equal(loaded(some(2, 6, 6, 4)), new(some(2, 6, 6, 4)))


def test_group_norm_becomes_instance_norm():
    model = small(layers.GroupNormalization(2, epsilon=0.1))
    new, lines = replaced(model, {layers.GroupNormalization: keras_norm.InstanceNormalization})
    assert "dropped groups=2" in lines[1] and new.layers[1].epsilon == 0.1
    direct = layers.GroupNormalization(-1, epsilon=0.1)
    y = model.layers[0](some(2, 6, 6, 4))
    direct.build(y.shape)
    direct.set_weights(model.layers[1].get_weights())
    np.testing.assert_allclose(new.layers[1](y), direct(y), rtol=1e-5, atol=1e-5)


def test_the_renorm_of_keras_becomes_ours():
    """Inference is the same; so is a training step, whose limits neither reaches."""
    norm = BN(renorm=True, renorm_clipping={"rmax": 2.0, "dmax": 3.0}, renorm_momentum=0.99)
    model = small(norm)
    norm.moving_stddev.assign(np.sqrt(norm.moving_variance + norm.epsilon))
    norm.renorm_mean.assign(norm.moving_mean)
    norm.renorm_stddev.assign(norm.moving_stddev)
    new, lines = replaced(model, {BN: keras_norm.BatchRenormalization})
    assert "dropped moving_stddev, renorm_mean, renorm_stddev" in lines[1]
    assert "new step" in lines[1] and "renorm_momentum" not in lines[1]
    ours = new.layers[1]
    assert (ours.rmax, ours.rmin, ours.dmax, ours.rmax_ramp) == (2.0, 0.0, 3.0, None)
    x = some(16, 6, 6, 4)
    np.testing.assert_allclose(new(x), model(x), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(new(x, training=True), model(x, training=True), atol=1e-5)


def test_a_second_momentum_is_dropped_aloud():
    model = small(BN(renorm=True, renorm_momentum=0.5))
    new, lines = replaced(model, {BN: keras_norm.BatchRenormalization})
    assert "renorm_momentum=0.5" in lines[1] and new.layers[1].dmax > 1e20


def test_masks_and_calls_with_arguments():
    """An identity takes no mask, where the norm in its place was called with one."""
    inputs, mask = keras.Input((5, 3)), keras.Input((5,), dtype="bool")
    x = BN(name="implicit")(layers.Masking()(inputs))
    x = BN(name="explicit")(x, mask=mask, training=False)
    model = trained(keras.Model([inputs, mask], layers.LSTM(2)(x)))
    new, _ = replaced(model, {BN: layers.Identity})
    data, counted = some(2, 5, 3), np.arange(5) < [[3], [4]]
    expected = model.layers[-1](data, mask=counted)  # the mask goes on to the layer behind
    np.testing.assert_allclose(new([data, counted]), expected, atol=1e-6)


def deep():
    """Shared, nested, wrapped and twice used norms, several outputs."""
    inputs = keras.Input((4, 6), name="x")
    shared = BN(name="shared")
    nested = keras.Sequential([keras.Input((4, 6)), layers.Dense(6), BN(name="inner")], name="n")
    x = layers.Add()([nested(shared(inputs)), nested(inputs)])
    y = layers.TimeDistributed(BN(name="each"), name="td")(shared(x))
    return trained(keras.Model(inputs, {"x": x, "y": y}, name="deep"))


def test_shared_and_nested_layers(tmp_path):
    model = deep()
    model.get_layer("shared").trainable = False
    new, lines = replaced(model, {BN: keras_norm.BatchNormalization})
    assert lines[0] == "deep: exchanged 3 layers" and len(lines) == 4
    assert len(new.get_layer("shared")._inbound_nodes) == 2
    assert not new.get_layer("shared").trainable
    assert type(new.get_layer("td").layer) is keras_norm.BatchNormalization
    x = some(3, 4, 6)
    for name in ("x", "y"):
        np.testing.assert_allclose(new(x)[name], model(x)[name], rtol=1e-5, atol=1e-5)
    new.save(tmp_path / "new.keras")
    loaded = keras.saving.load_model(tmp_path / "new.keras")
    np.testing.assert_allclose(loaded(x)["y"], new(x)["y"], atol=1e-6)


@pytest.mark.parametrize("to", [layers.LayerNormalization, keras_norm.BatchNormalization])
def test_a_compiled_model_trains_on(to):
    model = small(BN())
    model.compile(keras.optimizers.Adam(), "mse", run_eagerly=True)
    x, y = some(8, 6, 6, 4), some(8, 4, 4, 4)
    model.fit(x, y, verbose=0)
    new, _ = replaced(model, {BN: to})
    assert new.optimizer.iterations == 1
    new.fit(x, y, verbose=0)
    new, _ = replaced(model, {BN: layers.Identity})
    assert new.optimizer.iterations == 0  # gamma and beta are gone
    new.fit(x, y, verbose=0)


def test_functions_as_values():
    """They may decline; a predicate chooses by name; classes without a config of norms work."""
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="a"), layers.ReLU(name="r")])
    table = {
        lambda layer: layer.name == "a": lambda old: None,
        layers.ReLU: lambda old: layers.ELU(0.5),
    }
    new, lines = replaced(model, table)
    assert type(new.layers[1]) is layers.ELU and new.layers[1].name == "r"
    np.testing.assert_array_equal(new.layers[0].kernel, model.layers[0].kernel)
    assert len(lines) == 2 and "r: ReLU -> ELU" in lines[1]


@pytest.mark.parametrize("name", ["gn", "taken", None])
def test_names_that_a_function_gives_do_not_count(name):
    """They may occur twice, or be those of other layers, as may those that Keras makes up."""
    keras.utils.clear_session()  # which numbers names anew
    taken = layers.Dense(4, name="taken" if name else "group_normalization")
    model = keras.Sequential([keras.Input((4,)), BN(), taken, BN()])
    model = trained(keras.Model(model.inputs, model.outputs))
    make = functools.partial(keras_norm.GroupNormalization, groups=2, name=name)
    new, _ = replaced(model, {BN: lambda old: make()})
    assert new.layers[1].gamma.path.startswith(model.layers[1].name)


def test_derived_classes_are_named():
    class Derived(BN):
        pass

    model = small(Derived(name="mine"))
    new, lines = replaced(model, {BN: layers.Identity})
    assert type(new.layers[1]) is Derived
    assert lines[0] == "small: exchanged no layer"
    assert "left alone: mine (Derived): its class is derived" in lines[1]


def test_what_does_not_fit():
    model = small(BN(name="norm"))
    wrong = [
        ({BN: functools.partial(keras_norm.GroupNormalization, groups=3)}, "groups=3"),
        ({layers.Conv2D: lambda old: layers.Conv2D(7, 3)}, r"\(None, 4, 4, 7\), where the old"),
        ({BN: lambda old: "norm"}, "a str is no layer"),
        ({BN: lambda old: layers.TimeDistributed(old)}, "holds a layer of the old model"),
    ]
    for table, text in wrong:
        with pytest.raises(ValueError, match=f"`table` must give layers that fit.*{text}"):
            keras_norm.replace(model, table)
    for table in (3, {"BatchNormalization": layers.Identity}, {BN: 3}):
        with pytest.raises(TypeError, match="`table` must"):
            keras_norm.replace(model, table)
    with pytest.raises(TypeError, match="with arguments by name"):
        keras_norm.replace(model, {BN: functools.partial(keras_norm.GroupNormalization, 2)})
    with pytest.raises(TypeError, match="`model` must be a Keras model"):
        keras_norm.replace(3, {})


@settings(max_examples=10)
@given(models())
def test_random_models_stay_the_same_function(model):
    """Ours for Keras's keep the function; identities leave every other weight as it was."""
    x = some(2, 24, 4)
    new, _ = replaced(model, {BN: keras_norm.BatchRenormalization})
    for one, other in zip(*(keras.tree.flatten(m(x)) for m in (model, new)), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5)
    new, _ = replaced(model, {BN: layers.Identity})
    pairs = zip(model._flatten_layers(), new._flatten_layers(), strict=True)
    for layer, twin in [pair for pair in pairs if not pair[0]._layers]:
        if type(layer) is BN:
            assert type(twin) is layers.Identity
        else:
            for mine, its in zip(layer.weights, twin.weights, strict=True):
                np.testing.assert_array_equal(its, mine)
