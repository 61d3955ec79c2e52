"""Puts a finished file or folder in its place, so that nobody ever sees half of one."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path


class Taken(FileExistsError):
    """Something stands at a path where nothing was to be replaced."""


@contextlib.contextmanager
def placed(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Takes what the body writes to the path that is handed out, and moves it to `path`.

    A file replaces a file in one step. A folder cannot: the old one is renamed aside, the new one
    renamed in, then the old one deleted; if the new one cannot come in, the old one goes back.
    When the body raises, `path` stays as it was. A process killed just between the two renames
    leaves no folder at `path`, but the whole old one as `old` in the hidden folder beside it.
    Of several writers at the same time each one's result is whole, and the last one's stays.

    Args:
        path: The target. Missing parents are created.
        replace: Whether what stands at `path` is replaced. Defaults to `True`.

    Yields:
        A path on the same file system, under a hidden folder beside the target.

    Raises:
        Taken: If `replace` is `False` and, in the end, something stands at `path`.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    # The result keeps its own permissions: only the stage around it is private.
    new, old = stage / "new", stage / "old"
    try:
        yield new
        _flush(new)
        with _alone(path.parent):
            if path.exists() and not replace:
                raise Taken(f"{path} exists already.")
            if new.is_dir() and path.is_dir():
                _swap(new, path, old)
            else:
                os.replace(new, path)
        if old.is_dir():
            # Under another name while it goes: what a killed process leaves as `old` is whole.
            _remove(old.rename(stage / "deleted"))
    finally:
        _remove(new)
        # Not empty only where the old folder could be neither replaced nor put back.
        with contextlib.suppress(OSError):
            stage.rmdir()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lets one writer at a time rename in `folder`: between two renames the target is away."""
    if sys.platform == "win32":  # It cannot lock folders.
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems cannot either.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        # Closing is not enough where a child process has inherited the handle.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def _swap(new: Path, path: Path, old: Path) -> None:
    os.rename(path, old)
    try:
        os.rename(new, path)
    except BaseException:
        os.rename(old, path)
        raise


def _flush(path: Path) -> None:
    """Sends files to the disk before a name points at them: a power cut must not leave holes."""
    for entry in [path, *path.rglob("*")]:
        if entry.is_file():
            with open(entry, "rb+") as file:
                os.fsync(file.fileno())
        elif sys.platform != "win32":
            _flush_folder(entry)


def _flush_folder(path: Path) -> None:
    """Sends the names in a folder to the disk, where the file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
