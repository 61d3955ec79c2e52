"""Saved file against live model."""

import dataclasses
import importlib.util
import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_norm.backend import abilities
from keras_norm.export import runtime, samples, signature

BOUNDS = {
    "keras": 0.0,
    "h5": 0.0,
    "saved_model": 1e-6,
    "tflite": 1e-5,
    "onnx": 1e-5,
    "openvino": 1e-5,
}
"""Per format the largest difference that passes, relative to the largest expected number.

A `.keras` or `.h5` file runs the same operations in the same order as the live model, so it must
agree to the last bit. The others run another program for the same formula.
"""

_SUFFIXES = {
    ".keras": "keras",
    ".h5": "h5",
    ".tflite": "tflite",
    ".onnx": "onnx",
    ".xml": "openvino",
}

_WITH_SIZES = {"tflite", "onnx", "openvino"}
"""Formats whose files may have fixed sizes where the model has free ones."""

_RUNTIMES = {
    "tflite": ("LiteRT", "ai_edge_litert", "lite"),
    "onnx": ("onnxruntime", "onnxruntime", "runtimes"),
    "openvino": ("OpenVINO", "openvino", "runtimes"),
}
"""Per format what runs it, the package to import, and the extra of this package that brings it."""


@dataclasses.dataclass(frozen=True)
class OutputDifference:
    """How far one output of a file lies from the live model's.

    Attributes:
        name: Name of the output.
        largest_difference: Largest |file - model|. NaN where there is nothing to compare or
            a number is NaN; infinite where the shapes differ or where one side lacks the output.
        largest_expected: Largest |model|.
        passed: Whether the difference lies within what was asked.
        sqnr: Signal to quantization noise in dB: 10·log₁₀ Σ model² / Σ (file - model)². Infinite
            where both sides are equal; NaN where there is nothing to compare or a number is not
            finite.
    """

    name: str
    largest_difference: float
    largest_expected: float
    passed: bool
    sqnr: float = math.nan


