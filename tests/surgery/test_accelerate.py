"""Accelerated models compute the same with our layers in place of Keras's."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_norm
from keras_norm.surgery.replace import Exchange, maker_of

NORMS = (
    layers.BatchNormalization,
    layers.LayerNormalization,
    layers.GroupNormalization,
    layers.RMSNormalization,
)


def norms(model, classes=NORMS):
    return [layer for layer in model._flatten_layers() if type(layer) in classes]


def randomized(model):
    """The model with moments, gammas and betas as after training."""
    random = np.random.default_rng(0)
    for layer in norms(model):
        for weight in layer.weights:
            low, high = (-0.3, 0.3) if weight.name in ("beta", "moving_mean") else (0.6, 1.4)
            weight.assign(random.uniform(low, high, weight.shape))
    return model


def accelerated(model, exchanged=None):
    """The accelerated model, after checks of all that must hold for every model."""
    before = [np.array(v) for v in model.variables]
    old = list(model._flatten_layers())
    lines = []
    new = keras_norm.accelerate(model, print_fn=lines.append)
    assert old == list(model._flatten_layers())
    for now, then in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(now, then)
    for mine, its in zip(model.variables, new.variables, strict=True):
        assert mine is not its and mine.trainable == its.trainable
        assert mine.name == its.name or mine.name.startswith("variable")  # a name Keras made up
        np.testing.assert_array_equal(mine, its)
    for one, twin in zip(old, new._flatten_layers(), strict=True):
        assert type(one).__name__ == type(twin).__name__ and one is not twin
        assert one.name == twin.name and one.trainable == twin.trainable
        assert one.dtype_policy == twin.dtype_policy
    if exchanged is not None:
        assert not norms(new) and len(norms(model)) == exchanged
        assert f"exchanged {exchanged} layer" in lines[0] and len(lines) == 1 + len(
            {type(layer) for layer in norms(model)}
        )
    return new


def step(model, x):
    """Loss, gradients and new moments of one training step."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        outputs = keras.tree.flatten(model(x, training=True))
        loss = sum(keras.ops.mean(keras.ops.cast(y, "float32") ** 2) for y in outputs)
    gradients = tape.gradient(loss, [w.value for w in model.trainable_variables])
    return [loss, *gradients, *model.non_trainable_variables]


def assert_same(model, new, x, tolerance=1e-5):
    """The same outputs, and one training step with the same loss, gradients and new moments."""
    for one, other in zip(*(keras.tree.flatten(m(x)) for m in (model, new)), strict=True):
        np.testing.assert_allclose(other, one, rtol=tolerance, atol=tolerance)
    for one, other in zip(step(model, x), step(new, x), strict=True):
        one, other = np.float64(one), np.float64(other)
        np.testing.assert_allclose(other, one, rtol=0, atol=tolerance * max(1, np.abs(one).max()))


