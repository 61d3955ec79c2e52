"""Whitens handwritten digits, trains linear classifiers on raw, scaled and whitened ones, exports
the one on ZCA with the whitening inside, and compares what the files answer with the model."""

import argparse
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import CenteredNorm
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_norm

IMAGE = [1, 2, 3]  # A sample is a whole image, and every pixel a feature.
INPUTS = {
    "raw": keras.layers.Identity(),
    "z-score": keras_norm.StandardNormalization(axis=IMAGE),
    "min-max": keras_norm.MinMaxNormalization(axis=IMAGE),
    # A smaller ε would blow up the pixels of the border, which are hardly ever inked.
    "ZCA": keras_norm.WhiteningNormalization(axis=IMAGE, epsilon=1.0),
    "PCA": keras_norm.WhiteningNormalization(IMAGE, "pca", components=30, epsilon=1.0),
}
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=15)
parser.add_argument("--min-accuracy", type=float, default=0.9)
output = Path(__file__).parents[1] / "saved_models/demo/06_zca_digits"
parser.add_argument("--output", type=Path, default=output)
flags = parser.parse_args()
x, y = load_digits(return_X_y=True)
x = x.reshape(-1, 8, 8, 1).astype("float32")  # from 0 to 16
x, x_test, y, y_test = train_test_split(x, y, test_size=450, random_state=0, stratify=y)
console, table, accuracies, passed = Console(), Table("inputs", "accuracy"), {}, True
for name, layer in INPUTS.items():
    console.rule(f"{name}: training")
    keras.utils.set_random_seed(0)
    if name != "raw":
        layer.adapt(x)
    head = [keras.layers.Flatten(), keras.layers.Dense(10, "softmax", name="digit")]
    model = keras.Sequential([keras.Input((8, 8, 1), name="image"), layer, *head])
    sgd, loss = keras.optimizers.SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy"
    model.compile(sgd, loss, metrics=["accuracy"], jit_compile=False)
    fit = model.fit(x, y, 32, flags.epochs, validation_data=(x_test, y_test), verbose=2)
    *_, last = accuracies[name] = fit.history["val_accuracy"]
    table.add_row(name, f"{last:.3f}")
    passed &= last >= flags.min_accuracy
    if name == "ZCA":
        files = [flags.output / file for file in ("saved_model", "model.tflite", "model.keras")]
        keras_norm.export_saved_model(model, files[0])
        keras_norm.export_litert(model, files[1])
        model.save(files[2])
        checks = [keras_norm.verify(model, file, data=x_test) for file in files]
        passed &= all(check.passed for check in checks)
white = INPUTS["ZCA"](x)
rows = {"original": x, "whitened": white, "back again": INPUTS["ZCA"].inverse()(white)}
figure = plt.figure(figsize=(15, 4.5), layout="constrained")
left, middle, right = figure.subfigures(1, 3, width_ratios=(5, 3, 4))
for (name, images), panels in zip(rows.items(), left.subplots(3, 5), strict=True):
    for panel, image in zip(panels, images[:5], strict=True):
        low, high = (-3, 3) if name == "whitened" else (0, 16)
        panel.imshow(image, cmap="gray_r", vmin=low, vmax=high)
        panel.set(xticks=[], yticks=[])
    panels[0].set_ylabel(name)
for panel, name in zip(middle.subplots(2, 1), ("original", "whitened"), strict=True):
    covariance = np.cov(np.reshape(rows[name], (len(x), -1)).T)
    shown = panel.imshow(covariance, cmap="RdBu_r", norm=CenteredNorm())
    panel.set(title=f"covariance of the pixels, {name}", xticks=[], yticks=[])
    middle.colorbar(shown, ax=panel)
panel = right.subplots()
for name, values in accuracies.items():
    panel.plot(range(1, flags.epochs + 1), values, "o-", markersize=3, label=name)
panel.set(title="a linear classifier", xlabel="epoch", ylabel="accuracy on 450 test digits")
panel.legend()
figure.savefig(flags.output / "digits.png", dpi=120)
console.print(*map(str, checks), "\nAccuracy on 450 test digits", table, sep="\n")
raise SystemExit(None if passed else "A file differs too much, or an accuracy is too low.")
