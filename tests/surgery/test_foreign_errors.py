"""Hostile, damaged and unsuitable files raise `ValueError`, and nothing of theirs runs."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

import keras_norm
from keras_norm.surgery.foreign import reading
from tests.surgery.foreign_files import (
    called,
    functional,
    layer,
    sequential,
    write_h5,
    write_keras,
)

GOLDEN = Path(__file__).parents[2] / "saved_models" / "golden" / "addons"


def refuses(path, match, model=None):
    """It raises, and a model that was to take weights is as it was."""
    before = [] if model is None else model.get_weights()
    with pytest.raises(ValueError, match=match):
        keras_norm.load_foreign(path, model=model, verbose=False)
    for old, new in zip(before, [] if model is None else model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


DENSE = layer("Dense", units=1)
MASKING = layer("Masking", "masking", mask_value=0.0)
NORM = layer("Addons>GroupNormalization", groups=2)
CODE = ["4wEAAAAAAAAAAAAAAAE=", None, None]


@pytest.mark.parametrize(
    ("described", "match"),
    [
        (layer("Lambda", function=CODE), "must hold no code of its own.*'Lambda'"),
        (layer("TensorFlowOpLayer", node_def="x"), "must hold no code of its own"),
        (layer("Mine"), "known classes.*'Mine'.*Addons>TLU.*keras-contrib"),
        (layer("Addons>Maxout", num_units=2), "known classes.*'Addons>Maxout'"),
        (layer("Other>Dense", units=1), "known classes.*'Other>Dense'"),
        (layer("Custom>Dense", units=1), "known classes.*'Custom>Dense'"),
        (layer("Custom>InstanceNormalization", axis=-1), "known classes.*'Custom>Instance"),
        ({**layer("InstanceNormalization", axis=-1), "module": None}, "classes.*'__main__>Inst"),
        (layer("StringLookup", vocabulary="/etc/passwd"), "known classes.*'StringLookup'"),
        (layer("Dense", units=1, activation="mine"), "activations that are known.*'mine'"),
        (layer("Dense", units=1, activation="Addons>gelu"), "activations that are known"),
        (layer("Dense", units=1, mine=3), "layer \\(Dense\\) with mine=3, which Keras 3 has not"),
        (layer("Dense", units=-1), "arguments that Dense refuses"),
        (layer("Dense", units=1, dtype="mine"), "dtype policies that are known"),
        (layer("Addons>TLU", affine=True), "affine=True has a slope"),
        (layer("Addons>FilterResponseNormalization", axis=[1]), "axis must be \\[1, 2\\]"),
        (layer("Addons>GroupNormalization", groups=0), "`groups` must be a positive integer"),
        (layer("GroupNormalization", "layer", "keras_contrib.layers", axis=-1), "along axis 1"),
        (layer("Addons>WeightNormalization", layer=3), "must hold layers"),
        ({"class_name": "Dense"}, "must hold layers"),
        (layer("Reshape", target_shape=[7]), "not Keras 2's|must hold"),
    ],
    ids=lambda value: value["class_name"] if isinstance(value, dict) else "",
)
def test_layers_that_cannot_be_carried_over(described, match, tmp_path):
    shape = (None, 2, 2, 4) if "axis" in described.get("config", {}) else (None, 4)
    refuses(write_h5(tmp_path / "a.h5", sequential(described, shape=shape)), match)
    weights = h5_bytes(tmp_path)
    refuses(
        write_keras(tmp_path / "a.keras", sequential(described, shape=shape), weights=weights),
        match,
    )


def h5_bytes(tmp_path):
    with h5py.File(tmp_path / "weights.h5", "w"):
        pass
    return (tmp_path / "weights.h5").read_bytes()


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (functional(called(DENSE, ("nowhere", 0, 0))), "inputs of \\['layer'\\] are nowhere"),
        (functional(called(DENSE, ("layer", 0, 0))), "are nowhere"),
        (functional(called(DENSE, ("input_1", 0, 0)), call=5), "without call 5"),
        (functional(DENSE, DENSE), "two layers of one name"),
        (functional(called(layer("TFOpLambda", function="io.read_file"), ("input_1", 0, 0))),
         "TensorFlow's function 'io.read_file'"),
        (sequential(MASKING, NORM), "norms \\['layer'\\] in a sequential model behind a mask"),
        (sequential(MASKING, sequential(NORM)), "\\['layer'\\] in a sequential model behind"),
        (functional(called(MASKING, ("input_1", 0, 0)),
                    called(sequential(NORM), ("masking", 0, 0)), output="old", call=1),
         "norms \\['layer'\\] in 'old' behind a mask"),
        ({"class_name": "Functional", "config": {}}, "not Keras 2's"),
        ({"class_name": "Mine", "config": {}}, "functional or sequential.*'Mine'"),
        ({"class_name": "Sequential", "config": {"name": "s", "layers": [DENSE]}}, "never built"),
        ([], "no dictionary"),
    ],
)  # fmt: skip
def test_graphs_with_gaps(config, match, tmp_path):
    refuses(write_h5(tmp_path / "a.h5", config), match)


def test_no_module_of_a_file_is_imported(tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("Evil", "InstanceNormalization", "Dense"):
        described = layer(name, module="evil", units=1)
        path = write_keras(tmp_path / "a.keras", sequential(described), weights=h5_bytes(tmp_path))
        refuses(path, f"known.*'evil>{name}'")
    assert "evil" not in sys.modules and not (tmp_path / "ran").exists()


def many(group, names):
    """Puts data sets into a group, and these names of theirs."""
    group["k"] = np.ones((4, 1))
    group["other"] = group["k"]  # a hard link
    some = np.random.default_rng(0).random(500)
    group.create_dataset("large", data=np.tile(some, 400), compression="gzip")
    group.attrs["weight_names"] = names


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda file, group: group.__setitem__("k", h5py.SoftLink("/x")), "link to another place"),
        (lambda file, group: group.__setitem__("k", h5py.ExternalLink("b", "x")), "link to"),
        (lambda file, group: group.create_dataset("k", (4, 1), external=[("raw", 0, 16)]),
         "lies in another file"),
        (lambda file, group: group.create_virtual_dataset("k", h5py.VirtualLayout((4, 1), "f4")),
         "lies in another file"),
        (lambda file, group: group.create_dataset("k", (10**6, 10**6), "f4", chunks=(100, 100)),
         "claims .* bytes and stores few"),
        (lambda file, group: group.create_dataset("k", data=["text"]), "which is no number"),
        (lambda file, group: None, "without the weights"),
        (lambda file, group: many(group, ["k", "k"]), "stands in two places"),
        (lambda file, group: many(group, ["k", "other"]), "stands in two places"),
        (lambda file, group: many(group, ["k", "large"]), "unpacks to more than"),
    ],
)  # fmt: skip
def test_data_sets_that_are_not_what_they_seem(make, match, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "LARGEST", 10**6)
    path = write_h5(tmp_path / "a.h5", sequential(layer("Dense", units=1, use_bias=False)))
    with h5py.File(path, "r+") as file:
        group = file["model_weights"].create_group("layer")
        file["model_weights"].attrs["layer_names"] = [b"layer"]
        group.attrs["weight_names"] = [b"k"]
        make(file, group)
    refuses(path, match)


def test_archives_that_are_not_what_they_seem(tmp_path):
    path = tmp_path / "a.keras"
    write_keras(path, sequential(DENSE), weights=b"\0" * 10**6, compression=zipfile.ZIP_DEFLATED)
    refuses(path, "over 100 times its size")
    write_keras(path, sequential(DENSE), weights=b"no weights")
    refuses(path, "HDF5 cannot open")
    write_keras(path, sequential(DENSE), version="3.5.0")
    refuses(path, "`keras.saving.load_model` loads files of Keras 3")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other", "")
    refuses(path, "'metadata.json' is missing")


def test_configs_that_are_too_much(tmp_path):
    deep = json.loads("[" * 300 + "]" * 300)
    refuses(write_h5(tmp_path / "a.h5", {"config": deep}), "deeper than 200")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs["model_config"] = "[" * 30000
    refuses(tmp_path / "a.h5", "is no JSON")


def test_weights_that_do_not_fit(tmp_path):
    wide = {"layer": {"kernel": np.ones((5, 1)), "bias": [1.0]}}
    refuses(write_h5(tmp_path / "a.h5", sequential(DENSE), wide), "shape \\(5, 1\\).*\\(4, 1\\)")
    few = {"layer": {"kernel": np.ones((4, 1))}}
    refuses(write_h5(tmp_path / "a.h5", sequential(DENSE), few), "1 weights for layer 'layer'")
    refuses(write_h5(tmp_path / "a.h5", sequential(DENSE), {}), "with weights of layers \\[\\]")
    two = {"a": {"kernel": np.ones((4, 2)), "bias": [1.0, 1.0]}, "b": {"kernel": np.ones((3, 1))}}
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2), keras.layers.Dense(1)])
    refuses(write_h5(tmp_path / "a.h5", {}, two), "1 weights for layer .b.", model=model)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    refuses(GOLDEN / "spectral", "weights for the model", model=model)
    refuses(GOLDEN / "masked.keras", "without weights of", model=model)
    refuses(GOLDEN / "instance.h5", "with weights of layers", model=model)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda one: keras_norm.WeightNormalization(one), "along its last axis.*\\[1\\]"),
        (lambda one: keras_norm.SpectralNormalization(one), "along its last axis.*\\[1\\]"),
        (lambda one: keras_norm.WeightNormalization(one, axis=[-2, -1]), "along its last axis"),
    ],
)
def test_wrappers_whose_units_are_not_those_of_addons(make, match):
    """Addons's are the last axis of whatever kernel; here that of a square one."""
    model = keras.Sequential([keras.Input((4, 4)), make(keras.layers.Conv1DTranspose(4, 2))])
    refuses(GOLDEN / "weight_fresh.keras", match, model=model)


