"""The folder layout of model servers: `<name>/<version>/`, versions being positive integers."""

from pathlib import Path
from typing import Any, Literal

Version = int | Literal["next"] | None


def base_folder(path: Path, version: Any, name: Any) -> Path:
    """The folder that a model's versions lie in, or the SavedModel itself without versions.

    Args:
        path: The caller's path.
        version: The caller's version: a positive integer, `"next"` or `None`.
        name: The caller's name of a folder in `path`, or `None`.

    Returns:
        `path`, or the folder `name` in it.

    Raises:
        ValueError: If `version` or `name` is not usable, or if the folder is something else.
    """
    number = isinstance(version, int) and not isinstance(version, bool) and version > 0
    if not number and version not in (None, "next"):
        raise ValueError(
            "`version` must be a positive integer, 'next' or None. "
            f"Received: version={version!r}. Pass for example version='next'."
        )
    if version is None and name is None:
        return path
    if name is not None and (name in ("", "..") or Path(str(name)).name != name):
        raise ValueError(
            "`name` must be the name of one folder, or None. "
            f"Received: name={name!r}. Put what comes before it into `path`."
        )
    if version is None:
        raise ValueError(
            "`name` must come with a version. "
            f"Received: name={name!r}, version=None. Pass version=1 or version='next'."
        )
    base = path / (name or "")
    if (base.exists() and not base.is_dir()) or (base / "saved_model.pb").exists():
        kind = "a SavedModel" if base.is_dir() else "a file"
        raise ValueError(
            "`path` must be a folder for the versions of a model. "
            f"Received: path={str(path)!r}, where {str(base)!r} is {kind}. Choose another path, "
            "or move away what is there."
        )
    return base


def version_folder(base: Path, version: Any) -> Path:
    """The folder of one version, which is not there yet.

    Args:
        base: The folder that the model's versions lie in.
        version: A positive integer, or `"next"` for one more than the highest that is there.

    Returns:
        The folder's path.

    Raises:
        ValueError: If the version is there.
    """
    entries = base.iterdir() if base.is_dir() else ()
    taken = {int(entry.name) for entry in entries if entry.name.isdecimal()}
    following = max(taken, default=0) + 1
    if version in taken:
        raise ValueError(
            "`version` must be one that is not there yet: servers do not look at a version again. "
            f"Received: version={version}, which is in {str(base)!r}. Pass version={following} or "
            "version='next'."
        )
    return base / str(following if version == "next" else version)
