"""Teaches an autoencoder two photographs, then paints each in the style of the other: it moves the
statistics of the one's features to those of the other's, by more and more, and decodes them."""

import argparse
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_sample_image

import keras_norm


def photograph(name):
    """A photograph at half its size, [1, H, W, 3] from 0 to 1; its sides are multiples of four."""
    pixels = load_sample_image(name)[:424].astype("float32") / 255
    return pixels.reshape(1, 212, 2, 320, 2, 3).mean(axis=(2, 4))


def crop(pixels, size, generator):
    top, left = (generator.integers(n - size + 1) for n in pixels.shape[1:3])
    return pixels[0, top : top + size, left : left + size]


def conv(filters, strides=1, activation="relu"):
    return keras.layers.Conv2D(filters, 3, strides, padding="same", activation=activation)


def distance(features, others):
    """How far means and standard deviations of the channels are apart."""
    moments = [np.stack([np.mean(f, (1, 2)), np.std(f, (1, 2))]) for f in (features, others)]
    return np.abs(moments[0] - moments[1]).mean()


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--crops", type=int, default=3000)
parser.add_argument("--epochs", type=int, default=4)
parser.add_argument("--max-error", type=float, default=0.05)
parser.add_argument("--max-distance", type=float, default=0.6)
output = Path(__file__).parents[1] / "saved_models/demo/05_style_transfer_adain"
parser.add_argument("--output", type=Path, default=output)
flags = parser.parse_args()
photographs = {name: photograph(f"{name}.jpg") for name in ("china", "flower")}
console, generator, up = Console(), np.random.default_rng(0), keras.layers.UpSampling2D
console.rule("Training on crops of both photographs")
keras.utils.set_random_seed(0)
encoder = keras.Sequential([conv(32), conv(48, 2), conv(64, 2)])
decoder = [conv(48), up(), conv(32), up(), conv(32), conv(3, activation="sigmoid")]
decoder = keras.Sequential(decoder)
autoencoder = keras.Sequential([keras.Input((None, None, 3)), encoder, decoder])
rate = keras.optimizers.schedules.CosineDecay(3e-3, flags.epochs * -(-flags.crops // 8))
autoencoder.compile(keras.optimizers.Adam(rate), "mae", jit_compile=False)
sources = [*photographs.values()] * -(-flags.crops // 2)
x = np.stack([crop(source, 64, generator) for source in sources[: flags.crops]])
autoencoder.fit(x, x, batch_size=8, epochs=flags.epochs, verbose=2)
adain, passed = keras_norm.AdaptiveInstanceNormalization(), True
table = Table("content", "style", "strength", "features", "picture", "pixel error")
figure, panels = plt.subplots(2, 6, figsize=(20, 5), layout="constrained")
for row, (content, style) in zip(panels, (("china", "flower"), ("flower", "china")), strict=True):
    pictures = {"content": photographs[content], "style": photographs[style]}
    ours, theirs = encoder(pictures["content"]), encoder(pictures["style"])
    for strength in np.linspace(0, 1, 4):
        features = (1 - strength) * ours + strength * adain([ours, theirs])
        picture = pictures[f"strength {strength:.2f}"] = decoder(features)
        apart = [distance(f, theirs) / distance(ours, theirs) for f in (features, encoder(picture))]
        error = np.abs(picture - photographs[content]).mean()
        passed &= strength > 0 or error <= flags.max_error
        passed &= strength < 1 or apart[1] <= flags.max_distance
        table.add_row(content, style, f"{strength:.2f}", *(f"{n:.3f}" for n in (*apart, error)))
    for panel, (title, picture) in zip(row, pictures.items(), strict=True):
        panel.imshow(picture[0])
        panel.set(title=title, xticks=[], yticks=[])
console.print("\nStatistics: 1 = as far from the style's as the content's are", table)
flags.output.mkdir(parents=True, exist_ok=True)
figure.savefig(flags.output / "style_transfer.png", dpi=100)
raise SystemExit(None if passed else "An error or a distance to the style is too large.")
