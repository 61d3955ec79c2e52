"""Whitens handwritten digits: shows what that does to the images and to the covariance of their
pixels, trains a small classifier on raw, scaled and whitened inputs, and saves and exports the ZCA
model, whitening inside, to compare every file with the live model."""

import argparse
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_norm

IMAGE = [1, 2, 3]  # Whole images are the samples: every pixel has statistics of its own.
INPUTS = {
    "raw": lambda: keras.layers.Identity(),
    "z-score": lambda: keras_norm.StandardNormalization(axis=IMAGE),
    "min-max": lambda: keras_norm.MinMaxNormalization(axis=IMAGE),
    # Border pixels hardly vary. A small ε would blow up their noise to the size of the strokes.
    "ZCA": lambda: keras_norm.WhiteningNormalization(IMAGE, "zca", epsilon=1.0),
    "PCA": lambda: keras_norm.WhiteningNormalization(IMAGE, "pca", components=30, epsilon=1.0),
}
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--inputs", action="append", choices=INPUTS)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--output", type=Path, default=Path("saved_models/demo/06_zca_digits"))
parser.add_argument("--min-accuracy", type=float, default=0.93)
flags = parser.parse_args()
flags.output.mkdir(parents=True, exist_ok=True)
x, y = load_digits(return_X_y=True)
x = x.reshape(-1, 8, 8, 1).astype("float32")  # Pixels from 0 to 16.
x, x_test, y, y_test = train_test_split(x, y, test_size=450, random_state=0, stratify=y)

zca = keras_norm.WhiteningNormalization(IMAGE, epsilon=1e-2)
zca.adapt(x)
white = zca(x)
back = zca.inverse()(white)
figure = plt.figure(figsize=(11, 5), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=(3, 2))
rows = {"original": x, "whitened": white, "inverted": back}
for (name, images), panels in zip(rows.items(), left.subplots(3, 6), strict=True):
    for panel, image in zip(panels, images, strict=False):
        limit = 3 if name == "whitened" else 16
        panel.imshow(image, cmap="gray_r", vmin=-limit if name == "whitened" else 0, vmax=limit)
        panel.set(xticks=[], yticks=[])
    panels[0].set_ylabel(name)
for panel, (name, images) in zip(right.subplots(2, 1), list(rows.items())[:2], strict=True):
    covariance = np.cov(np.reshape(images, (len(x), -1)).T)
    limit = np.abs(covariance).max()
    shown = panel.imshow(covariance, cmap="RdBu_r", vmin=-limit, vmax=limit)
    panel.set(title=f"covariance of the pixels, {name}", xticks=[], yticks=[])
    right.colorbar(shown, ax=panel)
figure.savefig(flags.output / "digits.png", dpi=150)

console, table, passed = Console(), Table("inputs", "test accuracy"), True
for name in flags.inputs or INPUTS:
    console.rule(f"{name}: training")
    keras.utils.set_random_seed(0)
    layer = INPUTS[name]()
    if name != "raw":
        layer.adapt(x)
    hidden = [keras.layers.Flatten(), keras.layers.Dense(32, activation="relu")]
    model = keras.Sequential([keras.Input((8, 8, 1)), layer, *hidden, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.02), loss, metrics=["accuracy"], jit_compile=False)
    model.fit(x, y, 32, flags.epochs, verbose=2)
    accuracy = model.evaluate(x_test, y_test, verbose=0)[1]
    table.add_row(name, f"{accuracy:.3f}")
    passed &= accuracy >= flags.min_accuracy
    if name == "ZCA":
        files = [flags.output / file for file in ("model.keras", "saved_model", "model.tflite")]
        model.save(files[0])
        keras_norm.export_saved_model(model, files[1])
        keras_norm.export_litert(model, files[2])
        checks = [keras_norm.verify(model, file, data=x_test) for file in files]
        print(*checks, sep="\n")
        passed &= all(check.passed for check in checks)
console.print(f"\nAccuracy on 450 test digits after {flags.epochs} epochs", table)
raise SystemExit(None if passed else "A file differs too much, or an accuracy is too low.")
