"""The same layers on JAX: values, gradients, state and `fit`, in a process with that backend."""

import pytest

from keras_norm.catalog import catalog
from tests.backends import run_on

SCRIPT = """
import sys
import jax
import keras
import numpy as np
from keras_norm.catalog import catalog
from tests.conformance.support import arguments, data, inputs_of, mapped, randomize, several
from tests.oracles import ORACLES

def close(actual, expected, bound, size=0.0):
    size = max(np.abs(expected).max(), size)
    return np.abs(np.asarray(actual, "float64") - expected).max() <= bound * size

def wide(x):
    x = mapped(lambda one: np.asarray(one, "float64"), x)
    return tuple(x) if isinstance(x, list) else x

def shifted(x, step, direction):
    if isinstance(x, tuple):
        return tuple(a + step * d for a, d in zip(x, direction))
    return x + step * direction

def inner(a, b):
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b))
    return sum((np.asarray(one, "float64") * other).sum() for one, other in leaves)

for row in [catalog[name] for name in sys.argv[1:]]:
    shape, frame = row.input_shape, row.kind == "activations"
    generator = np.random.default_rng(0)
    layer = row.example()
    layer.build(list(shape) if several(shape) else shape)
    randomize(layer)
    dy = generator.standard_normal(layer.compute_output_shape(
        list(shape) if several(shape) else shape)).astype("float32")
    weights = {w.name: np.asarray(w.value) for w in layer.weights}
    oracle, settings = ORACLES[row.name], arguments(row)
    mask = generator.random(shape[:-1]) > 0.3 if frame else None
    trainable = [w.value for w in layer.trainable_variables]
    fixed = [w.value for w in layer.non_trainable_variables]
    direction = wide(data(shape, 9))
    for training, m in ((True, None), (False, None), (True, mask))[: 3 if frame else 2]:
        keys = {} if m is None else {"mask": m}

        @jax.jit
        def step(x):
            def weighted(x):
                y, after = layer.stateless_call(trainable, fixed, x, training=training, **keys)
                return (y * dy).sum(), (y, after)

            gradient, (y, after) = jax.grad(weighted, has_aux=True)(x)
            return y, after, gradient

        for offset in (0.0, 1e6) if frame and training and m is None else (0.0,):
            x = mapped(lambda one: one + np.float32(offset), data(shape))
            expected, state, held = oracle(wide(x), weights, settings, training, m)
            y, after, gradient = step(x)
            bound = 1e-5 if offset else row.tolerance
            assert close(y, expected, bound), (row.name, offset, "value")
            for variable, value in zip(layer.non_trainable_variables, after):
                if offset == 0.0 and variable.name in state:
                    assert close(value, state[variable.name], bound, 1.0), (row.name, "state")

            # The gradient along one direction, against a difference of the oracle.
            h = 1e-3 if offset else 1e-5

            def loss(step):
                moved = shifted(wide(x), step, direction)
                return (oracle(moved, weights, settings, training, m, held)[0] * dy).sum()

            wanted = (loss(h) - loss(-h)) / (2 * h)
            size = max(abs(wanted), (dy**2).sum())
            assert abs(inner(gradient, direction) - wanted) <= 1e-4 * size, (row.name, "slope")
    keras.utils.set_random_seed(0)
    inputs = inputs_of(row)
    model = keras.Model(inputs, keras.layers.Dense(1)(row.example()(inputs)))
    model.compile(keras.optimizers.Adam(0.05), "mse")
    x = data(shape)
    y = generator.standard_normal((*dy.shape[:-1], 1))
    losses = model.fit(x, y, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0], row.name
    print(row.name)
"""


@pytest.mark.parametrize("part", range(2))
def test_every_row_on_jax(part):
    names = [row.name for row in catalog][part::2]
    assert run_on("jax", SCRIPT, *names).split() == names
