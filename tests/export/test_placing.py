"""Full disks, folders that cannot be written, writers that meet, and writers that are killed."""

import contextlib
import fcntl
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from keras_norm.export import export_litert, export_saved_model, litert, placing

EXPORTS = {"saved": export_saved_model, "model.tflite": export_litert}


def model(value=1.0, units=1):
    constant = keras.initializers.Constant(value)
    dense = keras.layers.Dense(units, kernel_initializer=constant, name="y")
    return keras.Sequential([keras.Input((2,), name="x"), dense])


def answer(path):
    """What a whole file of `model` answers to ones: twice its value."""
    if path.suffix == ".tflite":
        serve = Interpreter(str(path)).get_signature_runner()
    else:
        loaded = tf.saved_model.load(path)
        serve = loaded.signatures["serving_default"]
    return float(np.ravel(serve(x=np.ones((1, 2), "float32"))["y"])[0])


@contextlib.contextmanager
def files_of_at_most(size):
    """Makes the system refuse to write on, in the midst of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("size", "file"),
    [(0, "variables"), (9_000, "saved_model.pb"), (40_000, "tf_serving_warmup_requests")],
)
@pytest.mark.parametrize("version", [None, 2])
def test_a_saved_model_that_cannot_be_written_on_leaves_the_old_one(tmp_path, size, file, version):
    old = export_saved_model(model(), tmp_path / "saved", version=version and 1)
    with files_of_at_most(size), pytest.raises(OSError, match=rf"cannot be written: .*{file}"):
        export_saved_model(model(2.0), tmp_path / "saved", version=version, warmup=1000)
    assert answer(old) == 2.0
    assert os.listdir(tmp_path) == ["saved"]
    assert not version or os.listdir(tmp_path / "saved") == ["1"]


@pytest.mark.parametrize(
    ("content", "message"), [(None, "SavedModel cannot be written: "), (b"x" * 5000, "too large")]
)
def test_a_litert_file_that_cannot_be_written_leaves_the_old_one(
    tmp_path, monkeypatch, content, message
):
    """Neither on the way, where a SavedModel larger than the file is written, nor in the end."""
    old = export_litert(model(), tmp_path / "model.tflite")
    if content:
        monkeypatch.setattr(litert, "_converted", lambda *_: content)
    with files_of_at_most(500), pytest.raises(OSError, match=message):
        export_litert(model(2.0), old)
    assert answer(old) == 2.0
    assert os.listdir(tmp_path) == ["model.tflite"]


def test_a_child_that_inherits_the_lock_does_not_keep_it(tmp_path, monkeypatch):
    """What a child inherits is a duplicate, closed when the child ends."""
    opened, real = [], os.open
    monkeypatch.setattr(os, "open", lambda *args: opened.append(real(*args)) or opened[-1])
    with placing._alone(tmp_path):
        inherited = os.dup(opened[0])
    handle = real(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for each in (handle, inherited):
        os.close(each)


def test_folders_are_flushed_with_their_files(tmp_path, monkeypatch):
    flushed = []

    def fsync(handle):
        flushed.append(os.readlink(f"/proc/self/fd/{handle}"))

    monkeypatch.setattr(os, "fsync", fsync)
    with placing.placed(tmp_path / "folder") as new:
        (new / "inner").mkdir(parents=True)
        (new / "inner" / "file").write_text("text")
    assert sorted(flushed) == [str(new), str(new / "inner"), str(new / "inner" / "file")]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 128 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only administrators may mount; files of limited size stand in elsewhere")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("name", EXPORTS)
def test_a_full_disk_leaves_the_old_file(small_disk, name):
    export, path = EXPORTS[name], small_disk / name
    export(model(), path)
    with pytest.raises(OSError, match="No space left on device"):
        export(model(2.0, units=50_000), path)
    assert answer(path) == 2.0
    assert os.listdir(small_disk) == [name]


@pytest.mark.parametrize("name", EXPORTS)
def test_a_folder_that_is_a_file(tmp_path, name):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file" / name, tmp_path / "file" / "deeper" / name):
        with pytest.raises((FileExistsError, NotADirectoryError), match="file"):
            EXPORTS[name](model(), path)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.fixture
def read_only():
    """A folder with an old file and an old folder, for a user who may not write there."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.tflite").write_text("old")
        (folder / "saved").mkdir()
        folder.chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)  # Nobody: the administrator may write everywhere.
        yield folder
        os.seteuid(user)
        folder.chmod(0o755)


