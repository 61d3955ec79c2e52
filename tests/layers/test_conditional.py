"""What is peculiar to the layers whose gamma and beta a second input decides."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_norm
from keras_norm import (
    AdaptiveInstanceNormalization,
    BatchNormalization,
    ConditionalNormalization,
    GroupNormalization,
    InstanceNormalization,
    LayerNormalization,
    SpatiallyAdaptiveNormalization,
)
from tests.conformance.support import assert_close, data, randomize, weights_of
from tests.oracles import ORACLES

INNER = keras_norm.catalog.of_kind("activations")
BARE = {"center": False, "scale": False}
X, VECTOR = (4, 3, 5, 6), (4, 3)


def inner_of(row, **overrides):
    return row.build(**{n: False for n in BARE if row.takes(n)}, **overrides)


def built(layer, *shapes):
    layer.build(list(shapes))
    return randomize(layer)


def expected_of(layer, inputs, training, mask=None):
    """Output and state by the oracle."""
    arguments = layer.get_config()
    if "layer" in arguments:
        inner = arguments["layer"]
        arguments["layer"] = {**inner["config"], "class_name": inner["class_name"]}
    inputs = tuple(np.asarray(one, "float64") for one in inputs)
    oracle = ORACLES[type(layer).__name__]
    y, state, _ = oracle(inputs, weights_of(layer), arguments, training, mask)
    return y, state


def check(layer, inputs, training=True, mask=None, bound=2e-6):
    expected, state = expected_of(layer, inputs, training, mask)
    assert_close(layer(inputs, training=training, mask=mask), expected, bound)
    for name, value in state.items():
        assert_close(weights_of(layer)[name], value, bound, 1.0)


# Any norm of the frame as the inner one


@pytest.mark.parametrize("inner", INNER, ids=lambda row: row.short)
@pytest.mark.parametrize("condition", [VECTOR, (4, 1, 5, 3)], ids=["vector", "map"])
def test_every_norm_takes_predicted_gamma_and_beta(inner, condition):
    layer = built(ConditionalNormalization(inner_of(inner)), X, condition)
    for seed, training in enumerate((True, True, False)):
        check(layer, data((X, condition), seed), training, bound=inner.tolerance)


@pytest.mark.parametrize("inner", INNER, ids=lambda row: row.short)
def test_training_begins_with_the_plain_norm(inner):
    for layer, condition in (
        (ConditionalNormalization(inner_of(inner), hidden_units=4), VECTOR),
        (SpatiallyAdaptiveNormalization(inner_of(inner), 4, kernel_initializer="zeros"), X),
    ):
        layer.build([X, condition])
        plain = inner_of(inner)
        for training in (True, False):
            x = data(X, int(training))
            y = layer([x, data(condition, 1)], training=training)
            assert_close(y, plain(x, training=training).numpy(), 1e-6)


@pytest.mark.parametrize("inner", INNER, ids=lambda row: row.short)
def test_weights_of_the_inner_norm_are_the_layers(inner):
    layer, alone = ConditionalNormalization(inner_of(inner)), inner_of(inner)
    layer.build([X, VECTOR])
    alone.build(X)
    own = ["gamma_kernel", "gamma_bias", "beta_kernel", "beta_bias"]
    assert [w.name for w in layer.weights if w.trainable] == own + [
        w.name for w in alone.trainable_weights
    ]
    assert {w.name for w in layer.weights} == {*own, *(w.name for w in alone.weights)}
    randomize(layer)
    inputs = data((X, VECTOR))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(layer(inputs, training=True) - 0.3))
    for gradient in tape.gradient(loss, [w.value for w in layer.trainable_weights]):
        assert np.abs(gradient).max() > 0


def test_a_zero_centered_gamma_is_not_added_twice():
    x, condition = data(X), data(VECTOR)
    y = {
        centered: ConditionalNormalization(
            keras_norm.RMSNormalization(scale=False, zero_centered_gamma=centered)
        )([x, condition]).numpy()
        for centered in (True, False)
    }
    np.testing.assert_array_equal(y[True], y[False])


# ConditionalNormalization


def test_film_by_hand():
    """FiLM: gamma and beta as linear functions of the condition, one pair per sample."""
    layer, (x, condition) = ConditionalNormalization(LayerNormalization(**BARE)), data((X, VECTOR))
    built(layer, X, VECTOR)
    weights = weights_of(layer)
    gamma = 1 + condition @ weights["gamma_kernel"] + weights["gamma_bias"]
    beta = condition @ weights["beta_kernel"] + weights["beta_bias"]
    plain = LayerNormalization(**BARE)(x).numpy()
    expected = gamma[:, None, None] * plain + beta[:, None, None]
    assert_close(layer([x, condition]), expected, 2e-6)


@pytest.mark.parametrize(
    ("x", "condition", "axis"),
    [
        ((4, 6), (4, 3), -1),
        ((4, 5, 6), (4, 3), -1),
        ((4, 5, 6), (1, 3), -1),
        ((4, 5, 6), (4, 5, 3), -1),
        ((4, 5, 6), (4, 1, 3), -1),
        ((4, 5, 6), (1, 5, 3), -1),
        ((4, 6, 5), (4, 3), 1),
        ((4, 6, 5), (4, 3, 5), 1),
        ((4, 6, 3, 5), (4, 2, 3, 1), 1),
        ((4, 3, 6, 5), (4, 3, 2, 5), 2),
        ((4, 5, 6), (4, 3), [1, 2]),
        ((2, 3, 2, 4, 6), (2, 3, 2, 4, 5), -1),
        ((2, 6, 2, 4, 3), (2, 7), 1),
    ],
    ids=str,
)
@pytest.mark.parametrize("hidden_units", [None, 4])
def test_conditions_per_sample_and_per_position(x, condition, axis, hidden_units):
    norm = LayerNormalization(axis=axis, **BARE)
    layer = built(ConditionalNormalization(norm, hidden_units), x, condition)
    check(layer, data((x, condition)))


def test_one_layer_takes_vectors_and_maps():
    layer = built(ConditionalNormalization(LayerNormalization(**BARE)), (4, 5, 6), (4, 3))
    x, vector = data(((4, 5, 6), (4, 3)))
    maps = np.repeat(vector[:, None], 5, axis=1)
    assert_close(layer([x, maps]), layer([x, vector]).numpy(), 1e-6)


@pytest.mark.parametrize("hidden_units", [None, 4])
@pytest.mark.parametrize("use_bias", [True, False])
def test_names_and_shapes_of_the_weights(hidden_units, use_bias):
    layer = ConditionalNormalization(InstanceNormalization(**BARE), hidden_units, use_bias=use_bias)
    layer.build([X, VECTOR])
    size = hidden_units or 3
    expected = [("hidden_kernel", (3, 4)), ("hidden_bias", (4,))] if hidden_units else []
    expected += [("gamma_kernel", (size, 6)), ("gamma_bias", (6,))]
    expected += [("beta_kernel", (size, 6)), ("beta_bias", (6,))]
    expected = [(n, s) for n, s in expected if use_bias or "bias" not in n]
    assert [(w.name, tuple(w.shape)) for w in layer.weights] == expected
    check(randomize(layer), data((X, VECTOR)))


def test_a_perceptron_that_starts_at_the_plain_norm_learns():
    """Zero kernels after a hidden layer that is not zero: the first gradient is none either."""
    layer = ConditionalNormalization(LayerNormalization(**BARE), hidden_units=8)
    inputs = data((X, VECTOR))
    layer(inputs)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(layer(inputs) - 0.3))
    gradients = tape.gradient(loss, [layer.gamma_kernel.value, layer.beta_kernel.value])
    assert all(np.abs(gradient).max() > 0 for gradient in gradients)


def test_class_labels_through_an_embedding():
    image, label = keras.Input((4, 4, 6)), keras.Input((), dtype="int32")
    features = keras.layers.Embedding(3, 5)(label)
    norm = ConditionalNormalization(BatchNormalization(**BARE), kernel_initializer="ones")
    model = keras.Model([image, label], norm([image, features]))
    x = np.repeat(data((1, 4, 4, 6)), 3, axis=0)
    y = model([x, np.array([0, 1, 0])]).numpy()
    np.testing.assert_array_equal(y[0], y[2])
    assert np.abs(y[0] - y[1]).max() > 1e-3


@pytest.mark.parametrize("how", ["argument", "attribute", "inner"])
def test_a_frozen_layer_keeps_its_moving_moments(how):
    inner = BatchNormalization(**BARE)
    layer = ConditionalNormalization(inner, trainable=how != "argument")
    if how != "argument":
        (layer if how == "attribute" else inner).trainable = False
    inputs = data((X, VECTOR))
    built(layer, X, VECTOR)
    before = weights_of(layer)
    assert_close(layer(inputs, training=True), expected_of(layer, inputs, False)[0], 2e-6)
    for name, value in weights_of(layer).items():
        np.testing.assert_array_equal(value, before[name])
    assert bool(layer.trainable_weights) == (how == "inner")


@pytest.mark.parametrize("outer", [None, "float64", "mixed_bfloat16"])
@pytest.mark.parametrize("inner", [None, "mixed_float16"])
def test_both_have_one_dtype_policy(inner, outer):
    norm = BatchNormalization(**BARE, dtype=inner)
    layer = ConditionalNormalization(norm, dtype=outer)
    assert layer.dtype_policy.name == norm.dtype_policy.name == (outer or inner or "float32")
    y = layer(data((X, VECTOR)))
    assert y.dtype == layer.compute_dtype
    assert {w.dtype for w in layer.weights} == {layer.variable_dtype}


def test_regularizers_and_constraints_act():
    layer = ConditionalNormalization(
        LayerNormalization(**BARE),
        hidden_units=2,
        kernel_regularizer=keras.regularizers.L2(1.0),
        bias_regularizer=keras.regularizers.L1(1.0),
        kernel_constraint="non_neg",
        bias_constraint=keras.constraints.MaxNorm(0.1),
    )
    built(layer, X, VECTOR)
    weights = weights_of(layer)
    expected = sum((v**2 if "kernel" in n else np.abs(v)).sum() for n, v in weights.items())
    assert float(sum(layer.losses)) == pytest.approx(expected, rel=1e-5)
    for weight in layer.weights:
        wanted = keras.constraints.NonNeg if "kernel" in weight.name else keras.constraints.MaxNorm
        assert isinstance(weight.constraint, wanted)


# Masks


def check_what_is_hidden(layer, inputs, masks):
    """A NaN behind a mask changes neither what is seen nor any gradient there."""

    def step(tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            y = layer(tensors, training=True, mask=masks)[masks[0]]
            loss = tf.reduce_sum(tf.sin(y))
        weights = [w.value for w in layer.trainable_weights]
        return y, *tape.gradient(loss, [*tensors, *weights])

    hidden = [one.copy() for one in inputs]
    for one, mask in zip(hidden, masks, strict=True):
        if mask is not None:
            one[~mask] = np.nan
    expected, actual = (step([*map(tf.constant, tensors)]) for tensors in (inputs, hidden))
    seen = [slice(None), *(slice(None) if mask is None else mask for mask in masks)]
    for place, (one, wanted) in enumerate(zip(actual, expected, strict=True)):
        chosen = seen[place] if place < len(seen) else slice(None)
        assert_close(one.numpy()[chosen], wanted.numpy()[chosen], 1e-6)


def test_the_first_mask_is_the_inner_norms():
    mask = np.random.default_rng(5).random(X[:-1]) > 0.4
    for norm in (BatchNormalization(**BARE), InstanceNormalization(**BARE)):
        layer = built(ConditionalNormalization(norm), X, VECTOR)
        for training in (True, False):
            check(layer, data((X, VECTOR)), training, [mask, None])
        check_what_is_hidden(layer, data((X, VECTOR)), [mask, None])


def test_masks_come_through_models():
    sequence, condition = keras.Input((None, 6)), keras.Input((None, 3))
    masked = keras.layers.Masking()(sequence)
    layer = ConditionalNormalization(InstanceNormalization(**BARE))
    outputs = layer([masked, keras.layers.Masking()(condition)])
    pooled = keras.layers.GlobalAveragePooling1D()(outputs)
    model = randomize(keras.Model([sequence, condition], [outputs, pooled]))
    x, c = data(((4, 5, 6), (4, 5, 3)))
    longer = [np.concatenate([one, np.zeros_like(one)], axis=1) for one in (x, c)]
    (short, short_pooled), (long, long_pooled) = model([x, c]), model(longer)
    assert_close(long[:, :5], short.numpy(), 2e-6)
    assert_close(long_pooled, short_pooled.numpy(), 2e-6)


def test_content_and_style_have_masks_of_their_own():
    shapes = (4, 3, 5, 6), (4, 2, 3, 6)
    inputs, generator = data(shapes), np.random.default_rng(5)
    content, style = (generator.random(shape[:-1]) > 0.4 for shape in shapes)
    nothing = np.zeros_like(style)
    for mask in ([content, style], [content, None], [None, style], [None, nothing]):
        layer = built(AdaptiveInstanceNormalization(), *shapes)
        check(layer, inputs, mask=mask)
    check_what_is_hidden(layer, inputs, [content, style])


# SpatiallyAdaptiveNormalization


@pytest.mark.parametrize("chart", [(4, 3, 5, 2), (4, 9, 4, 2), (1, 2, 2, 2)], ids=str)
@pytest.mark.parametrize("kernel_size", [1, 2, 3])
def test_maps_of_any_size(chart, kernel_size):
    norm = BatchNormalization(**BARE)
    layer = built(SpatiallyAdaptiveNormalization(norm, 4, kernel_size), X, chart)
    check(layer, data((X, chart)))
    check(layer, data((X, chart)), training=False)


def test_spade_channels_first():
    x, chart = (4, 6, 3, 5), (4, 2, 6, 4)
    norm = GroupNormalization(groups=3, axis=1, **BARE)
    check(built(SpatiallyAdaptiveNormalization(norm, 4), x, chart), data((x, chart)))


def test_spade_with_unknown_sizes():
    image, chart = keras.Input((None, None, 6)), keras.Input((None, None, 2))
    layer = SpatiallyAdaptiveNormalization(InstanceNormalization(**BARE), 4)
    model = randomize(keras.Model([image, chart], layer([image, chart])))
    for shapes in (((2, 3, 5, 6), (2, 6, 4, 2)), ((1, 4, 4, 6), (1, 2, 9, 2))):
        inputs = data(shapes)
        expected, _ = expected_of(layer, inputs, False)
        assert_close(model(inputs), expected, 2e-6)
        assert_close(model.predict(inputs, verbose=0), expected, 2e-6)


def test_what_a_norm_removes_the_map_brings_back():
    """The paper's point: a map of one label all over survives, where a norm would wash it out."""
    layer = SpatiallyAdaptiveNormalization(InstanceNormalization(**BARE), 8)
    x, one_hot = np.zeros((1, 4, 4, 6), "float32"), np.eye(3, dtype="float32")
    y = [layer([x, np.broadcast_to(label, (1, 8, 8, 3))]).numpy() for label in one_hot]
    assert np.abs(y[0] - y[1]).max() > 0.01 and np.abs(y[1] - y[2]).max() > 0.01


