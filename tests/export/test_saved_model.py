"""`export_saved_model`: signature, graph, values, and what becomes of the target."""

import doctest
import inspect
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_norm
from keras_norm.export import export_saved_model, placing, saved_model, signature

BATCHES = (1, 7)


def trained_like(model):
    """Weights as after training: moving moments and scales are not at their initial values."""
    random = np.random.default_rng(0)
    for variable in model.weights:
        values = random.standard_normal(variable.shape) * 0.3
        variable.assign(np.abs(values) + 0.5 if "variance" in variable.path else values)
    return model


def sequential():
    return keras.Sequential(
        [
            keras.Input((6,), name="x"),
            layers.Dense(5),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(3, name="y"),
        ]
    )


def several():
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    total = layers.Add(name="total")([left, right])
    return keras.Model([left, right], [total, layers.Dense(2, name="head")(total)])


def by_key():
    inputs = {name: keras.Input((4,), name=name) for name in ("b", "a")}
    difference = layers.Subtract()([inputs["b"], inputs["a"]])
    return keras.Model(inputs, {"z": difference, "score": layers.Dense(1)(difference)})


def nested():
    inner_in = keras.Input((5, 4))
    inner = keras.Model(inner_in, layers.BatchNormalization()(inner_in), name="inner")
    inputs = keras.Input((5, 4), name="series")
    return keras.Model(inputs, layers.Dense(2, name="out")(inner(inner(inputs))))


def free_space():
    inputs = keras.Input((None, None, 3), name="image")
    return keras.Model(inputs, layers.Conv2D(4, 3, name="features")(inputs))


def embedded():
    inputs = keras.Input((7,), dtype="int32", name="tokens")
    return keras.Model(inputs, layers.Embedding(11, 3, name="vectors")(inputs))


def oddly_named():
    inputs = keras.Input((3,), name="my input-1")
    shared = layers.Dense(3, name="3-rows")
    return keras.Model(inputs, [shared(inputs), shared(shared(inputs))])


# builder, names of inputs, names of outputs in the order of the flat outputs
MODELS = [
    (sequential, ["x"], ["y"]),
    (several, ["left", "right"], ["total", "head"]),
    (by_key, ["a", "b"], ["score", "z"]),
    (nested, ["series"], ["out"]),
    (free_space, ["image"], ["features"]),
    (embedded, ["tokens"], ["vectors"]),
    (oddly_named, ["my_input_1"], ["tensor_3_rows", "tensor_3_rows_1"]),
]


def arguments(model, batch):
    """Random arrays for the model's inputs, in the order of `model.inputs`."""
    random = np.random.default_rng(batch)
    arrays = []
    for tensor in model.inputs:
        shape = (batch, *[size or 9 for size in tensor.shape[1:]])
        integers = tensor.dtype == "int32"
        arrays.append(random.integers(0, 11, shape) if integers else random.normal(size=shape))
    return [a.astype(t.dtype) for a, t in zip(arrays, model.inputs, strict=True)]


def called(model, arrays):
    if isinstance(model, keras.Sequential):
        return model(arrays[0], training=False)
    return model(keras.tree.pack_sequence_as(model.input, arrays), training=False)


def serving(path):
    loaded = tf.saved_model.load(path)
    signature = loaded.signatures["serving_default"]
    signature.owner = loaded  # the signature alone does not keep its variables alive
    return signature


def operations(concrete_function):
    """Types of all operations in the graph and in the functions that it calls."""
    graph = concrete_function.graph.as_graph_def()
    return set(re.findall(r'\bop: "(\w+)"', str(graph)))


@pytest.mark.parametrize(("build", "input_names", "output_names"), MODELS)
def test_signature_has_the_models_names_and_computes_its_values(
    tmp_path, build, input_names, output_names
):
    model = trained_like(build())
    path = export_saved_model(model, tmp_path / "exported")
    serve = serving(path)
    specs = serve.structured_input_signature[1]
    assert sorted(specs) == sorted(input_names)
    assert sorted(serve.structured_outputs) == sorted(output_names)
    for name, tensor in zip(input_names, model.inputs, strict=True):
        assert tuple(specs[name].shape) == (None, *tensor.shape[1:])
        assert specs[name].dtype.name == tensor.dtype
    for batch in BATCHES:
        arrays = arguments(model, batch)
        results = serve(**{n: tf.constant(a) for n, a in zip(input_names, arrays, strict=True)})
        expected = keras.tree.flatten(called(model, arrays))
        for name, value in zip(output_names, expected, strict=True):
            np.testing.assert_allclose(results[name], value, rtol=0, atol=1e-6)