def test_the_model_that_takes_weights():
    with pytest.raises(TypeError, match="`model` must be a Keras model"):
        keras_norm.load_foreign(GOLDEN / "instance.h5", model=3)
    refuses(GOLDEN / "instance.h5", "`model` must be built", model=keras.Sequential())
    wrapper = keras_norm.WeightNormalization(keras.layers.Dense(4), data_init=True)
    model = keras.Sequential([keras.Input((6,)), wrapper])
    refuses(GOLDEN / "weight_fresh.keras", "must have no `data_init`", model=model)


def test_files_that_are_none(tmp_path):
    refuses(tmp_path / "nothing.h5", "must be a file or folder that exists")
    refuses(tmp_path, "without keras_metadata.pb")
    (tmp_path / "a.h5").write_bytes(b"no model")
    refuses(tmp_path / "a.h5", "HDF5 cannot open")
    with h5py.File(tmp_path / "a.h5", "w"):
        pass
    refuses(tmp_path / "a.h5", "holds weights alone; give the model")


@pytest.mark.parametrize("kept", [0, 300])
@pytest.mark.parametrize("name", ["variables.index", "variables.data-00000-of-00001"])
def test_folders_with_a_part_cut_off(name, kept, tmp_path):
    shutil.copytree(GOLDEN / "spectral", tmp_path, dirs_exist_ok=True)
    part = tmp_path / "variables" / name
    part.write_bytes(part.read_bytes()[:kept])
    refuses(tmp_path, "checkpoint")


