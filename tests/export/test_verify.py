"""`verify`: what passes, what must not, and what each file is run with."""

import dataclasses
import sys

import keras
import numpy as np
import pytest
from keras import layers

from keras_norm.export import Verification, export_litert, export_saved_model, verify

SUFFIXES = {"keras": "model.keras", "h5": "model.h5", "saved_model": "model", "tflite": "m.tflite"}
BOUNDS = {"keras": 0.0, "h5": 0.0, "saved_model": 1e-6, "tflite": 1e-5}
RUNTIMES = {
    "keras": f"keras {keras.__version__} on tensorflow",
    "h5": f"keras {keras.__version__} on tensorflow",
    "saved_model": "tensorflow 2.",
    "tflite": "ai-edge-litert 2.",
}


def several(seed=0):
    """Two inputs, a nested model with moving moments, outputs by keys that are not sorted.

    One input is in bfloat16, which neither `.npz` files nor LiteRT's signatures have.
    """
    inner_in = keras.Input((6, 3))
    inner_out = layers.LayerNormalization(name="norm")(layers.BatchNormalization()(inner_in))
    inner = keras.Model(inner_in, inner_out, name="inner")
    series = keras.Input((6, 3), dtype="bfloat16", name="series")
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    total = layers.Add()([inner(series), layers.Embedding(2, 3)(tokens)])
    outputs = {"total": total, "head": layers.Dense(2, name="dense")(layers.Flatten()(total))}
    model = keras.Model([series, tokens], outputs)
    random = np.random.default_rng(seed)
    for variable in model.weights:
        values = random.standard_normal(variable.shape)
        variable.assign(np.abs(values) + 0.5 if "variance" in variable.path else values)
    return model


def dense(units=3):
    return keras.Sequential([keras.Input((4,), name="x"), layers.Dense(units, name="y")])


def save(model, path):
    if path.suffix in (".keras", ".h5"):
        model.save(path)
        return path
    export = export_litert if path.suffix == ".tflite" else export_saved_model
    return export(model, path)


@pytest.fixture(scope="module")
def dense_file(tmp_path_factory):
    model = dense()
    model.layers[0].set_weights([np.arange(1, 13).reshape(4, 3) / 8, np.zeros(3)])
    return model, export_litert(model, tmp_path_factory.mktemp("dense") / "dense.tflite")


