"""Who may import whom; how long things may be."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "keras_norm"
FILES = sorted(PACKAGE.rglob("*.py"))

# Folder or file: what it may import from the package. Own folder is listed where allowed.
BASES = [
    "layers.base",
    "layers.base_conditional",
    "layers.base_cosine",
    "layers.base_data",
    "layers.base_recurrent",
]
MAY_IMPORT = {
    "backend": ["backend"],
    "ops": ["backend", "ops"],
    "arguments": [],
    "streams": ["arguments"],
    "statistics": [],
    "configs": [],
    "layers": ["backend.abilities", "ops", "arguments", "streams", "statistics", *BASES],
    "wrappers": ["backend.abilities", "ops", "arguments", "wrappers.base"],
    "catalog": ["layers", "wrappers", "catalog"],
    "surgery": [
        *["backend.abilities", "ops", "arguments", "configs", "statistics", "streams"],
        *["layers", "wrappers", "catalog", "surgery"],
    ],
    "report": ["ops", "layers", "wrappers", "catalog"],
    "export": ["backend", "ops", "configs", "layers", "wrappers", "catalog", "export"],
    "cli": ["catalog", "surgery", "export", "report", "__version__"],
}
MAY_IMPORT_TENSORFLOW = (
    "backend.tensorflow",
    "backend.blends",
    "backend.channelwise",
    "backend.rowwise",
    "export",
    "surgery.foreign.saved_model",  # its checkpoints, which TensorFlow alone reads
)


def name_of(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path):
    """Dotted names a file imports, wherever in the file the import stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_follow_the_levels(path):
    name = name_of(path)
    if name == "__init__":
        return
    allowed = MAY_IMPORT[name.split(".")[0]]
    for imported in imports_of(path):
        if imported.startswith("keras_norm"):
            target = imported.removeprefix("keras_norm").removeprefix(".")
            assert any(target == a or target.startswith(f"{a}.") for a in allowed), imported
        if imported.split(".")[0] == "tensorflow":
            assert name.startswith(MAY_IMPORT_TENSORFLOW), imported
        assert ".src" not in imported, f"{imported} is no public interface"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            first = (
                node.body[1].lineno if ast.get_docstring(node) and node.body[1:] else node.lineno
            )
            assert node.end_lineno - first < 40, f"{node.name} is too long"


def test_one_file_asks_which_backend_runs():
    ways = {f"{where}backend" for where in ("", "backend.", "config.")}
    ways |= {f"keras.{way}" for way in ways}

    def asks(path):
        nodes = ast.walk(ast.parse(path.read_text()))
        return ways & {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}

    assert [name_of(path) for path in FILES if asks(path)] == ["backend.abilities"]


def test_oracles_import_numpy_alone():
    for path in (Path(__file__).parent / "oracles").glob("*.py"):
        for name in imports_of(path):
            assert name.split(".")[0] in {"numpy", "itertools"} or name.startswith("tests.oracles")


def test_importing_the_package_adds_nothing_heavy_to_keras_and_tensorflow():
    script = (
        "import sys, keras, tensorflow; before = set(sys.modules); import keras_norm;"
        "print({m.split('.')[0] for m in set(sys.modules) - before} - sys.stdlib_module_names)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "{'keras_norm'}"
