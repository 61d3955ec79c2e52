"""`python -m benchmarks.lite`: what exported `.tflite` files cost, and how right they are.

Latency: one `invoke` on one thread with XNNPACK, the two files in turns, medians. Both files are
exported the best way that there is for them: `export_litert`, batch 1, built-in operations.
Accuracy: SQNR, the signal's power over the error's, in dB; or the largest error over the largest
output, against the model in float64.
"""

import tempfile
from pathlib import Path
from typing import Annotated, NamedTuple

import keras
import numpy as np
import typer
from ai_edge_litert.interpreter import Interpreter
from rich.console import Console
from rich.progress import track
from rich.table import Table

import keras_norm
from benchmarks.peers.method import alternate
from benchmarks.report import grid
from benchmarks.runner import about, replace

MODES = (None, "float16", "dynamic", "int8", "int16x8")
MEANS = (0, 1000)
SPREADS = (1, 30)  # the largest group's standard deviation over the smallest one's


class Pair(NamedTuple):
    """A norm of ours and Keras's for the same input."""

    title: str
    ours: type
    keras: type
    arguments: tuple
    shape: tuple
    quantize: str | None = None
    blocks: int = 0  # of convolution, norm and ReLU; none: the norm alone


GROUP = (keras_norm.GroupNormalization, keras.layers.GroupNormalization)
INSTANCE = (keras_norm.InstanceNormalization, lambda: keras.layers.GroupNormalization(-1))
LAYER = (keras_norm.LayerNormalization, keras.layers.LayerNormalization)
PAIRS = (
    Pair("GroupNormalization(32)", *GROUP, (32,), (56, 56, 256)),
    Pair("GroupNormalization(32)", *GROUP, (32,), (128, 128, 64)),
    Pair("GroupNormalization(32)", *GROUP, (32,), (16, 16, 1024)),
    Pair("InstanceNormalization", *INSTANCE, (), (56, 56, 256)),
    Pair("InstanceNormalization", *INSTANCE, (), (128, 128, 64)),
    Pair("LayerNormalization", *LAYER, (), (56, 56, 256)),
    Pair("LayerNormalization", *LAYER, (), (197, 768)),
    Pair("4 blocks of GroupNormalization(32)", *GROUP, (32,), (56, 56, 64), None, 4),
    Pair("4 blocks of GroupNormalization(32)", *GROUP, (32,), (56, 56, 64), "int8", 4),
)
FLOATS = (
    lambda: keras_norm.GroupNormalization(32),
    keras_norm.InstanceNormalization,
    keras_norm.LayerNormalization,
)
console = Console()


def numbers(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, "float32")


def network(make, pair):
    """The norm alone, or blocks of convolution, norm and ReLU, with weights as if trained."""
    x = inputs = keras.Input(pair.shape)
    for _ in range(pair.blocks):
        x = keras.layers.Conv2D(pair.shape[-1], 3, padding="same")(x)
        x = keras.layers.ReLU()(make(*pair.arguments)(x))
    if not pair.blocks:
        x = make(*pair.arguments)(inputs)
    model = keras.Model(inputs, x)
    for seed, weight in enumerate(model.weights):
        weight.assign(numbers(weight.shape, seed))  # a gamma of 1 and a beta of 0 would vanish
    return model


def exported(model, folder, name, quantize=None, data=None):
    """The file of a model."""
    path = Path(folder) / f"{name}.tflite"
    given = {} if quantize not in ("int8", "int16x8") else {"representative_data": data}
    return keras_norm.export_litert(model, path, quantize=quantize, **given)


def started(path):
    """The interpreter of a file, on one thread."""
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def runner_of(path):
    """A function from the input of a file to its output."""
    interpreter = started(path)
    (entry,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(x):
        interpreter.set_tensor(entry["index"], x)
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])

    return run


def invocation(path, x):
    """The call of a file on x: its input is in place, and nobody copies its output."""
    interpreter = started(path)
    (entry,) = interpreter.get_input_details()
    interpreter.set_tensor(entry["index"], x)
    return interpreter.invoke


def latency(pair):
    """Milliseconds of ours and of Keras's."""
    x = numbers((1, *pair.shape))
    with tempfile.TemporaryDirectory() as folder:
        calls = {}
        for name, make in (("ours", pair.ours), ("keras", pair.keras)):
            data = numbers((8, *pair.shape))
            path = exported(network(make, pair), folder, name, pair.quantize, data)
            calls[name] = invocation(path, x)
        return alternate(calls, least=15, most=101, budget=1.0)["times"]


