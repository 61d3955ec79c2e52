"""`audit`: what it counts, whom it names, and what it lets pass."""

import collections
import dataclasses
import json
import re
import sys

import flatbuffers
import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from keras import layers

import keras_norm
from keras_norm import Audit, audit
from keras_norm.export import operations
from keras_norm.export.audit import REQUIREMENTS

SIZE = (8, 8, 4)


def between_convolutions(norm):
    return keras.Sequential(
        [keras.Input(SIZE), layers.Conv2D(4, 3, padding="same"), norm, layers.ReLU()]
    )


def exported(path, norm, **options):
    """Keras's own export, whose batch is free unless a signature says otherwise."""
    between_convolutions(norm).export(path, format="litert", verbose=False, **options)
    return path


def converted(path, function, *shapes, **settings):
    """A function of tensors as a file."""
    specs = [tf.TensorSpec(s) if isinstance(s, tuple) else s for s in shapes]
    traced = tf.function(function, input_signature=specs, autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()])
    for name, value in settings.items():
        owner = converter.target_spec if hasattr(converter.target_spec, name) else converter
        setattr(owner, name, value)
    path.write_bytes(converter.convert())
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("audit")


@pytest.fixture(scope="module")
def free(folder):
    """Keras's GroupNormalization with a free batch: rank 5, a shape computed while it runs."""
    return exported(folder / "free.tflite", layers.GroupNormalization(2))


@pytest.fixture(scope="module")
def static(folder):
    """The same for one sample."""
    signature = [keras.InputSpec(shape=(1, *SIZE), dtype="float32")]
    norm = layers.GroupNormalization(2)
    return exported(folder / "static.tflite", norm, input_signature=signature)


@pytest.fixture(scope="module")
def ours(folder):
    model = between_convolutions(keras_norm.GroupNormalization(2))
    return keras_norm.export_litert(model, folder / "ours.tflite")


@pytest.fixture(scope="module")
def int8(folder):
    """A convolution in int8 between float inputs and outputs."""
    random = np.random.default_rng(0)
    kernel = tf.constant(random.standard_normal((3, 3, 4, 2)), tf.float32)

    def samples():
        return ([random.standard_normal((1, *SIZE)).astype("float32")] for _ in range(4))

    return converted(
        folder / "int8.tflite",
        lambda x: {"y": tf.nn.conv2d(x, kernel, 1, "SAME")},
        (1, *SIZE),
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=samples,
        supported_ops=[tf.lite.OpsSet.TFLITE_BUILTINS_INT8],
    )


def names(rows):
    return [row.operation.name for row in rows]


def test_a_free_batch_of_kerass_group_normalization(free):
    found = audit(free)
    assert found.histogram == {
        "MUL": 3,
        "RESHAPE": 2,
        "MEAN": 2,
        "ADD": 2,
        "CONV_2D": 1,
        "NEG": 1,
        "SUB": 1,
        "SQUARE": 1,
        "RSQRT": 1,
        "SHAPE": 1,
    }
    assert found.highest_rank == 5
    assert names(found.offenders["xnnpack"]) == ["SHAPE", "RESHAPE"]
    assert len(found.offenders["static"]) == 15 and not found.offenders["builtin"]
    assert not found.passed
    reasons = {row.operation.name: row.gpu_refusal for row in found.rows}
    assert reasons["SHAPE"] == "has no GPU kernel"
    assert reasons["MEAN"] == "has a tensor of rank 5"
    assert reasons["CONV_2D"] == "has a free size"


def test_one_sample_of_kerass_group_normalization(static):
    found = audit(static)
    assert "SHAPE" not in found.histogram and found.partitions == 1
    assert {row.delegate for row in found.rows} == {"XNNPACK"}
    # The convolution alone stays within rank 4: what was measured on a GPU as "1 of 14".
    assert [not row.gpu_refusal for row in found.rows] == [True] + 13 * [False]
    offenders = found.offenders
    assert {key for key in REQUIREMENTS if offenders[key]} == {"rank", "gpu", "int8"}
    assert not found.passed
    assert audit(static, require=("builtin", "static", "xnnpack")).passed
    assert audit(static, require=[]).passed
    assert not audit(static, require=["gpu"]).passed