@pytest.mark.parametrize("name", EXPORTS)
def test_a_read_only_folder(read_only, monkeypatch, name):
    monkeypatch.setattr(litert, "_converted", lambda *_: b"new")
    with pytest.raises(PermissionError, match=str(read_only)):
        EXPORTS[name](model(), read_only / name)
    assert sorted(os.listdir(read_only)) == ["model.tflite", "saved"]
    assert (read_only / "model.tflite").read_text() == "old"


WRITER = """
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("placing", sys.argv[1])
placing = importlib.util.module_from_spec(spec)
spec.loader.exec_module(placing)
sys.stdin.readline()
for count in range(150):
    with placing.placed(pathlib.Path(sys.argv[2])) as new:
        new.mkdir()
        for name in "abc":
            (new / name).write_text(sys.argv[3] * 1000)
"""


def texts_in(folder):
    """What the three files of one folder hold, or nothing where it is just being replaced."""
    with contextlib.suppress(FileNotFoundError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            files = [os.open(name, os.O_RDONLY, dir_fd=handle) for name in "abc"]
        finally:
            os.close(handle)
        texts = []
        for file in files:
            with open(file) as text:
                texts.append(text.read())
        return texts
    return []


def test_writers_at_the_same_time_neither_fail_nor_mix(tmp_path):
    """Each process loads the module alone, so that it starts in no time."""
    target = tmp_path / "folder"
    commands = [[sys.executable, "-c", WRITER, placing.__file__, str(target), n] for n in "123"]
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            )
            for command in commands
        ]
        for writer in writers:
            writer.stdin.write("go\n")
            writer.stdin.flush()
        seen = set()
        while any(writer.poll() is None for writer in writers):
            seen.update(tuple(texts) for texts in [texts_in(target)] if texts)
        assert [(w.returncode, w.stderr.read()) for w in writers] == [(0, "")] * 3
    assert seen <= {(n * 1000,) * 3 for n in "123"} and seen
    assert os.listdir(tmp_path) == ["folder"]


EXPORTER = """
import os, signal, sys, time
import keras, tensorflow
from keras_norm.export import export_litert, export_saved_model

a_round = None
for place, folder in enumerate(sys.argv[1:]):
    reads, writes = os.pipe()
    child = os.fork()  # TensorFlow has no threads yet
    if not child:
        twos = keras.initializers.Constant(2.0)
        dense = keras.layers.Dense(1, kernel_initializer=twos, name="y")
        model = keras.Sequential([keras.Input((2,), name="x"), dense])
        while True:
            os.write(writes, b"!")
            export_litert(model, f"{folder}/model.tflite")
            export_saved_model(model, f"{folder}/saved")
            export_saved_model(model, f"{folder}/versions", version="next")
    os.read(reads, 1)
    start = time.monotonic()
    if a_round is None:
        os.read(reads, 1)
        a_round = time.monotonic() - start
    else:
        time.sleep(a_round * place / len(sys.argv))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


def test_a_killed_export_leaves_whole_files(tmp_path):
    """The first is killed after a whole round of exports, each other within its first round."""
    for name, export in EXPORTS.items():
        export(model(), tmp_path / "old" / name)
    folders = [tmp_path / f"killed-{place}" for place in range(6)]
    for folder in folders:
        shutil.copytree(tmp_path / "old", folder)
    subprocess.run([sys.executable, "-c", EXPORTER, *folders], check=True)
    for folder in folders:
        # A folder that is away between two renames stands under its other name, just as whole.
        saved = [*folder.glob("saved"), *folder.glob(".saved.*/old")]
        assert saved
        for path in [*saved, folder / "model.tflite"]:
            assert answer(path) in (2.0, 4.0)
        for path in (folder / "versions").glob("[0-9]*"):
            assert answer(path) == 4.0
    assert answer(folders[0] / "model.tflite") == answer(folders[0] / "versions" / "1") == 4.0
