"""Writes models of Keras 2.15 and TensorFlow Addons 0.23, in each format, with inputs and outputs.

`make test-addons` runs it in the environment of the real TensorFlow Addons:
`python tests/addons/make_files.py FOLDER`. Nothing of keras_norm is imported here.
"""

import json
import re
import sys
from pathlib import Path

import contrib
import h5py
import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa

keras = tf.keras
layers = keras.layers
addons = tfa.layers

IMAGE = (8, 8, 3)
STEPS = (7, 5)


def group():
    """Groups counted on the last axis, on the first, and one per channel."""
    x = inputs = keras.Input(IMAGE)
    x = layers.Conv2D(8, 3)(x)
    x = addons.GroupNormalization(groups=4, epsilon=1e-2)(x)
    x = addons.GroupNormalization(groups=2, axis=3, center=False, gamma_regularizer="l2")(x)
    x = layers.Reshape((8, 6, 6))(x)
    x = addons.GroupNormalization(groups=2, axis=1, scale=False)(x)
    x = addons.GroupNormalization(groups=-1)(x)
    return keras.Model(inputs, layers.Flatten()(x))


def instance():
    """As a `Sequential` model, which names no input layer."""
    return keras.Sequential(
        [
            layers.Conv2D(6, 3, activation="relu", input_shape=IMAGE),
            addons.InstanceNormalization(),
            layers.Conv2D(4, 3, padding="same"),
            addons.InstanceNormalization(
                axis=3,
                epsilon=1e-5,
                center=True,
                scale=True,
                beta_initializer="random_uniform",
                gamma_initializer="random_uniform",
                beta_constraint="non_neg",
            ),
            addons.InstanceNormalization(center=False, scale=False),
            layers.GlobalMaxPooling2D(),
        ]
    )


def response():
    """Filter response normalization with its activation."""
    x = inputs = keras.Input(IMAGE)
    x = layers.Conv2D(4, 3)(x)
    x = addons.FilterResponseNormalization()(x)
    x = addons.TLU(tau_initializer="random_uniform")(x)
    x = addons.FilterResponseNormalization(epsilon=1e-3, learned_epsilon=True)(x)
    return keras.Model(inputs, layers.Dense(2)(addons.TLU()(x)))


def weight():
    """Weight normalization of four kinds of layers, after its first call."""
    x = inputs = keras.Input(IMAGE)
    x = addons.WeightNormalization(layers.Conv2D(6, 3, activation="relu"))(x)
    x = addons.WeightNormalization(layers.Conv2DTranspose(4, 3, use_bias=False), data_init=False)(x)
    x = layers.Reshape((8, 32))(x)
    x = addons.WeightNormalization(layers.LSTM(5, return_sequences=True), data_init=False)(x)
    return keras.Model(inputs, addons.WeightNormalization(layers.Dense(3), data_init=False)(x))


def weight_fresh():
    """Weight normalization before its first call: the length of v is to be taken."""
    inputs = keras.Input((6,))
    x = addons.WeightNormalization(layers.Dense(4, activation="tanh"), data_init=False)(inputs)
    return keras.Model(inputs, x)


def spectral():
    """Spectral normalization, whose stored kernel is the one that inference uses."""
    inputs = keras.Input((4,), dtype="int32")
    x = addons.SpectralNormalization(layers.Embedding(11, 6))(inputs)
    x = addons.SpectralNormalization(layers.Conv1D(5, 2), power_iterations=3)(x)
    x = layers.Reshape((3, 1, 5))(x)
    x = addons.SpectralNormalization(layers.Conv2DTranspose(3, 2))(x)
    return keras.Model(inputs, addons.SpectralNormalization(layers.Dense(2, use_bias=False))(x))


def lstm():
    """The LSTM cell, forwards and backwards, over masked steps."""
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(11, 5, mask_zero=True)(inputs)
    cell = tfa.rnn.LayerNormLSTMCell(4, recurrent_activation="hard_sigmoid", norm_epsilon=1e-2)
    x = layers.Bidirectional(layers.RNN(cell, return_sequences=True))(x)
    return keras.Model(inputs, layers.RNN(tfa.rnn.LayerNormLSTMCell(3, use_bias=False))(x))


def masked():
    """A norm behind a mask, which Addons passes on and takes no notice of."""
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(11, 6, mask_zero=True)(inputs)
    x = addons.GroupNormalization(3)(addons.InstanceNormalization()(x))
    return keras.Model(inputs, layers.GRU(3)(x))


