"""Verbs on JAX, in a process with that backend; its `fit` deletes the arrays a model had."""

from tests.backends import run_on

SCRIPT = """
import keras
import numpy as np
from keras import layers
import keras_norm

x = np.random.default_rng(0).standard_normal((16, 6, 6, 2)).astype("float32")
y = x.mean((1, 2, 3))[:, None]
VERBS = {
    "accelerate": keras_norm.accelerate,
    "bake": keras_norm.bake,
    "fold": keras_norm.fold,
    "freeze": keras_norm.freeze,
    "recalibrate": lambda model: keras_norm.recalibrate(model, x, batch_size=10, verbose=0),
    "replace": lambda model: keras_norm.replace(
        model, {layers.BatchNormalization: lambda one: layers.LayerNormalization()}
    ),
}
keras.utils.set_random_seed(0)
model = keras.Sequential([
    layers.Input((6, 6, 2)),
    keras_norm.WeightNormalization(layers.Conv2D(4, 3)),
    layers.BatchNormalization(),
    layers.Dropout(0.1),
    layers.Flatten(),
    layers.Dense(1),
])
model.compile("adam", "mse")

def contents():
    variables = model.variables + model.optimizer.variables
    return [keras.ops.convert_to_numpy(variable).copy() for variable in variables]

for name, verb in VERBS.items():
    model.trainable = True
    model.fit(x, y, verbose=0)
    before, new = contents(), verb(model)
    if name == "recalibrate":
        seen = keras.ops.convert_to_numpy(model.layers[0](x)).astype("float64").reshape(-1, 4)
        mean, variance = map(keras.ops.convert_to_numpy, new.layers[1].non_trainable_variables)
        np.testing.assert_allclose(mean, seen.mean(0), 1e-4, 1e-5)
        np.testing.assert_allclose(variance, seen.var(0), 1e-4)
    elif name != "replace":
        outputs = [one.predict(x, verbose=0) for one in (new, model)]
        np.testing.assert_allclose(*outputs, 1e-4, 1e-5, err_msg=name)
    if name in ("accelerate", "recalibrate", "replace"):
        assert new.optimizer.built, "it goes on as the old one"
    if not new.compiled:
        new.compile("adam", "mse")
    new.fit(x, y, verbose=0)
    for one, other in zip(before, contents(), strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)

    # An optimizer of JAX takes no fewer weights than it was made for: the copy's begins anew.
    model.layers[-1].trainable = False
    new = verb(model)
    if new.compiled:
        assert keras.backend.backend() != "jax" or not new.optimizer.built, name
        new.fit(x, y, verbose=0)
"""


def test_copies_are_right_and_share_no_memory_with_their_model():
    run_on("jax", SCRIPT)