def test_spade_has_the_papers_sizes():
    layer = SpatiallyAdaptiveNormalization(BatchNormalization(**BARE))
    layer.build([X, (4, 8, 8, 2)])
    shapes = [(w.name, tuple(w.shape)) for w in layer.trainable_weights]
    assert shapes == [
        ("hidden_kernel", (3, 3, 2, 128)),
        ("hidden_bias", (128,)),
        ("gamma_kernel", (3, 3, 128, 6)),
        ("gamma_bias", (6,)),
        ("beta_kernel", (3, 3, 128, 6)),
        ("beta_bias", (6,)),
    ]
    assert layer.activation is keras.activations.relu


# AdaptiveInstanceNormalization


def test_the_output_has_the_styles_moments():
    content, style = data(((2, 9, 9, 6), (2, 7, 5, 6)), dtype="float64")
    y = AdaptiveInstanceNormalization(epsilon=1e-12, dtype="float64")([content, style]).numpy()
    for moment in (np.mean, np.std):
        assert_close(moment(y, axis=(1, 2)), moment(style, axis=(1, 2)), 1e-9)


@pytest.mark.parametrize(
    ("content", "style", "axis"),
    [
        ((4, 5, 6), (4, 3, 6), -1),
        ((4, 3, 5, 6), (1, 2, 3, 6), -1),
        ((4, 6, 3, 5), (4, 6, 2, 2), 1),
        ((2, 3, 2, 4, 6), (2, 2, 2, 2, 6), -1),
        ((4, 3, 5, 6), (4, 7, 5, 6), [2, 3]),
        ((4, 3, 5, 6), (4, 1, 1, 6), -1),
    ],
    ids=str,
)
def test_shapes_of_content_and_style(content, style, axis):
    layer = built(AdaptiveInstanceNormalization(axis=axis, epsilon=0.02), content, style)
    check(layer, data((content, style)))


