"""`export_litert`: signature, shapes, values, the operations it refuses, and the target."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers

from keras_norm.export import export_litert, litert, placing, verify
from keras_norm.export.precision import in_float32


def several(batch_size=None):
    image = keras.Input((6, 6, 3), batch_size=batch_size, name="image")
    scale = keras.Input((4,), batch_size=batch_size, name="scale")
    features = layers.Conv2D(4, 3, name="features")(image)
    pooled = layers.GlobalAveragePooling2D()(features)
    return keras.Model([image, scale], [features, layers.Multiply(name="scaled")([pooled, scale])])


def sequential():
    model = keras.Sequential(
        [
            keras.Input((6,), name="x"),
            layers.Dense(5),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.LayerNormalization(name="y"),
        ]
    )
    model.layers[1].moving_mean.assign([0.1, -0.2, 0.3, -0.4, 0.5])
    model.layers[1].moving_variance.assign([0.5, 1.0, 1.5, 2.0, 2.5])
    return model


def free_space():
    inputs = keras.Input((None, None, 3), name="image")
    return keras.Model(inputs, layers.Conv2D(4, 3, name="features")(inputs))


def nested():
    tokens = keras.Input((7,), dtype="int32", name="tokens")
    inner_in = keras.Input((7, 8))
    inner = keras.Model(inner_in, layers.LSTM(4)(inner_in), name="inner")
    return keras.Model({"tokens": tokens}, {"state": inner(layers.Embedding(11, 8)(tokens))})


def runner(path):
    interpreter = Interpreter(str(path))
    assert list(interpreter.get_signature_list()) == ["serving_default"]
    return interpreter.get_signature_runner("serving_default")


def signature_shapes(path):
    details = runner(path).get_input_details()
    return {name: tuple(map(int, d["shape_signature"])) for name, d in details.items()}


def arguments(model, shapes):
    random = np.random.default_rng(0)
    arrays = {}
    for tensor in model.inputs:
        shape = [size if size > 0 else 9 for size in shapes[tensor.name]]
        integers = tensor.dtype == "int32"
        array = random.integers(0, 11, shape) if integers else random.normal(size=shape)
        arrays[tensor.name] = array.astype(tensor.dtype)
    return arrays


@pytest.mark.parametrize(
    ("build", "input_shape", "shapes", "outputs"),
    [
        (sequential, None, {"x": (1, 6)}, {"y"}),
        (sequential, (3, 6), {"x": (3, 6)}, {"y"}),
        (sequential, {"x": (None, 6)}, {"x": (-1, 6)}, {"y"}),
        (several, None, {"image": (1, 6, 6, 3), "scale": (1, 4)}, {"features", "scaled"}),
        (
            several,
            {"image": (2, 6, 6, 3), "scale": (2, 4)},
            {"image": (2, 6, 6, 3), "scale": (2, 4)},
            {"features", "scaled"},
        ),
        (
            lambda: several(batch_size=5),
            None,
            {"image": (5, 6, 6, 3), "scale": (5, 4)},
            {"features", "scaled"},
        ),
        (free_space, None, {"image": (1, -1, -1, 3)}, {"features"}),
        (free_space, (2, 8, None, 3), {"image": (2, 8, -1, 3)}, {"features"}),
        (nested, None, {"tokens": (1, 7)}, {"state"}),
    ],
)
def test_signature_has_the_models_names_and_computes_its_values(
    tmp_path, build, input_shape, shapes, outputs
):
    model = build()
    path = export_litert(model, tmp_path / "model.tflite", input_shape=input_shape)
    assert signature_shapes(path) == shapes
    arrays = arguments(model, shapes)
    results = runner(path)(**arrays)
    assert set(results) == outputs
    sequence = isinstance(model, keras.Sequential)
    structure = model.inputs[0] if sequence else model.input
    called = model(keras.tree.map_structure(lambda t: arrays[t.name], structure), training=False)
    names = model.output_names if len(outputs) > 1 else outputs
    for name, value in zip(names, keras.tree.flatten(called), strict=True):
        assert results[name].dtype == np.float32
        np.testing.assert_allclose(results[name], value, rtol=0, atol=1e-5)


def test_free_sizes_run_at_any_size(tmp_path):
    model = free_space()
    run = runner(export_litert(model, tmp_path / "model.tflite", input_shape=(None, None, None, 3)))
    for shape in ((1, 5, 6, 3), (7, 9, 4, 3)):
        data = np.random.default_rng(0).normal(size=shape).astype("float32")
        np.testing.assert_allclose(run(image=data)["features"], model(data), rtol=0, atol=1e-5)


def test_traces_the_definition_of_operations(tmp_path, five_or_three):
    data = np.ones((1, 2), "float32")
    assert float(five_or_three(data)[0, 0]) == 5.0
    path = export_litert(five_or_three, tmp_path / "model.tflite")
    assert runner(path)(x=data)["y"][0, 0] == 3.0


class Whiten(layers.Layer):
    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function
        # Not called, and named like an operation of the layer above it.
        self.decoy = layers.Identity(name="Svd")

    def call(self, x):
        covariance = tf.matmul(x, x, transpose_a=True) + tf.eye(x.shape[-1])
        return tf.matmul(x, self.function(covariance))


class Block(layers.Layer):
    """Its two layers are the pair that TensorFlow's numbered name scopes make look alike."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.plain = layers.Dense(4, name="whiten_1")
        self.whiten = Whiten(tf.linalg.cholesky, name="whiten")

    def call(self, x):
        # In this order the operations of `whiten` get the scope `whiten_1`.
        return self.plain(self.whiten(x))


