"""Saved file against live model."""

import dataclasses
import importlib.util
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_norm.export import runtime, samples, signature

BOUNDS = {"keras": 0.0, "h5": 0.0, "saved_model": 1e-6, "tflite": 1e-5}
"""Per format the largest difference that passes, relative to max(1, largest expected number).

A `.keras` or `.h5` file runs the same operations in the same order as the live model, so it must
agree to the last bit. The others run another program for the same formula.
"""

_SUFFIXES = {".keras": "keras", ".h5": "h5", ".tflite": "tflite"}


@dataclasses.dataclass(frozen=True)
class OutputDifference:
    """How far one output of a file lies from the live model's.

    Attributes:
        name: Name of the output.
        largest_difference: Largest |file - model|. NaN where there is nothing to compare or
            a number is NaN; infinite where the shapes differ or where one side lacks the output.
        largest_expected: Largest |model|.
        passed: Whether the difference lies within the bound.
    """

    name: str
    largest_difference: float
    largest_expected: float
    passed: bool


@dataclasses.dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
        path: The file or folder that was run.
        format: `"keras"`, `"h5"`, `"saved_model"` or `"tflite"`.
        runtime: Name and version of what ran it.
        differences: One `OutputDifference` per output.
        bound: The largest difference that passes, relative to max(1, largest expected number).
        outputs: What the file computed, by output name.
    """

    path: Path
    format: str
    runtime: str
    differences: tuple[OutputDifference, ...]
    bound: float
    outputs: dict[str, np.ndarray] = dataclasses.field(repr=False, compare=False)

    @property
    def largest_difference(self) -> float:
        """The largest difference over all outputs; NaN if any of them is."""
        return float(np.max([output.largest_difference for output in self.differences]))

    @property
    def passed(self) -> bool:
        """Whether every output lies within the bound."""
        return all(output.passed for output in self.differences)

    def __str__(self) -> str:
        verdict = "agrees" if self.passed else "DOES NOT AGREE"
        lines = [f"{self.path} {verdict} with the model ({self.runtime}, bound {self.bound:g})"]
        for output in self.differences:
            lines.append(
                f"  {output.name}: largest difference {output.largest_difference:.3g}, "
                f"largest expected {output.largest_expected:.3g}"
                + ("" if output.passed else "  <- beyond the bound")
            )
        return "\n".join(lines)


def verify(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    data: Any = None,
    bound: float | None = None,
) -> Verification:
    """Runs a saved file in a process of its own and compares it with the live model.

    The process imports what the format needs and no more: LiteRT for `.tflite`, TensorFlow for a
    SavedModel, Keras and this package for `.keras` and `.h5`. Both sides compute on the CPU, where
    the numbers do not depend on who else uses the machine's accelerator.

    Args:
        model: The Functional or Sequential model that the file was made from.
        path: A `.keras`, `.h5` (whole model) or `.tflite` file, or a SavedModel folder.
        data: Inputs to compare on: an array, a list of arrays, or a dict by input name. Defaults
            to seeded random numbers (0 and 1 for integer inputs).
        bound: The largest difference that passes, relative to max(1, largest expected number).
            Defaults to 1e-5 for `.tflite`, 1e-6 for a SavedModel, 0 for `.keras` and `.h5`.

    Returns:
        A `Verification`. NaN, a shape that differs and a missing output never pass.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        ImportError: If the file is a `.tflite` and LiteRT is not installed.
        RuntimeError: If the file cannot be run; the message ends with what its process said.
        ValueError: If `path` is no such file, or if `model`, `data` or `bound` is not usable.

    Example:

    >>> import keras
    >>> from keras_norm.export import export_litert, verify
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> path = export_litert(model, "dense.tflite")
    >>> verify(model, path).passed
    True
    """
    path = Path(path)
    kind = _format(path)
    bound = BOUNDS[kind] if bound is None else bound
    if isinstance(bound, bool) or not isinstance(bound, (int, float)) or not bound >= 0:
        raise ValueError(
            f"`bound` must be a number of at least 0. Received: bound={bound!r}. "
            "Pass `None` for the format's own bound."
        )
    if data is not None:
        inputs = samples.given(model, data)
    else:
        fixed = _run(kind, path, None)[0] if kind == "tflite" else None
        inputs = samples.drawn(model, fixed)
    expected = _expected(model, inputs)
    outputs, ran_on = _run(kind, path, inputs)
    if len(outputs) == len(expected) == 1:
        # A single one needs no name to be told apart, and other exporters name it otherwise.
        outputs = dict(zip(expected, outputs.values(), strict=True))
    differences = tuple(
        _difference(name, outputs.get(name), expected.get(name), bound)
        for name in dict.fromkeys([*expected, *outputs])
    )
    return Verification(path, kind, ran_on, differences, float(bound), outputs)


def _format(path: Path) -> str:
    if not path.exists():
        raise FileNotFoundError(
            "`path` must be a file or folder that exists. "
            f"Received: path={str(path)!r}. Save or export the model first."
        )
    if path.is_dir() and (path / "saved_model.pb").is_file():
        return "saved_model"
    if path.is_dir() or path.suffix not in _SUFFIXES:
        raise ValueError(
            "`path` must be a .keras, .h5 or .tflite file, or a SavedModel folder (with a "
            f"saved_model.pb in it). Received: path={str(path)!r}. Save the model with "
            "`model.save` or export it with `export_saved_model` or `export_litert`."
        )
    if path.suffix == ".tflite" and importlib.util.find_spec("ai_edge_litert") is None:
        raise ImportError(
            "Running a .tflite file needs LiteRT, which is not installed. "
            f'Received: path={str(path)!r}. Run `pip install "keras_norm[lite]"`.'
        )
    return _SUFFIXES[path.suffix]


def _expected(model: keras.Model, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with keras.device("cpu:0"):
        outputs = model(signature.packed(model, list(inputs.values())), training=False)
    named = signature.named_outputs(model, outputs)
    return {name: keras.ops.convert_to_numpy(output) for name, output in named.items()}


def _run(
    kind: str, path: Path, inputs: dict[str, np.ndarray] | None
) -> tuple[dict[str, np.ndarray], str]:
    """The file's outputs for `inputs`, or without them the shapes it takes; and what ran it."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answer = os.path.join(folder, "inputs.npz"), os.path.join(folder, "answer.npz")
        command = [sys.executable, runtime.__file__, kind, str(path), answer]
        if inputs is not None:
            runtime.write_named(asked, inputs)
            command.append(asked)
        process = subprocess.run(
            command, env=_environment(kind), capture_output=True, text=True, errors="replace"
        )
        if process.returncode:
            raise RuntimeError(
                f"`path` must be a file that runs. Received: path={str(path)!r}, whose process "
                f"ended with code {process.returncode}. Its last words:\n"
                + "\n".join(process.stderr.splitlines()[-20:])
            )
        return runtime.read_named(answer)