@pytest.mark.parametrize("kind", SUFFIXES)
def test_the_models_own_file_passes(tmp_path, monkeypatch, kind):
    # What must not be imported could be found and would fail; what must be, is found before it.
    forbidden = {"saved_model": ["keras", "keras_norm"], "tflite": ["keras", "tensorflow"]}
    for name in {"keras_norm", *forbidden.get(kind, [])}:
        (tmp_path / "poison").mkdir(exist_ok=True)
        (tmp_path / "poison" / f"{name}.py").write_text("raise RuntimeError('imported')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "poison"))
    model = several()
    path = save(model, tmp_path / SUFFIXES[kind])
    found = verify(model, path)
    assert found.passed and all(output.passed for output in found.differences)
    assert (found.path, found.format, found.bound) == (path, kind, BOUNDS[kind])
    assert found.runtime.startswith(RUNTIMES[kind])
    assert {output.name for output in found.differences} == {"total", "head"}
    shapes = {name: array.shape for name, array in found.outputs.items()}
    assert shapes == {"total": (2, 6, 3), "head": (2, 2)}
    # Bit by bit where nothing less passes.
    assert (found.lowest_sqnr == np.inf) if found.bound == 0 else (found.lowest_sqnr > 100)
    # Not a comparison of nothing with nothing.
    assert all(output.largest_expected > 0.5 for output in found.differences)


@pytest.mark.parametrize(
    ("kind", "change"), [("keras", 1e-6), ("saved_model", 1e-4), ("tflite", 1e-3)]
)
def test_a_file_of_other_weights_does_not_pass(tmp_path, kind, change):
    model, other = several(), several()
    bias = other.get_layer("dense").bias
    bias.assign_add([0.0, change])
    found = verify(model, save(other, tmp_path / SUFFIXES[kind]))
    assert not found.passed
    assert {output.name: output.passed for output in found.differences} == {
        "total": True,
        "head": False,
    }
    assert found.largest_difference == pytest.approx(change, rel=0.5)
    assert "DOES NOT AGREE" in str(found)


def test_the_files_outputs_are_handed_back(dense_file):
    model, path = dense_file
    data = np.random.default_rng(1).normal(size=(5, 4)).astype("float32")
    found = verify(model, path, data=data)
    assert list(found.outputs) == ["y"]
    expected = data @ model.layers[0].get_weights()[0]
    np.testing.assert_allclose(found.outputs["y"], expected, rtol=0, atol=1e-5)
    # They are the file's numbers, not the model's.
    model.layers[0].bias.assign_add([1.0, 1.0, 1.0])
    changed = verify(model, path, data=[data])
    model.layers[0].bias.assign_sub([1.0, 1.0, 1.0])
    np.testing.assert_array_equal(changed.outputs["y"], found.outputs["y"])
    assert not changed.passed
    assert changed.largest_difference == pytest.approx(1.0, rel=1e-3)


def test_data_is_taken_as_array_list_and_dict(tmp_path):
    model = several()
    path = export_litert(model, tmp_path / "model.tflite")
    random = np.random.default_rng(2)
    series, tokens = random.normal(size=(3, 6, 3)), random.integers(0, 2, (3, 6))
    results = [
        verify(model, path, data=data)
        for data in ([series, tokens], {"tokens": tokens, "series": series})
    ]
    assert all(found.passed for found in results)
    expected = model([series.astype("float32"), tokens], training=False)
    for found in results:
        np.testing.assert_allclose(found.outputs["total"], expected["total"], rtol=0, atol=1e-5)


def test_drawn_data_is_the_same_each_time(dense_file):
    model, path = dense_file
    first, second = verify(model, path), verify(model, path)
    np.testing.assert_array_equal(first.outputs["y"], second.outputs["y"])
    assert len(np.unique(first.outputs["y"])) == 6


def test_drawn_integers_are_zero_and_one(tmp_path):
    tokens = keras.Input((200,), dtype="int32", name="tokens")
    table = layers.Embedding(2, 1, weights=[np.array([[0.0], [1.0]])], name="table")
    model = keras.Model(tokens, table(tokens))
    found = verify(model, export_litert(model, tmp_path / "model.tflite"))
    assert found.passed
    assert np.unique(found.outputs["table"]).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("input_shape", "samples"),
    [((1, 6, 6, 3), 2), ((4, 6, 6, 3), 4), ((None, 6, None, 3), 2), ((3, 5, 7, 3), 3)],
)
def test_drawn_data_has_the_files_sizes(tmp_path, input_shape, samples):
    inputs = keras.Input((None, None, 3), name="image")
    model = keras.Model(inputs, layers.Conv2D(2, 3, padding="same", name="y")(inputs))
    path = export_litert(model, tmp_path / "model.tflite", input_shape=input_shape)
    found = verify(model, path)
    assert found.passed
    height, width = (size or 8 for size in input_shape[1:3])
    assert found.outputs["y"].shape == (samples, height, width, 2)


def test_a_file_for_a_fixed_batch_runs_any_number_of_samples(tmp_path):
    model = dense()
    path = export_litert(model, tmp_path / "model.tflite", input_shape=(4, 4))
    data = np.random.default_rng(3).normal(size=(10, 4))
    found = verify(model, path, data=data)
    assert found.passed
    assert found.outputs["y"].shape == (10, 3)


