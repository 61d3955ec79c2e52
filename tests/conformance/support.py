"""How the conformance tests build a row's example, run it, and differentiate it."""

import functools
import inspect

import keras
import numpy as np
import tensorflow as tf

from tests.oracles import ORACLES

MODES = ("eager", "graph", "xla")

POSITIVE = ("gamma", "scale", "variance", "count", "maximum")
LINEAR = ("beta", "bias", "gamma", "scale")


def several(shape):
    """Whether a row's `input_shape` is one of several inputs."""
    return isinstance(shape[0], tuple)


def data(shape, seed=0, dtype="float32"):
    """Ordinary data: neither centred nor of unit variance, and no two channels alike.

    A list of arrays where `shape` holds several.
    """
    if several(shape):
        return [data(one, seed + 100 * place, dtype) for place, one in enumerate(shape)]
    generator = np.random.default_rng(seed)
    spread = generator.uniform(0.5, 2.0, shape[-1])
    return (generator.standard_normal(shape) * spread + generator.normal(size=shape[-1])).astype(
        dtype
    )


def small(shape):
    """A shape with fewer elements, for differences at each of them."""
    if several(shape):
        return tuple(small(one) for one in shape)
    # A batch norm of two samples per step would return their signs alone.
    batch = 4 if len(shape) == 3 else 2
    most = 2 if len(shape) == 3 else 3  # steps that recurrent layers unroll
    return (batch, *(min(n, most) for n in shape[1:-1]), shape[-1])


def output_data(layer, shape, seed=3, dtype="float32"):
    """Data of the shape of the layer's output, to weight it with."""
    shape = list(shape) if several(shape) else shape
    return data(tuple(layer.compute_output_shape(shape)), seed, dtype)


def inputs_of(row):
    """Symbolic inputs, one or a list, for a functional model."""
    if several(row.input_shape):
        return [
            keras.Input(shape[1:], name=f"x{place}") for place, shape in enumerate(row.input_shape)
        ]
    return keras.Input(row.input_shape[1:], name="x0")


def sample(x, number):
    """The first samples of one input, or of each."""
    return mapped(lambda one: one[:number], x)


def named(x):
    """Inputs by the names that `inputs_of` gave them."""
    return {f"x{place}": one for place, one in enumerate(x if isinstance(x, list) else [x])}


def randomize(layer, seed=1):
    """Gives every weight values that make each term of the equation count."""
    generator = np.random.default_rng(seed)

    def values(weight):
        if "int" in weight.dtype or weight.dtype == "bool":
            return np.full(weight.shape, 2, weight.dtype)
        if weight.name.endswith("covariance"):
            factor = generator.normal(size=weight.shape)
            return factor @ np.swapaxes(factor, -1, -2) + np.eye(weight.shape[-1])
        if weight.name.endswith(POSITIVE):
            return generator.uniform(0.5, 2.0, weight.shape) + 2 * (weight.name == "maximum")
        return generator.normal(size=weight.shape)

    layer.set_weights([values(weight) for weight in layer.weights])
    return layer


def built(row, shape=None, seed=1, **overrides):
    """The row's example layer, built and with random weights."""
    layer, shape = row.example(**overrides), shape or row.input_shape
    layer.build(list(shape) if several(shape) else shape)
    return randomize(layer, seed)


def tiny_epsilon(row):
    """An override that takes epsilon out of the way, where there is one."""
    return {"epsilon": 1e-12} if row.takes("epsilon") else {}


def affine(row, value=True):
    """An override that switches gamma and beta on, where there are such switches."""
    return {name: value for name in ("center", "scale") if row.takes(name)}


def arguments(row, **overrides):
    """What the oracle must know of the layer `built` makes: plain data."""
    chosen = {**row.arguments, **overrides}
    made = {name: value() if inspect.isfunction(value) else value for name, value in chosen.items()}
    return {
        name: {**value.get_config(), "class_name": type(value).__name__}
        if isinstance(value, keras.layers.Layer)
        else value
        for name, value in made.items()
    }


def weights_of(layer):
    """The layer's weights by name, as arrays."""
    return {weight.name: weight.numpy() for weight in layer.weights}


def mapped(function, x):
    """A function of an array, applied to one or to a list of them."""
    return [function(one) for one in x] if isinstance(x, (list, tuple)) else function(x)


