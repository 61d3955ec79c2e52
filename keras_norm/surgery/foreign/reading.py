"""Untrusted files, read by exact names within limits; nothing of theirs is imported or run."""

import contextlib
import io
import itertools
import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

LARGEST = 2 * 2**30  # bytes of all that an archive holds
_RATIO = 100  # of an archive's member, unpacked to packed
_DECLARED = 1000  # of a data set, bytes that it claims to those that are stored
NUMBERS = "biuf"  # kinds of NumPy's dtypes
_DEPTH = 200
_OBJECTS = 1_000_000


def broken(path, reason):
    """The error for a file that is not what it should be."""
    return ValueError(
        "`path` must be a file that Keras 2 wrote: .h5, .keras or a SavedModel folder, or its "
        f"weights. Received: path={str(path)!r}, {reason}. Check that it was copied whole."
    )


@contextlib.contextmanager
def read_whole(path) -> Iterator[None]:
    """Says what libraries raise over a damaged file in words of ours."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, OverflowError, UnicodeError, zlib.error) as error:
        raise broken(path, f"which is damaged ({type(error).__name__}: {error})") from error


@contextlib.contextmanager
def opened_h5(source) -> Iterator[h5py.File]:
    """An HDF5 file, open for reading.

    Args:
        source: A path, or bytes.

    Yields:
        The file.

    Raises:
        ValueError: If it is none.
    """
    try:
        # Without a cache for chunks: what is read is read once.
        file = h5py.File(io.BytesIO(source) if isinstance(source, bytes) else source, "r")
    except (OSError, RuntimeError) as error:
        shown = "model.weights.h5" if isinstance(source, bytes) else source
        raise broken(shown, "which HDF5 cannot open") from error
    with file:
        yield file


def member(group, name, kind: Any = h5py.Group):
    """What stands in a group under a path of names, each a hard link.

    Args:
        group: A group or file.
        name: Names with `/` between them.
        kind: `h5py.Group` or `h5py.Dataset`.

    Returns:
        The group or data set, or `None` if there is no such thing.

    Raises:
        ValueError: If a link on the way leads elsewhere.
    """
    found = group
    for part in name.split("/"):
        if not isinstance(found, h5py.Group) or part in ("", ".", ".."):
            return None
        link = found.get(part, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise broken(name, "which is a link to another place or file")
        found = found[part]
    return found if isinstance(found, kind) else None


class Arrays:
    """The data sets of one HDF5 file, each of which is read once, and all within a limit.

    Args:
        file: The file, or a group of it.
    """

    def __init__(self, file):
        # What is packed may become more, as it may in an archive; what is not takes its own room.
        self._left = max(LARGEST, file.file.id.get_filesize())
        self._read: set[int] = set()

    def read(self, group, name):
        """A data set as an array, or `None` if there is none.

        Args:
            group: A group of the file.
            name: The data set's name in it.

        Returns:
            An array of numbers.

        Raises:
            ValueError: If it lies outside of the file, claims to be larger than what is stored,
                holds no numbers, or was read before, or if all are too large together.
        """
        found = member(group, name, h5py.Dataset)
        if found is None:
            return None
        if found.is_virtual or found.external:
            raise broken(name, "a data set that lies in another file")
        if found.dtype.kind not in NUMBERS:
            raise broken(name, f"a data set of dtype {found.dtype}, which is no number")
        if found.nbytes > _DECLARED * max(found.id.get_storage_size(), 1):
            raise broken(name, f"a data set that claims {found.nbytes} bytes and stores few")
        place = h5py.h5o.get_info(found.id).addr  # one data set may have many names
        if place in self._read:
            raise broken(name, "a data set that stands in two places")
        self._read.add(place)
        self._left -= found.nbytes
        if self._left < 0:
            raise broken(name, "a data set with which the file unpacks to more than 2 GiB")
        return np.asarray(found[()])


def names_in(group, attribute):
    """An attribute that lists names, which Keras 2 cut in pieces where it was long."""
    if attribute in group.attrs:
        pieces = [attribute]
    else:
        numbered = (f"{attribute}{n}" for n in itertools.count())
        pieces = list(itertools.takewhile(lambda piece: piece in group.attrs, numbered))
    return [text(name) for piece in pieces for name in np.ravel(group.attrs[piece])]


def text(value):
    """A string that HDF5 hands out as one or as bytes."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


@contextlib.contextmanager
def opened_zip(path) -> Iterator[zipfile.ZipFile]:
    """A zip archive of bearable size, open for reading."""
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise broken(path, "which is no zip archive") from error
    with archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > LARGEST:
            raise broken(path, "which unpacks to more than 2 GiB")
        for entry in entries:
            if entry.file_size > _RATIO * max(entry.compress_size, 1):
                raise broken(path, f"whose {entry.filename!r} unpacks to over 100 times its size")
        yield archive


def unpacked(archive, name):
    """The bytes of one member of an archive.

    Raises:
        ValueError: If there is none of that name, or it is damaged.
    """
    try:
        return archive.read(name)
    except (KeyError, OSError, EOFError, zipfile.BadZipFile, RuntimeError, ValueError) as error:
        raise broken(archive.filename, f"whose {name!r} is missing or damaged") from error
    except (zlib.error, NotImplementedError) as error:
        raise broken(archive.filename, f"whose {name!r} is damaged") from error


def parsed(source, path):
    """JSON as Keras 2 wrote it, its tuples as lists.

    Raises:
        ValueError: If it is none, too deep or too large.
    """
    try:
        value = json.loads(source, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise broken(path, "whose configuration is no JSON") from error
    if not isinstance(value, dict):
        raise broken(path, "whose configuration is no dictionary")
    return _plain(value, path, 0, [0])


def _no_constant(name):
    """Infinities come through as numbers; they are limits of some arguments."""
    return float(name.replace("Infinity", "inf"))


def _plain(value, path, depth, count):
    """A value without Keras's marks of tuples and shapes, within the limits."""
    count[0] += 1
    if depth > _DEPTH or count[0] > _OBJECTS:
        raise broken(path, f"whose configuration is deeper than {_DEPTH} or has too many parts")
    if isinstance(value, list):
        return [_plain(part, path, depth + 1, count) for part in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("class_name")
    if kind in ("__tuple__", "TensorShape") and isinstance(value.get("items"), list):
        return _plain(value["items"], path, depth + 1, count)
    return {name: _plain(part, path, depth + 1, count) for name, part in value.items()}


def existing(path):
    """The path, if there is such a file or folder.

    Raises:
        ValueError: If there is none.
    """
    path = Path(path)
    if not path.exists() and not path.with_name(f"{path.name}.index").exists():
        raise ValueError(
            "`path` must be a file or folder that exists. "
            f"Received: path={str(path)!r}. Check its name."
        )
    return path