def _environment(kind: str) -> dict[str, str]:
    environment = dict(os.environ, KERAS_BACKEND=keras.backend.backend())
    # Keeps the runner's folder, with its module names, off the import path.
    environment["PYTHONSAFEPATH"] = "1"
    # This process may hold all of an accelerator's memory, and its matrix products may be coarser.
    environment["CUDA_VISIBLE_DEVICES"] = "-1"
    if kind in ("keras", "h5"):
        # The same package as here, also where it is a source checkout that is not installed.
        package = str(Path(runtime.__file__).parents[2])
        others = os.environ.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([package, others] if others else [package])
    return environment


def _difference(
    name: str, output: np.ndarray | None, expected: np.ndarray | None, bound: float
) -> OutputDifference:
    size = 0.0 if expected is None else float(np.max(np.abs(_wide(expected)), initial=0.0))
    if output is None or expected is None or output.shape != expected.shape:
        return OutputDifference(name, float("inf"), size, False)
    if not expected.size:
        return OutputDifference(name, float("nan"), size, False)
    with np.errstate(invalid="ignore"):
        largest = float(np.max(np.abs(_wide(output) - _wide(expected))))
    # An infinite expected number would make any bound infinite.
    passed = math.isfinite(largest) and largest <= bound * max(1.0, size)
    return OutputDifference(name, largest, size, passed)


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.promote_types(array.dtype, np.float64))
