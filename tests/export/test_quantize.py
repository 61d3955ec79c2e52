"""Quantized exports: what they reach, what is an integer in them, and what is refused."""

import os
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from keras import layers

import keras_norm
from keras_norm.export import export_litert, representative
from tests.conformance.support import randomize

SIZE, CHANNELS, GROUPS = 12, 64, 32


def images(count, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(count, SIZE, SIZE, CHANNELS)).astype("float32")


def block(spread, norm=None):
    """3x3 convolution → norm → ReLU → 1x1 convolution, groups between 1 and `spread`."""
    inputs = keras.Input((SIZE, SIZE, CHANNELS), name="image")
    first = layers.Conv2D(CHANNELS, 3, padding="same", bias_initializer="random_normal")
    norm = norm or keras_norm.GroupNormalization(GROUPS, name="norm")
    x = layers.ReLU()(norm(first(inputs)))
    model = keras.Model(inputs, layers.Conv2D(CHANNELS, 1, name="y")(x))
    loud = np.repeat(np.geomspace(1.0, spread, GROUPS), CHANNELS // GROUPS)
    for weight in first.weights:
        weight.assign(weight * loud)
    return model


def operations(path, delegates=False):
    """Name of each operation of a file, and the dtypes of the tensors at it."""
    kind = OpResolverType.AUTO if delegates else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(str(path), experimental_op_resolver_type=kind)
    interpreter.allocate_tensors()
    dtypes = {d["index"]: np.dtype(d["dtype"]).name for d in interpreter.get_tensor_details()}
    return [
        (d["op_name"], {dtypes.get(index) for index in (*d["inputs"][:1], *d["outputs"])})
        for d in interpreter._get_ops_details()
    ]


def ratio(path, model, data):
    """Signal to error of a file's only output, in dB, run one sample at a time."""
    run = Interpreter(str(path)).get_signature_runner("serving_default")
    (name,) = run.get_input_details()
    outputs = [run(**{name: sample[None]}) for sample in data]
    actual = np.concatenate([next(iter(one.values())) for one in outputs]).astype("float64")
    expected = np.asarray(model(data), "float64")
    return 10 * np.log10((expected**2).sum() / ((actual - expected) ** 2).sum())


@pytest.mark.parametrize("spread", [1, 30])
@pytest.mark.parametrize(
    ("mode", "target", "reach"),
    [("int8", "any", 30), ("int8", "int8-only", 30), ("int16x8", "any", 40)],
)
def test_integers_reach(mode, target, reach, spread, tmp_path):
    model, path = block(spread), tmp_path / "model.tflite"
    how = {"quantize": mode, "target": target, "representative_data": images(16, seed=1)}
    assert export_litert(model, path, **how) == path
    assert ratio(path, model, images(2)) >= reach
    if (mode, target) == ("int8", "any"):
        # The norm is in float, the convolutions are not, and one delegate takes everything.
        found = operations(path)
        assert [kinds for name, kinds in found if name == "CONV_2D"] == [{"int8"}] * 2
        assert {"float32"} in [kinds for name, kinds in found if name == "RSQRT"]
        assert [name for name, _ in operations(path, True)].count("DELEGATE") == 1
    else:
        borders, inner = ["QUANTIZE", "DEQUANTIZE"], operations(path)[1:-1]
        assert [operations(path)[place][0] for place in (0, -1)] == borders
        assert not any("float32" in kinds for _, kinds in inner)


def test_float16_and_dynamic_reach(tmp_path):
    model = block(30)
    sizes = {}
    for mode, reach in ((None, 110), ("float16", 65), ("dynamic", 35)):
        path = export_litert(model, tmp_path / f"{mode}.tflite", quantize=mode)
        assert ratio(path, model, images(2)) >= reach
        sizes[mode] = path.stat().st_size
    assert sizes["float16"] < 0.6 * sizes[None]
    assert sizes["dynamic"] < 0.4 * sizes[None]


CONVOLUTION = {
    "renorm": lambda: [layers.Conv2D(4, 3), keras_norm.BatchRenormalization()],
    "dropout": lambda: [layers.Conv2D(4, 3), layers.Dropout(0.5), layers.SpatialDropout2D(0.5)],
    "weight norm": lambda: [keras_norm.WeightNormalization(layers.Conv2D(4, 3))],
    "spectral norm": lambda: [keras_norm.SpectralNormalization(layers.Conv2D(4, 3))],
    "standardization": lambda: [keras_norm.WeightStandardization(layers.Conv2D(4, 3))],
    "whitening": lambda: [layers.Conv2D(4, 3), keras_norm.IterativeNormalization(group_size=2)],
}


@pytest.mark.parametrize("mode", [None, "int8"])
@pytest.mark.parametrize("name", [*CONVOLUTION, "baked"])
def test_static_norms_vanish(name, mode, tmp_path):
    path = CONVOLUTION["weight norm" if name == "baked" else name]()
    model = randomize(keras.Sequential([keras.Input((8, 8, 3)), *path, layers.ReLU()]))
    first = {"baked": keras_norm.bake, "whitening": partial(keras_norm.fold, verbose=False)}
    model = first[name](model) if name in first else model
    data = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
    how = {} if mode is None else {"quantize": mode, "representative_data": data}
    path = export_litert(model, tmp_path / "model.tflite", **how)
    expected = ["CONV_2D"] if mode is None else ["QUANTIZE", "CONV_2D", "DEQUANTIZE"]
    assert [name for name, _ in operations(path)] == expected
    assert ratio(path, model, data) >= (110 if mode is None else 25)


@pytest.mark.parametrize("name", ["SwitchableNormalization", "SpatiallyAdaptiveNormalization"])
@pytest.mark.parametrize("mode", ["float16", "dynamic", "int8", "int16x8"])
def test_rows_in_every_mode(name, mode, tmp_path):
    row = keras_norm.catalog[name]
    several = isinstance(row.input_shape[0], tuple)
    shapes = row.input_shape if several else [row.input_shape]
    inputs = [keras.Input(shape[1:], name=f"x{place}") for place, shape in enumerate(shapes)]
    x = layers.Conv2D(shapes[0][-1], 3, padding="same")(inputs[0])
    norm = row.example()
    model = randomize(keras.Model(inputs, norm([x, *inputs[1:]]) if several else norm(x)))
    random = np.random.default_rng(0)
    data = [random.normal(size=(32, *shape[1:])).astype("float32") for shape in shapes]
    how = {"representative_data": data} if mode.startswith("int") else {}
    path = export_litert(model, tmp_path / "model.tflite", quantize=mode, **how)
    run = Interpreter(str(path)).get_signature_runner()
    (actual,) = run(**{f"x{place}": one[:1] for place, one in enumerate(data)}).values()
    expected = np.asarray(model([one[:1] for one in data]))
    assert np.abs(actual - expected).max() <= 0.15 * np.abs(expected).max()


def with_a_namesake(norm, namesake, shape):
    """A norm in a model, and deeper inside a layer of the same name that is none."""
    inner = keras.Sequential([layers.Dense(4), namesake], name="inner")
    return keras.Sequential([keras.Input(shape, name="x"), layers.Dense(4), norm, inner])


def test_a_layer_inside_with_the_name_of_a_norm(tmp_path):
    norm, data = keras_norm.GroupNormalization(2, name="norm"), images(4)[:, :6, :6, :3]
    model = with_a_namesake(norm, layers.BatchNormalization(name="norm"), (6, 6, 3))
    how = {"quantize": "int8", "representative_data": data}
    path = export_litert(model, tmp_path / "model.tflite", **how)
    assert {"float32"} in [kinds for name, kinds in operations(path) if name == "RSQRT"]
    norm = layers.RMSNormalization(name="norm")
    model = with_a_namesake(norm, layers.Dense(4, name="norm"), (6, 6, 3))
    with pytest.raises(ValueError, match=r"with SQUARE in the layer 'norm' \(RMSNormalization\)"):
        export_litert(model, tmp_path / "model.tflite", target="int8-only", **how)


def test_half_precision_models_and_other_batch_sizes(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    inputs = keras.Input((8, 8, 3), name="image")
    x = keras_norm.GroupNormalization(2)(layers.Conv2D(4, 3)(inputs))
    model = keras.Model(inputs, layers.Conv2D(2, 1)(x))
    data = np.random.default_rng(0).normal(size=(6, 8, 8, 3)).astype("float32")
    how = {"quantize": "int8", "representative_data": data, "input_shape": (4, 8, 8, 3)}
    path = export_litert(model, tmp_path / "model.tflite", **how)
    run = Interpreter(str(path)).get_signature_runner()
    (actual,) = run(image=data[:4]).values()
    expected = np.asarray(model(data[:4]), "float32")
    assert actual.dtype == np.float32
    assert np.abs(actual - expected).max() <= 0.1 * np.abs(expected).max()


def two_inputs():
    image, scale = keras.Input((6, 6, 3), name="image"), keras.Input((3,), name="scale:0")
    return keras.Model([image, scale], layers.Multiply()([image, scale[:, None, None]]))


def one_input():
    inputs = keras.Input((None, 6, 3), name="image")
    return keras.Model(inputs, layers.ReLU()(inputs))


def test_representative_data_in_every_form():
    model = one_input()
    data = np.arange(5 * 36 * 3, dtype="float32").reshape(5, 6, 6, 3)
    forms = {
        "array": data,
        "tensor": tf.constant(data),
        "float64": data.astype("float64"),
        "dict": {"image": data},
        "generator": (data[i : i + 2] for i in range(0, 5, 2)),
        "generator of dicts": ({"image": data[i : i + 1]} for i in range(5)),
        "data set": tf.data.Dataset.from_tensor_slices(data).batch(4),
        "data set of dicts": tf.data.Dataset.from_tensors({"image": data}),
        "list of batches": [data[:2], data[2:]],
        "list of dicts": [{"image": data[:2]}, {"image": data[2:]}],
        "list with an array": [data],
        "list of lists": [[data[:2]], (data[2:],)],
        "TensorFlow's own form": ([sample[None]] for sample in data),
    }
    for name, form in forms.items():
        batches = representative.batches(model, form, [(1, None, 6, 3)])
        assert [list(batch) for batch in batches] == [["image"]] * 5, name
        assert batches[0]["image"].dtype == np.float32
        np.testing.assert_array_equal(np.concatenate([one["image"] for one in batches]), data)


def test_batches_have_the_size_of_the_signature():
    scale = np.arange(15, dtype="float32").reshape(5, 3)
    images = np.zeros((5, 6, 6, 3))
    for data in (
        [images, scale],
        {"scale:0": scale, "image": images},
        iter([[images, scale]]),
        [(images, scale)],
    ):
        batches = representative.batches(two_inputs(), data, [(2, 6, 6, 3), (2, 3)])
        assert [list(batch) for batch in batches] == [["image", "scale_0"]] * 3
        used = np.concatenate([batch["scale_0"] for batch in batches])
        np.testing.assert_array_equal(used, scale[[0, 1, 2, 3, 4, 0]])


NAN = np.full((2, 6, 6, 3), np.nan)


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((0, 6, 6, 3)),
        np.zeros((2, 6, 6, 4)),
        np.zeros((6, 6, 3)),
        NAN,
        {"picture": np.zeros((2, 6, 6, 3))},
        [],
        [np.zeros((2, 6, 6, 3)), np.zeros((2, 3))],
        [[1.0], [2.0, 3.0]],
        iter([]),
        iter([np.zeros((2, 6, 6, 3)), np.zeros((2, 6, 5, 3))]),
        iter([(np.zeros((2, 6, 6, 3)), np.zeros(2))]),
        tf.data.Dataset.from_tensors(np.zeros((2, 6, 6, 3))).repeat(),
        "images.npy",
        3,
    ],
)
def test_refuses_representative_data(data, tmp_path):
    with pytest.raises(ValueError, match=r"^`representative_data` must .* Received: rep.*\. Pass "):
        export_litert(
            one_input(), tmp_path / "model.tflite", quantize="int8", representative_data=data
        )
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"quantize": "int4"}, "`quantize` must be one of .* Received: quantize='int4'"),
        ({"quantize": ["int8"]}, "`quantize` must be one of"),
        ({"target": "npu"}, "`target` must be one of .* Received: target='npu'"),
        ({"target": None}, "`target` must be one of"),
        ({"target": "int8-only"}, "`quantize` must be 'int8' for .* quantize=None"),
        ({"quantize": "int16x8", "target": "int8-only"}, "`quantize` must be 'int8'"),
        ({"quantize": "int8"}, "`representative_data` must be given for .* no data"),
        ({"quantize": "int16x8"}, "`representative_data` must be given for .* no data"),
        ({"representative_data": [1]}, "`representative_data` must .* and some data. Leave"),
        ({"quantize": "float16", "representative_data": [1]}, "`representative_data` must"),
        ({"quantize": "dynamic", "representative_data": [1]}, "`representative_data` must"),
    ],
)
def test_refuses_modes_and_targets(how, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_litert(one_input(), tmp_path / "model.tflite", **how)
    assert os.listdir(tmp_path) == []


class FromZeros(layers.Layer):
    """Has a constant whose largest number, 0, gives integers no step."""

    def call(self, x):
        return tf.zeros(4) - tf.nn.relu(x)


def refused(layer, shape, **how):
    inputs = keras.Input(shape, name="x")
    model = keras.Model(inputs, layer(inputs), name="net")
    data = np.random.default_rng(0).normal(size=(4, *shape)).astype("float32")
    with pytest.raises(ValueError) as caught:
        export_litert(model, "model.tflite", representative_data=data, **how)
    return str(caught.value)


@pytest.mark.parametrize(
    ("layer", "how", "message"),
    [
        (
            lambda: layers.RMSNormalization(name="rms"),
            {"quantize": "int8", "target": "int8-only"},
            "computes in int8. Received: model='net' with SQUARE in the layer 'rms' (RMSNorm",
        ),
        (
            lambda: layers.LayerNormalization(name="ln"),
            {"quantize": "int16x8"},
            "in int16x8. Received: model='net' with SQUARED_DIFFERENCE in the layer 'ln' (Layer",
        ),
        (
            lambda: FromZeros(name="zeros"),
            {"quantize": "int16x8"},
            "in int16x8. Received: model='net' with SUB in the layer 'zeros' (FromZeros)",
        ),
        (
            lambda: layers.GRU(3, name="gru"),
            {"quantize": "int8"},
            "no loop to be quantized to integers. Received: model='net' with WHILE in the layer "
            "'gru' (GRU). Give recurrent layers `unroll=True`",
        ),
    ],
)
def test_operations_that_integers_do_not_have_are_named_with_their_layers(
    layer, how, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert message in refused(layer(), (5, 4), **how)
    assert os.listdir(tmp_path) == []