def svd_in_a_misleading_scope(covariance):
    with tf.name_scope("by_inverse"):
        return tf.linalg.svd(covariance)[1]


def whitening():
    inner_in = keras.Input((5, 4))
    inner_out = Block(name="block")(layers.Dense(4)(inner_in))
    inner = keras.Model(inner_in, inner_out, name="inner")
    inputs = keras.Input((5, 4), name="x")
    outputs = Whiten(svd_in_a_misleading_scope, name="by_svd")(inner(inputs))
    return keras.Model(inputs, Whiten(tf.linalg.inv, name="by_inverse")(outputs), name="net")


def test_refused_operations_are_named_with_their_layers(tmp_path):
    target = tmp_path / "model.tflite"
    target.write_bytes(b"old")
    with pytest.raises(ValueError) as caught:
        export_litert(whitening(), target)
    message = str(caught.value)
    assert message.startswith("`model` must consist of operations that are built into LiteRT. ")
    refused = re.search(r"Received: model='net' with (.*?)\. Replace", message).group(1)
    assert refused.split("; ") == [
        "Cholesky in the layer 'inner/block/whiten' (Whiten)",
        "MatrixInverse in the layer 'by_inverse' (Whiten)",
        "Svd in the layer 'by_svd' (Whiten)",
    ]
    assert "constant weight" in message
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.tflite"]


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "float64"])
def test_models_of_other_dtypes_become_float32(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    inputs = keras.Input((6, 6, 3), name="image")
    x = layers.Conv2D(4, 3, activation="relu")(inputs)
    inner = keras.Sequential([layers.BatchNormalization(), layers.Conv2D(2, 3)])
    model = keras.Model(inputs, keras.ops.tanh(inner(x)))
    before = [w.copy() for w in model.get_weights()]
    path = export_litert(model, tmp_path / "model.tflite")
    (detail,) = Interpreter(str(path)).get_signature_runner().get_output_details().values()
    assert detail["dtype"] == np.float32
    bound = {"float64": 1e-5, "mixed_bfloat16": 5e-2}.get(policy, 5e-3)
    assert verify(model, path, bound=bound).passed
    assert model.dtype_policy.name == policy
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


class Changed(layers.Layer):
    """Does not stay what its config says."""

    factor = 1.0

    def call(self, x):
        return x * self.factor


def test_a_half_precision_model_that_its_config_does_not_describe_is_refused(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    layer = Changed(name="changed")
    layer.factor = 7
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layer], name="net")
    with pytest.raises(ValueError, match=r"`model` must be what .*'net', where it computes some"):
        export_litert(model, tmp_path / "model.tflite")
    # What random numbers overflow in is compared all the same, and is no reason to refuse.
    layer.factor = 1.0
    model.layers[0].kernel.assign(np.full((4, 3), 1e6))
    assert in_float32(model).get_layer("changed").compute_dtype == "float32"
    # Nor is a model that cannot be tried: two samples of 8 are not enough for this one.
    inputs = keras.Input((None,))
    model = keras.Model(inputs, layers.Reshape((10, -1))(inputs))
    assert in_float32(model) is not model


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_inputs_of_other_dtypes_become_float32(dtype, tmp_path):
    inputs = keras.Input((4,), dtype=dtype, name="x")
    model = keras.Model(inputs, layers.Dense(3, name="y")(inputs))
    data = np.random.default_rng(0).normal(size=(8, 4))
    how = {"quantize": "int8", "representative_data": data}
    for options, required in (({}, {"bound": 1e-5}), (how, {"sqnr": 25})):
        path = export_litert(model, tmp_path / "model.tflite", **options)
        (detail,) = runner(path).get_input_details().values()
        assert detail["dtype"] == np.float32
        assert verify(model, path, data=data, **required).passed


def test_exports_in_threads_give_standard_error_back(tmp_path):
    """Each sends it to a file of its own, and back to where it went before."""
    inside, leave = threading.Event(), threading.Event()

    def other():
        with tempfile.TemporaryFile() as file, litert._standard_error_into(file):
            inside.set()
            leave.wait()

    before = os.fstat(2)
    thread = threading.Thread(target=other)
    with tempfile.TemporaryFile() as file, litert._standard_error_into(file):
        thread.start()
        inside.wait(0.2)
    inside.wait()
    leave.set()
    thread.join()
    assert os.path.samestat(os.fstat(2), before)


class WhitenedState(layers.Layer):
    state_size = output_size = 3

    def call(self, x, states):
        spread = tf.linalg.cholesky(tf.eye(3) * (1.0 + tf.reduce_sum(x[0] ** 2)))
        state = tf.matmul(x, spread)
        return state, [state]


