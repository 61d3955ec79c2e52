"""The same layers on JAX: values, gradients, state and `fit`, in a process with that backend."""

import os
import subprocess
import sys
from pathlib import Path

from keras_norm.catalog import catalog

SCRIPT = """
import jax
import keras
import numpy as np
from keras_norm.catalog import catalog
from tests.oracles import ORACLES

def close(actual, expected, bound, size=0.0):
    size = max(np.abs(expected).max(), size)
    return np.abs(np.asarray(actual, "float64") - expected).max() <= bound * size

for row in catalog:
    shape = (2, 3, 4, 6)
    generator = np.random.default_rng(0)
    layer = row.build()
    layer.build(shape)
    layer.set_weights([
        np.int32(2) if w.name == "step" else generator.uniform(0.5, 2.0, w.shape)
        for w in layer.weights
    ])
    weights = {w.name: np.asarray(w.value) for w in layer.weights}
    oracle = ORACLES[row.name]
    mask = generator.random(shape[:-1]) > 0.3
    for offset, training in ((0.0, True), (0.0, False), (1e6, True)):
        x = (2.0 * generator.standard_normal(shape) + offset).astype("float32")
        dy = generator.standard_normal(shape).astype("float32")
        for m in (None, mask):
            expected, state, held = oracle(x.astype("float64"), weights, row.arguments, training, m)
            trainable = [w.value for w in layer.trainable_variables]
            fixed = [w.value for w in layer.non_trainable_variables]

            @jax.jit
            def forward(x):
                return layer.stateless_call(trainable, fixed, x, training=training, mask=m)

            y, after = forward(x)
            assert close(y, expected, 1e-5 if offset else 2e-6), (row.name, offset, "value")
            for variable, value in zip(layer.non_trainable_variables, after):
                if offset == 0.0 and variable.name in state:
                    assert close(value, state[variable.name], 2e-6, 1.0), (row.name, "state")

            # The gradient along one direction, against a difference of the oracle.
            gradient = jax.grad(lambda x: (forward(x)[0] * dy).sum())(x)
            slope = (np.asarray(gradient, "float64") * dy).sum()
            h = 1e-3 if offset else 1e-5

            def loss(step):
                moved = x + step * dy.astype("float64")
                return (oracle(moved, weights, row.arguments, training, m, held)[0] * dy).sum()

            wanted = (loss(h) - loss(-h)) / (2 * h)
            size = max(abs(wanted), (dy**2).sum())
            assert abs(slope - wanted) <= 1e-4 * size, (row.name, "slope")
    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape[1:])
    model = keras.Model(inputs, keras.layers.Dense(1)(row.build()(inputs)))
    model.compile(keras.optimizers.Adam(0.05), "mse")
    x = generator.standard_normal(shape).astype("float32")
    losses = model.fit(x, x[..., :1], epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0], row.name
    print(row.name)
"""


def test_every_row_on_jax():
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == [row.name for row in catalog]