def simple_rnn():
    """The simple cell, and two of them as one."""
    inputs = keras.Input(STEPS)
    x = layers.RNN(
        tfa.rnn.LayerNormSimpleRNNCell(4, layernorm_epsilon=1e-3, activation="relu"),
        return_sequences=True,
    )(inputs)
    cells = [tfa.rnn.LayerNormSimpleRNNCell(3), tfa.rnn.LayerNormSimpleRNNCell(2)]
    return keras.Model(inputs, layers.RNN(cells)(x))


def batch():
    """Arguments of batch normalization that Keras 3 has not."""
    x = inputs = keras.Input(IMAGE)
    x = layers.BatchNormalization(axis=[3], momentum=0.9)(x)
    x = layers.Conv2D(4, 3)(x)
    x = layers.BatchNormalization(fused=False, scale=False, trainable=False)(x)
    x = layers.BatchNormalization(
        renorm=True, renorm_clipping={"rmax": 2.0, "dmax": 3.0}, renorm_momentum=0.9
    )(x)
    x = layers.BatchNormalization(virtual_batch_size=2)(x)
    return keras.Model(inputs, layers.Dense(2)(x))


def nested():
    """A model used twice within a model, with a frozen layer, and a norm called twice."""
    norm = addons.InstanceNormalization(name="shared_norm")
    inner_inputs = keras.Input((8, 8, 4))
    y = layers.Conv2D(4, 3, padding="same")(addons.GroupNormalization(2)(inner_inputs))
    y = layers.BatchNormalization(trainable=False)(y)
    inner = keras.Model(inner_inputs, [y, layers.GlobalAveragePooling2D()(y)], name="inner")
    x = inputs = keras.Input(IMAGE)
    x = layers.Conv2D(4, 3, padding="same")(x)
    a, _ = inner(norm(x))
    b, pooled = inner(a)
    head = keras.Sequential([layers.Dense(6), addons.GroupNormalization(2)], name="head")
    joined = layers.add([a, b])
    joined = layers.Concatenate()([layers.GlobalAveragePooling2D()(joined), pooled])
    return keras.Model(inputs, {"scores": head(joined), "map": norm(b)})


def shared():
    """Layers of a model that a sequential one within has, too."""
    dense, norm = layers.Dense(6), addons.GroupNormalization(2)
    head = keras.Sequential([layers.Dense(6, activation="tanh"), dense, norm], name="head")
    inputs = keras.Input((6,))
    return keras.Model(inputs, head(norm(dense(inputs))))


def time_distributed():
    """Norms under `TimeDistributed`; Keras 2's hard sigmoid in gates and as activations."""
    inputs = keras.Input((4, *IMAGE))
    frame = keras.Sequential(
        [layers.Conv2D(4, 3, input_shape=IMAGE), addons.GroupNormalization(2), layers.Flatten()]
    )
    x = layers.TimeDistributed(addons.InstanceNormalization())(inputs)
    x = layers.TimeDistributed(frame)(x)
    x = layers.Dense(3, activation="tanh")(x)
    x = layers.Bidirectional(layers.GRU(3, recurrent_activation="hard_sigmoid"))(x)
    x = layers.Activation("hard_sigmoid")(layers.Dense(3, activation="hard_sigmoid")(x))
    return keras.Model(inputs, x)


def mixed():
    """A dtype policy of mixed precision, with an output in float32."""
    keras.mixed_precision.set_global_policy("mixed_float16")
    x = inputs = keras.Input(IMAGE)
    x = layers.Conv2D(4, 3)(x)
    x = addons.GroupNormalization(2)(x)
    x = addons.InstanceNormalization(dtype="float32")(x)
    model = keras.Model(inputs, layers.Dense(2, dtype="float32")(x))
    keras.mixed_precision.set_global_policy("float32")
    return model


def built_in():
    """Layers of Keras 2 whose configs Keras 3 refuses, and operators between tensors."""
    x = inputs = keras.Input(IMAGE)
    norm = layers.Normalization()
    norm.adapt(np.random.default_rng(2).normal(5.0, 3.0, (9, *IMAGE)))
    x = layers.ZeroPadding2D()(norm(x))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2)(x)
    x = layers.LeakyReLU(alpha=0.1)(layers.SeparableConv2D(4, 3)(x))
    y = layers.Conv2DTranspose(4, 3, padding="same")(x)
    x = layers.PReLU(shared_axes=[1, 2])(x + y) * 0.5
    x = layers.LayerNormalization()(layers.UpSampling2D()(x))
    x = addons.InstanceNormalization()(x)
    x = layers.Reshape((12, 48))(x)
    x = layers.MultiHeadAttention(2, 4)(x, x)
    x = layers.LSTM(4, return_sequences=True, dropout=0.1)(x)
    x, state = layers.GRU(4, return_state=True)(x)
    return keras.Model(inputs, layers.Multiply()([x, state]))