def test_in_its_own_style_nothing_changes():
    x = data(X)
    assert_close(AdaptiveInstanceNormalization()([x, x]), x, 2e-6)


def test_a_constant_style_has_finite_gradients():
    content, style = tf.constant(data(X)), tf.fill(X, 3.0)
    layer = AdaptiveInstanceNormalization()
    with tf.GradientTape() as tape:
        tape.watch([content, style])
        y = layer([content, style])
        loss = tf.reduce_sum(y * y)
    assert_close(y, np.full(X, 3.0), 0.01)
    for gradient in tape.gradient(loss, [content, style]):
        assert np.isfinite(gradient).all()


def test_large_means_keep_their_digits():
    """A style of mean 1e4 has a spread that sums of squares would lose."""
    inputs = data(X), data(X, 1) + np.float32(1e4)
    check(built(AdaptiveInstanceNormalization(), X, X), inputs, bound=1e-6)
    layer = built(AdaptiveInstanceNormalization(), X, X)
    y = layer([inputs[1], inputs[0]])
    assert_close(y, expected_of(layer, inputs[::-1], True)[0], 1e-5)


# Errors: rule, value, fix

LAYERS = [
    lambda: ConditionalNormalization(LayerNormalization(**BARE)),
    lambda: SpatiallyAdaptiveNormalization(LayerNormalization(**BARE), 4),
    AdaptiveInstanceNormalization,
]