def test_nan_never_passes(dense_file):
    model, path = dense_file
    data = np.ones((2, 4), "float32")
    data[1, 2] = np.nan
    found = verify(model, path, data=data, bound=1e30)
    assert not found.passed
    assert np.isnan(found.largest_difference)


def test_infinity_never_passes(dense_file):
    model, path = dense_file
    found = verify(model, path, data=np.full((1, 4), np.inf, "float32"), bound=1e30)
    assert not found.passed


def test_one_sided_infinity_never_passes(tmp_path):
    model, other = dense(), dense()
    model.layers[0].bias.assign([np.inf, 0.0, 0.0])
    found = verify(model, export_litert(other, tmp_path / "model.tflite"), bound=1.0)
    assert not found.passed
    assert found.largest_difference == np.inf


def test_another_shape_never_passes(tmp_path):
    path = export_litert(dense(1), tmp_path / "model.tflite")
    found = verify(dense(3), path, bound=1e30)
    assert not found.passed
    assert found.largest_difference == np.inf


def test_missing_and_additional_outputs_never_pass(tmp_path):
    inputs = keras.Input((4,), name="x")
    outputs = [layers.Dense(2, name=name)(inputs) for name in ("a", "b", "c")]
    model, smaller = keras.Model(inputs, outputs), keras.Model(inputs, outputs[:2])
    for live, saved in ((model, smaller), (smaller, model)):
        found = verify(live, export_litert(saved, tmp_path / "model.tflite"), bound=1e30)
        assert {output.name: output.passed for output in found.differences} == {
            "a": True,
            "b": True,
            "c": False,
        }
        assert not found.passed


def test_numbered_outputs_are_in_the_order_of_their_numbers(tmp_path):
    """Keras's own export names them so, and LiteRT sorts them as text: 0, 1, 10, 11, 2, ..."""
    inputs = keras.Input((2,), name="x")
    model = keras.Model(inputs, [layers.Rescaling(k + 1.0)(inputs) for k in range(12)])
    model.export(tmp_path / "model.tflite", format="litert", verbose=False)
    found = verify(model, tmp_path / "model.tflite", data=np.ones((1, 2)))
    assert found.passed, str(found)
    assert list(found.outputs) == model.output_names


def test_an_empty_output_is_no_evidence(tmp_path):
    inputs = keras.Input((4,), name="x")
    model = keras.Model(inputs, inputs[:, 4:])
    found = verify(model, export_saved_model(model, tmp_path / "model"))
    assert found.outputs[found.differences[0].name].shape == (2, 0)
    assert not found.passed


def test_bound_is_relative_to_the_expected_numbers(dense_file):
    model, path = dense_file
    model.layers[0].bias.assign_add([0.0, 0.0, 0.01])
    size = 30 / 8 + 0.01
    results = [
        verify(model, path, data=np.ones((1, 4)), bound=factor * 0.01 / size)
        for factor in (0.99, 1.01)
    ]
    model.layers[0].bias.assign_sub([0.0, 0.0, 0.01])
    assert [found.passed for found in results] == [False, True]
    assert results[0].differences[0].largest_expected == pytest.approx(size)


def test_bound_is_relative_for_small_numbers_too(dense_file):
    model, path = dense_file
    data = np.full((1, 4), 1e-6, "float32")
    model.layers[0].bias.assign_add([0.0, 0.0, 1e-8])
    size = 1e-6 * 30 / 8 + 1e-8
    results = [
        verify(model, path, data=data, bound=factor * 1e-8 / size) for factor in (0.99, 1.01)
    ]
    model.layers[0].bias.assign_sub([0.0, 0.0, 1e-8])
    assert [found.passed for found in results] == [False, True]


def test_zeros_must_be_zeros(dense_file, tmp_path):
    model, path = dense_file
    zeros = np.zeros((1, 4))
    assert verify(model, path, data=zeros).passed
    model.layers[0].bias.assign_add([0.0, 0.0, 1e-12])
    found = verify(model, export_litert(model, tmp_path / "model.tflite"), data=zeros)
    model.layers[0].bias.assign_sub([0.0, 0.0, 1e-12])
    assert found.passed
    other = verify(model, tmp_path / "model.tflite", data=zeros)
    assert not other.passed and other.lowest_sqnr == -np.inf