def sqnr(actual, expected):
    """Decibels of the expected numbers' power over the error's."""
    error = np.mean((np.asarray(actual, "float64") - expected) ** 2)
    return 10 * np.log10(np.mean(np.asarray(expected, "float64") ** 2) / error)


def spread_network(spread):
    """Convolution, group norm, ReLU, convolution; the groups' amplitudes from 1 to `spread`."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((28, 28, 16))
    first = keras.layers.Conv2D(64, 3, padding="same")
    x = keras_norm.GroupNormalization(32)(first(inputs))
    model = keras.Model(inputs, keras.layers.Conv2D(16, 1)(keras.layers.ReLU()(x)))
    kernel, bias = first.get_weights()
    amplitudes = np.repeat(np.geomspace(1, spread, 32), 2).astype("float32")
    first.set_weights([kernel * amplitudes, bias * amplitudes])
    return model


def quantized_accuracy(spread):
    """SQNR of each mode, on samples that the calibration has not seen."""
    model, data, x = spread_network(spread), numbers((32, 28, 28, 16)), numbers((8, 28, 28, 16), 1)
    expected = np.asarray(model(x))
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for mode in MODES:
            run = runner_of(exported(model, folder, str(mode), mode, data))
            found[mode] = sqnr(np.concatenate([run(one[None]) for one in x]), expected)
    return found


def float_error(make, mean):
    """The largest error over the largest output, of data with a mean and a deviation of 1."""
    shape = (56, 56, 64)
    inputs = keras.Input(shape)
    layer = make()
    model = keras.Model(inputs, layer(inputs))
    x = numbers((1, *shape)) + np.float32(mean)
    wide = type(layer).from_config(layer.get_config() | {"dtype": "float64"})
    expected = np.asarray(wide(x.astype("float64")))
    with tempfile.TemporaryDirectory() as folder:
        actual = runner_of(exported(model, folder, "float"))(x)
    return np.abs(actual - expected).max() / np.abs(expected).max()


def latencies():
    """Rows of the table of latencies."""
    for pair in track(PAIRS, "Latency", console=console):
        times = latency(pair)
        cells = (f"{times['ours']:.3g}", f"{times['keras']:.3g}")
        size, gain = "×".join(map(str, pair.shape)), f"{times['keras'] / times['ours']:.2f}"
        yield (pair.title, size, pair.quantize or "float32", *cells, gain)


def accuracies():
    """Rows of the table of quantized accuracy."""
    found = [quantized_accuracy(spread) for spread in track(SPREADS, "SQNR", console=console)]
    for mode in MODES:
        yield (mode or "float32", *(f"{one[mode]:.1f}" for one in found))


def errors():
    """Rows of the table of errors in float32."""
    for make in track(FLOATS, "Errors", console=console):
        yield (type(make()).__name__, *(f"{float_error(make, mean):.1e}" for mean in MEANS))


SECTIONS = (
    (
        "Latency",
        "Milliseconds of one `invoke` on one thread; Keras's layer exported the same way.",
        ("layer", "shape", "computes in", "ours", "Keras", "ratio"),
        latencies,
    ),
    (
        "Quantized",
        "SQNR in dB, convolution → group norm → ReLU → convolution, by the ratio of the loudest "
        "group's amplitude to the quietest one's.",
        ("computes in", *(f"spread {spread}" for spread in SPREADS)),
        accuracies,
    ),
    (
        "Largest error in float32",
        "Over the largest output, for data of deviation 1 and this mean.",
        ("layer", *(f"mean {mean}" for mean in MEANS)),
        errors,
    ),
)


def main(
    output: Annotated[Path | None, typer.Option(help="A Markdown file to write, too")] = None,
):
    """Measures the files of exported layers: latency, quantized accuracy, errors."""
    machine = about()
    parts = ["# Exported files", f"{machine['date']}, {machine['processor']}, one thread."]
    for title, words, head, rows in SECTIONS:
        lines = list(rows())
        table = Table(*head, title=title, caption=words)
        for line in lines:
            table.add_row(*line)
        console.print(table)
        parts.append(f"## {title}\n\n{words}\n\n{grid(head, lines).strip()}")
    if output:
        replace(output, lambda path: path.write_text("\n\n".join(parts) + "\n"))
        console.print(f"Written to {output}")


if __name__ == "__main__":
    typer.run(main)