@pytest.mark.parametrize("make", LAYERS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_anything_but_two_inputs(make, when):
    layer, x = make(), data(X)
    if when == "after":
        layer.build([X, VECTOR if isinstance(layer, ConditionalNormalization) else X])
    for wrong in (x, [x], [x, x, x], {"x": x, "condition": x}, [x, None], keras.Input(X[1:])):
        with pytest.raises(ValueError) as error:
            layer(wrong)
        assert "must be a list of two tensors, [" in str(error.value)
        assert "Received: " in str(error.value) and "Call it as `layer([" in str(error.value)
    with pytest.raises(ValueError, match="must be a list of two tensors"):
        layer(x, x)
    with pytest.raises(ValueError, match="`input_shape` must be a list of two shapes"):
        make().build(X)


@pytest.mark.parametrize("make", LAYERS)
def test_masks_that_are_no_pair(make):
    layer = make()
    inputs = [data(X), data(VECTOR if isinstance(layer, ConditionalNormalization) else X)]
    for mask in (np.ones(X[:-1], bool), [None, None, None]):
        with pytest.raises(ValueError, match=r"`mask` must be a list of two masks.*Pass `\[mask,"):
            layer(inputs, mask=mask)


@pytest.mark.parametrize("make", LAYERS)
def test_inputs_that_hold_no_numbers(make):
    layer = make()
    shape = VECTOR if isinstance(layer, ConditionalNormalization) else X
    x, condition = data((X, shape))
    for place in (0, 1):
        for dtype in ("bool", "complex64"):
            inputs = [x, condition]
            inputs[place] = tf.cast(inputs[place], dtype)
            with pytest.raises(TypeError, match=f"floating or integer dtype.*dtype={dtype}"):
                layer(inputs)
        inputs = [x, condition]
        inputs[place] = tf.sparse.from_dense(inputs[place])
        with pytest.raises(TypeError, match="must be a dense tensor"):
            layer(inputs)


def test_labels_are_no_condition():
    x = data(X)
    for layer, labels in (
        (ConditionalNormalization(LayerNormalization(**BARE)), np.zeros((4, 1), "int32")),
        (SpatiallyAdaptiveNormalization(LayerNormalization(**BARE)), np.zeros((4, 3, 5, 1), int)),
    ):
        with pytest.raises(TypeError) as error:
            layer([x, labels])
        assert "must be of a floating dtype. Received: dtype=int" in str(error.value)
        assert "`keras.layers.Embedding` or `keras.ops.one_hot`" in str(error.value)
    labels = keras.Input((), dtype="int32")
    with pytest.raises(TypeError, match="Embedding"):
        ConditionalNormalization(LayerNormalization(**BARE))([keras.Input(X[1:]), labels])


@pytest.mark.parametrize(
    ("make", "shapes", "text"),
    [
        (LAYERS[0], (X, (4,)), "`condition` must be [B, D] or the rank of x. Received: condition"),
        (LAYERS[0], (X, (4, 5, 3)), "of shape (4, 5, 3) (x of shape (4, 3, 5, 6)). Reshape it"),
        (LAYERS[0], (X, (3, 3)), "must have the sizes of x or 1"),
        (LAYERS[0], (X, (4, 3, 4, 3)), "must have the sizes of x or 1"),
        (LAYERS[0], ((1, 3, 5, 6), (4, 3)), "must have the sizes of x or 1"),
        (LAYERS[0], (X, (4, None)), "must have a known number of features"),
        (LAYERS[1], (X, (4, 3)), "`map` must be of rank 4, as x. Received: map of shape (4, 3)"),
        (LAYERS[1], ((4, 5, 6), (4, 5, 2)), "`map` must be of rank 4"),
        (LAYERS[1], (X, (3, 3, 5, 2)), "must have the sizes of x or 1"),
        (LAYERS[1], (X, (4, 3, 5, None)), "must have a known number of features"),
        (LAYERS[2], (X, (4, 3, 5, 5)), "`style` must have content's rank and channels"),
        (LAYERS[2], (X, (4, 3, 6)), "Received: style of shape (4, 3, 6) (content of shape"),
        (LAYERS[2], (X, (3, 3, 5, 6)), "`style` must have content's batch, or 1"),
        (LAYERS[2], ((4, 6), (4, 6)), "rank 3 or higher"),
        (LAYERS[2], ((4, 3, None), (4, 3, None)), "axis -1 must be defined"),
    ],
)
def test_shapes_that_do_not_go_together(make, shapes, text):
    layer = make()
    with pytest.raises(ValueError) as error:
        layer.build(list(shapes))
    assert text in str(error.value)
    assert not layer.weights
    if None not in shapes[0] + shapes[1]:
        with pytest.raises(ValueError) as error:
            make()(data(shapes))
        assert text in str(error.value)


def test_several_axes_take_vectors_alone():
    layer = ConditionalNormalization(LayerNormalization(axis=[1, 2], **BARE))
    with pytest.raises(ValueError, match=r"`condition` must be \[B, D\]\. Received"):
        layer.build([(4, 5, 6), (4, 5, 3)])


def test_other_sizes_after_build():
    layer = built(LAYERS[0](), X, VECTOR)
    for shapes, text in (
        ((X, (4, 4)), "`condition` must have 3 features"),
        ((X, (3, 3)), "must have the sizes of x or 1"),
        (((4, 3, 5, 7), VECTOR), "incompatible with the layer"),
    ):
        with pytest.raises(ValueError, match=text):
            layer(data(shapes))
        with pytest.raises(ValueError, match=text):
            layer([keras.Input(batch_shape=shape) for shape in shapes])


@pytest.mark.parametrize("make", [ConditionalNormalization, SpatiallyAdaptiveNormalization])
def test_inner_layers_that_do_not_fit(make):
    for given in ({}, {"center": False}, {"scale": False}):
        with pytest.raises(ValueError) as error:
            make(BatchNormalization(**given))
        assert "`layer` must have no gamma and beta of its own" in str(error.value)
        assert "Received: layer=BatchNormalization(center=" in str(error.value)
        assert "Build it with `center=False, scale=False`" in str(error.value)
    for wrong in (keras.layers.BatchNormalization(**BARE), "batch", None, BatchNormalization):
        with pytest.raises(TypeError, match=r"`layer` must be a norm of activations.*Received: l"):
            make(wrong)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (ConditionalNormalization, "hidden_units"),
        (SpatiallyAdaptiveNormalization, "hidden_filters"),
        (SpatiallyAdaptiveNormalization, "kernel_size"),
    ],
)
def test_sizes_that_are_no_positive_integers(make, name):
    for value in (0, -1, 2.0, "3", True):
        with pytest.raises(ValueError, match=f"`{name}` must be an integer.*Received: {name}="):
            make(LayerNormalization(**BARE), **{name: value})


def test_bad_axis_and_epsilon_of_adain():
    with pytest.raises(TypeError, match="`axis` must be an integer"):
        AdaptiveInstanceNormalization(axis="channels")
    for epsilon in (0.0, -1e-5, float("nan"), None):
        with pytest.raises(ValueError, match="`epsilon` must be a finite number above 0"):
            AdaptiveInstanceNormalization(epsilon=epsilon)
    with pytest.raises(ValueError, match="batch axis"):
        AdaptiveInstanceNormalization(axis=0).build([X, X])