def some(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


APPLICATIONS = {
    "MobileNetV2": ({"alpha": 0.35}, 32, 52),
    "ResNet50": ({}, 32, 53),
    "DenseNet121": ({}, 32, 121),
    "ConvNeXtTiny": ({}, 32, 23),
}


def application(name):
    arguments, size, number = APPLICATIONS[name]
    shape = {"input_shape": (size, size, 3), "include_top": False, "pooling": "avg"}
    make = getattr(keras.applications, name)
    return randomized(make(weights=None, **shape, **arguments)), some(4, size, size, 3), number


def test_an_application_with_batch_norms_trains_alike():
    """In float64: over so few samples, deep networks amplify the least difference."""
    keras.config.set_dtype_policy("float64")
    try:
        model, x, number = application("MobileNetV2")
    finally:
        keras.config.set_dtype_policy("float32")
    assert_same(model, accelerated(model, number), x, 1e-8)


def test_an_application_with_layer_norms_trains_alike():
    model, x, _ = application("ConvNeXtTiny")
    # Its first half: the gradients of the kernels in the other take very long on a CPU.
    last = [layer for layer in model.layers if "stage_1" in layer.name][-1]
    model = keras.Model(model.inputs, last.output)
    assert_same(model, accelerated(model, 8), x, 1e-4)


@pytest.mark.parametrize("name", ["ResNet50", "DenseNet121", "ConvNeXtTiny"])
def test_applications_infer_alike(name):
    model, x, number = application(name)
    np.testing.assert_allclose(accelerated(model, number)(x), model(x), rtol=1e-5, atol=1e-5)


def large(sharing=True):
    """Shared layers, nested models, layers around layers, cells, data format, options.

    Args:
        sharing: Whether a model and one in it share layers too: Keras cannot load such a model.
    """
    inputs = keras.Input((6, 5, 4), name="image")
    shared = layers.BatchNormalization(name="shared")
    options = {"momentum": 0.7, "epsilon": 0.01, "gamma_regularizer": keras.regularizers.L2(0.1)}
    inner = [
        layers.Conv2D(4, 2, padding="same"),
        layers.BatchNormalization(axis=1, **options),
        layers.GroupNormalization(2, axis=-1, scale=False),
        layers.Dropout(0.5),
    ]
    nested = keras.Sequential([keras.Input((6, 5, 4)), *inner], name="nested")
    deep_input = keras.Input((6, 5, 4))
    deep_output = nested(shared(deep_input)) if sharing else layers.BatchNormalization()(deep_input)
    deep = keras.Model(deep_input, deep_output, name="deep")
    x = layers.Add(name="sum")([shared(inputs), deep(shared(inputs)), nested(inputs)])
    x = layers.TimeDistributed(layers.BatchNormalization(name="within"), name="each")(x)
    x = layers.TimeDistributed(nested_again(), name="models")(x)
    x = layers.RMSNormalization(name="rms")(x)
    x = layers.LayerNormalization(axis=[1, 2, 3], center=False, name="ln")(x)
    x = layers.Reshape((6, 20))(keras.ops.abs(x))
    cells = [keras_norm.LayerNormGRUCell(3), Cell(2, name="cell")]
    x = layers.Bidirectional(layers.RNN(cells, return_sequences=True), name="both")(x)
    return keras.Model(inputs, {"y": x, "z": layers.UnitNormalization()(x)}, name="large")


def nested_again():
    return keras.Sequential(
        [keras.Input((5, 4)), layers.Dense(4), layers.LayerNormalization()], name="again"
    )


@keras.saving.register_keras_serializable("test_accelerate")  # as Bidirectional demands
class Cell(layers.Layer):
    """A recurrent cell with a norm in it."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = units
        self.dense = layers.Dense(units)
        self.norm = layers.LayerNormalization()

    def build(self, shape):
        self.dense.build((shape[0], shape[-1] + self.units))
        self.norm.build((shape[0], self.units))

    def call(self, x, states):
        y = self.norm(self.dense(keras.ops.concatenate([x, states[0]], -1)))
        return y, [y]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def test_everything_at_once():
    model = randomized(large())
    new = accelerated(model, 9)
    assert_same(model, new, some(8, 6, 5, 4))
    assert len(new.get_layer("shared")._inbound_nodes) == 3
    assert new.get_layer("deep").get_layer("shared") is new.get_layer("shared")
    assert new.get_layer("deep").get_layer("nested") is new.get_layer("nested")
    assert new.name == "large" and new.inputs[0].name == "image"
    norm = new.get_layer("nested").layers[1]
    assert (norm.axis, norm.momentum, norm.epsilon) == (1, 0.7, 0.01)
    assert float(new.losses[0]) == pytest.approx(float(model.losses[0]))


def test_files(tmp_path):
    new = accelerated(randomized(large(sharing=False)), 10)
    new.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = some(3, 6, 5, 4)
    np.testing.assert_allclose(loaded(x)["y"], new(x)["y"], rtol=0, atol=1e-6)
    assert not norms(loaded.get_layer("nested")) and loaded.get_layer("shared").name == "shared"
    assert type(loaded.get_layer("each").layer) is keras_norm.BatchNormalization


def test_weights_of_either_fit_the_other(tmp_path):
    model = randomized(large())
    new, x = keras_norm.accelerate(model, verbose=False), some(3, 6, 5, 4)
    new.save_weights(tmp_path / "of.weights.h5")
    expected = np.array(model(x)["y"])
    for weight in model.weights:
        weight.assign(0.0 * weight)
    model.load_weights(tmp_path / "of.weights.h5")
    np.testing.assert_array_equal(model(x)["y"], expected)


class Block(layers.Layer):
    """Makes norms when it is made and when it is built."""

    def __init__(self, norm=None, **kwargs):
        super().__init__(**kwargs)
        self.norm = norm or layers.BatchNormalization()

    def build(self, shape):
        self.late = layers.LayerNormalization()
        self.late.build(shape)
        self.norm.build(shape)

    def call(self, x, training=None):
        return self.late(self.norm(x, training=training))


class Subclassed(keras.Model):
    """Holds norms in attributes, lists, dicts and models, and one of them twice."""

    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = layers.Dense(units)
        self.first = layers.BatchNormalization()
        self.many = [layers.Dense(units), (layers.LayerNormalization(), self.first)]
        self.named = {"group": layers.GroupNormalization(2), "inner": [Block()]}
        self.again = self.first
        self.drop = layers.Dropout(0.5)
        tail = [keras.Input((units,)), self.many[0], layers.RMSNormalization(), layers.Dense(units)]
        self.tail = keras.Sequential(tail)

    def call(self, x, training=None):
        x = self.many[1][1](self.first(self.dense(x), training=training), training=training)
        x = self.named["group"](self.many[1][0](self.many[0](x)))
        x = self.drop(self.named["inner"][0](x, training=training), training=training)
        return self.tail(self.again(x, training=training))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def test_subclassed_models(tmp_path):
    model, x = Subclassed(6, name="mine"), some(5, 3)
    model(x)
    for weight in randomized(model).weights:
        weight.assign(weight + 0.1)
    new = accelerated(model, 6)
    assert type(new) is Subclassed and new.again is new.first is new.many[1][1]
    assert new.tail.layers[0] is new.many[0] and isinstance(new.many[1], tuple)
    assert_same(model, new, x)
    new.save(tmp_path / "model.keras")
    with keras.saving.custom_object_scope({"Subclassed": Subclassed, "Block": Block}):
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(x), new(x), rtol=1e-5, atol=1e-5)


def test_a_subclassed_model_that_was_told_a_shape_alone():
    model = Subclassed()
    model.build((None, 3))  # builds no layer, says Keras
    new = accelerated(model)
    assert not norms(new) and new(some(2, 3)).shape == (2, 4)


def test_a_subclassed_model_in_a_functional_one():
    inner, inputs = Subclassed(4, name="inner"), keras.Input((3,))
    outputs = layers.BatchNormalization(name="last")(inner.dense(inner(inputs)[:, :3]))
    outputs = layers.Lambda(lambda x: my_loss(x, outputs_of(x)))(outputs)
    model = randomized(keras.Model(inputs, outputs))
    new = accelerated(model, 7)
    assert new.get_layer("inner").dense is new.get_layer(inner.dense.name)
    assert_same(model, new, some(6, 3))


def test_what_is_trainable_stays():
    inputs = keras.Input((4,))
    frozen = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4), layers.BatchNormalization(), layers.Dense(4)]
    )
    outputs = layers.BatchNormalization(name="b")(
        frozen(layers.BatchNormalization(name="a")(inputs))
    )
    model = randomized(keras.Model(inputs, outputs))
    frozen.trainable = False
    frozen.layers[0].trainable = True  # within a frozen model
    model.get_layer("a").trainable = False
    model.get_layer("b").gamma.trainable = False
    new = accelerated(model, 3)
    assert [w.shape for w in new.trainable_weights] == [w.shape for w in model.trainable_weights]
    assert_same(model, new, some(6, 4))
    model.trainable = False
    assert not accelerated(model, 3).trainable_weights
    outer = Subclassed()
    outer(some(2, 3))
    outer.first.trainable = outer.tail.trainable = False
    new = accelerated(outer, 6)
    assert not new.first.trainable and not new.tail.trainable and new.trainable


def outputs_of(x):
    return 2.0 * x


def my_loss(y, prediction):
    return keras.ops.mean((y - prediction) ** 2, axis=-1)


@pytest.mark.parametrize(
    ("kind", "loss"),
    [("functional", "mse"), ("sequential", lambda y, p: my_loss(y, p)), ("subclassed", my_loss)],
)
def test_compiled_models_train_on(kind, loss):
    keras.utils.set_random_seed(0)
    stack = [keras.Input((3,)), layers.Dense(4), layers.BatchNormalization(), layers.Dense(4)]
    model = keras.Sequential(stack) if kind == "sequential" else Subclassed()
    if kind == "functional":
        model = keras.Model(stack[0], stack[3](stack[2](stack[1](stack[0]))))
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.01, 100))
    model.compile(optimizer, loss, metrics=["mae"], jit_compile=False, run_eagerly=True)
    x, y = some(16, 3), some(16, 4, seed=1)
    model.fit(x, y, batch_size=8, verbose=0)
    new = accelerated(model)
    assert new.optimizer is not model.optimizer and new.optimizer.iterations == 2
    losses = [
        one.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0).history
        for one in (model, new)
    ]
    assert losses[0].keys() == losses[1].keys() >= {"loss", "mae"}
    np.testing.assert_allclose(losses[1]["loss"], losses[0]["loss"], rtol=1e-4)
    assert new.run_eagerly and not new.jit_compile
    assert isinstance(new.optimizer._learning_rate, keras.optimizers.schedules.CosineDecay)


@pytest.mark.parametrize("trained", [True, False])
def test_an_optimizer_goes_on_unless_it_lacks_weights(trained):
    """It may know weights that were frozen since; one that was frozen before it does not know."""
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.BatchNormalization()])
    model.layers[0].trainable = trained
    model.compile("adam", "mse", run_eagerly=True)
    x, y = some(4, 3), some(4, 4)
    model.fit(x, y, verbose=0)
    model.layers[0].trainable = not trained
    new = accelerated(model, 1)
    assert new.optimizer.iterations == int(trained)
    if trained:
        for mine, its in zip(model.optimizer.variables, new.optimizer.variables, strict=True):
            np.testing.assert_array_equal(its, mine)
    new.layers[0].trainable = True
    new.fit(x, y, verbose=0)


def text(model):
    lines = []
    new = keras_norm.accelerate(model, print_fn=lines.append)
    return new, "\n".join(lines)


class Derived(layers.BatchNormalization):
    """What a user made of Keras's layer."""

    def call(self, x, **kwargs):
        return 2.0 * super().call(x, **kwargs)


LEFT = {
    "renorm": (lambda: layers.BatchNormalization(renorm=True), "`renorm` must be False"),
    "derived": (Derived, "derived from BatchNormalization and may compute something else"),
    "rms": (lambda: layers.LayerNormalization(rms_scaling=True), "`rms_scaling` must be False"),
    "negative": (lambda: layers.LayerNormalization([1, -1]), "axis=[-1, 1] is not in order"),
    "scale": (lambda: layers.RMSNormalization(axis=1), "axis=[1] is not last"),
}


@pytest.mark.parametrize("kind", LEFT)
def test_what_is_left_alone_is_named(kind):
    make, reason = LEFT[kind]
    layer, other = make(), layers.BatchNormalization()
    inner = keras.Sequential([keras.Input((4, 4)), layer, other])
    model = randomized(keras.Sequential([keras.Input((4, 4)), inner, layer]))
    new, said = text(model)
    assert said.startswith(f"{model.name}: exchanged 1 layer for another of keras_norm\n")
    (line,) = [line for line in said.splitlines() if "left alone" in line]
    assert f"left alone: {layer.name} ({type(layer).__name__}): " in line and reason in line
    assert type(new.layers[1]) is type(layer) and new.layers[1] is new.layers[0].layers[0]
    assert_same(model, new, some(5, 4, 4))


def test_keras_sorts_axes_itself():
    model = keras.Sequential([keras.Input((3, 4)), layers.LayerNormalization([2, 1])])
    assert_same(model, accelerated(model, 1), some(2, 3, 4))


@pytest.mark.parametrize("layer", [layers.GroupNormalization(2), layers.LayerNormalization([1, 2])])
def test_a_mask_that_keras_ignores(layer):
    inputs = keras.Input((5, 4))
    x = layers.LayerNormalization(name="counts_no_steps")(layers.Masking()(inputs))
    x = layers.BatchNormalization(name="takes_it_too")(x)
    model = randomized(keras.Model(inputs, layer(x)))
    new, said = text(model)
    assert "exchanged 2 layers" in said and f"left alone: {layer.name}" in said
    x = some(3, 5, 4)
    x[:, 3:] = 0.0
    assert_same(model, new, x, 1e-4)


@pytest.mark.parametrize("how", ["masking", "argument"])
def test_a_mask_that_reaches_a_model_reaches_the_norms_in_it(how):
    layer = layers.GroupNormalization(2, name="group")
    within = keras.Sequential([keras.Input((5, 4)), layer], name="within")
    inner = keras.Sequential([keras.Input((5, 4)), layers.ReLU(), within], name="inner")
    inputs = keras.Input((5, 4))
    if how == "argument":
        outputs = inner(inputs, mask=keras.ops.any(inputs != 0.0, -1))
    else:
        outputs = inner(layers.Masking()(inputs))
    model = randomized(keras.Model(inputs, layers.BatchNormalization()(outputs)))
    new, said = text(model)
    assert "left alone: group (GroupNormalization): a mask reaches it" in said
    x = some(3, 5, 4)
    x[:, 3:] = 0.0
    np.testing.assert_allclose(new(x), model(x), rtol=1e-5, atol=1e-5)


def test_models_of_several_inputs_are_not_taken_for_masked():
    norm = layers.GroupNormalization(2)
    inputs = [keras.Input((5, 4)), keras.Input((5, 4))]
    inner = keras.Model(inputs, norm(layers.Add()(inputs)))
    outer = [keras.Input((5, 4)), keras.Input((5, 4))]
    accelerated(keras.Model(outer, inner(outer)), 1)


def test_nothing_to_exchange():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2), keras_norm.RMSNormalization()])
    new, said = text(model)
    assert said == f"{model.name}: exchanged no layer for another of keras_norm"
    assert new is not model and type(new.layers[1]) is keras_norm.RMSNormalization
    np.testing.assert_array_equal(new(some(2, 3)), model(some(2, 3)))