def test_outputs_in_nested_dicts_are_named_after_their_layers():
    x = keras.Input((3,))
    first, second = (layers.Dense(1, name=name)(x) for name in ("first", "second"))
    for structure in ({"a": {"u": first}}, {"a": {"u": first, "v": second}, "b": second}):
        model = keras.Model(x, structure)
        tensors = keras.tree.flatten(structure)
        expected = ["first", "second", "second_1"][: len(tensors)]
        named = signature.named_outputs(model, structure)
        assert list(named) == expected
        assert all(a is b for a, b in zip(named.values(), tensors, strict=True))


def test_returns_the_path_and_creates_parents(tmp_path):
    target = tmp_path / "a" / "b" / "exported"
    assert export_saved_model(several(), str(target)) == target
    assert (target / "saved_model.pb").is_file()
    assert os.listdir(target.parent) == ["exported"]


def test_a_static_batch_size_becomes_free(tmp_path):
    inputs = keras.Input((3,), batch_size=4, name="x")
    model = keras.Model(inputs, layers.Dense(2, name="y")(inputs))
    serve = serving(export_saved_model(model, tmp_path / "exported"))
    assert tuple(serve.structured_input_signature[1]["x"].shape) == (None, 3)
    assert serve(x=tf.ones((7, 3)))["y"].shape == (7, 2)


def test_unnamed_inputs_keep_their_name_over_saving_and_loading(tmp_path):
    inputs = [keras.Input((3,)), keras.Input((3,))]
    model = keras.Model(inputs, layers.Add()(inputs))
    model.save(tmp_path / "model.keras")
    keras.Input((3,))  # moves the counters that name tensors
    again = keras.saving.load_model(tmp_path / "model.keras")
    names = [
        sorted(serving(export_saved_model(m, tmp_path / "exported")).structured_input_signature[1])
        for m in (model, again)
    ]
    assert names[0] == names[1]


def test_the_graph_assigns_no_variable(tmp_path):
    model = sequential()

    @tf.function
    def training(x):
        return model(x, training=True)

    in_training = operations(training.get_concrete_function(tf.TensorSpec((None, 6))))
    assert any("Assign" in operation for operation in in_training)
    served = operations(serving(export_saved_model(model, tmp_path / "exported")))
    assert "MatMul" in served
    assert not any("Assign" in operation for operation in served)


def test_an_earlier_call_of_the_model_does_not_leak_into_the_graph(tmp_path, five_or_three):
    data = tf.ones((1, 2))
    assert float(tf.function(five_or_three)(data)[0, 0]) == 5.0
    serve = serving(export_saved_model(five_or_three, tmp_path / "exported"))
    assert float(serve(x=data)["y"][0, 0]) == 3.0


def test_eight_threads_get_the_answers_of_one(tmp_path):
    """A thousand calls of layers that keep a state, which a thread could take from another."""
    inputs = keras.Input((4, 4, 6), name="x")
    x = keras_norm.SpectralNormalization(layers.Conv2D(6, 3))(inputs)
    x = keras_norm.BatchRenormalization()(keras_norm.SwitchableNormalization()(x))
    x = keras_norm.WeightNormalization(layers.Dense(2))(layers.Flatten()(x))
    model = trained_like(keras.Model(inputs, layers.Identity(name="y")(x)))
    serve = serving(export_saved_model(model, tmp_path / "exported"))
    batches = tf.random.stateless_normal((8, 3, 4, 4, 6), seed=(0, 0))
    alone = [serve(x=batch)["y"].numpy() for batch in batches]
    assert len({answer.tobytes() for answer in alone}) == 8

    def call(place):
        return place % 8, serve(x=batches[place % 8])["y"].numpy()

    with ThreadPoolExecutor(8) as threads:
        for place, answer in threads.map(call, range(1000)):
            np.testing.assert_allclose(answer, alone[place], rtol=0, atol=1e-6)


def test_the_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = inspect.getdoc(export_saved_model)
    example = doctest.DocTestParser().get_doctest(text, {}, "export_saved_model", None, None)
    assert len(example.examples) > 5
    assert doctest.DocTestRunner(verbose=False).run(example).failed == 0


def test_an_older_export_is_replaced(tmp_path):
    target = tmp_path / "exported"
    export_saved_model(several(), target)
    export_saved_model(sequential(), target)
    assert list(serving(target).structured_input_signature[1]) == ["x"]
    assert os.listdir(tmp_path) == ["exported"]


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def half_written(model, folder, shapes):
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"half")
    raise OSError("the disk is full")