def graph_of_a_dense_layer():
    """The objects of a checkpoint as Keras 2 writes them."""
    graph = TrackableObjectGraph()
    graph.nodes.add().children.add(node_id=1, local_name="layer_with_weights-0")
    inner = graph.nodes.add()
    for number, name in enumerate(("kernel", "bias"), start=2):
        inner.children.add(node_id=number, local_name=name)
        graph.nodes.add().attributes.add(name="VARIABLE_VALUE", checkpoint_key=name)
    return graph.SerializeToString()


@pytest.mark.parametrize(
    ("graph", "bias", "match"),
    [
        (b"", [1.0], "without objects"),
        (np.ones(3), [1.0], "cannot read"),
        (graph_of_a_dense_layer(), "text", "'bias' holds no numbers"),
        (graph_of_a_dense_layer(), ["text"], "'bias' holds no numbers"),
        (graph_of_a_dense_layer(), [1.0, 2.0], "shape \\(2,\\)"),
    ],
)
def test_checkpoints_that_are_not_what_they_seem(graph, bias, match, tmp_path):
    tensors = {"_CHECKPOINTABLE_OBJECT_GRAPH": graph, "bias": bias, "kernel": np.ones((4, 1))}
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "weights"),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=[tf.constant(value) for value in tensors.values()],
    )
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    refuses(tmp_path / "weights", match, model=model)


@pytest.mark.parametrize(("name", "value"), [("sn_u", np.ones(2)), ("initialized", np.ones(2))])
def test_state_of_wrappers_of_another_shape(name, value, tmp_path):
    kind = "WeightNormalization" if name == "initialized" else "SpectralNormalization"
    described = layer(f"Addons>{kind}", layer=layer("Dense", "dense", units=3, use_bias=False))
    kernel = np.ones((4, 3))
    weights = {"g": np.ones(3), "v": kernel} if name == "initialized" else {"w": kernel}
    path = write_h5(tmp_path / "a.h5", sequential(described), {"layer": {**weights, name: value}})
    refuses(path, f"'{name}' of layer 'layer' with shape \\(2,\\)")


def test_mutated_files(tmp_path):
    """In a process of its own: HDF5 is not ours to trust. Few here; `FUZZ=20000` asks for more."""
    attempts = os.environ.get("FUZZ", "24")
    files = [GOLDEN / "instance.h5", GOLDEN / "weight_fresh.keras", GOLDEN / "spectral"]
    command = [sys.executable, "-m", "tests.surgery.fuzz_foreign", attempts, tmp_path, *files]
    root = GOLDEN.parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
