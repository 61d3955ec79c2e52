"""Learns to write English letter by letter, from scikit-learn's descriptions of its data sets, with
plain and with normalized LSTM cells, and compares saved files' answers with the live model's."""

import argparse
from importlib.resources import files
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console

import keras_norm

CELLS = {"LSTM": keras.layers.LSTMCell, "LayerNormLSTM": keras_norm.LayerNormLSTMCell}
LENGTH = 50  # Characters of a sample.
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=12)
parser.add_argument("--units", type=int, default=128)
parser.add_argument("--max-bits", type=float, default=3.0)
folder = Path(__file__).parents[1] / "saved_models/demo/04_char_lstm"
parser.add_argument("--output", type=Path, default=folder)
flags = parser.parse_args()
flags.output.mkdir(parents=True, exist_ok=True)
pages = sorted((files("sklearn.datasets") / "descr").iterdir(), key=lambda page: page.name)
text = "\n".join(page.read_text("utf-8") for page in pages if page.name.endswith(".rst"))
letters = sorted(set(text))
codes = np.array([letters.index(letter) for letter in text], "int32")
samples = codes[: (len(codes) - 1) // LENGTH * LENGTH].reshape(-1, LENGTH)
targets = codes[1 : samples.size + 1].reshape(samples.shape)
valid = np.arange(len(samples)) % 10 == 9  # Every tenth passage is kept out of the training.


def build(cell):
    inputs = keras.Input((LENGTH,), dtype="int32", name="letters")
    x = keras.layers.Embedding(len(letters), 32)(inputs)
    x = keras.layers.RNN(cell, return_sequences=True)(x)
    model = keras.Model(inputs, keras.layers.Dense(len(letters), name="logits")(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # XLA needs longer to compile a loop over time than this training takes.
    model.compile(keras.optimizers.Adam(4e-3), loss, jit_compile=False)
    return model


def write(model, text, number, noise):
    _, embedding, recurrent, dense = model.layers
    states = recurrent.cell.get_initial_state(1)
    for place in range(number):
        output, states = recurrent.cell(embedding(np.array([letters.index(text[place])])), states)
        if place == len(text) - 1:  # All that there is has been read.
            odds = np.asarray(dense(output)[0]) / 0.5  # At temperature 0.5.
            text += letters[np.argmax(odds + noise.gumbel(size=len(letters)))]
    return text


console, bits = Console(), {}
for name, cell in CELLS.items():
    console.rule(f"{name}: training on {(~valid).sum() * LENGTH:,} characters")
    keras.utils.set_random_seed(0)
    model = build(cell(flags.units))
    kept = samples[valid], targets[valid]
    run = model.fit(samples[~valid], targets[~valid], 16, flags.epochs, validation_data=kept)
    bits[name] = np.array(run.history["val_loss"]) / np.log(2)
    console.print(write(model, "The ", 200, np.random.default_rng(0)), markup=False)
    console.print(f"{bits[name][-1]:.2f} bits per character, {model.count_params():,} parameters")
paths = [flags.output / name for name in ("model.keras", "saved_model", "model.tflite")]
model.save(paths[0])
keras_norm.export_saved_model(model, paths[1])
keras_norm.export_litert(model, paths[2])
checks = [keras_norm.verify(model, path, data=samples[valid][:20], bound=1e-5) for path in paths]
print(*checks, sep="\n")
figure, panel = plt.subplots(figsize=(7, 4.5), layout="constrained")
for (name, values), color in zip(bits.items(), ("gray", "crimson"), strict=True):
    panel.plot(range(1, flags.epochs + 1), values, "o-", color=color, label=name)
panel.legend()
panel.set(xlabel="epoch", ylabel="bits per character on unseen text")
figure.savefig(flags.output / "bits_per_character.png", dpi=150)
passed = all(check.passed for check in checks) and bits["LayerNormLSTM"][-1] <= flags.max_bits
raise SystemExit(None if passed else "A file differs by over 1e-5, or too little was learned.")