def second_rename_fails():
    renamed = []

    def rename(source, target):
        renamed.append(source)
        if len(renamed) == 2:
            raise OSError("the second rename")
        os.replace(source, target)

    return rename


@pytest.mark.parametrize(
    ("module", "name", "replacement"),
    [
        (saved_model, "write_saved_model", half_written),
        (placing.os, "fsync", None),
        (placing.os, "rename", second_rename_fails()),
    ],
    ids=["writing", "flushing", "renaming"],
)
def test_a_failing_export_leaves_the_old_one(tmp_path, monkeypatch, module, name, replacement):
    target = tmp_path / "exported"
    export_saved_model(several(), target)
    before = contents(target)

    def fails(*args):
        raise OSError("fails")

    monkeypatch.setattr(module, name, replacement or fails)
    with pytest.raises(OSError, match=r"fails|full|second"):
        export_saved_model(sequential(), target)
    monkeypatch.undo()
    assert contents(target) == before
    assert os.listdir(tmp_path) == ["exported"]


def test_an_interrupted_deletion_leaves_no_half_folder_as_old(tmp_path, monkeypatch):
    target = tmp_path / "exported"
    export_saved_model(several(), target)

    def interrupted(path, **kwargs):
        (path / "saved_model.pb").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(placing.shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_saved_model(sequential(), target)
    monkeypatch.undo()
    assert list(serving(target).structured_input_signature[1]) == ["x"]
    assert not list(tmp_path.glob(".exported.*/old"))


def test_a_failing_export_leaves_nothing_where_nothing_was(tmp_path, monkeypatch):
    monkeypatch.setattr(saved_model, "write_saved_model", half_written)
    with pytest.raises(OSError, match="full"):
        export_saved_model(sequential(), tmp_path / "exported")
    assert os.listdir(tmp_path) == []


REPLACING = """
import importlib.util, itertools, pathlib, sys
spec = importlib.util.spec_from_file_location("placing", sys.argv[1])
placing = importlib.util.module_from_spec(spec)
spec.loader.exec_module(placing)
print("ready", flush=True)
for count in itertools.count():
    with placing.placed(pathlib.Path(sys.argv[2])) as new:
        new.mkdir()
        for name in "abc":
            (new / name).write_text(str(count % 10) * 10000)
"""


def test_a_killed_process_leaves_a_whole_folder(tmp_path):
    # Loads the module alone, so that the process starts in no time.
    target = tmp_path / "folder"
    with placing.placed(target) as new:
        new.mkdir()
        for name in "abc":
            (new / name).write_text("x" * 10000)
    for milliseconds in (3, 7, 12, 18, 25, 31, 44, 60):
        command = [sys.executable, "-c", REPLACING, placing.__file__, str(target)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(milliseconds / 1000)
            process.send_signal(signal.SIGKILL)
        # Between the two renames the old folder is under its other name, just as whole; so is
        # every `old` that an earlier kill left.
        folders = [*tmp_path.glob("folder"), *tmp_path.glob(".folder.*/old")]
        assert folders
        for folder in folders:
            assert sorted(os.listdir(folder)) == ["a", "b", "c"]
            texts = {(folder / name).read_text() for name in "abc"}
            assert len(texts) == 1
            text = texts.pop()
            assert len(text) == 10000
            assert len(set(text)) == 1


def test_refuses_to_replace_what_is_no_saved_model(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"`path` must be free.*Received.*holds \['notes.txt'\]"):
        export_saved_model(several(), tmp_path)
    with pytest.raises(ValueError, match=r"`path` must be free.*\(a file\).*another path"):
        export_saved_model(several(), tmp_path / "notes.txt")
    # Names that SavedModels have, without the graph that makes one.
    mine = {"notes.txt": b"mine", "project/assets/photo.jpg": b"", "project/debug/log": b"text"}
    for name, content in mine.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"`path` must be free.*holds \['assets', 'debug'\]"):
        export_saved_model(several(), tmp_path / "project")
    assert contents(tmp_path) == mine


def test_refuses_a_model_without_known_inputs(tmp_path):
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    for model in (Subclassed(), keras.Sequential([layers.Dense(2)]), layers.Dense(2)):
        with pytest.raises(ValueError, match=r"`model` must be .* Received: model=.* Wrap it"):
            export_saved_model(model, tmp_path / "exported")
    assert os.listdir(tmp_path) == []


def test_refuses_another_backend(tmp_path, monkeypatch):
    model = several()
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match=r"must be 'tensorflow'.*'jax'.*KERAS_BACKEND="):
        export_saved_model(model, tmp_path / "exported")
    assert os.listdir(tmp_path) == []
