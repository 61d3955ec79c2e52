"""How the conformance tests build a row's example, run it, and differentiate it."""

import numpy as np
import tensorflow as tf

from tests.oracles import ORACLES

MODES = ("eager", "graph", "xla")


def data(shape, seed=0, dtype="float32"):
    """Ordinary data: neither centred nor of unit variance, and no two channels alike."""
    generator = np.random.default_rng(seed)
    spread = generator.uniform(0.5, 2.0, shape[-1])
    return (generator.standard_normal(shape) * spread + generator.normal(size=shape[-1])).astype(
        dtype
    )


def randomize(layer, seed=1):
    """Gives every weight values that make each term of the equation count."""
    generator = np.random.default_rng(seed)
    values = []
    for weight in layer.weights:
        if weight.name == "step":
            values.append(np.int32(2))
        elif weight.name in ("gamma", "scale", "moving_variance"):
            values.append(generator.uniform(0.5, 2.0, weight.shape))
        else:
            values.append(generator.normal(size=weight.shape))
    layer.set_weights(values)
    return layer


def built(row, shape=None, seed=1, **overrides):
    """The row's example layer, built and with random weights."""
    layer = row.build(**overrides)
    layer.build(shape or row.input_shape)
    return randomize(layer, seed)


def arguments(row, **overrides):
    """What the oracle must know of the layer `built` makes."""
    return {**row.arguments, **overrides}


def weights_of(layer):
    """The layer's weights by name, as arrays."""
    return {weight.name: weight.numpy() for weight in layer.weights}


def oracle(row, x, weights, settings, training, mask=None, held=None):
    """The paper's output, state and constants at x, in float64."""
    x = np.asarray(x, "float64")
    return ORACLES[row.name](x, weights, settings, training, mask, held)


def compiled(function, mode):
    """A function as it is, in a graph, or compiled by XLA."""
    if mode == "eager":
        return function
    return tf.function(function, jit_compile=mode == "xla", autograph=False)


def forward(layer, mode, training):
    """The layer as a function of tensors."""

    def call(x, mask=None):
        return layer(x, training=training, mask=mask)

    run = compiled(call, mode)
    return lambda x, mask=None: run(
        tf.convert_to_tensor(x), None if mask is None else tf.convert_to_tensor(mask)
    ).numpy()


def backward(layer, mode, training):
    """A function from x and dy to y, dx and the gradient of each trainable weight by name."""
    trainable = layer.trainable_weights

    def step(x, dy, mask=None):
        with tf.GradientTape() as tape:
            tape.watch(x)
            # Keras's own layers take no mask, mostly.
            y = layer(x, training=training, **({} if mask is None else {"mask": mask}))
            loss = tf.reduce_sum(tf.cast(y, dy.dtype) * dy)
        return y, *tape.gradient(loss, [x, *(w.value for w in trainable)])

    run = compiled(step, mode)

    def call(x, dy, mask=None):
        tensors = [tf.convert_to_tensor(t) for t in (x, dy)]
        y, dx, *rest = run(*tensors, None if mask is None else tf.convert_to_tensor(mask))
        named = {w.name: g.numpy() for w, g in zip(trainable, rest, strict=True)}
        return y.numpy(), dx.numpy(), named

    return call


def differences(function, x, step):
    """Central differences of a scalar function at every element of x, in float64."""
    x = np.array(x, "float64")
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        value = x[index]
        x[index] = value + step
        above = function(x)
        x[index] = value - step
        below = function(x)
        x[index] = value
        gradient[index] = (above - below) / ((value + step) - (value - step))
    return gradient


def oracle_gradients(row, layer, x, dy, settings, training, step=1e-5, mask=None):
    """dx and the gradient of each trainable weight, by differences of the oracle."""
    weights = weights_of(layer)
    _, _, held = oracle(row, x, weights, settings, training, mask)

    def loss_of_x(value):
        y, _, _ = oracle(row, value, weights, settings, training, mask, held)
        return (y * dy).sum()

    def loss_of(name):
        def loss(value):
            y, _, _ = oracle(row, x, {**weights, name: value}, settings, training, mask, held)
            return (y * dy).sum()

        return loss

    names = [w.name for w in layer.trainable_weights]
    return differences(loss_of_x, x, step), {
        name: differences(loss_of(name), weights[name], 1e-5) for name in names
    }


def assert_close(actual, expected, bound, size=0.0):
    """Largest error over size, size being the largest expected magnitude."""
    actual, expected = np.asarray(actual, "float64"), np.asarray(expected, "float64")
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all(), "not finite"
    if expected.size:
        size = max(np.abs(expected).max(), size, 1e-30)
        error = np.abs(actual - expected).max() / size
        assert error <= bound, f"error {error:.2e} of size {size:.3g}, bound {bound:.0e}"
