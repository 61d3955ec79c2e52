"""Files for the GPU accelerator, each with its inputs, and one process for all of them."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_norm

ROOT = Path(__file__).parents[2]
VULKAN = ROOT / "build" / "vulkan"
ACCELERATOR = Path(__file__).with_name("accelerator.py")
HEADING = "==== "
TAKEN = "Initializing WebGPU-based API from graph"
"""What the accelerator says when it has been given operations."""
LEFT = "will run on the CPU"
"""What it says of operations that it does not take: of all of them, or of the remaining ones."""


class Batch:
    """Models, the cases that each is run on, and what the accelerator made of them."""

    def __init__(self, folder):
        self.folder, self.cases, self.models, self.log = folder, {}, {}, {}

    def add(self, name, model, cases, **how):
        """Exports a model under a name.

        Args:
            name: The file's name.
            model: A model.
            cases: Lists of arrays, one per input, by the case's name.
            **how: Arguments of `export_litert`.
        """
        path = self.folder / f"{name}.tflite"
        keras_norm.export_litert(model, path, **how)
        names = [tensor._keras_history.operation.name for tensor in model.inputs]
        arrays = {
            f"{case}/{key}": value
            for case, values in cases.items()
            for key, value in zip(names, values, strict=True)
        }
        np.savez(path.with_suffix(".npz"), **arrays)
        self.cases[name], self.models[name] = cases, model

    def run(self):
        """Runs all files in one process."""
        driver = {
            "VK_ICD_FILENAMES": str(VULKAN / "driver.json"),
            "LD_LIBRARY_PATH": str(VULKAN / "lib"),
            "MESA_SHADER_CACHE_DIR": str(VULKAN / "shaders"),
        }
        done = subprocess.run(
            [sys.executable, ACCELERATOR, self.folder, HEADING],
            env={**os.environ, **driver},
            stderr=subprocess.PIPE,
            timeout=600,
        )
        text = done.stderr.decode(errors="replace")
        for part in text.split(HEADING)[1:]:
            heading, _, said = part.partition("\n")
            self.log[tuple(heading.split())] = said
        assert done.returncode == 0, text[-4000:]
        return self

    def taken(self, name, precision):
        """Whether all operations of a file ran on the GPU, by what the accelerator said."""
        said = self.log[name, precision]
        return TAKEN in said and LEFT not in said and "REFUSED" not in said

    def outputs(self, name, precision):
        """What the accelerator computed, by case."""
        with np.load(self.folder / f"{name}.{precision}.npz") as arrays:
            return dict(arrays)

    def decibels(self, name, precision):
        """Signal over error of each case, the signal being what Keras computes in float32."""
        result, model = {}, self.models[name]
        for case, actual in self.outputs(name, precision).items():
            given = self.cases[name][case]
            expected = np.asarray(model(given if len(given) > 1 else given[0]), "float64")
            error = np.square(actual - expected).mean()
            result[case] = 10.0 * np.log10(np.square(expected).mean() / max(error, 1e-300))
        return result


@pytest.fixture(scope="session", autouse=True)
def driver():
    """Fails once, and says why, where the driver is missing."""
    if not (VULKAN / "driver.json").is_file():
        pytest.exit("There is no Vulkan driver in build/vulkan: run `make test-gpu-delegate`.", 1)


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """An empty batch."""
    keras.utils.set_random_seed(0)
    return Batch(tmp_path_factory.mktemp("gpu"))