def test_our_group_normalization_passes(ours):
    found = audit(ours, require=["builtin", "rank", "static", "xnnpack", "gpu"])
    assert found.passed and found.partitions == 1 and found.highest_rank == 4
    assert found.int8_share == 0.0 and not found.stopped
    assert sum(found.histogram.values()) == len(found.rows)
    (block,) = found.blocks
    assert block.layer.startswith("group_normalization")
    assert block.operations == len(found.rows) - 1
    assert block.largest == 8 * 8 * 4


def test_layers_have_their_own_names(folder):
    """TensorFlow numbers scopes, some of which have a number of their own."""
    inner = keras.Sequential([layers.Conv2D(4, 1), keras_norm.GroupNormalization(2, name="norm")])
    norms = [keras_norm.GroupNormalization(2, name=name) for name in ("norm_1", "norm")]
    inner.name = "inner_3"
    path = [layers.Conv2D(4, 3), norms[0], layers.Conv2D(4, 1), norms[1], inner]
    model = keras.Sequential([keras.Input(SIZE), *path])
    found = audit(keras_norm.export_litert(model, folder / "names.tflite"))
    assert [block.layer for block in found.blocks] == ["norm_1", "norm", "inner_3/norm"]
    # Keras 2 opens a scope once: its numbers are those of the names.
    assert operations._scope(b"model/norm_1/Mean;model/add") == "norm_1"
    assert [operations._scope(name) for name in (None, b"", b"Mean", b"net/Mean")] == [""] * 4


def test_xnnpack_runs_what_leaves_no_tensor_behind(free, int8, ours):
    """What a partition computes for itself alone has no memory of its own to read from."""
    for path in (free, int8, ours):
        interpreter = Interpreter(str(path))
        interpreter.allocate_tensors()
        interpreter.invoke()
        hidden = set()
        for detail in interpreter.get_tensor_details():
            try:
                interpreter.get_tensor(detail["index"])
            except ValueError:
                hidden.add(detail["index"])
        assert hidden
        found = audit(path)
        for row in found.rows:
            if {tensor.index for tensor in row.operation.outputs} & hidden:
                assert row.delegate == "XNNPACK"
        taken = [row.partition for row in found.rows if row.delegate == "XNNPACK"]
        assert set(taken) == set(range(found.partitions))


def test_full_passes_of_what_stands_between_two_kernels(folder):
    kernel = tf.ones((1, 1, 4, 4))

    def block(x):
        x = tf.nn.conv2d(x, kernel, 1, "SAME")
        centred = x - tf.reduce_mean(x, [1, 2], keepdims=True)  # 2 passes
        power = tf.reduce_mean(centred * centred, [1, 2], keepdims=True)  # 2 passes
        y = centred * tf.math.rsqrt(power + 1e-3)  # 1 pass, and 2 operations on one pixel
        y = tf.nn.conv2d(y, kernel, 2, "SAME")
        return {"y": tf.exp(y)}  # 1 pass over what is left

    found = audit(converted(folder / "passes.tflite", block, (1, *SIZE)))
    assert [(b.operations, b.full_passes, b.largest) for b in found.blocks] == [
        (7, 5, 256),
        (1, 1, 64),
    ]
    passes = [row.operation.name for row in found.rows if row.full_pass]
    assert passes == ["MEAN", "SUB", "MUL", "MEAN", "MUL", "EXP"]


@pytest.mark.parametrize(
    ("operation", "settings"),
    [
        ("FlexMatrixDiagPartV3", {"supported_ops": ["TFLITE_BUILTINS", "SELECT_TF_OPS"]}),
        ("MatrixDiagPartV3", {"supported_ops": ["TFLITE_BUILTINS"], "allow_custom_ops": True}),
    ],
)
def test_operations_that_are_not_built_in(folder, operation, settings):
    sets = [tf.lite.OpsSet[name] for name in settings["supported_ops"]]
    path = converted(
        folder / f"{operation}.tflite",
        lambda x: {"y": x + tf.linalg.diag_part(x)},
        (1, 4, 4),
        **{**settings, "supported_ops": sets},
    )
    found = audit(path)
    assert names(found.offenders["builtin"]) == [operation]
    assert operation in found.stopped and not found.passed
    assert {row.delegate for row in found.rows} == {"unknown"} and found.partitions == 0
    assert [row.gpu_refusal for row in found.rows] == ["is not built into LiteRT", ""]
    assert found.stopped in str(found)
    assert audit(path, require=["rank", "static"]).passed