def test_what_was_accelerated_stays_so():
    once = accelerated(randomized(large()), 9)
    again, said = text(once)
    assert "exchanged no layer" in said and not norms(again)
    np.testing.assert_array_equal(again(some(2, 6, 5, 4))["y"], once(some(2, 6, 5, 4))["y"])
    model = Subclassed()
    model(some(2, 3))
    once = accelerated(model, 6)
    assert not norms(accelerated(once))


def test_where_it_prints(capsys):
    model = keras.Sequential([keras.Input((3,)), layers.BatchNormalization()], name="small")
    keras_norm.accelerate(model)
    expected = "small: exchanged 1 layer for another of keras_norm\n  BatchNormalization: 1\n"
    assert capsys.readouterr().out == expected
    keras_norm.accelerate(model, verbose=False)
    assert capsys.readouterr().out == ""


class Unregistered(keras.regularizers.Regularizer):
    def __call__(self, x):
        return keras.ops.sum(x)

    def get_config(self):
        return {}


@pytest.mark.parametrize("dtype", ["float64", "mixed_float16", "bfloat16"])
def test_one_layer(dtype):
    layer = layers.BatchNormalization(
        synchronized=True, gamma_regularizer=Unregistered(), dtype=dtype, name="one"
    )
    layer.build((None, 3))
    new = accelerated(randomized(layer), 1)
    assert type(new) is keras_norm.BatchNormalization and new.synchronized
    assert type(new.gamma_regularizer) is Unregistered
    x = some(8, 3)
    np.testing.assert_allclose(
        np.float32(new(x, training=True)), np.float32(layer(x, training=True)), atol=0.02
    )


