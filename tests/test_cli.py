"""The command line: what it prints, and with which exit status it ends."""

import json
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

import keras_norm
from keras_norm.cli import app


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the models `good.keras` and `other.keras`, which differ in their weights."""
    folder = tmp_path_factory.mktemp("cli")
    for seed, name in enumerate(("good", "other")):
        keras.utils.set_random_seed(seed)
        layers = [
            keras.Input((4, 4, 1), name="image"),
            keras.layers.Conv2D(4, 3),
            keras_norm.GroupNormalization(2),
            keras.layers.Flatten(),
            keras.layers.Dense(3, name="scores"),
        ]
        keras.Sequential(layers).save(folder / f"{name}.keras")
    return folder


@pytest.fixture
def run(folder, monkeypatch):
    """Runs the command in `folder`."""
    monkeypatch.chdir(folder)
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_help_names_every_command(run):
    result = run("--help")
    assert result.exit_code == 0
    commands = [
        "list",
        "invariances",
        "accelerate",
        "replace",
        "fold",
        "recalibrate",
        "migrate",
        "export-saved-model",
        "export-litert",
        "audit",
        "verify",
    ]
    for command in commands:
        assert command in result.output


def test_version(run):
    assert run("--version").output == f"keras_norm {keras_norm.__version__}\n"


@pytest.mark.parametrize("columns", ["80", "200"])
def test_list_shows_every_layer_in_full(run, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    result = run("list")
    assert result.exit_code == 0
    for row in keras_norm.catalog:
        assert row.name in result.output


def test_list_shows_every_cell(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    output = run("list").output
    for cells in keras_norm.catalog.cells():
        for cell in cells:
            # A paper is a link: its name is shown, its address is behind it.
            assert re.sub(r"\[(.*)\]\(.*\)", r"\1", cell) in output


def test_invariances_of_named_layers(run):
    result = run("invariances", "rms", "BatchNormalization")
    assert result.exit_code == 0
    assert re.search(r"^RMSNormalization:.*\n  stays.*rescaling", result.output)
    assert re.search(r"BatchNormalization:.*\n.*\n  stays.*weight scale", result.output)
    assert run("invariances", "nothing").exit_code == 2


def test_saved_model(run, folder):
    result = run("export-saved-model", "good.keras", "served")
    assert (result.exit_code, result.output) == (0, "Wrote served\n")
    assert (folder / "served" / "saved_model.pb").is_file()
    result = run("verify", "good.keras", "served")
    assert result.exit_code == 0
    assert "served agrees with the model" in result.output


def test_saved_model_in_versions(run, folder):
    names = ["--name", "digits", "--warmup", "2"]
    for version, written in (("7", "models/digits/7"), ("next", "models/digits/8")):
        result = run("export-saved-model", "good.keras", "models", "--version", version, *names)
        assert (result.exit_code, result.output) == (0, f"Wrote {written}\n")
        requests = folder / written / "assets.extra" / "tf_serving_warmup_requests"
        assert requests.stat().st_size
    assert run("verify", "good.keras", "models/digits/8").exit_code == 0


def test_litert(run):
    result = run("export-litert", "good.keras", "lite/good.tflite")
    assert (result.exit_code, result.output) == (0, "Wrote lite/good.tflite\n")
    assert run("verify", "good.keras", "lite/good.tflite").exit_code == 0
    result = run("verify", "other.keras", "lite/good.tflite")
    assert result.exit_code == 1
    assert "DOES NOT AGREE" in result.output


def test_verify_by_sqnr_and_by_bound(run):
    assert run("export-litert", "good.keras", "sqnr.tflite").exit_code == 0
    result = run("verify", "good.keras", "sqnr.tflite", "--sqnr", "60")
    assert result.exit_code == 0 and "SQNR of at least 60 dB" in result.output
    assert run("verify", "good.keras", "sqnr.tflite", "--sqnr", "1000").exit_code == 1
    assert run("verify", "other.keras", "sqnr.tflite", "--bound", "1e9").exit_code == 0


def test_audit(run):
    assert run("export-litert", "good.keras", "audited.tflite").exit_code == 0
    result = run("audit", "audited.tflite")
    assert result.exit_code == 0
    assert re.match(r"audited.tflite passes \(ai-edge-litert .*\n  builtin  yes ", result.output)
    result = run("audit", "audited.tflite", "--json", "--require", "rank", "--require", "int8")
    assert result.exit_code == 1
    told = json.loads(result.output)
    assert told["required"] == ["rank", "int8"] and not told["passed"]
    assert "CONV_2D" in told["histogram"] and told["highest_rank"] == 4


def test_accelerate(run, folder):
    layers = [keras.Input((3,)), keras.layers.Dense(2), keras.layers.BatchNormalization()]
    model = keras.Sequential(layers, name="small")
    model.compile("adam", "mse")
    model.save(folder / "slow.keras")
    result = run("accelerate", "slow.keras", "fast/model.keras")
    said = "small: exchanged 1 layer for another of keras_norm\n  BatchNormalization: 1\n"
    assert (result.exit_code, result.output) == (0, f"{said}Wrote fast/model.keras\n")
    assert [path.name for path in (folder / "fast").iterdir()] == ["model.keras"]
    new = keras.saving.load_model(folder / "fast" / "model.keras")
    assert type(new.layers[1]) is keras_norm.BatchNormalization and new.optimizer.name == "adam"
    assert run("accelerate", "slow.keras", "slow.keras").exit_code == 0
    assert run("verify", "slow.keras", "fast/model.keras").exit_code == 0


@pytest.fixture(scope="module")
def normed(folder):
    """The file of a model with two inputs and a batch norm behind a dense layer."""
    inputs = [keras.Input((3,), name="a"), keras.Input((3,), name="b")]
    x = keras.layers.Dense(4, name="dense")(keras.layers.Add()(inputs))
    x = keras.layers.BatchNormalization(name="norm")(x)
    keras.Model(inputs, x, name="normed").save(folder / "normed.keras")
    return "normed.keras"


def test_replace(run, folder, normed):
    exchanges = ["BatchNormalization=GhostBatchNormalization", "Dense=Identity"]
    result = run("replace", normed, "ghost.keras", exchanges[0])
    assert result.exit_code == 0
    assert "norm: BatchNormalization -> GhostBatchNormalization; kept gamma" in result.output
    assert result.output.endswith("Wrote ghost.keras\n")
    new = keras.saving.load_model(folder / "ghost.keras")
    assert type(new.get_layer("norm")) is keras_norm.GhostBatchNormalization
    assert run("verify", normed, "ghost.keras").exit_code == 0
    result = run("replace", normed, "none.keras", *exchanges)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "`table` must give layers that fit" in result.stderr
    assert not (folder / "none.keras").exists()


def test_fold(run, folder, normed):
    result = run("fold", normed, "folded.keras")
    assert result.exit_code == 0 and "normed: folded 1 norm\n  norm into dense" in result.output
    new = keras.saving.load_model(folder / "folded.keras")
    assert type(new.get_layer("norm")) is keras.layers.Identity
    old, x = keras.saving.load_model(folder / normed), [np.ones((2, 3)), np.eye(3)[:2]]
    np.testing.assert_allclose(new(x), old(x), rtol=1e-5, atol=1e-5)


def test_recalibrate(run, folder, normed):
    x = np.random.default_rng(0).normal(size=(50, 3)).astype("float32")
    np.savez(folder / "data.npz", a=x, b=x + 1)
    result = run("recalibrate", normed, "new.keras", "data.npz", "--batch-size", "20")
    assert result.exit_code == 0
    new = keras.saving.load_model(folder / "new.keras")
    seen = (x + x + 1) @ np.array(new.get_layer("dense").kernel)
    np.testing.assert_allclose(new.get_layer("norm").moving_variance, seen.var(0), rtol=1e-4)
    assert np.load(folder / "data.npz")["a"].shape == (50, 3)


def test_recalibrate_with_one_array(run, folder):
    layers = [keras.Input((3,)), keras.layers.BatchNormalization()]
    keras.Sequential(layers).save(folder / "one.keras")
    x = np.arange(12.0).reshape(4, 3)
    np.save(folder / "x.npy", x)
    np.savez(folder / "x.npz", x)
    for name in ("x.npy", "x.npz"):
        assert run("recalibrate", "one.keras", "new.keras", name).exit_code == 0
        new = keras.saving.load_model(folder / "new.keras")
        np.testing.assert_allclose(new.layers[0].moving_mean, x.mean(0), rtol=1e-6)


def test_migrate(run, folder):
    old = Path(__file__).parents[1] / "saved_models" / "golden" / "addons" / "weight_fresh.keras"
    result = run("migrate", str(old), "new.keras")
    assert result.exit_code == 0
    first, *_, last = result.output.splitlines()
    assert (first, last) == ("model: 1 layer became layers of keras_norm", "Wrote new.keras")
    data = np.load(old.with_suffix(".npz"))
    y = np.asarray(keras.saving.load_model(folder / "new.keras")(data["x"]))
    np.testing.assert_allclose(y, data["y"], atol=1e-5)


def test_accelerate_that_fails_leaves_the_file(run, folder, monkeypatch):
    before = (folder / "good.keras").read_bytes()

    def fail(model, path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(keras.Model, "save", fail)
    result = run("accelerate", "other.keras", "good.keras")
    assert (result.exit_code, result.stderr) == (2, "Error: disk full\n")
    assert (folder / "good.keras").read_bytes() == before
    assert not list(folder.glob(".good.keras*"))


@pytest.mark.parametrize(
    ("text", "shape"), [("5,4,4,1", (5, 4, 4, 1)), (" none, 4,4,1", (None, 4, 4, 1))]
)
def test_litert_takes_an_input_shape(run, monkeypatch, text, shape):
    given = {}
    monkeypatch.setattr(
        "keras_norm.export.export_litert", lambda model, path, **named: given.update(named)
    )
    assert run("export-litert", "good.keras", "a.tflite", "--input-shape", text).exit_code == 0
    assert given.pop("input_shape") == shape
    assert given == {"quantize": None, "representative_data": None, "target": "any"}


def test_litert_takes_a_mode_a_target_and_data(run, folder, monkeypatch):
    given = {}
    monkeypatch.setattr(
        "keras_norm.export.export_litert", lambda model, path, **named: given.update(named)
    )
    images = np.arange(32.0).reshape(2, 4, 4, 1)
    np.save(folder / "images.npy", images)
    np.savez(folder / "images.npz", image=images)
    how = ["--quantize", "int8", "--target", "int8-only", "--data"]
    assert run("export-litert", "good.keras", "a.tflite", *how, "images.npy").exit_code == 0
    assert (given["quantize"], given["target"]) == ("int8", "int8-only")
    np.testing.assert_array_equal(given["representative_data"], images)
    assert run("export-litert", "good.keras", "a.tflite", *how, "images.npz").exit_code == 0
    assert list(given["representative_data"]) == ["image"]
    np.testing.assert_array_equal(given["representative_data"]["image"], images)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export-litert", "good.keras", "a.tflite", "--input-shape", "1,x"], "commas"),
        (["export-litert", "good.keras", "a.tflite", "--input-shape", "1,3"], "`input_shape`"),
        (["migrate", "good.keras", "a.keras"], "`keras.saving.load_model` loads files of Keras 3"),
        (["migrate", "good.keras", "a.h5"], "`OUT.keras` must be a file that ends in `.keras`"),
        (["migrate", "missing.h5", "a.keras"], "must be a file or folder that exists"),
        (["accelerate", "good.keras", "a.h5"], "`OUT.keras` must be a file that ends in `.keras`"),
        (["fold", "good.keras", "a.h5"], "`OUT.keras` must be a file that ends in `.keras`"),
        (["replace", "good.keras", "a.keras", "Batch=Dense"], "must be two names of layer classes"),
        (["recalibrate", "good.keras", "a.keras", "missing.npy"], "missing.npy"),
        (["recalibrate", "good.keras", "a.keras", "broken.tflite"], "Data must be"),
        (["export-litert", "good.keras", "a.bin"], "`path` must be a file that ends in `.tflite`"),
        (["export-litert", "good.keras", "a.tflite", "--quantize", "int4"], "`quantize` must be"),
        (["export-litert", "good.keras", "a.tflite", "--target", "npu"], "`target` must be"),
        (
            ["export-litert", "good.keras", "a.tflite", "--data", "broken.tflite"],
            "Data must be",
        ),
        (["export-litert", "good.keras", "a.tflite", "--data", "missing.npy"], "missing.npy"),
        (["export-saved-model", "good.keras", "."], "`path` must be free"),
        (["export-saved-model", "missing.keras", "a"], "missing.keras"),
        (["export-saved-model", "good.keras", "a", "--version", "last"], "`version` must be"),
        (["export-saved-model", "good.keras", "a", "--name", "b"], "`name` must come with"),
        (["export-saved-model", "good.keras", "a", "--warmup", "0"], "`warmup` must be 1 to 1000"),
        (["verify", "good.keras", "missing.tflite"], "`path` must be a file or folder that exists"),
        (["verify", "good.keras", "broken.tflite"], "`path` must be a file that runs"),
        (["verify", "good.h6", "broken.tflite"], "`model_or_reference` must be a model"),
        (["audit", "missing.tflite"], "`path` must be a file that exists"),
        (["audit", "broken.tflite"], "`path` must be a sound LiteRT"),
        (["verify", "damaged.keras", "broken.tflite"], "BadZipFile: Bad CRC-32 for file 'config"),
        (["recalibrate", "good.keras", "a.keras", "damaged.npz"], "Data must be"),
        (["audit", "broken.tflite", "--require", "speed"], "`require` must be a list of keys"),
    ],
)
def test_an_error_is_one_line(run, folder, arguments, message):
    (folder / "broken.tflite").write_bytes(b"no model")
    np.savez(folder / "whole.npz", image=np.ones((2, 4, 4, 1)))
    for name, whole, place in (
        ("damaged.keras", "good.keras", b'"class_name"'),
        ("damaged.npz", "whole.npz", np.ones(2).tobytes()),
    ):
        content = (folder / whole).read_bytes()
        (folder / name).write_bytes(content.replace(place, bytes(len(place)), 1))
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert message in line


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ImportError, ""),
        (FileNotFoundError, ""),
        (TypeError, ""),
        (ValueError, ""),
        (AttributeError, "AttributeError: "),
    ],
)
def test_every_kind_of_error_is_caught(run, monkeypatch, error, kind):
    def fail(*_, **__):
        raise error("why\n\nand wherefore")

    monkeypatch.setattr("keras_norm.export.export_saved_model", fail)
    result = run("export-saved-model", "good.keras", "a")
    assert (result.exit_code, result.stderr) == (2, f"Error: {kind}why and wherefore\n")
    usage = run("export-saved-model")
    assert usage.exit_code == 2 and "Missing argument" in usage.stderr


def test_the_program(folder):
    program = [sys.executable, "-c", "from keras_norm.cli import main; main()"]
    done = subprocess.run(
        [*program, "verify", "good.keras", "nothing"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("Error: `path` must be a file or folder")
    assert "Traceback" not in done.stderr
