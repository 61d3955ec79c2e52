"""Trains a network on handwritten digits and serves it from a process without Keras and keras_norm.
While clients ask there, it trains on and exports a second version; the server changes over."""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

import keras
import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_norm

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=10, help="of the second version")
parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "saved_models/demo")
flags = parser.parse_args()
x, y = load_digits(return_X_y=True)
x = x.reshape(-1, 8, 8, 1).astype("float32") / 16
x, x_test, y, y_test = train_test_split(x, y, test_size=450, random_state=0, stratify=y)
keras.utils.set_random_seed(0)
conv = keras_norm.WeightNormalization(keras.layers.Conv2D(32, 3, activation="relu"))
norm, head = keras_norm.BatchRenormalization(momentum=0.9), keras.layers.Dense(10, "softmax")
layers = [keras.Input((8, 8, 1), name="image"), conv, norm, keras.layers.Flatten(), head]
model = keras.Sequential(layers)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
console, table, live = Console(), Table("version", "requests served", "accuracy", "difference"), {}


def train_and_export(epochs):
    model.fit(x, y, 64, epochs, verbose=2)
    base = flags.output / "digits"
    path = keras_norm.export_saved_model(model, base, version="next", warmup=x_test[:4])
    live[int(path.name)] = model.predict(x_test, verbose=0)
    console.print(f"Wrote {path}")


def ask(url, seed):
    chosen = np.random.default_rng(seed).integers(len(x_test), size=16)
    question = json.dumps({"instances": x_test[chosen].tolist()}).encode()
    with urlopen(f"{url}/v1/models/digits:predict", question, timeout=60) as reply:
        answer = json.load(reply)
    return answer["version"], chosen, np.array(answer["predictions"])


train_and_export(epochs=1)
command = [sys.executable, Path(__file__).with_name("model_server.py"), flags.output / "digits"]
with ExitStack() as stack:
    server = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    stack.callback(server.terminate)
    clients = ThreadPoolExecutor(4)
    stack.callback(clients.shutdown, cancel_futures=True)
    console.print(said := server.stdout.readline().strip())
    requests = [clients.submit(ask, said.split()[0], seed) for seed in range(20_000)]
    requests[100].exception()  # waits until so many are answered, or lost
    train_and_export(flags.epochs)
    console.print(server.stdout.readline().strip())
    answered = sum(request.done() for request in requests)
    requests[answered + 200].exception()
sent = [request for request in requests if not request.cancelled()]
lost = {request.exception() for request in sent} - {None}
answers, passed = [request.result() for request in sent if not request.exception()], not lost
for version, expected in live.items():
    served = [(chosen, digits) for number, chosen, digits in answers if number == version]
    accuracy = np.mean([digits.argmax(-1) == y_test[chosen] for chosen, digits in served])
    apart = max(np.abs(digits - expected[chosen]).max() for chosen, digits in served)
    table.add_row(f"{version}", f"{len(served)}", f"{accuracy:.3f}", f"{apart:.1e}")
    passed &= apart < 1e-5
console.print(f"Of {len(sent)} requests {len(lost)} were lost", *map(repr, lost), sep="\n")
console.print("Accuracy of the answers, and how far they are from the live model's", table)
raise SystemExit(None if passed else "Requests were lost, or answers are not the model's.")