def test_refused_operations_inside_a_loop_are_named_with_their_layer(tmp_path):
    inputs = keras.Input((5, 3))
    model = keras.Model(inputs, layers.RNN(WhitenedState(name="cell"), name="loop")(inputs))
    with pytest.raises(ValueError, match=r"Cholesky in the layer 'loop/cell' \(WhitenedState\)"):
        export_litert(model, tmp_path / "model.tflite")


def test_other_failures_of_the_converter_are_not_reworded(tmp_path, monkeypatch, capfd):
    def fails(*args, **kwargs):
        os.write(2, b"the converter's own words")
        raise RuntimeError("something else")

    monkeypatch.setattr(tf.lite.TFLiteConverter, "from_saved_model", fails)
    with pytest.raises(RuntimeError, match=r"^something else$"):
        export_litert(sequential(), tmp_path / "model.tflite")
    assert "the converter's own words" in capfd.readouterr().err
    assert os.listdir(tmp_path) == []


def test_the_converter_is_quiet(tmp_path, capfd):
    os.write(2, b"before ")
    export_litert(sequential(), tmp_path / "model.tflite")
    os.write(2, b"after")
    said = capfd.readouterr().err
    assert said.startswith("before ") and said.endswith("after")
    assert "SavedModel" not in said


def test_a_shape_goes_by_the_inputs_own_name_too():
    model = keras.Sequential([keras.Input((6,), name="my input"), layers.Dense(2)])
    for name in ("my input", "my_input"):
        assert litert._shapes(model, {name: (2, 6)}) == [(2, 6)]


@pytest.mark.parametrize(
    "name", ["model", "model.keras", "model.tflite.bak", "folder.tflite", "/", ""]
)
def test_refuses_paths_that_are_no_tflite_file(tmp_path, name):
    (tmp_path / "folder.tflite").mkdir()
    with pytest.raises(ValueError, match=r"`path` must be .*\.tflite.*Received: path=.*Pass"):
        export_litert(sequential(), tmp_path / name if name else name)
    assert os.listdir(tmp_path) == ["folder.tflite"]


@pytest.mark.parametrize(
    ("build", "input_shape"),
    [
        (sequential, (6,)),
        (sequential, (1, 7)),
        (sequential, (1, None)),
        (sequential, (0, 6)),
        (sequential, (True, 6)),
        (sequential, (1.0, 6)),
        (sequential, 6),
        (sequential, {"z": (1, 6)}),
        (several, (1, 6, 6, 3)),
        (several, {"image": (1, 6, 6, 3), "scale": (1, 5)}),
        (several, [(1, 6, 6, 3), (1, 4)]),
    ],
)
def test_refuses_shapes_that_do_not_fit(tmp_path, build, input_shape):
    with pytest.raises(ValueError, match=r"`input_shape` must .* Received: input_shape=.*\. "):
        export_litert(build(), tmp_path / "model.tflite", input_shape=input_shape)
    assert os.listdir(tmp_path) == []


def test_refuses_a_model_without_known_inputs(tmp_path):
    with pytest.raises(ValueError, match=r"`model` must be .* Received: model=.* Wrap it"):
        export_litert(keras.Sequential([layers.Dense(2)]), tmp_path / "model.tflite")


def test_returns_the_path_creates_parents_and_replaces(tmp_path):
    target = tmp_path / "a" / "b" / "model.tflite"
    assert export_litert(several(), str(target)) == target
    assert export_litert(sequential(), target) == target
    assert list(signature_shapes(target)) == ["x"]
    assert os.listdir(target.parent) == ["model.tflite"]


def test_the_file_has_the_permissions_of_any_other(tmp_path):
    (tmp_path / "other").write_bytes(b"")
    path = export_litert(sequential(), tmp_path / "model.tflite")
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failing_export_leaves_the_old_file(tmp_path, monkeypatch, step):
    target = tmp_path / "model.tflite"
    target.write_bytes(b"old")

    def fails(*args):
        raise OSError("fails")

    monkeypatch.setattr(placing.os, step, fails)
    with pytest.raises(OSError, match="fails"):
        export_litert(sequential(), target)
    monkeypatch.undo()
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.tflite"]


REPLACING = """
import importlib.util, itertools, pathlib, sys
spec = importlib.util.spec_from_file_location("placing", sys.argv[1])
placing = importlib.util.module_from_spec(spec)
spec.loader.exec_module(placing)
print("ready", flush=True)
for count in itertools.count():
    with placing.placed(pathlib.Path(sys.argv[2])) as new:
        new.write_text(str(count % 10) * 100000)
"""


def test_a_killed_process_leaves_a_whole_file(tmp_path):
    # Loads the module alone, so that the process starts in no time.
    target = tmp_path / "model.tflite"
    target.write_text("x" * 100000)
    for milliseconds in (3, 7, 12, 18, 25, 31, 44, 60):
        command = [sys.executable, "-c", REPLACING, placing.__file__, str(target)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(milliseconds / 1000)
            process.send_signal(signal.SIGKILL)
        text = target.read_text()
        assert len(text) == 100000
        assert len(set(text)) == 1
