"""The command line: what it prints, and with which exit status it ends."""

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
        "migrate",
        "export-saved-model",
        "export-litert",
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


def test_litert(run):
    result = run("export-litert", "good.keras", "lite/good.tflite")
    assert (result.exit_code, result.output) == (0, "Wrote lite/good.tflite\n")
    assert run("verify", "good.keras", "lite/good.tflite").exit_code == 0
    result = run("verify", "other.keras", "lite/good.tflite")
    assert result.exit_code == 1
    assert "DOES NOT AGREE" in result.output


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
    assert given == {"input_shape": shape}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export-litert", "good.keras", "a.tflite", "--input-shape", "1,x"], "commas"),
        (["export-litert", "good.keras", "a.tflite", "--input-shape", "1,3"], "`input_shape`"),
        (["migrate", "good.keras", "a.keras"], "`keras.saving.load_model` loads files of Keras 3"),
        (["migrate", "good.keras", "a.h5"], "`OUT.keras` must be a file that ends in `.keras`"),
        (["migrate", "missing.h5", "a.keras"], "must be a file or folder that exists"),
        (["accelerate", "good.keras", "a.h5"], "`OUT.keras` must be a file that ends in `.keras`"),
        (["export-litert", "good.keras", "a.bin"], "`path` must be a file that ends in `.tflite`"),
        (["export-saved-model", "good.keras", "."], "`path` must be free"),
        (["export-saved-model", "missing.keras", "a"], "missing.keras"),
        (["verify", "good.keras", "missing.tflite"], "`path` must be a file or folder that exists"),
        (["verify", "good.keras", "broken.tflite"], "`path` must be a file that runs"),
    ],
)
def test_an_error_is_one_line(run, folder, arguments, message):
    (folder / "broken.tflite").write_bytes(b"no model")
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert message in line


@pytest.mark.parametrize("error", [ImportError, FileNotFoundError, TypeError, ValueError])
def test_every_kind_of_error_is_caught(run, monkeypatch, error):
    def fail(*_):
        raise error("why\n\nand wherefore")

    monkeypatch.setattr("keras_norm.export.export_saved_model", fail)
    result = run("export-saved-model", "good.keras", "a")
    assert (result.exit_code, result.stderr) == (2, "Error: why and wherefore\n")


def test_the_program(folder):
    program = [sys.executable, "-c", "from keras_norm.cli import main; main()"]
    done = subprocess.run(
        [*program, "verify", "good.keras", "nothing"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("Error: `path` must be a file or folder")
    assert "Traceback" not in done.stderr