def test_int8_coverage(int8, ours):
    found = audit(int8, require=["int8"])
    assert names(found.rows) == ["QUANTIZE", "CONV_2D", "DEQUANTIZE"]
    assert [row.operation.int8 for row in found.rows] == [False, True, False]
    assert found.int8_share == pytest.approx(1 / 3) and found.passed
    found = audit(ours, require=["int8"])
    assert len(found.offenders["int8"]) == len(found.rows) and not found.passed


def test_the_body_of_a_loop_is_listed_and_its_delegate_unknown(folder):
    inputs = keras.Input((5, 3))
    model = keras.Model(inputs, layers.SimpleRNN(2)(inputs))
    found = audit(keras_norm.export_litert(model, folder / "loop.tflite"))
    assert "WHILE" in names(found.offenders["gpu"]) and "TANH" in names(found.rows)
    for row in found.rows:
        assert (row.delegate == "unknown") == (row.operation.subgraph > 0)
    assert not found.passed


def test_rules_of_the_gpu_on_axes_and_slices(folder):
    axes = tf.TensorSpec((2,), tf.int32)
    path = converted(
        folder / "axes.tflite", lambda x, a: {"y": tf.reduce_mean(x, a)}, (1, *SIZE), axes
    )
    (row,) = audit(path).rows
    assert row.gpu_refusal == "has axes that are no constant"
    path = converted(folder / "slice.tflite", lambda x: {"y": x[1:3] * 2.0}, (6,))
    reasons = [row.gpu_refusal for row in audit(path).rows]
    assert reasons == ["slices a tensor of rank 1", ""]


def test_a_file_without_operations(folder):
    found = audit(converted(folder / "nothing.tflite", lambda x: {"y": x}, (1, 4)))
    assert found.passed and found.rows == () and found.histogram == {}
    assert (found.highest_rank, found.int8_share, found.blocks) == (0, 0.0, ())
    assert "passes" in str(found)


def test_json_holds_what_the_audit_holds(free):
    found = audit(str(free))
    told = json.loads(json.dumps(found.as_dict()))
    assert told["passed"] is False and told["required"] == list(found.required)
    assert told["offenders"] == {key: len(rows) for key, rows in found.offenders.items()}
    assert told["histogram"] == collections.Counter(row["name"] for row in told["rows"])
    assert told["partitions"] == len({row["partition"] for row in told["rows"]} - {None})
    assert told["rows"][0]["outputs"][0]["shape"] == [None, *SIZE]
    assert told["blocks"][0]["full_passes"] == sum(row["full_pass"] for row in told["rows"])


def test_the_table_names_every_operation(free):
    found = audit(free)
    text = str(found)
    assert text.startswith(f"{free} DOES NOT PASS (ai-edge-litert 2.")
    for row in found.rows:
        name, tensor = row.operation.name, row.operation.outputs[0]
        line = rf" 0:{row.operation.place} +{name} .*{str(tensor).replace('[', '.')[:-1]}"
        assert len(re.findall(line.replace("?", "."), text)) == 1
    assert isinstance(found, Audit) and found == audit(free) and hash(found)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.partitions = 0


def damaged(content, place):
    """A file whose first operation names a tensor, or itself, by a number that there is not."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    operator = model.subgraphs[0].operators[0]
    setattr(operator, place, 9999 if place == "opcodeIndex" else [9999])
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize("content", [b"", b"junk", "cut", "inputs", "outputs", "opcodeIndex"])
def test_refuses_files_that_are_not_sound(ours, tmp_path, content):
    path = tmp_path / "broken.tflite"
    if isinstance(content, str):
        whole = ours.read_bytes()
        content = whole[:2000] if content == "cut" else damaged(whole, content)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"`path` must be a sound .*broken.tflite.*export_litert"):
        audit(path)


def test_refuses_paths_without_a_file(tmp_path):
    for path in (tmp_path, tmp_path / "nothing.tflite"):
        with pytest.raises(FileNotFoundError, match=r"`path` must be a file .* Received: path="):
            audit(path)


def test_without_litert_the_error_says_what_to_install(ours, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(ImportError, match=r'pip install "keras_norm\[lite\]"'):
        audit(ours)


@pytest.mark.parametrize("require", ["rank", ["rank", "speed"], 5, [["rank"]], iter(["rank"])])
def test_refuses_requirements_that_there_are_not(ours, require):
    with pytest.raises(ValueError, match=r"`require` must be .*'builtin'.* Received: require="):
        audit(ours, require=require)