def test_sqnr_is_the_power_of_the_model_over_that_of_the_difference(dense_file):
    model, path = dense_file
    model.layers[0].bias.assign_add([0.01, 0.0, -0.02])
    random = np.random.default_rng(4)
    data = random.normal(size=(7, 4)).astype("float32")
    expected = np.asarray(model(data), "float64")
    # Each sample errs by the same two numbers: 5e-4 in squares.
    decibels = 10 * np.log10(np.sum(expected**2) / (len(data) * 5e-4))
    results = [
        verify(model, path, data=data, sqnr=decibels + more, bound=bound)
        for more, bound in ((-0.1, None), (0.1, None), (-0.1, 1e-5))
    ]
    model.layers[0].bias.assign_sub([0.01, 0.0, -0.02])
    assert [found.passed for found in results] == [True, False, False]
    assert results[0].lowest_sqnr == pytest.approx(decibels, abs=1e-3)
    assert results[0].bound == np.inf and results[0].required_sqnr == decibels - 0.1
    assert f"SQNR of at least {decibels + 0.1:g} dB" in str(results[1])
    assert f"SQNR {decibels:.1f} dB" in str(results[1])


def test_sqnr_of_what_is_no_number_never_passes(dense_file):
    data = np.array([[1.0, np.nan, 1.0, 1.0]])
    found = verify(*dense_file, data=data, sqnr=-1000.0)
    assert np.isnan(found.lowest_sqnr) and not found.passed


def test_the_reference_may_be_a_file(dense_file, tmp_path):
    model, path = dense_file
    model.save(tmp_path / "model.h5")
    assert verify(str(tmp_path / "model.h5"), path).passed
    dense().save(tmp_path / "other.keras")
    assert not verify(tmp_path / "other.keras", path).passed


def test_a_reference_is_loaded_in_safe_mode(dense_file, tmp_path):
    lambdas = keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x)])
    lambdas.save(tmp_path / "lambda.keras")
    with pytest.raises(ValueError, match=r"unsafe|safe_mode"):
        verify(tmp_path / "lambda.keras", dense_file[1])


def test_references_that_are_none(dense_file, tmp_path):
    with pytest.raises(ValueError, match=r"`model_or_reference` must .*\.tflite.*model.save"):
        verify(dense_file[1], dense_file[1])
    with pytest.raises(FileNotFoundError, match=r"`model_or_reference` must .*nothing.keras"):
        verify(tmp_path / "nothing.keras", dense_file[1])


def test_verification_reads_well_and_is_frozen(dense_file):
    model, path = dense_file
    found = verify(model, path)
    assert isinstance(found, Verification)
    assert str(found).startswith(f"{path} agrees with the model (ai-edge-litert 2.")
    assert "\n  y: largest difference " in str(found)
    assert "outputs=" not in repr(found)
    assert found == verify(model, path) and hash(found)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.bound = 1.0


def test_paths_that_cannot_be_verified(tmp_path):
    model = dense()
    (tmp_path / "folder").mkdir()
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"`path` must .* Received: path=.*nothing.keras"):
        verify(model, tmp_path / "nothing.keras")
    for name in ("folder", "model.bin"):
        with pytest.raises(ValueError, match=rf"`path` must .*saved_model.pb.*{name}.*model.save"):
            verify(model, tmp_path / name)


