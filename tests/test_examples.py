"""Every example runs, at tiny size, and is short enough to read at a sitting."""

import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import pytest

FILES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
EXAMPLES = [file for file in FILES if file.name[0].isdecimal()]


def run(example, *flags):
    """What the example prints, in a process that has neither input nor screen."""
    done = subprocess.run(
        [sys.executable, example, *flags],
        stdin=subprocess.DEVNULL,
        env=os.environ | {"MPLBACKEND": "agg", "TF_CPP_MIN_LOG_LEVEL": "3", "COLUMNS": "80"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_figure(path):
    height, width, _ = matplotlib.image.imread(path).shape
    assert min(height, width) > 300


def train_save_export(example, folder):
    flags = ["--norm=renorm", "--epochs=1", "--min-accuracy=0", f"--output={folder}"]
    printed = run(example, *flags)
    for file in ("model.keras", "model.tflite", "saved_model/saved_model.pb"):
        assert (folder / "renorm" / file).stat().st_size
    check_figure(folder / "training_curves.png")
    (row,) = re.findall(r"│ renorm +│(.*)", printed)
    _, *accuracies, difference, size = [cell.strip() for cell in row.strip("│").split("│")]
    assert len(accuracies) == 4
    assert len(set(accuracies)) == 1
    assert float(difference) <= 1e-5
    assert float(size) > 100


def wgan_spectral_critic(example, folder):
    printed = run(example, "--epochs=2", f"--output={folder}")
    assert (folder / "critic.keras").stat().st_size
    check_figure(folder / "wgan.png")
    norms = re.findall(r"norms \[(.*)\]", printed)
    assert len(norms) == 2
    for of_epoch in norms:
        # One power iteration per step runs after a kernel that Adam moves.
        assert [float(norm) for norm in of_epoch.split()] == pytest.approx([1] * 4, abs=0.2)


def weight_norm_tcn(example, folder):
    printed = run(example, "--epochs=1", "--seeds=1", f"--output={folder}")
    assert (folder / "model.keras").stat().st_size
    check_figure(folder / "data_init.png")
    plain, initialized = re.findall(r"seed 0: (\S+) comes out of the last layer", printed)
    assert float(plain) < 1e-5
    assert float(initialized) == pytest.approx(1, abs=0.1)


def char_lstm(example, folder):
    flags = ["--epochs=1", "--units=8", "--max-bits=8", f"--output={folder}"]
    printed = run(example, *flags)
    check_figure(folder / "bits_per_character.png")
    for file in ("model.keras", "model.tflite", "saved_model/saved_model.pb"):
        assert (folder / file).stat().st_size
    assert printed.count("agrees with the model") == 3
    bits = [float(number) for number in re.findall(r"([\d.]+) bits per character", printed)]
    assert len(bits) == 2 and min(bits) > 2 and max(bits) < 7  # 92 letters have 6.5 at random


def style_transfer_adain(example, folder):
    flags = ["--crops=16", "--epochs=1", "--max-error=1", "--max-distance=2"]
    printed = run(example, *flags, f"--output={folder}")
    check_figure(folder / "style_transfer.png")
    rows = re.findall(r"│ \w+ +│ \w+ +│ ([\d.]+) +│ ([\d.]+) +│ ([\d.]+) +│ ([\d.]+) +│", printed)
    assert len(rows) == 8
    for strength, features, _, error in (map(float, row) for row in rows):
        assert features == pytest.approx(1 - strength, abs=0.1)  # whatever the encoder has learned
        assert 0 < error < 1


def zca_digits(example, folder):
    printed = run(example, "--epochs=1", "--min-accuracy=0", f"--output={folder}")
    for file in ("model.keras", "model.tflite", "saved_model/saved_model.pb"):
        assert (folder / file).stat().st_size
    check_figure(folder / "digits.png")
    assert len(re.findall(r"agrees\s+with\s+the\s+model", printed)) == 3
    rows = dict(re.findall(r"│ ([\w-]+) +│ ([\d.]+) +│", printed))
    assert list(rows) == ["raw", "z-score", "min-max", "ZCA", "PCA"]
    assert all(0.7 < float(accuracy) < 1 for accuracy in rows.values())


def serve_saved_model(example, folder):
    printed = run(example, "--epochs=1", f"--output={folder}")
    for version in ("1", "2"):
        assert (folder / "digits" / version / "saved_model.pb").stat().st_size
    (sent,) = re.findall(r"Of (\d+) requests 0 were lost", printed)
    rows = re.findall(r"│ (\d) +│ (\d+) +│ ([\d.]+) +│ ([\d.e-]+) +│", printed)
    assert [version for version, *_ in rows] == ["1", "2"]
    assert sum(int(served) for _, served, *_ in rows) == int(sent)
    assert all(int(served) >= 90 for _, served, *_ in rows)
    first, second = (float(accuracy) for *_, accuracy, _ in rows)
    assert 0.2 < first < second < 1
    assert all(float(difference) < 1e-5 for *_, difference in rows)


CHECKS = {
    "01_train_save_export": train_save_export,
    "02_wgan_spectral_critic": wgan_spectral_critic,
    "03_weight_norm_tcn": weight_norm_tcn,
    "04_char_lstm": char_lstm,
    "05_style_transfer_adain": style_transfer_adain,
    "06_zca_digits": zca_digits,
    "07_serve_saved_model": serve_saved_model,
}


@pytest.mark.parametrize("example", FILES, ids=lambda path: path.stem)
def test_an_example_has_less_than_80_lines(example):
    assert len(example.read_text().splitlines()) < 80


def test_every_example_has_a_check():
    assert list(CHECKS) == [example.stem for example in EXAMPLES]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(example, tmp_path):
    CHECKS[example.stem](example, tmp_path)