def contributed():
    """Bare names, as keras-contrib wrote them."""
    x = inputs = keras.Input(IMAGE)
    x = layers.Conv2D(4, 3)(x)
    x = contrib.InstanceNormalization(axis=-1)(x)
    x = contrib.InstanceNormalization(epsilon=1e-2)(x)
    x = contrib.BatchRenormalization()(x)
    x = layers.Reshape((4, 6, 6))(x)
    return keras.Model(inputs, contrib.GroupNormalization(groups=2, axis=1)(x))


KINDS = (
    group,
    instance,
    response,
    weight,
    weight_fresh,
    spectral,
    lstm,
    masked,
    simple_rnn,
    batch,
    nested,
    shared,
    time_distributed,
    mixed,
    built_in,
    contributed,
)


FORMATS = (
    ("save", "model.h5", {}),
    ("save", "model.keras", {}),
    ("save", "saved_model", {"save_format": "tf"}),
    ("save_weights", "old_weights.h5", {}),
    ("save_weights", "new.weights.h5", {}),
    ("save_weights", "checkpoint/weights", {"save_format": "tf"}),
)
# Addons's wrapper around an LSTM leaves a tensor where the kernel was, which no graph can hold.
UNSAVABLE = {("weight", "saved_model")}
# Weights that a layer has copies of, or derives others from.
COPIED = re.compile(r"renorm|^(mean|variance):")


def data(model, rng):
    """Four samples of what the model takes."""
    (tensor,) = model.inputs
    shape = (4, *tensor.shape[1:])
    if tensor.dtype.is_integer:
        x = rng.integers(1, 11, shape).astype("int32")
        x[1:, -2:] = 0  # what a mask hides, where there is one
        return x
    return rng.normal(1.0, 2.0, shape).astype("float32")


def train(model, x):
    """A few steps, after which no two weights are alike."""
    rng = np.random.default_rng(1)
    model.compile(keras.optimizers.SGD(1e-2), "mse")
    y = model.predict(x, verbose=0)
    model.train_on_batch(x, tf.nest.map_structure(lambda t: t + rng.normal(size=t.shape), y))
    for weight in model.weights:
        noise = rng.uniform(-0.1, 0.3, weight.shape)
        if weight.dtype.is_floating and not COPIED.search(weight.name):
            weight.assign_add(tf.cast(noise, weight.dtype))


def arguments():
    """What a file has of each class that was given no arguments but those it needs, by title."""
    dense, batch = layers.Dense(1), layers.BatchNormalization
    made = {
        "Addons>GroupNormalization": addons.GroupNormalization(),
        "Addons>InstanceNormalization": addons.InstanceNormalization(),
        "Addons>FilterResponseNormalization": addons.FilterResponseNormalization(),
        "Addons>TLU": addons.TLU(),
        "Addons>WeightNormalization": addons.WeightNormalization(dense),
        "Addons>SpectralNormalization": addons.SpectralNormalization(dense),
        "Addons>LayerNormLSTMCell": tfa.rnn.LayerNormLSTMCell(1),
        "Addons>LayerNormSimpleRNNCell": tfa.rnn.LayerNormSimpleRNNCell(1),
        "BatchNormalization": batch(),
        "BatchNormalization, renorm=True": batch(renorm=True),
        "BatchNormalization, virtual_batch_size=2": batch(virtual_batch_size=2),
    }
    return {title: layer.get_config() for title, layer in made.items()}


def write(kind, folder):
    """The model of one kind, in each format."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    folder.mkdir(parents=True)
    model = kind()
    x = data(model, np.random.default_rng(0))
    if kind is not weight_fresh:
        train(model, x)
    for save, name, how in FORMATS:
        if (kind.__name__, name) not in UNSAVABLE:
            getattr(model, save)(folder / name, **how)
    if kind is contributed:  # a file of its time: Keras 2.11 has a GroupNormalization of its own
        with h5py.File(folder / "model.h5", "r+") as file:
            file.attrs["keras_version"] = "2.2.4"
    y = model.predict(x, verbose=0)
    outputs = y if isinstance(y, dict) else {"y": y}
    np.savez(folder / "data.npz", x=x, **outputs)


def main(folder):
    """All kinds, or those that are named."""
    # TensorFlow 2.15 takes keras-contrib's formula for one that it knows, and ends the process.
    tf.config.optimizer.set_experimental_options({"remapping": False})
    for kind in KINDS:
        if not sys.argv[2:] or kind.__name__ in sys.argv[2:]:
            write(kind, folder / kind.__name__)
            print(kind.__name__, flush=True)
    keras.backend.clear_session()  # for names without numbers
    (folder / "arguments.json").write_text(json.dumps(arguments(), indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
