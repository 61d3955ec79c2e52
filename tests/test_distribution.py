"""`tf.distribute` on two logical devices: one big batch and its shards say the same."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_norm.catalog import catalog
from tests.conformance.support import (
    assert_close,
    data,
    inputs_of,
    randomize,
    several,
    weights_of,
)

SYNCHRONIZED = [row for row in catalog if row.takes("synchronized")]
SHAPE = (6, 3, 4, 6)
SHARDS = {"even": (3, 3), "uneven": (5, 1), "one is empty": (6, 0)}


def mask_of(shape):
    mask = np.random.default_rng(3).random(shape[:-1]) > 0.4
    mask[-2:] = True  # so that the mask differs between the replicas
    return mask


def replicated(strategy, row, x, dy, mask, sizes):
    """y, dx, the gradients' sum, and each replica's weights, of a step on two replicas."""
    with strategy.scope():
        layer = row.build(synchronized=True)
        layer.build(x.shape)
    randomize(layer)
    cuts = np.cumsum((0, *sizes))

    def shard(array):
        def of(context):
            index = context.replica_id_in_sync_group
            return tf.constant(array[cuts[index] : cuts[index + 1]])

        return strategy.experimental_distribute_values_from_function(of)

    def step(x, dy, mask):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True, mask=mask)
            loss = tf.reduce_sum(y * dy)
        return y, tape.gradient(loss, [x, *(w.value for w in layer.trainable_weights)])

    @tf.function
    def run(x, dy, mask):
        return strategy.run(step, (x, dy, mask))

    y, (dx, *dweights) = run(shard(x), shard(dy), None if mask is None else shard(mask))

    def join(value):
        return np.concatenate([v.numpy() for v in strategy.experimental_local_results(value)])

    summed = [sum(v.numpy() for v in strategy.experimental_local_results(g)) for g in dweights]
    copies = {
        w.name: [v.numpy() for v in strategy.experimental_local_results(w.value)]
        for w in layer.weights
    }
    return join(y), join(dx), summed, copies


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("sizes", SHARDS.values(), ids=SHARDS)
@pytest.mark.parametrize("row", SYNCHRONIZED, ids=lambda row: row.name)
def test_synchronized_shards_equal_one_big_batch(strategy, row, sizes, masked):
    x, dy = data(SHAPE) + 1e3, data(SHAPE, 3)
    mask = mask_of(SHAPE) if masked else None
    single = row.build()
    single.build(SHAPE)
    randomize(single)
    tensor = tf.constant(x.astype("float32"))
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        y = single(tensor, training=True, mask=mask)
        loss = tf.reduce_sum(y * dy)
    dx, *dweights = tape.gradient(loss, [tensor, *(w.value for w in single.trainable_weights)])
    ours = replicated(strategy, row, tensor.numpy(), dy, mask, sizes)
    assert_close(ours[0], y, 8e-6)
    assert_close(ours[1], dx, 4e-5)
    for actual, expected in zip(ours[2], dweights, strict=True):
        assert_close(actual, expected, 4e-5, np.abs(dy).max())
    for name, expected in weights_of(single).items():
        first, second = ours[3][name]
        np.testing.assert_array_equal(first, second)
        assert_close(first, expected, 8e-6, 1.0)


@pytest.mark.parametrize("row", catalog, ids=lambda row: row.name)
def test_fit_under_a_strategy_keeps_replicas_together(strategy, row):
    with strategy.scope():
        inputs = inputs_of(row)
        outputs = keras.layers.Dense(1)(keras.layers.Flatten()(row.example()(inputs)))
        model = keras.Model(inputs, outputs)
        model.compile("sgd", "mse", jit_compile=False)
    shape = row.input_shape
    x = data(tuple((10, *s[1:]) for s in shape) if several(shape) else (10, *shape[1:]))
    y = np.linspace(-1.0, 1.0, 10).astype("float32")[:, None]
    losses = model.fit(x, y, batch_size=4, epochs=2, verbose=0)
    assert np.isfinite(losses.history["loss"]).all()
    for weight in model.weights:
        copies = [v.numpy() for v in strategy.experimental_local_results(weight.value)]
        np.testing.assert_array_equal(*copies)


def test_synchronized_needs_replicas_of_tensorflow(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    for row in SYNCHRONIZED:
        with pytest.raises(ValueError, match="`synchronized` must be False with this backend"):
            row.build(synchronized=True)
