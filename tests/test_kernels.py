"""Compiled kernels against the definition in float64: hard inputs, odd shapes, second gradients."""

import functools
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.memory import kept_by
from keras_norm import backend, portable_only
from keras_norm.backend import channelwise
from keras_norm.backend import tensorflow as fast
from keras_norm.catalog import catalog
from tests.conformance.support import assert_close, backward, built, data, randomize, weights_of
from tests.conformance.test_numerics import HARD

ROWS = [
    catalog[name] for name in ("batch", "renorm", "group", "instance", "layer", "rms", "switchable")
]
HALF_UNIT = {"float16": 2**-11, "bfloat16": 2**-8}  # of the largest number: how far rounding goes
SHAPES = [(2, 8, 9, 6), (3, 7, 6), (2, 3, 5, 4, 6), (1, 1, 37, 6), (5, 2, 1, 12)]


@pytest.fixture(autouse=True)
def every_size_is_worthwhile(monkeypatch):
    monkeypatch.setattr(fast, "WORTHWHILE", 0)


@pytest.fixture
def answers(monkeypatch):
    """Whether the kernels answered, for each call in float32."""
    counted = []

    def counting(override):
        def call(*args, **kwargs):
            result = override(*args, **kwargs)
            if args[0].dtype == tf.float32:
                counted.append(result is not NotImplemented)
            return result

        return call

    kept = {
        n: counting(getattr(fast, n))
        for n in set(vars(fast)) & set(backend.OVERRIDABLE)
        if "quotient" in n
    }
    monkeypatch.setattr(backend, "override_of", kept.get)
    return counted


def exact(row, shape, x, dy, weights):
    """y, dx and the weights' gradients in float64, of the definition; and the weights after."""
    layer = built(row, shape, dtype="float64")
    layer.set_weights([weights[w.name] for w in layer.weights])
    return *backward(layer, "eager", True)(x.astype("float64"), dy.astype("float64")), layer