@pytest.mark.parametrize(
    ("suffix", "package", "extra"),
    [
        (".tflite", "ai_edge_litert", "lite"),
        (".onnx", "onnxruntime", "runtimes"),
        (".xml", "openvino", "runtimes"),
    ],
)
def test_without_its_runtime_the_error_says_what_to_install(
    tmp_path, monkeypatch, suffix, package, extra
):
    monkeypatch.setitem(sys.modules, package, None)
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"never opened")
    with pytest.raises(ImportError, match=rf'{suffix} file.*pip install "keras_norm\[{extra}\]"'):
        verify(dense(), path)


@pytest.mark.parametrize("bound", [-1e-9, float("nan"), "small", True])
def test_refuses_bounds_that_are_no_bound(dense_file, bound):
    with pytest.raises(ValueError, match=r"`bound` must be .* Received: bound=.* Pass"):
        verify(*dense_file, bound=bound)


@pytest.mark.parametrize("sqnr", [float("nan"), "high", True])
def test_refuses_sqnr_that_is_no_number(dense_file, sqnr):
    with pytest.raises(ValueError, match=r"`sqnr` must be .* Received: sqnr=.* Pass"):
        verify(*dense_file, sqnr=sqnr)


@pytest.mark.parametrize(
    "data",
    [
        np.ones((0, 4)),
        np.float32(1.0),
        {"z": np.ones((2, 4))},
        {"x": 1.0, "z": 1.0},
        {1: np.ones((2, 4))},
        object(),
        "data.npy",
        [[1.0, 1.0, 1.0, 1.0], [1.0]],
        np.full((2, 4), 1j),
        np.ones((2, 5)),
        np.ones((2, 4, 1, 1)),
        [np.ones((2, 4)), np.ones((2, 4))],
    ],
)
def test_refuses_data_that_are_not_the_models(dense_file, data):
    with pytest.raises(ValueError, match=r"`data` must .* Received: "):
        verify(*dense_file, data=data)


@pytest.mark.parametrize(
    "data", [np.ones((2, 6, 3)), [np.ones((2, 6, 3))], [np.ones((2, 6, 3)), np.ones((3, 6))]]
)
def test_refuses_data_for_some_inputs_only(tmp_path, data):
    model = several()
    (tmp_path / "model.keras").write_bytes(b"never opened")
    with pytest.raises(ValueError, match=r"`data` must .* Received: "):
        verify(model, tmp_path / "model.keras", data=data)


def test_refuses_to_draw_strings(tmp_path):
    inputs = keras.Input((1,), dtype="string")
    model = keras.Model(inputs, layers.StringLookup(vocabulary=["a"])(inputs))
    (tmp_path / "model.keras").write_bytes(b"never opened")
    with pytest.raises(ValueError, match=r"`data` must be given .*strings.*data=None"):
        verify(model, tmp_path / "model.keras")


def test_a_file_that_does_not_run_is_reported_with_its_last_words(tmp_path, dense_file):
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(dense_file[1].read_bytes()[:100])
    with pytest.raises(RuntimeError, match=r"(?s)`path` must .*broken.tflite.*code 1.*ValueError"):
        verify(dense_file[0], broken)


def test_data_that_do_not_fit_the_files_fixed_sizes_are_reported(tmp_path):
    inputs = keras.Input((None, 3), name="x")
    model = keras.Model(inputs, layers.Dense(2)(inputs))
    path = export_litert(model, tmp_path / "model.tflite", input_shape=(1, 5, 3))
    with pytest.raises(RuntimeError, match=r"(?s)`data` must have.*\(2, 6, 3\).*\(1, 5, 3\)"):
        verify(model, path, data=np.ones((2, 6, 3)))


def test_a_file_with_other_inputs_is_reported(tmp_path):
    one, two, three = (keras.Input((4,), name=name) for name in ("one", "two", "three"))
    model = keras.Model([one, two], layers.Add()([one, two]))
    other = keras.Model([one, three], layers.Add()([one, three]))
    path = export_litert(other, tmp_path / "model.tflite")
    with pytest.raises(RuntimeError, match=r"(?s)\['one', 'three'\].*\['one', 'two'\]"):
        verify(model, path)
