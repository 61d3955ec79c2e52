"""The processes that time: one for our layers and their peers, one per foreign library."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
# A library that found a GPU would not be compared with the others on the same processor.
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "JAX_PLATFORMS": "cpu",
    "KERAS_BACKEND": "tensorflow",
    "MPLBACKEND": "agg",
    "PYTHONPATH": str(ROOT),
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


class Died(RuntimeError):
    """A process ended before it answered."""


def python_of(library):
    """The Python that has the library: ours, or one of an environment that `make bench` makes."""
    if library == "keras":
        return Path(sys.executable)
    return ROOT / f".venv-{library}" / "bin" / "python"


class Peer:
    """A running peer, asked for case after case."""

    def __init__(self, library):
        # It lives as long as the process.
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [python_of(library), "-m", f"benchmarks.peers.{library}_peer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=os.environ | ENVIRONMENT,
            cwd=ROOT,
            text=True,
        )

    def ask(self, case):
        """The answer, as a dictionary."""
        try:
            self.process.stdin.write(json.dumps(case) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.log.seek(0)
            raise Died(self.log.read().strip()[-300:] or "ended without a word")
        return json.loads(line)

    def _hang_up(self):
        # A process that has gone already leaves its last case unread.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def close(self):
        """Ends the process, and with it returns its memory."""
        self._hang_up()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()


class Peers:
    """The peers that run now: those of one process name, and none of the name before."""

    def __init__(self, shared=False):
        self.shared = shared
        self.name, self.running = None, {}

    def ask(self, library, case, name):
        """Asks the library's process of that name, which is started where it does not run."""
        if name != self.name and not self.shared:
            self.close()
        self.name = name
        if library not in self.running:
            self.running[library] = Peer(library)
        try:
            return self.running[library].ask(case)
        except Died as error:
            self.running.pop(library).close()
            return {"error": f"The process died: {error}"}

    def close(self):
        for peer in self.running.values():
            peer.close()
        self.running = {}
