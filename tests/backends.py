"""Scripts in a process where Keras has another backend than here."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = str(Path(__file__).parents[1])


def run_on(backend, script, *arguments):
    """What a script prints; fails with the end of what it said if it fails."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *arguments],
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
