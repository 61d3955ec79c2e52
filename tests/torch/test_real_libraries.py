"""Weights of the real PyTorch and the real Flax, each in its own environment, load into ours.

`make test-torch` runs this; plain `make test` compares with what is kept in `saved_models/golden`.
"""

import os
import subprocess
from pathlib import Path

import pytest

from tests.torch.twins import check_flax, check_torch, flax_twins, read, torch_twins

HERE = Path(__file__).parent
CHECKS = {"torch": (check_torch, torch_twins), "flax": (check_flax, flax_twins)}


@pytest.mark.parametrize("library", CHECKS)
def test_every_module_of_the_library(library, tmp_path):
    python = os.environ.get(f"{library.upper()}_PYTHON", f".venv-{library}/bin/python")
    path = tmp_path / "modules.npz"
    subprocess.run([python, str(HERE / f"{library}_modules.py"), str(path)], check=True)
    cases = read(path, nested=library == "flax")
    check, twins = CHECKS[library]
    assert {name.removeprefix("linen ").removeprefix("nnx ") for name in cases} <= set(twins())
    failed = {}
    for name, case in cases.items():
        try:
            check(name, case)
        except (AssertionError, ValueError) as error:
            failed[name] = str(error)
    assert not failed