@pytest.mark.parametrize("mode", ["graph", "xla"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_hard_inputs(row, mode, answers):
    shape = SHAPES[0]
    normal, dy = np.random.default_rng(0).standard_normal(shape), data(shape, 3)
    layer, failures = built(row, shape), []
    initial, step = layer.get_weights(), backward(layer, mode, True)
    for name, (change, _) in HARD.items():
        x = change(normal).astype("float32")
        layer.set_weights(initial)
        y, dx, dweights, _ = exact(row, shape, x, dy, weights_of(layer))
        actual_y, actual_dx, actual = step(x, dy)
        try:
            assert_close(actual_y, y, 1e-5)
            assert_close(actual_dx, dx, 1e-4)
            for weight, gradient in dweights.items():
                assert_close(actual[weight], gradient, 1e-4, np.abs(dy).max())
        except AssertionError as error:
            failures.append(f"{name}: {error}")
    assert not failures, "\n".join(failures)
    assert answers and all(answers)


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_shapes(row, shape, mode, answers):
    layer = built(row, shape)
    x, dy = data(shape), data(shape, 3)
    y, dx, dweights, wide = exact(row, shape, x, dy, weights_of(layer))
    actual_y, actual_dx, actual = backward(layer, mode, True)(x, dy)
    assert_close(actual_y, y, 2e-6)
    assert_close(actual_dx, dx, 1e-5)
    for name, gradient in dweights.items():
        assert_close(actual[name], gradient, 1e-5, np.abs(dy).max())
    for name, value in weights_of(wide).items():
        assert_close(weights_of(layer)[name], value, 2e-6, 1.0)
    assert answers == [True]


@pytest.mark.parametrize(
    ("mode", "dtype"), [("eager", "bfloat16"), ("graph", "float16"), ("xla", "bfloat16")]
)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_inputs_of_half_the_size(row, mode, dtype, answers):
    """y and dx are the exact ones, rounded; weights' gradients and moments never were halves."""
    shape = SHAPES[0]
    layer = built(row, shape, dtype=f"mixed_{dtype}")
    x, dy = (tf.cast(data(shape, seed), dtype) for seed in (0, 3))
    exactly = [tf.cast(tensor, tf.float64).numpy() for tensor in (x, dy)]
    y, dx, dweights, wide = exact(row, shape, *exactly, weights_of(layer))
    actual_y, actual_dx, actual = backward(layer, mode, True)(x, dy)
    assert actual_y.dtype == actual_dx.dtype == dtype
    assert_close(actual_y, y, HALF_UNIT[dtype])
    assert_close(actual_dx, dx, HALF_UNIT[dtype])
    for name, gradient in dweights.items():
        assert_close(actual[name], gradient, 1e-5, np.abs(exactly[1]).max())
    for name, value in weights_of(wide).items():
        assert_close(weights_of(layer)[name], value, 2e-6, 1.0)
    assert answers == [True]


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_step_keeps_the_input_alone(row, dtype):
    shape = (4, 16, 16, 96)
    layer = built(row, shape, dtype=dtype)
    kept = kept_by(lambda x: layer(x, training=True), shape, layer.compute_dtype)
    input_itself = np.prod(shape) * tf.as_dtype(layer.compute_dtype).size
    assert input_itself <= kept < 1.1 * input_itself


def test_a_gradient_at_what_was_cast_before(answers):
    """Only casts of the layers themselves are undone: others may be asked for gradients."""
    layer, x = built(catalog["group"], SHAPES[0]), tf.cast(data(SHAPES[0]), tf.float16)

    @tf.function(autograph=False)
    def step(x):
        with tf.GradientTape() as tape:
            x = tf.cast(x, tf.float32)
            tape.watch(x)
            y = tf.reduce_sum(tf.sin(layer(x, training=True)))
        return tape.gradient(y, x)

    assert step(x).dtype == tf.float32
    assert answers == [True]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_second_gradients(row, answers):
    shape = SHAPES[0]
    x, v, dy = (tf.constant(data(shape, seed)) for seed in range(3))

    def curvature(layer, x, v, dy):
        variables = layer.trainable_weights
        with tf.GradientTape() as outer:
            outer.watch([x, dy])
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(tf.sin(layer(x, training=True)) * dy)
            value = tf.reduce_sum(inner.gradient(loss, x) * v)
        return outer.gradient(value, [x, dy, *(w.value for w in variables)])

    # Renorm's r and d are held constant, so that its definition has another second gradient.
    layers = [built(row, shape, dtype=dtype, **row.uncorrected) for dtype in ("float32", "float64")]
    wide = [tf.cast(tensor, tf.float64) for tensor in (x, v, dy)]
    expected = curvature(layers[1], *wide)
    graph, xla = (tf.function(curvature, jit_compile=jit, autograph=False) for jit in (False, True))
    for call in (curvature, graph, xla):
        randomize(layers[0])
        for actual, wanted in zip(call(layers[0], x, v, dy), expected, strict=True):
            assert_close(actual, wanted, 2e-5)
    assert answers == [True] * 3


def test_gamma_and_beta_of_each_sample(answers):
    """As conditional norms hand them in."""
    x, dy = (tf.constant(data((3, 4, 5, 6), seed)) for seed in (0, 3))
    weights = [tf.constant(data((3, 1, 1, 6), seed)) for seed in (1, 2)]
    layer = built(catalog["instance"], (3, 4, 5, 6), center=False, scale=False)

    def slopes(x, dy, gamma, beta, training):
        with tf.GradientTape() as tape:
            tape.watch([x, gamma, beta])
            y = layer.normalize_with(x, gamma, beta, training=training)
        return y, *tape.gradient(y, [x, gamma, beta], dy)

    results = [
        tf.function(slopes, autograph=False)(x, dy, *weights, training)
        for training in (True, False)
    ]
    for actual, expected in zip(*results, strict=True):
        assert_close(actual, expected.numpy(), 1e-5)
    assert answers == [True, False]


def test_forward_mode_is_refused_and_runs_as_defined(answers):
    """No tape records there, so that a kernel would answer with half of a derivative."""
    x, v, dy = (tf.constant(data(SHAPES[0], seed)) for seed in (0, 2, 3))
    for name in ("group", "rms", "switchable"):
        layer = built(catalog[name], SHAPES[0])
        with tf.autodiff.ForwardAccumulator(x, v), pytest.raises(Exception, match="portable_only"):
            layer(x, training=True)
        _, dx, _ = backward(layer, "eager", True)(x, dy)
        with portable_only(), tf.autodiff.ForwardAccumulator(x, v) as forward:
            slope = forward.jvp(layer(x, training=True))
        assert_close(tf.reduce_sum(slope * dy), tf.reduce_sum(dx * v), 1e-5)
    assert all(answers)


def test_weights_of_each_sample_and_shared_ones_meet_one_program(answers):
    """TensorFlow runs shared weights by the program that was traced for those of each sample."""
    layer = built(catalog["instance"], (3, 4, 5, 6), center=False, scale=False, epsilon=2e-3)
    x, dy = data((3, 4, 5, 6)), data((3, 4, 5, 6), 3)

    def slopes(x, dy, gamma, beta, training):
        with tf.GradientTape() as outer:
            outer.watch([x, gamma])
            with tf.GradientTape() as inner:
                inner.watch([x, gamma, beta])
                y = layer.normalize_with(x, gamma, beta, training=training)
            first = inner.gradient(y, [x, gamma, beta], dy)
            loss = tf.add_n([tf.reduce_sum(tf.sin(one)) for one in first])
        return *first, *outer.gradient(loss, [x, gamma])

    batch = tf.TensorSpec((None, 4, 5, 6))
    for known, given in ((None, 3), (None, 1), (1, 1)):  # one condition serves all samples
        signature = [batch, batch, tf.TensorSpec((known, 1, 1, 6)), tf.TensorSpec((1, 1, 1, 6))]
        weights = data((given, 1, 1, 6), 1), data((1, 1, 1, 6), 2)
        results = [
            tf.function(
                functools.partial(slopes, training=training),
                input_signature=signature,
                autograph=False,
            )(x, dy, *weights)
            for training in (True, False)
        ]
        for actual, expected in zip(*results, strict=True):
            assert_close(actual, expected.numpy(), 2e-5)
    assert answers == [True, False] * 3


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_unknown_and_empty_batches(row, answers):
    layer = built(row, (None, 4, 5, 6))
    signature = [tf.TensorSpec((None, 4, 5, 6)), tf.TensorSpec((None, 4, 5, 6))]

    @tf.function(input_signature=signature, autograph=False)
    def step(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        return y, tape.gradient(y, x, dy)

    initial = weights_of(layer)
    for batch in (4, 1, 0):
        shape = (batch, 4, 5, 6)
        x, dy = data(shape), data(shape, 3)
        randomize(layer)
        y, dx = step(x, dy)
        after = weights_of(layer)
        assert y.shape == dx.shape == shape
        assert all(np.isfinite(value).all() for value in after.values())
        if batch == 0:
            for name in set(after) - {"step"}:
                np.testing.assert_array_equal(after[name], initial[name])
        else:
            expected_y, expected_dx, _, _ = exact(row, shape, x, dy, initial)
            assert_close(y, expected_y, 2e-6)
            assert_close(dx, expected_dx, 1e-5, np.abs(dy).max())
    assert answers == [True]


def declined(**changes):
    """Whether the override declines what it takes but for the changes."""
    example = {"x": tf.zeros((2, 4, 4, 6)), "axes": (1, 2), "gamma": None, "beta": None}
    example |= {"training": True, **changes}
    return fast.moments_and_quotient(epsilon=1e-3, **example) is NotImplemented


def test_what_the_kernels_decline(monkeypatch):
    assert not declined()
    assert declined(training=False) and declined(mask=tf.ones((2, 4, 4, 1), tf.bool))
    assert declined(x=tf.zeros((2, 4, 4, 6), tf.float64)) and declined(synchronized=True)
    assert declined(axes=(2, 3)) and declined(axes=(1,)) and declined(group_axis=1)
    assert not declined(axes=(3,)) and not declined(axes=(1,), x=tf.zeros((4, 6)))
    assert declined(gamma=tf.zeros((2, 4, 4, 6))) and declined(beta=tf.zeros((4, 1, 1, 6)))
    assert declined(x=tf.zeros((2, 6)), axes=(0,)) and declined(x=tf.zeros((2, 1, 1, 6)))
    assert declined(training=None)
    monkeypatch.setattr(fast, "WORTHWHILE", 2 * 4 * 4 * 6 + 1)
    assert declined()
    for wanted, answered in ((16 * 4 * 4 * 6, True), (16 * 4 * 4 * 6 + 1, False)):
        monkeypatch.setattr(fast, "WORTHWHILE", wanted)  # a batch of unknown size counts as 16
        function = tf.function(lambda x: tf.constant(declined(x=x)), autograph=False)
        traced = function.get_concrete_function(tf.TensorSpec((None, 4, 4, 6)))
        assert traced(tf.zeros((1, 4, 4, 6))) == (not answered)
    monkeypatch.setattr(fast, "WORTHWHILE", 0)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    assert declined()


def test_eager_calls_compile_for_so_many_shapes(monkeypatch):
    monkeypatch.setattr(fast, "EAGER_SHAPES", 7)
    monkeypatch.setattr(fast, "_eager_shapes", set())
    for size in range(2, 12):  # what is declined for another reason does not count
        assert declined(x=tf.zeros((2, size, 4, 5)), gamma=tf.zeros((2, size, 4, 5)))
    shapes = [(2, size, 4, 6) for size in range(2, 12)]
    answers = [not declined(x=tf.zeros(shape)) for shape in shapes]
    assert answers == [True] * 7 + [False] * 3
    assert not declined(x=tf.zeros(shapes[0])) and declined(x=tf.zeros(shapes[-1]))
    assert not tf.function(lambda: tf.constant(declined(x=tf.zeros(shapes[-1]))))()


def test_eager_calls_of_many_shapes_bring_no_warning():
    """In a process of its own: TensorFlow warns twice of a function, and not again."""
    program = """
import tensorflow as tf, keras_norm
for size in range(16, 22):
    x = tf.random.normal((4, size, 32, 32))
    for kind in ("Batch", "Switchable"):
        layer = getattr(keras_norm, f"{kind}Normalization")()
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        tape.gradient(y, x)
    tf.function(lambda x: x + 1)(x)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "<lambda>" in done.stderr, "TensorFlow warns no more"
    assert done.stderr.count("triggered") == 2, done.stderr[-2000:]


def test_exported_graphs_and_graphs_of_inference_hold_no_kernel(answers):
    layer = built(catalog["group"], (2, 8, 9, 6))
    x = data((2, 8, 9, 6))
    with portable_only():
        tf.function(lambda x: layer(x, training=True), autograph=False)(x)
    assert answers == []

    def compiled_within(training):
        call = tf.function(lambda x: layer(x, training=training), autograph=False)
        return "_XlaMustCompile" in str(call.get_concrete_function(x).graph.as_graph_def())

    assert compiled_within(training=True) and not compiled_within(training=False)


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 3, 6, 9, 18])
def test_averages_over_groups(groups, narrow):
    """Whatever a group's size is: all channels, 9, 6, 3, 2, or 1."""
    table, size = data((3, 1, 18)), 18 // groups
    expected = np.repeat(table.reshape(3, groups, size).mean(-1), size, -1).reshape(3, 1, 18)
    assert_close(channelwise._over(tf.constant(table), groups, narrow), expected, 1e-6)


def test_slabs_divide_the_rows():
    assert [channelwise.slabs_of(rows) for rows in (1, 7, 49, 56 * 56, 37)] == [1, 7, 7, 8, 1]
