"""Folded models compute in inference what they did; what may not fold stays."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from keras import layers

import keras_norm
from keras_norm.wrappers.base import BaseWeightWrapper
from tests.surgery.conftest import models, some, trained

BN = layers.BatchNormalization


def distance(model, new, x):
    """Largest difference of the outputs, as a share of their largest value."""
    errors = []
    for one, other in zip(*(keras.tree.flatten(m(x)) for m in (model, new)), strict=True):
        one, other = np.float64(one), np.float64(other)
        errors.append(np.abs(one - other).max() / np.abs(one).max())
    return max(errors)


def folded(model, x, said, tolerance=2e-6):
    """The folded model, after checks of what must hold for every model."""
    before = [np.array(v) for v in model.variables]
    new = keras_norm.fold(model, print_fn=said)
    for now, then in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(now, then)
    if isinstance(model, keras.Model):
        assert [one.name for one in new.layers] == [one.name for one in model.layers]
    assert distance(model, new, x) <= tolerance
    return new


def identities(model):
    return {one.name for one in model._flatten_layers() if type(one) is layers.Identity}


def stack(*parts, shape):
    return trained(keras.Sequential([keras.Input(shape), *parts], name="m"))


NORMS = {
    "batch": keras_norm.BatchNormalization,
    "keras": BN,
    "keras_renorm": lambda **k: BN(renorm=True, **k),
    "plain": lambda **k: BN(center=False, scale=False, **k),
    "renorm": keras_norm.BatchRenormalization,
    "ghost": keras_norm.GhostBatchNormalization,
    "mean_only": keras_norm.MeanOnlyBatchNormalization,
    "iterative": lambda **k: keras_norm.IterativeNormalization(group_size=2, **k),
    "decorrelated": lambda **k: keras_norm.DecorrelatedBatchNormalization(group_size=4, **k),
    "data": lambda **k: keras_norm.StandardNormalization(
        mean=[1.0, -2.0, 3.0, 0.5], variance=[1.0, 4.0, 0.0, 2.0], **k
    ),
    "keras_data": lambda **k: layers.Normalization(mean=[1, 2, 3, 4], variance=[1, 4, 9, 2], **k),
    "inverse": lambda **k: keras_norm.StandardNormalization(
        mean=[1.0, -2.0, 3.0, 0.5], variance=[1.0, 4.0, 0.5, 2.0], invert=True, **k
    ),
}


@pytest.mark.parametrize("norm", NORMS)
def test_each_norm_folds_both_ways(norm, said):
    parts = [
        layers.Conv2D(4, 2, use_bias=False, name="a"),
        NORMS[norm](name="n1"),
        layers.ReLU(),
        NORMS[norm](name="n2"),
        layers.Conv2D(5, 2, name="b"),
    ]
    new = folded(stack(*parts, shape=(7, 6, 3)), some(2, 7, 6, 3), said)
    assert identities(new) == {"n1", "n2"} and said[0] == "m: folded 2 norms"
    assert said.of("n1") == ["n1 into a"] and said.of("n2") == ["n2 into b, which follows it"]
    assert new.layers[0].use_bias and not said.of("redundant")
    assert float(said[-1].split()[-4]) < 2e-6


LINEAR = {
    "dense": (lambda **k: layers.Dense(6, **k), (5,)),
    "dense_3d": (lambda **k: layers.Dense(6, **k), (3, 5)),
    "conv1d": (lambda **k: layers.Conv1D(6, 3, strides=2, **k), (9, 4)),
    "causal": (lambda **k: layers.Conv1D(6, 3, padding="causal", **k), (9, 4)),
    "conv2d": (lambda **k: layers.Conv2D(6, 3, dilation_rate=2, **k), (9, 8, 4)),
    "same": (lambda **k: layers.Conv2D(6, 3, padding="same", strides=2, **k), (9, 8, 4)),
    "single": (lambda **k: layers.Conv2D(6, 1, padding="same", strides=2, **k), (9, 8, 4)),
    "grouped": (lambda **k: layers.Conv2D(6, 3, groups=2, **k), (9, 8, 4)),
    "conv3d": (lambda **k: layers.Conv3D(6, 2, **k), (4, 4, 3, 4)),
    "depthwise1d": (lambda **k: layers.DepthwiseConv1D(2, depth_multiplier=2, **k), (7, 3)),
    "depthwise2d": (lambda **k: layers.DepthwiseConv2D(2, depth_multiplier=2, **k), (7, 6, 3)),
    "separable1d": (lambda **k: layers.SeparableConv1D(6, 2, depth_multiplier=2, **k), (7, 3)),
    "separable2d": (lambda **k: layers.SeparableConv2D(6, 2, depth_multiplier=2, **k), (7, 6, 3)),
    "transposed1d": (lambda **k: layers.Conv1DTranspose(6, 3, strides=2, **k), (7, 3)),
    "transposed2d": (lambda **k: layers.Conv2DTranspose(6, 2, padding="same", **k), (7, 6, 3)),
    "transposed3d": (lambda **k: layers.Conv3DTranspose(6, 1, **k), (3, 3, 3, 4)),
}
PADS = ("causal", "same", "transposed1d", "transposed2d")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", LINEAR)
def test_each_linear_layer_takes_them_in(kind, bias, said):
    """A norm behind it always; one in front only where no zeros are added that it does not see."""
    make, shape = LINEAR[kind]
    model = stack(BN(name="front"), make(name="l", use_bias=bias), BN(name="back"), shape=shape)
    new = folded(model, some(3, *shape), said)
    assert identities(new) == ({"back"} if kind in PADS else {"back", "front"})
    assert len(said.of("redundant bias: l: back subtracts it in training")) == bias
    if kind in PADS:
        (line,) = said.of("left alone: front (BatchNormalization): it stands at the input; its shi")
        assert " l" in line


def test_without_a_shift_padding_does_not_matter(said):
    parts = [BN(center=False, name="n"), layers.Conv2D(3, 3, padding="same")]
    model = stack(*parts, shape=(5, 5, 2))
    model.layers[0].moving_mean.assign([0.0, 0.0])
    assert identities(folded(model, some(2, 5, 5, 2), said)) == {"n"}


def test_channels_first_and_other_axes(said):
    first = {"data_format": "channels_first"}
    back = keras_norm.BatchNormalization(axis=[1], name="back")
    front, conv = BN(axis=1, name="front"), layers.Conv2D(6, 2, name="conv2d", **first)
    parts = [front, conv, back, BN(axis=2, name="other")]
    new = folded(stack(*parts, shape=(3, 6, 5)), some(2, 3, 6, 5), said)
    assert identities(new) == {"front", "back"}
    assert "the channels of conv2d are on axis 1" in said.of("left alone: other")[0]
    several = keras_norm.BatchNormalization(axis=[1, 2], name="several")
    assert not identities(
        folded(stack(several, layers.Dense(4), shape=(3, 5)), some(2, 3, 5), said)
    )
    assert "its statistics span several axes" in said.of("left alone: several")[0]


def branches():
    inputs = keras.Input((6, 6, 3))
    conv = layers.Conv2D(3, 1, name="conv")
    x = conv(inputs)
    y = BN(name="branch")(x)
    shared = BN(name="shared")
    z = layers.Add()([shared(y), shared(x)])
    z = layers.Conv2D(3, 1, activation="relu", name="active")(z)
    z = BN(name="output")(z)
    w = BN(name="training")(layers.Conv2D(3, 1)(z), training=True)
    derived = type("Derived", (BN,), {})(name="derived")(layers.Conv2D(3, 1)(w))
    return trained(keras.Model(inputs, [z, derived], name="m"))


def test_what_must_not_fold_and_why(said):
    model = branches()
    new = folded(model, some(2, 6, 6, 3), said)
    assert not identities(new) and said[0] == "m: folded no norm"
    reasons = {
        "branch": "the output of conv goes elsewhere, too; shared (BatchNormalization) cannot take",
        "shared": "it is shared",
        "output": "an activation, that of active, stands between; the output of output goes to se",
        "training": "it is called with training=True",
        "derived": "its class is derived",
    }
    for name, reason in reasons.items():
        (line,) = said.of(f"left alone: {name} (")
        assert f": {reason}" in line


def test_what_is_called_in_training_stays(said):
    """A norm by the model around it, and one behind a dropout that drops in inference, too."""
    inputs = keras.Input((4,))
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3), BN(name="held")], name="inner")
    x = layers.Dropout(0.5, name="drop")(layers.Dense(3)(inner(inputs, training=True)))
    x = layers.Dense(3, name="d")(BN(name="front")(x))
    x = BN(name="behind")(layers.Dropout(0.5, name="on")(x, training=True))
    x = layers.Dropout(0.5, name="two")(layers.Reshape((3, 1))(x), training=True)
    model = trained(keras.Model(inputs, x, name="m"))
    model.get_layer("behind").moving_mean.assign([5.0, 5.0, 5.0])
    new = keras_norm.fold(model, print_fn=said)
    assert identities(new) == {"front"}
    assert said.of("left alone: held (BatchNormalization): it is called with training=True")
    assert said.of("left alone: behind (BatchNormalization): on (Dropout) cannot take it in; ")
    assert float(said[-1].split()[-4]) < 1e-5  # both draw the same numbers


def test_a_bias_in_front_of_an_active_dropout_stays(said):
    inner = [keras.Input((5, 3)), layers.Conv1D(4, 2), layers.Dropout(0.5)]
    inner = keras.Sequential([*inner, keras_norm.InstanceNormalization()])
    inputs = keras.Input((5, 3))
    keras_norm.fold(trained(keras.Model(inputs, inner(inputs, training=True))), print_fn=said)
    assert not said.of("redundant")


class Picky(layers.Layer):
    """Takes three rows and no others."""

    def call(self, x):
        if x.shape[0] not in (3, None):
            raise ValueError("three rows\nand\nno others")
        return x


def test_models_that_demand_a_batch_size(said):
    for batch_size, last in ((1, "on random input"), (None, "not compared: ")):
        inputs = keras.Input((4, 3), batch_size=batch_size)
        x = BN()(layers.Dense(4)(inputs))
        x = layers.LSTM(2, stateful=True)(x) if batch_size else Picky()(x)
        keras_norm.fold(trained(keras.Model(inputs, keras.ops.reshape(x, (-1, 2)))), print_fn=said)
        assert said[-1].startswith(last)
    assert "three rows" in said[-1] and "no others" not in said[-1]


class Counting(layers.Layer):
    """Computes something else in each copy."""

    made = 0

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        Counting.made += 1
        self.number = float(Counting.made)

    def call(self, x):
        return self.number * x


def test_a_difference_is_warned_of_whether_verbose_or_not():
    model = stack(layers.Dense(3), BN(), Counting(), shape=(4,))
    with pytest.warns(UserWarning, match=r"'m' may not be .*differ by .* of their scale") as found:
        keras_norm.fold(model, verbose=False)
    assert __file__ in {one.filename for one in found}


def test_layers_that_are_shared_or_held_by_others(said):
    inputs = keras.Input((4, 3))
    dense = layers.Dense(3, name="dense")
    x = BN(name="a")(dense(dense(inputs)))
    x = layers.TimeDistributed(BN(name="b"))(x)
    model = trained(keras.Model(inputs, layers.ReLU()(x)))
    assert not identities(folded(model, some(2, 4, 3), said))
    assert "dense is shared" in said.of("left alone: a")[0]
    assert "no graph shows what is beside it" in said.of("left alone: b")[0]


def switchable(logits):
    model = stack(
        layers.Conv2D(4, 2, name="c"), keras_norm.SwitchableNormalization(name="s"), shape=(5, 5, 3)
    )
    for name in ("mean_logits", "variance_logits"):
        getattr(model.layers[1], name).assign(logits)
    return model


def test_a_switchable_norm_folds_once_it_has_chosen_the_batch(said):
    assert identities(folded(switchable([0.0, 1.0, 60.0]), some(2, 5, 5, 3), said)) == {"s"}
    assert not identities(folded(switchable([0.0, 0.0, 2.0]), some(2, 5, 5, 3), said))
    assert "0.21 of its mean is that of the sample" in said.of("left alone: s")[0]


def test_whitening_does_not_fold_where_channels_are_apart(said):
    parts = [
        layers.DepthwiseConv2D(2, name="d"),
        keras_norm.IterativeNormalization(name="w", group_size=2),
        layers.Conv2D(4, 1, groups=2, name="g"),
    ]
    assert not identities(folded(stack(*parts, shape=(5, 5, 4)), some(2, 5, 5, 4), said))
    assert "mixes channels, which d keeps apart; it mixes channels, which g" in " ".join(said)


def test_what_stands_between_and_chains(said):
    """Dropout and folded norms do nothing; a norm reaches its layer through another one."""
    parts = [
        BN(name="one"),
        layers.Dropout(0.5),
        keras_norm.BatchRenormalization(name="two"),
        layers.Dense(4, name="d"),
        layers.GaussianNoise(1.0),
        BN(name="three"),
        BN(name="four"),
    ]
    new = folded(stack(*parts, shape=(3,)), some(4, 3), said)
    assert identities(new) == {"one", "two", "three", "four"}


def test_wrappers_nested_models_and_files(said, tmp_path):
    inner = keras.Sequential(
        [
            keras.Input((6, 6, 4)),
            keras_norm.WeightStandardization(layers.Conv2D(4, 2), name="ws"),
            BN(name="a"),
            layers.ReLU(),
        ],
        name="inner",
    )
    inputs = keras.Input((6, 6, 4))
    x = keras_norm.SpectralNormalization(layers.Conv2D(4, 3, padding="same"), name="sn")(inputs)
    x = layers.Add()([inner(x), inner(inputs)])  # a model may be shared: its inside is one
    x = BN(name="b")(keras_norm.WeightNormalization(layers.Dense(3), name="wn")(x))
    model = trained(keras.Model(inputs, {"y": x}, name="m"))
    model.compile("sgd", "mse")
    new = folded(model, some(2, 6, 6, 4), said)
    assert identities(new) == {"a", "b"} and "baked 3 wrappers of weights" in said
    assert new.compiled and new.get_layer("inner") is not inner
    assert not [one for one in new._flatten_layers() if isinstance(one, BaseWeightWrapper)]
    new.save(tmp_path / "new.keras")
    assert distance(new, keras.saving.load_model(tmp_path / "new.keras"), some(2, 6, 6, 4)) == 0


def test_masks_go_on(said):
    parts = [layers.Masking(), layers.Dense(4), BN(name="n"), layers.LSTM(3)]
    x = some(2, 6, 3)
    x[0, 4:] = x[1, 2:] = 0.0
    assert identities(folded(stack(*parts, shape=(6, 3)), x, said)) == {"n"}


class MakesItsGraph(keras.Model):
    def __init__(self, **kwargs):
        inputs = keras.Input((3,))
        super().__init__(inputs, BN(name="own")(layers.Dense(3)(inputs)), **kwargs)

    def get_config(self):
        return {"name": self.name}


def test_a_model_whose_class_makes_its_graph(said):
    model = trained(keras.Sequential([keras.Input((3,)), MakesItsGraph(), layers.Dense(2)]))
    assert not identities(folded(model, some(2, 3), said))
    assert "no graph shows what is beside it" in said.of("left alone: own")[0]


def test_one_layer_and_bad_models(said):
    layer = keras_norm.BatchNormalization()
    layer.build((None, 3))
    assert type(keras_norm.fold(layer, print_fn=said)) is keras_norm.BatchNormalization
    with pytest.raises(TypeError, match="`model` must be a Keras model or layer"):
        keras_norm.fold(3)
    with pytest.raises(ValueError, match="`model` must be built"):
        keras_norm.fold(layers.Dense(2))


@pytest.mark.parametrize(
    "norm", [keras_norm.InstanceNormalization, lambda **k: layers.GroupNormalization(-1, **k)]
)
def test_a_bias_that_an_instance_norm_subtracts_goes(norm, said):
    parts = [layers.Conv2D(4, 2, name="c"), norm(name="i"), layers.Conv2D(4, 2, name="d")]
    parts.append(layers.GroupNormalization(2, name="g"))
    new = folded(stack(*parts, shape=(7, 7, 3)), some(2, 7, 7, 3), said, 1e-5)
    assert said.of("redundant") == ["redundant bias: c: i subtracts it; removed"]
    assert not new.layers[0].use_bias and new.layers[2].use_bias


def test_a_fold_that_would_lose_digits_is_left_out(said):
    """A mean of 1e6 times a weight leaves no digit to what varies around it by 1."""
    data = keras_norm.StandardNormalization(mean=[1e6, 2e6], variance=[1.0, 1.0], name="data")
    model = stack(data, layers.Dense(3), shape=(2,))
    x = some(50, 2) + np.float32([1e6, 2e6])
    assert not identities(folded(model, x, said))
    assert "outputs would differ by" in said.of("left alone: data")[0]


def test_mixed_precision_and_integers(said):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = stack(layers.Dense(4), BN(name="n"), shape=(3,))
    assert identities(folded(model, some(4, 3), said, 0.03)) == {"n"}
    assert model.layers[0].kernel.dtype == "float32"
    keras.config.set_dtype_policy("float32")
    inputs = keras.Input((3,), dtype="int32")
    model = trained(keras.Model(inputs, layers.Dense(2)(keras_norm.BatchNormalization()(inputs))))
    assert not identities(folded(model, np.ones((2, 3), "int32"), said))
    assert "its input is of dtype int32" in " ".join(said)


def test_an_application_folds_and_stays_the_same(said):
    model = keras.applications.MobileNetV2((32, 32, 3), 0.35, weights=None, classes=4)
    new = folded(trained(model), some(2, 32, 32, 3), said, 1e-4)
    assert len(identities(new)) == 52 and not said.of("left alone")


@settings(max_examples=15)
@given(models())
def test_random_models_stay_the_same_function(model):
    """Whatever folds, outputs stay; what is shared or has several users is not touched."""
    lines, x = [], some(2, 24, 4)
    new = keras_norm.fold(model, print_fn=lambda line: lines.append(line.strip()))
    assert distance(model, new, x) <= 2e-5  # of up to eight layers, each within 2e-6
    gone = identities(new)
    assert {line.split()[0] for line in lines if " into " in line} == gone
    for graph in (one for one in model._flatten_layers() if isinstance(one, keras.Model)):
        nodes = [node for level in graph._nodes_by_depth.values() for node in level]
        for layer in graph.layers:
            called = [node for node in nodes if node.operation is layer]
            if layer.name in gone:
                assert len(called) == 1
                assert type(layer) is not keras_norm.InstanceNormalization
