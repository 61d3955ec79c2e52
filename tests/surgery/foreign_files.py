"""Files of Keras 2 made by hand: what a test cannot get the real thing to write."""

import json
import zipfile

import h5py
import numpy as np


def layer(class_name, name="layer", module=None, **config):
    """A layer as Keras 2 describes it."""
    described = {"class_name": class_name, "config": {"name": name, "trainable": True, **config}}
    return described if module is None else {**described, "module": module}


def sequential(*layers, shape=(None, 4)):
    """A sequential model as Keras 2 describes it."""
    first = layer("InputLayer", "input_1", batch_input_shape=list(shape), dtype="float32")
    return {"class_name": "Sequential", "config": {"name": "old", "layers": [first, *layers]}}


def functional(*layers, name="model", inputs="input_1", output="layer", call=0):
    """A functional model as Keras 2 describes it, of four numbers."""
    first = layer("InputLayer", inputs, batch_input_shape=[None, 4])
    config = {
        "name": name,
        "layers": [{**one, "name": one["config"]["name"]} for one in (first, *layers)],
        "input_layers": [[inputs, 0, 0]],
        "output_layers": [[output, call, 0]],
    }
    return {"class_name": "Functional", "config": config}


def called(described, *nodes):
    """A layer as it stands in a functional model, with what it is called on each time."""
    return {**described, "inbound_nodes": [[[*node, {}]] for node in nodes]}


def write_h5(path, config, weights=None, version="2.15.0"):
    """An .h5 file with a model's config and, by layer, its weights by name."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = version
        file.attrs["model_config"] = json.dumps(config)
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in weights or {}]
        for name, arrays in (weights or {}).items():
            inner = group.create_group(name)
            inner.attrs["weight_names"] = [f"{name}/{key}:0".encode() for key in arrays]
            for key, value in arrays.items():
                inner[f"{name}/{key}:0"] = np.asarray(value, "float32")
    return path


def write_keras(path, config, version="2.15.0", weights=b"", compression=zipfile.ZIP_STORED):
    """A .keras file with a model's config."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", weights)
    return path
