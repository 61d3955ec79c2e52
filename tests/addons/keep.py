"""Copies the files that plain `make test` loads: `python -m tests.addons.keep FOLDER`."""

import shutil
import sys
from pathlib import Path

KEPT = Path(__file__).parents[2] / "saved_models" / "golden" / "addons"
ARGUMENTS = "arguments.json"
FILES = {
    "instance": "model.h5",
    "masked": "model.keras",
    "spectral": "saved_model",
    "weight_fresh": "model.keras",
}


def main(folder):
    """Copies each with its data; of a SavedModel what is read, not its graph. And the arguments."""
    KEPT.mkdir(parents=True, exist_ok=True)
    for kind, name in FILES.items():
        source = folder / kind / name
        target = KEPT / f"{kind}{source.suffix}"
        if source.is_dir():
            unread = shutil.ignore_patterns("saved_model.pb", "fingerprint.pb", "assets")
            shutil.copytree(source, target, ignore=unread, dirs_exist_ok=True)
        else:
            shutil.copy(source, target)
        shutil.copy(folder / kind / "data.npz", KEPT / f"{kind}.npz")
    shutil.copy(folder / ARGUMENTS, KEPT)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
