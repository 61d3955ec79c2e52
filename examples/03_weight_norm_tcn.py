"""Reads handwritten digits pixel by pixel with a deep temporal convolutional network without any
norm of activations: its kernels are weight-normalized, with and without data-dependent init."""

import argparse
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_norm

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=8)
parser.add_argument("--seeds", type=int, default=2)
folder = Path(__file__).parents[1] / "saved_models/demo/03_weight_norm_tcn"
parser.add_argument("--output", type=Path, default=folder)
flags = parser.parse_args()
x, y = load_digits(return_X_y=True)
x = x[..., None].astype("float32") / 16  # 64 steps in time, one pixel each
x, x_test, y, y_test = train_test_split(x, y, test_size=450, random_state=0, stratify=y)


def build(data_init):
    def normalized(layer):
        return keras_norm.WeightNormalization(layer, data_init=data_init)

    model = keras.Sequential([keras.Input((64, 1))])
    for dilation in (1, 2, 4, 8, 16, 1, 2, 4, 8, 16):
        how = {"padding": "causal", "dilation_rate": dilation, "kernel_initializer": small()}
        model.add(normalized(layers.Conv1D(24, 3, **how)))
        model.add(layers.ReLU())
    model.add(layers.GlobalAveragePooling1D())
    model.add(normalized(layers.Dense(10, kernel_initializer=small())))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # XLA needs longer to compile this network than the training takes.
    model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"], jit_compile=False)
    return model


def small():
    """The paper's initial kernels, whose length says nothing of the data."""
    return keras.initializers.RandomNormal(stddev=0.05)


def deviations(model):
    """Standard deviation of each normalized layer's output on a test batch."""
    outputs = [layer.output for layer in model.layers if hasattr(layer, "data_init")]
    return [np.std(output) for output in keras.Model(model.inputs[0], outputs)(x_test[:200])]


figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
for data_init, color in ((False, "gray"), (True, "crimson")):
    name = f"{'with' if data_init else 'without'} data init"
    for seed in range(flags.seeds):
        keras.utils.set_random_seed(seed)
        model = build(data_init)
        model(x[:500], training=True)  # the paper's one batch of 500; `fit` would do it as well
        spread, label = deviations(model), name if seed == 0 else None
        run = model.fit(x, y, 64, flags.epochs, validation_data=(x_test, y_test), verbose=0)
        accuracy = run.history["val_accuracy"]
        right.plot(range(1, flags.epochs + 1), accuracy, "o-", color=color, label=label)
        left.plot(range(1, len(spread) + 1), spread, "o-", color=color, label=label)
        print(
            f"{name}, seed {seed}: {spread[-1]:.1e} comes out of the last layer before training, "
            f"test accuracy {accuracy[-1]:.3f}"
        )
left.set(title="Before training", xlabel="layer", ylabel="standard deviation", yscale="log")
right.set(title="On 450 test digits", xlabel="epoch", ylabel="accuracy", ylim=(0, 1))
right.legend()
flags.output.mkdir(parents=True, exist_ok=True)
figure.savefig(flags.output / "data_init.png", dpi=150)
keras_norm.bake(model).save(flags.output / "model.keras")  # plain layers, the same answers
