"""The table of arguments in `docs/migrate.md`, made by migrating layers argument by argument.

`python -m tests.surgery.argument_table` writes it into the page. What files have of each class
that was given no arguments was written by the real TensorFlow Addons and Keras 2.15, and is kept;
that of keras-contrib, which is on no package index, stands here.
"""

import inspect
import json
from pathlib import Path

import keras

from keras_norm.surgery.foreign import norms
from keras_norm.surgery.foreign.layers import LayerReader
from keras_norm.surgery.foreign.objects import is_object

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "migrate.md"
KEPT = ROOT / "saved_models" / "golden" / "addons" / "arguments.json"
BEGIN, END = "<!-- made by: python -m tests.surgery.argument_table -->\n", "<!-- end -->\n"
HEADINGS = "theirs", "argument", "default", "ours", "argument", "default", "what happens"
SHAPE = None, 4, 4, 64
LEFT_ALONE = {"name", "trainable", "dtype", "layer", "units"}


def _object(class_name, **config):
    return {"class_name": class_name, "config": config}


_AFFINE = {
    **{"center": True, "scale": True},
    **{"beta_initializer": _object("Zeros"), "gamma_initializer": _object("Ones")},
    **dict.fromkeys(("beta_regularizer", "gamma_regularizer"), None),
    **dict.fromkeys(("beta_constraint", "gamma_constraint"), None),
}
# https://github.com/keras-team/keras-contrib, folder keras_contrib/layers/normalization
CONTRIB = {
    "InstanceNormalization": {"axis": None, "epsilon": 1e-3, **_AFFINE},
    "GroupNormalization, axis=1": {"groups": 32, "axis": 1, "epsilon": 1e-5, **_AFFINE},
    "BatchRenormalization": {
        **{"axis": -1, "epsilon": 1e-3, "momentum": 0.99},
        **{"r_max_value": 3.0, "d_max_value": 5.0, "t_delta": 1.0},
        **{"gamma_regularizer": None, "beta_regularizer": None},
        **{"gamma_constraint": None, "beta_constraint": None},
        **{"moving_mean_initializer": _object("Zeros")},
        **{"moving_variance_initializer": _object("Ones")},
    },
}
# Why, where the code that migrates does so without a word.
REMARKS = {
    ("Addons>InstanceNormalization", "groups"): "it is the number of channels",
    ("Addons>FilterResponseNormalization", "axis"): (
        "theirs is what is reduced, ours what gamma spans"
    ),
    ("Addons>FilterResponseNormalization", "epsilon"): "its magnitude",
    ("Addons>TLU", "affine"): "ours has no slope",
    ("Addons>TLU", "axis"): "all axes but the first: theirs has a threshold for each element",
    ("Addons>WeightNormalization", "data_init"): "it has had its effect",
    ("Addons>WeightNormalization", "axis"): "of a recurrent layer that of its recurrent kernel",
    ("Addons>SpectralNormalization", "axis"): "of an embedding that of its embeddings",
    ("Addons>LayerNormLSTMCell", "layout"): "the normalized state is carried on",
    ("InstanceNormalization", "epsilon"): "it stays where keras-contrib adds it, to the deviation",
    ("GroupNormalization, axis=1", "axis"): (
        "but for one group, since groups were cut across pixels and channels"
    ),
    ("BatchNormalization, renorm=True", "renorm"): "it has chosen the class",
    ("BatchNormalization, renorm=True", "renorm_clipping"): "without limits where it has none",
    ("BatchNormalization, virtual_batch_size=2", "axis"): "Keras 2 counts an axis of ghosts",
}


def table():
    """The table, in Markdown."""
    written = json.loads(KEPT.read_text())
    lines = [HEADINGS, ["---"] * len(HEADINGS)]
    for title, config in [*written.items(), *CONTRIB.items()]:
        lines += _rows(title, config)
    whole = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    assert all(remark in whole for remark in REMARKS.values())
    return whole


def page():
    """The page with the table as it should be."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


def _migrated(title, config):
    """Our layer's class, what it was given, and what is reported."""
    name, reader = title.partition(",")[0], LayerReader()
    reader.version = "2.2.4" if title in CONTRIB else "2.15.0"
    layer = reader.layer(_object(name, **config), SHAPE)
    given = {key: value for key, value in layer.get_config().items() if key not in LEFT_ALONE}
    return type(layer), given, [note.partition(": ")[2] for note in reader.notes]


def _rows(title, config):
    cls, given, _ = _migrated(title, config)
    parameters = inspect.signature(cls).parameters
    ours = {key: parameters[key].default for key in given if key in parameters}
    rows, alike, reached = [], [], set()
    for argument, value in config.items():
        if argument in LEFT_ALONE:
            continue
        changed, what = _followed(title, config, argument, given)
        reached |= {*changed, argument} if given.get(argument) == value else set(changed)
        is_alike = _shown(argument, value) == _shown(argument, ours.get(argument))
        if what == "carried" and is_alike and (title, argument) not in REMARKS:
            alike.append(f"`{argument}`")
            continue
        defaults = ", ".join(_shown(key, ours[key]) for key in changed if key in ours)
        names = ", ".join(f"`{key}`" for key in changed)
        what += _remark(title, argument)
        rows.append([f"`{argument}`", _shown(argument, value), "", names, defaults, what])
    for key in ours:
        if key not in reached and _shown(key, given[key]) != _shown(key, ours[key]):
            what = f"{_shown(key, given[key])}{_remark(title, key)}"
            rows.append(["", "", "", f"`{key}`", _shown(key, ours[key]), what])
    if alike:
        rows.append([", ".join(alike), "", "", "", "", "carried, with the same name and default"])
    rows[0][2] = f"`{cls.__name__}`"
    return [[f"`{title}`" if row is rows[0] else "", *row] for row in rows]


def _followed(title, config, argument, given):
    """Which of our arguments change when one of theirs does, and what happens to it."""
    change = _another(argument, config[argument])
    try:
        _, others, notes = _migrated(title, {**config, argument: change})
    except ValueError:
        return [], "other values are refused"
    changed = [key for key, value in others.items() if value != given[key]]
    if not changed:
        said = [note for note in notes if argument in note]
        return [], f"left out, reported: {said[0]}" if said else "left out"
    shown = {_shown(key, others[key]) for key in changed}
    if shown == {_shown(argument, change)} or (isinstance(change, dict) and not is_object(change)):
        return changed, "carried"
    return changed, f"{_shown(argument, change)} becomes {', '.join(sorted(shown))}"


def _remark(title, argument):
    remark = REMARKS.get((title, argument))
    return "" if remark is None else f": {remark}"


def _another(argument, value):
    """A value that an argument may have instead."""
    kind = argument.rpartition("_")[2]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 3
    if isinstance(value, float):
        return value / 2 or 0.5
    if isinstance(value, list):
        return value[:1]
    if kind == "activation":
        return "relu"
    if kind == "initializer":
        return _object("Constant", value=0.5)
    if kind in ("regularizer", "constraint"):
        return _object("L2", l2=0.5) if kind == "regularizer" else _object("NonNeg")
    return {"rmax": 2.0, "dmax": 3.0, "rmin": 0.5} if argument == "renorm_clipping" else 2


def _shown(argument, value):
    if argument.endswith("initializer"):
        value = keras.initializers.serialize(keras.initializers.get(value))
    value = list(value) if isinstance(value, tuple) else value
    return f"`{value['class_name']}`" if is_object(value) else f"`{value!r}`"


if __name__ == "__main__":
    assert {title.partition(",")[0] for title in CONTRIB} == set(norms.CONTRIB)
    PAGE.write_text(page())
