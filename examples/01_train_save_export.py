"""Trains a small network on handwritten digits, once per norm, saves it in three formats, runs
every file in a process of its own, and compares what the file answers with the live model."""

import argparse
from pathlib import Path

import keras
import matplotlib.pyplot as plt
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_norm

SETTINGS = {  # The others keep their defaults. A run has 330 steps: averages must be short.
    "batch": {"momentum": 0.9},
    "renorm": {"momentum": 0.9, "rmax_ramp": (50, 200), "dmax_ramp": (50, 150)},
    "group": {"groups": 4},
}


def build(norm, steps):
    x = inputs = keras.Input((8, 8, 1), name="image")
    for filters, strides in ((32, 1), (32, 2), (64, 1)):
        x = keras.layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
        x = keras_norm.catalog.of_kind("activations")[norm].layer(**SETTINGS.get(norm, {}))(x)
        x = keras.layers.ReLU()(x)
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(x))
    model = keras.Model(inputs, keras.layers.Dense(10, activation="softmax", name="digit")(x))
    adam = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(4e-3, steps))
    # XLA needs longer to compile this network than the training takes.
    model.compile(adam, "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    return model


names = ["batch", "renorm", "layer", "rms", "group", "instance", "switchable", "pixel"]
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--norm", action="append", help="any norm of activations; default: eight")
parser.add_argument("--epochs", type=int, default=15)
parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "saved_models/demo")
parser.add_argument("--min-accuracy", type=float, default=0.97)
flags = parser.parse_args()
x, y = load_digits(return_X_y=True)
x = x.reshape(-1, 8, 8, 1).astype("float32") / 16
x, x_test, y, y_test = train_test_split(x, y, test_size=450, random_state=0, stratify=y)
table = Table("norm", "params", "live", "Saved\nModel", ".tflite", ".keras", "difference", "kB")
console, errors, passed = Console(), {}, True
for norm in flags.norm or names:
    console.rule(f"{norm}: training")
    keras.utils.set_random_seed(0)
    model = build(norm, flags.epochs * -(-len(x) // 64))
    history = model.fit(x, y, 64, flags.epochs, validation_data=(x_test, y_test)).history
    errors[norm] = [100 * (1 - accuracy) for accuracy in history["val_accuracy"]]
    console.print("Saving, and running each file in a process of its own")
    files = [flags.output / norm / name for name in ("saved_model", "model.tflite", "model.keras")]
    keras_norm.export_saved_model(model, files[0])
    keras_norm.export_litert(model, files[1])
    model.save(files[2])
    checks = [keras_norm.verify(model, file, data=x_test, bound=1e-5) for file in files]
    print(*checks, sep="\n")
    answers = [model.predict(x_test, verbose=0), *(check.outputs["digit"] for check in checks)]
    accuracies = [(answer.argmax(-1) == y_test).mean() for answer in answers]
    apart = max(check.largest_difference for check in checks)
    cells = [f"{model.count_params():,}", *(f"{a:.3f}" for a in accuracies), f"{apart:.1e}"]
    table.add_row(norm, *cells, f"{files[1].stat().st_size / 1000:.1f}")
    passed &= all(check.passed for check in checks) and min(accuracies) >= flags.min_accuracy
console.print("\nAccuracy on 450 test digits, live and from each file; kB of the .tflite", table)
figure, epochs = plt.figure(figsize=(11, 6), layout="constrained"), range(1, flags.epochs + 1)
for place, norm in enumerate(errors, 1):
    panel = figure.add_subplot(2, 4, place, xlabel="epoch", ylabel="error in %", yscale="log")
    panel.plot(epochs, list(zip(*errors.values(), strict=True)), color="lightgray", linewidth=1)
    panel.plot(epochs, errors[norm], "o-", color="crimson", markersize=4)
    panel.set_title(f"{norm}: {errors[norm][-1]:.1f} %")
    panel.set_yticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
    panel.spines[["top", "right"]].set_visible(False)
figure.suptitle("Errors on 450 test digits: each norm in red, the others in gray", x=0, ha="left")
figure.savefig(flags.output / "training_curves.png", dpi=150, bbox_inches="tight")
raise SystemExit(None if passed else "A file differs by over 1e-5, or an accuracy is too low.")