def oracle(row, x, weights, settings, training, mask=None, held=None):
    """The paper's output, state and constants at x, in float64."""
    x = mapped(lambda one: np.asarray(one, "float64"), x)
    x = tuple(x) if isinstance(x, list) else x
    return ORACLES[row.name](x, weights, settings, training, mask, held)


def compiled(function, mode):
    """A function as it is, in a graph, or compiled by XLA."""
    if mode == "eager":
        return function
    return tf.function(function, jit_compile=mode == "xla", autograph=False)


def forward(layer, mode, training):
    """The layer as a function of tensors."""

    def call(x, mask=None):
        # Keras's own layers take no mask, mostly; nor do ours that have no use for one.
        return layer(x, training=training, **({} if mask is None else {"mask": mask}))

    run = compiled(call, mode)
    return lambda x, mask=None: run(
        mapped(tf.convert_to_tensor, x), None if mask is None else tf.convert_to_tensor(mask)
    ).numpy()


def backward(layer, mode, training):
    """A function from x and dy to y, dx and the gradient of each trainable weight by name."""
    trainable = layer.trainable_weights

    def step(x, dy, mask=None):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training, **({} if mask is None else {"mask": mask}))
            loss = tf.reduce_sum(tf.cast(y, dy.dtype) * dy)
        return y, *tape.gradient(loss, [x, *(w.value for w in trainable)])

    run = compiled(step, mode)

    def call(x, dy, mask=None):
        tensors = mapped(tf.convert_to_tensor, x), tf.convert_to_tensor(dy)
        y, dx, *rest = run(*tensors, None if mask is None else tf.convert_to_tensor(mask))
        named = {w.name: dense(g).numpy() for w, g in zip(trainable, rest, strict=True)}
        return y.numpy(), mapped(lambda g: g.numpy(), dx), named

    return call


def dense(gradient):
    """A gradient as a tensor: those of tables that are looked up come as slices."""
    return tf.convert_to_tensor(gradient)


def differences(function, x, step):
    """Central differences of the sum of a function's values, at every element of x, in float64.

    The values are subtracted one by one: among sums of large ones a small change would be lost.
    """
    x = np.array(x, "float64")
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        value = x[index]
        x[index] = value + step
        above = function(x)
        x[index] = value - step
        below = function(x)
        x[index] = value
        gradient[index] = (above - below).sum() / ((value + step) - (value - step))
    return gradient


def oracle_gradients(row, layer, x, dy, settings, training, step=1e-5, mask=None, weight_step=1e-5):
    """dx and the gradient of each trainable weight, by differences of the oracle."""
    weights = weights_of(layer)
    y, _, held = oracle(row, x, weights, settings, training, mask)

    def loss_of_x(value, place=None):
        given = value if place is None else [*x[:place], value, *x[place + 1 :]]
        y, _, _ = oracle(row, given, weights, settings, training, mask, held)
        return y * dy

    def loss_of(name):
        def loss(value):
            y, _, _ = oracle(row, x, {**weights, name: value}, settings, training, mask, held)
            return y * dy

        return loss

    if isinstance(x, list):
        dx = [
            differences(functools.partial(loss_of_x, place=place), one, step)
            for place, one in enumerate(x)
        ]
    else:
        dx = differences(loss_of_x, x, step)
    names = [w.name for w in layer.trainable_weights]
    # A large output rounds a small change of a weight away; those it is linear in take any step.
    large = max(1.0, np.abs(y).max(initial=0.0) / 100.0)
    by = {name: weight_step * (large if name in LINEAR else 1.0) for name in names}
    return dx, {name: differences(loss_of(name), weights[name], by[name]) for name in names}


def assert_close(actual, expected, bound, size=0.0):
    """Largest error over size, size being the largest expected magnitude."""
    if isinstance(expected, list):
        for one, wanted in zip(actual, expected, strict=True):
            assert_close(one, wanted, bound, size)
        return
    actual, expected = np.asarray(actual, "float64"), np.asarray(expected, "float64")
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all(), "not finite"
    if expected.size:
        size = max(np.abs(expected).max(), size, 1e-30)
        error = np.abs(actual - expected).max() / size
        assert error <= bound, f"error {error:.2e} of size {size:.3g}, bound {bound:.0e}"