@dataclasses.dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
        path: The file or folder that was run.
        format: `"keras"`, `"h5"`, `"saved_model"`, `"tflite"`, `"onnx"` or `"openvino"`.
        runtime: Name and version of what ran it.
        differences: One `OutputDifference` per output.
        bound: The largest difference that passes, relative to the largest expected number of the
            output; infinite where the SQNR alone decides.
        outputs: What the file computed, by output name.
        required_sqnr: The lowest SQNR in dB that passes; `None` where none was asked for.
    """

    path: Path
    format: str
    runtime: str
    differences: tuple[OutputDifference, ...]
    bound: float
    outputs: dict[str, np.ndarray] = dataclasses.field(repr=False, compare=False)
    required_sqnr: float | None = None

    @property
    def largest_difference(self) -> float:
        """The largest difference over all outputs; NaN if any of them is."""
        return float(np.max([output.largest_difference for output in self.differences]))

    @property
    def lowest_sqnr(self) -> float:
        """The lowest SQNR in dB over all outputs; NaN if any of them is."""
        return float(np.min([output.sqnr for output in self.differences]))

    @property
    def passed(self) -> bool:
        """Whether every output lies within what was asked."""
        return all(output.passed for output in self.differences)

    def __str__(self) -> str:
        verdict = "agrees" if self.passed else "DOES NOT AGREE"
        asked = [] if math.isinf(self.bound) else [f"bound {self.bound:g}"]
        if self.required_sqnr is not None:
            asked.append(f"SQNR of at least {self.required_sqnr:g} dB")
        told = ", ".join([self.runtime, *asked])
        lines = [f"{self.path} {verdict} with the model ({told})"]
        for output in self.differences:
            lines.append(
                f"  {output.name}: largest difference {output.largest_difference:.3g}, "
                f"largest expected {output.largest_expected:.3g}, SQNR {output.sqnr:.1f} dB"
                + ("" if output.passed else "  <- not within that")
            )
        return "\n".join(lines)


def verify(
    model_or_reference: keras.Model | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    data: Any = None,
    bound: float | None = None,
    sqnr: float | None = None,
) -> Verification:
    """Runs a saved file in a process of its own and compares it with the live model.

    The process imports what the format needs and no more: LiteRT for `.tflite`, TensorFlow for a
    SavedModel, onnxruntime for `.onnx`, OpenVINO for `.xml`, Keras and this package for `.keras`
    and `.h5`. Both sides compute on the CPU, where the numbers do not depend on who else uses the
    machine's accelerator.

    Args:
        model_or_reference: The Functional or Sequential model that the file was made from, or the
            path of a `.keras` or `.h5` file of it, which is loaded in safe mode.
        path: A `.keras`, `.h5` (whole model), `.tflite`, `.onnx` or OpenVINO IR (`.xml`) file, or a
            SavedModel folder.
        data: Inputs to compare on: an array, a list of arrays, or a dict by input name. Defaults
            to seeded random numbers (0 and 1 for integer inputs).
        bound: The largest difference that passes, relative to the largest expected number of the
            output. Defaults to 1e-5 for `.tflite`, `.onnx` and `.xml`, 1e-6 for a SavedModel, 0 for
            `.keras` and `.h5`; where `sqnr` is given, to no bound.
        sqnr: The lowest SQNR in dB that passes, 10·log₁₀ Σ model² / Σ (file - model)² over an
            output: the measure for quantized files, whose error is a share of the whole signal.
            Defaults to none.

    Returns:
        A `Verification`. NaN, a shape that differs and a missing output never pass.

    Raises:
        FileNotFoundError: If there is nothing at `path` or at the reference.
        ImportError: If what runs the file is not installed.
        RuntimeError: If the file cannot be run, or not on inputs of these sizes, as where it was
            exported for others than the model takes; the message ends with what its process said.
        ValueError: If `path` is no such file, or if `model_or_reference`, `bound` or `sqnr` is not
            usable, or if `data` is not what the model takes.

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
    if bound is None:
        bound = BOUNDS[kind] if sqnr is None else math.inf
    elif not _is_number(bound) or not bound >= 0:
        raise ValueError(
            f"`bound` must be a number of at least 0. Received: bound={bound!r}. "
            "Pass `None` for the format's own bound."
        )
    if sqnr is not None and (not _is_number(sqnr) or math.isnan(sqnr)):
        raise ValueError(
            f"`sqnr` must be a number of decibels. Received: sqnr={sqnr!r}. "
            "Pass for example 30, or `None` to go by `bound`."
        )
    model = _model(model_or_reference)
    if data is not None:
        inputs = samples.given(model, data)
    else:
        fixed = _run(kind, path, None)[0] if kind in _WITH_SIZES else None
        inputs = samples.drawn(model, fixed)
    expected = _expected(model, inputs)
    outputs, ran_on = _run(kind, path, inputs)
    if len(outputs) == len(expected) and not set(outputs) & set(expected):
        # Other exporters have names of their own for what they keep in order.
        outputs = dict(zip(expected, _in_order(outputs), strict=True))
    differences = tuple(
        _difference(name, outputs.get(name), expected.get(name), bound, sqnr)
        for name in dict.fromkeys([*expected, *outputs])
    )
    return Verification(path, kind, ran_on, differences, float(bound), outputs, sqnr)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _model(model_or_reference: Any) -> keras.Model:
    if not isinstance(model_or_reference, (str, os.PathLike)):
        return model_or_reference
    reference = Path(model_or_reference)
    if reference.suffix not in (".keras", ".h5"):
        raise ValueError(
            "`model_or_reference` must be a model, or the path of a .keras or .h5 file. "
            f"Received: model_or_reference={str(reference)!r}. Save the model with `model.save`."
        )
    if not reference.is_file():
        raise FileNotFoundError(
            "`model_or_reference` must be a model, or the path of a file that exists. Received: "
            f"model_or_reference={str(reference)!r}. Save the model with `model.save` first."
        )
    return keras.saving.load_model(reference, compile=False, safe_mode=True)


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
            "`path` must be a .keras, .h5, .tflite, .onnx or .xml (OpenVINO) file, or a SavedModel "
            f"folder (with a saved_model.pb in it). Received: path={str(path)!r}. Save the model "
            "with `model.save` or export it with `export_saved_model` or `export_litert`."
        )
    kind = _SUFFIXES[path.suffix]
    name, package, extra = _RUNTIMES.get(kind, ("Keras", "keras", ""))
    if importlib.util.find_spec(package) is None:
        raise ImportError(
            f"Running a {path.suffix} file needs {name}, which is not installed. "
            f'Received: path={str(path)!r}. Run `pip install "keras_norm[{extra}]"`.'
        )
    return kind


