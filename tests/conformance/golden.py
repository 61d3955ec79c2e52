"""Writes the golden layouts and files that are missing: `python -m tests.conformance.golden`."""

import json
from pathlib import Path

import keras
import numpy as np

import keras_norm
from tests.conformance.support import data, inputs_of, named, randomize, several

ROOT = Path(__file__).parents[2]
LAYOUTS = ROOT / "tests" / "golden"
FILES = ROOT / "saved_models" / "golden"


def kept():
    """Folders of kept files, `<release>/<class>`."""
    return sorted(path.parent for path in FILES.glob("*/*/data.npz"))


def layout_of(row):
    """What files depend on: the weights in order, the config, the registered name."""
    example = row.example()
    layer = getattr(example, "cell", example)
    layer.name = "norm"
    example.build(list(row.input_shape) if several(row.input_shape) else row.input_shape)
    return {
        "registered_name": keras.saving.get_registered_name(row.layer),
        "weights": [
            {
                "name": weight.name,
                "shape": list(weight.shape),
                "dtype": weight.dtype,
                "trainable": weight.trainable,
            }
            for weight in layer.weights
        ],
        "config": json.loads(json.dumps(layer.get_config())),
    }


def write_files(row, folder):
    """A model of the row in every format, with an input and its output."""
    folder.mkdir(parents=True)
    inputs = inputs_of(row)
    model = randomize(keras.Model(inputs, keras.layers.Dense(2)(row.example()(inputs))))
    x = data(row.input_shape)
    np.savez(folder / "data.npz", **named(x), y=np.asarray(model(x)))
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    keras_norm.export_saved_model(model, folder / "saved_model")
    keras_norm.export_litert(model, folder / "model.tflite")


def main():
    """Writes the layouts and files that do not exist yet."""
    for row in keras_norm.catalog:
        keras.utils.clear_session()
        layout = LAYOUTS / f"{row.name}.json"
        if not layout.exists():
            layout.write_text(json.dumps(layout_of(row), indent=2) + "\n")
        folder = FILES / keras_norm.__version__ / row.name
        if not folder.exists():
            write_files(row, folder)


if __name__ == "__main__":
    main()