def test_state_that_is_no_weight():
    """Data norms finish what they learned, look-ups keep their words."""
    data, words = layers.Normalization(), layers.StringLookup()
    data.adapt(some(50, 3) * 3.0 + 1.0)
    words.adapt(["a", "b", "b"])
    inputs = [keras.Input((3,)), keras.Input((1,), dtype="string")]
    sparse = keras.Input((3,), sparse=True, name="sparse")
    outputs = (
        layers.BatchNormalization()(data(inputs[0])),
        words(inputs[1]),
        layers.Dense(2)(sparse),
    )
    model = keras.Model([*inputs, sparse], outputs)
    new, x = accelerated(model, 1), [some(4, 3), np.array([["b"], ["a"], ["c"], ["b"]])]
    assert new.inputs[2].sparse and [i.name for i in new.inputs] == [i.name for i in model.inputs]
    for one, other in zip(model([*x, some(4, 3)]), new([*x, some(4, 3)]), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5)


class Trained(keras.Model):
    """A functional model with a method of its own."""

    def extra(self):
        return 3


class MakesItsGraph(keras.Model):
    def __init__(self, norm=True, **kwargs):
        inputs = keras.Input((3,))
        outputs = layers.Dense(3)(inputs)
        super().__init__(
            inputs, layers.BatchNormalization()(outputs) if norm else outputs, **kwargs
        )
        self.norm = norm

    def get_config(self):
        return {"norm": self.norm, "name": self.name}