def _expected(model: keras.Model, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with keras.device("cpu:0"):
        outputs = model(signature.packed(model, list(inputs.values())), training=False)
    named = signature.named_outputs(model, outputs)
    return {name: keras.ops.convert_to_numpy(output) for name, output in named.items()}


def _in_order(outputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs in the order of the model: `output_10` stands before `output_2` in some files."""
    parts = [re.fullmatch(r"(.*?)(\d+)", name) for name in outputs]
    numbers = [int(part[2]) for part in parts if part]
    if len(numbers) < len(outputs) or len({part[1] for part in parts if part}) > 1:
        return list(outputs.values())
    order = sorted(zip(numbers, outputs, strict=True))
    return [outputs[name] for _, name in order]


def _run(
    kind: str, path: Path, inputs: dict[str, np.ndarray] | None
) -> tuple[dict[str, np.ndarray], str]:
    """The file's outputs for `inputs`, or without them the shapes it takes; and what ran it."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answer = os.path.join(folder, "inputs.npz"), os.path.join(folder, "answer.npz")
        command = [sys.executable, runtime.__file__, kind, str(path), answer]
        if inputs is not None:
            stored = {name: runtime.storable(array) for name, array in inputs.items()}
            runtime.write_named(asked, stored)
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
    environment = dict(os.environ, KERAS_BACKEND=abilities.running())
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
    name: str,
    output: np.ndarray | None,
    expected: np.ndarray | None,
    bound: float,
    required_sqnr: float | None,
) -> OutputDifference:
    wanted = np.zeros(0) if expected is None else _wide(expected)
    size = float(np.max(np.abs(wanted), initial=0.0))
    if output is None or expected is None or output.shape != expected.shape:
        return OutputDifference(name, math.inf, size, False)
    if not expected.size:
        return OutputDifference(name, math.nan, size, False)
    with np.errstate(invalid="ignore"):
        errors = _wide(output) - wanted
    largest = float(np.max(np.abs(errors)))
    sqnr = _sqnr(wanted, errors)
    # An infinite expected number would make any bound infinite.
    passed = math.isfinite(largest) and (math.isinf(bound) or largest <= bound * size)
    passed = passed and (required_sqnr is None or sqnr >= required_sqnr)
    return OutputDifference(name, largest, size, passed, sqnr)


def _sqnr(signal: np.ndarray, errors: np.ndarray) -> float:
    """Power of the signal over power of the errors in dB."""
    if not np.isfinite(errors).all():
        return math.nan
    # Squares of the largest numbers that a dtype holds would not fit into it.
    scale = max(float(np.max(np.abs(signal))), float(np.max(np.abs(errors)))) or 1.0
    noise = float(np.sum(np.square(np.abs(errors / scale))))
    power = float(np.sum(np.square(np.abs(signal / scale))))
    if not noise:
        return math.inf
    return 10.0 * math.log10(power / noise) if power else -math.inf


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.promote_types(array.dtype, np.float64))
