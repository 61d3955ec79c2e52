"""The folder layout of model servers: versions that are added, counted, and never replaced."""

import os
import threading

import keras
import pytest
import tensorflow as tf

from keras_norm.export import export_saved_model, saved_model, verify


def model(value=1.0):
    dense = keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant(value), name="y")
    return keras.Sequential([keras.Input((2,), name="x"), dense])


def answer(path):
    loaded = tf.saved_model.load(path)
    return float(loaded.signatures["serving_default"](x=tf.ones((1, 2)))["y"][0, 0])


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_versions_lie_side_by_side(tmp_path):
    base = tmp_path / "models" / "digits"
    assert export_saved_model(model(1.0), base, version=1) == base / "1"
    before = contents(base)
    path = export_saved_model(model(2.0), str(base), version="next")
    assert path == base / "2"
    assert sorted(os.listdir(base)) == ["1", "2"]
    assert {f"1/{name}": data for name, data in contents(base / "1").items()} == before
    assert (answer(base / "1"), answer(base / "2")) == (2.0, 4.0)
    assert verify(model(2.0), path).passed


@pytest.fixture
def quick(monkeypatch):
    """Writes a word in place of a SavedModel."""

    def write(model, folder, shapes):
        folder.mkdir()
        (folder / "saved_model.pb").write_text(str(model.get_weights()[0][0, 0]))

    monkeypatch.setattr(saved_model, "write_saved_model", write)


def test_a_name_is_one_more_folder(tmp_path, quick):
    path = export_saved_model(model(), tmp_path / "models", name="digits", version=5)
    assert path == tmp_path / "models" / "digits" / "5"
    assert path.is_dir()


def test_next_is_one_more_than_the_highest(tmp_path, quick):
    base = tmp_path / "digits"
    assert export_saved_model(model(), base, version="next").name == "1"
    for name in ("9", "010", ".11.half", "12.bak", "notes"):
        (base / name).mkdir()
    assert export_saved_model(model(), base, version="next").name == "11"
    assert export_saved_model(model(), base, version=3).name == "3"
    assert export_saved_model(model(), base, version="next").name == "12"


@pytest.mark.parametrize("there", ["2", "02"])
def test_a_version_is_not_replaced(tmp_path, quick, there):
    (tmp_path / there).mkdir()
    message = r"`version` must .* Received: version=2, .* Pass version=3 or version='next'"
    with pytest.raises(ValueError, match=message):
        export_saved_model(model(), tmp_path, version=2)
    assert os.listdir(tmp_path) == [there] and not os.listdir(tmp_path / there)


def test_writers_of_the_next_version_at_the_same_time_get_one_each(tmp_path, monkeypatch):
    together = threading.Barrier(4, timeout=60)

    def write(model, folder, shapes):
        if folder.parent.name.startswith(".1."):
            together.wait()  # All have chosen 1 before the first is in its place.
        folder.mkdir()
        (folder / "who").write_text(str(model.get_weights()[0][0, 0]))

    monkeypatch.setattr(saved_model, "write_saved_model", write)
    models, paths = [model(value) for value in range(4)], [None] * 4

    def export(place):
        paths[place] = export_saved_model(models[place], tmp_path, version="next")

    threads = [threading.Thread(target=export, args=[place]) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.name for path in paths) == ["1", "2", "3", "4"]
    assert [float((path / "who").read_text()) for path in paths] == [0, 1, 2, 3]
    assert sorted(os.listdir(tmp_path)) == ["1", "2", "3", "4"]


def test_a_version_that_another_wrote_meanwhile_is_not_replaced(tmp_path, monkeypatch):
    def write(model, folder, shapes):
        folder.mkdir()
        (tmp_path / "1").mkdir()
        (tmp_path / "1" / "theirs").touch()

    monkeypatch.setattr(saved_model, "write_saved_model", write)
    with pytest.raises(ValueError, match="`version` must be one that is not there yet"):
        export_saved_model(model(), tmp_path, version=1)
    assert os.listdir(tmp_path) == ["1"]
    assert os.listdir(tmp_path / "1") == ["theirs"]


@pytest.mark.parametrize("version", [0, -1, True, 1.0, "1", "last"])
def test_refuses_versions_that_are_none(tmp_path, version):
    with pytest.raises(ValueError, match=r"`version` must be .* Received: version=.* Pass"):
        export_saved_model(model(), tmp_path / "a", version=version)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", 3])
def test_refuses_names_that_are_no_folder(tmp_path, name):
    with pytest.raises(ValueError, match=r"`name` must be .* Received: name=.* Put"):
        export_saved_model(model(), tmp_path / "a", version=1, name=name)
    assert os.listdir(tmp_path) == []


def test_refuses_a_name_without_a_version(tmp_path):
    with pytest.raises(ValueError, match=r"`name` must come with a version.*Pass version=1"):
        export_saved_model(model(), tmp_path, name="digits")
    assert os.listdir(tmp_path) == []


def test_refuses_versions_in_a_file_or_in_a_saved_model(tmp_path, quick):
    (tmp_path / "digits").write_text("mine")
    message = r"`path` must be a folder for the versions.*Received: path=.* is a file"
    for path, name in ((tmp_path / "digits", None), (tmp_path, "digits")):
        with pytest.raises(ValueError, match=message):
            export_saved_model(model(), path, version="next", name=name)
    served = export_saved_model(model(), tmp_path / "served")
    with pytest.raises(ValueError, match=r"is a SavedModel\. Choose another path"):
        export_saved_model(model(), served, version=1)
    assert contents(tmp_path) == {"digits": b"mine", "served/saved_model.pb": b"1.0"}


def test_refuses_to_replace_all_versions_by_one_model(tmp_path, quick):
    export_saved_model(model(), tmp_path, version=1)
    with pytest.raises(ValueError, match=r"holds \['1'\]\).*or add a version by version='next'"):
        export_saved_model(model(), tmp_path)
    assert os.listdir(tmp_path) == ["1"]