class NoConfig(keras.Model):
    def __init__(self, something):
        super().__init__()
        self.norm = layers.BatchNormalization()

    def call(self, x):
        return self.norm(x)


def test_classes_of_functional_models_stay():
    inputs = keras.Input((3,))
    inner = MakesItsGraph(norm=False)
    model = Trained(inputs, layers.BatchNormalization()(inner(inputs)))
    new = accelerated(model, 1)
    assert new.extra() == 3 and type(new.layers[1]) is MakesItsGraph
    assert_same(model, new, some(4, 3))
    with pytest.raises(ValueError, match=r"does not make its graph in its constructor.*Received: "):
        keras_norm.accelerate(MakesItsGraph())


def test_what_cannot_be_accelerated():
    with pytest.raises(TypeError, match=r"`model` must be a Keras model or layer\. Received: .*3"):
        keras_norm.accelerate(3)
    with pytest.raises(ValueError, match=r"`model` must be built.*BatchNormalization, not built"):
        keras_norm.accelerate(layers.BatchNormalization())
    model = NoConfig(object())
    model(some(2, 3))
    for undescribed in (model, keras.Sequential([keras.Input((3,)), model]), Hidden.made()):
        with pytest.raises(
            ValueError, match=r"only layers that their configs describe. Received: "
        ):
            keras_norm.accelerate(undescribed)


class Hidden(keras.Model):
    """Has a layer that its constructor does not make."""

    def call(self, x):
        return self.other(self.norm(x))

    @classmethod
    def made(cls):
        model = cls()
        model.norm, model.other = layers.BatchNormalization(), layers.Dense(2)
        model(some(2, 3))
        return model


def test_any_table_can_be_exact():
    """`accelerate` is one table; keys may be functions, and so may values."""
    table = {
        lambda layer: isinstance(layer, layers.ReLU): lambda old: layers.ELU(name=old.name),
        layers.Dense: layers.EinsumDense,  # whose constructor does not take Dense's config
    }
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.ReLU(name="relu")])
    exchange = Exchange(maker_of(table), exact=True)
    new = exchange.run(model)
    assert type(new.layers[1]) is layers.ELU and new.layers[1].name == "relu"
    assert exchange.made == [(model.layers[1], new.layers[1])]
    assert [layer for layer, _ in exchange.left] == [model.layers[0]]
    np.testing.assert_array_equal(new.layers[0].kernel, model.layers[0].kernel)
