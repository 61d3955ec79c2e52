"""Every example runs, at tiny size, and is short enough to read at a sitting."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("[0-9]*.py"))
TINY = {
    "01_train_save_export": ["--norm=group", "--norm=renorm", "--epochs=1", "--min-accuracy=0"],
}


def run(example, *flags):
    return subprocess.run(
        [sys.executable, example, *flags],
        # Nothing is to be asked of whoever runs it, and no window opened.
        stdin=subprocess.DEVNULL,
        env=os.environ | {"MPLBACKEND": "agg", "TF_CPP_MIN_LOG_LEVEL": "3", "COLUMNS": "80"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_has_less_than_80_lines(example):
    assert len(example.read_text().splitlines()) < 80


def test_every_example_has_a_tiny_size():
    assert list(TINY) == [example.stem for example in EXAMPLES]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(example, tmp_path):
    done = run(example, *TINY[example.stem], f"--output={tmp_path}")
    assert done.returncode == 0, done.stderr
    figures = list(tmp_path.glob("*.png"))
    assert figures
    for figure in figures:
        height, width, _ = matplotlib.image.imread(figure).shape
        assert min(height, width) > 300


def test_the_first_example_writes_each_file_and_a_row_for_each_norm(tmp_path):
    pass
