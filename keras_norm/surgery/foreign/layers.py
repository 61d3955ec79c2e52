"""Layers from configs of Keras 2: which class a name means, and what becomes of its arguments."""

import collections
import inspect
from typing import Any, NamedTuple

import keras

from keras_norm.surgery.foreign import norms
from keras_norm.surgery.foreign.objects import activation, argument, is_object, policy

_BASE = ("name", "trainable", "dtype")
# Arguments that Keras 3 has not, with the values that mean nothing; `...` is any value.
_NEUTRAL: dict[str, Any] = {
    "autocast": ...,
    "batch_input_shape": ...,
    "batch_size": ...,
    "causal": False,
    "build_input_shape": ...,
    "dynamic": False,
    "groups": 1,
    "implementation": ...,
    "input_dtype": ...,
    "input_length": ...,
    "input_shape": ...,
    "input_spec": ...,
    "ragged": False,
    "sparse": False,
    "stateful": False,
    "time_major": False,
    "unroll": False,
    "kernel_initializer": ...,
    "kernel_regularizer": None,
    "kernel_constraint": None,
    "key_shape": ...,
    "query_shape": ...,
    "value_shape": ...,
    "activity_regularizer": None,
    "weights": None,
}
# Packages whose classes a file means when it names no other.
_HOMES = {"keras", "tensorflow", "tensorflow_addons"}
_SCRIPT = "__main__"  # which .keras files write as null; other files name no modules
_RENAMED = {"LeakyReLU": {"alpha": "negative_slope"}}
# Classes that run code of the file, read other files, or are no layers of their own.
_REFUSED = {
    "FlaxLayer",
    "InputLayer",
    "IntegerLookup",
    "JaxLayer",
    "Lambda",
    "Layer",
    "Pipeline",
    "StringLookup",
    "TFSMLayer",
    "TextVectorization",
    "TorchModuleWrapper",
    "Wrapper",
}
BUILT_IN = {
    name: cls
    for name, cls in vars(keras.layers).items()
    if inspect.isclass(cls) and issubclass(cls, keras.layers.Layer) and name not in _REFUSED
}


class Origin(NamedTuple):
    """What a layer was in the file.

    Attributes:
        name: Its class name, without a package.
        family: "Addons", "keras-contrib" or "Keras 2".
        config: Its config.
    """

    name: str
    family: str
    config: dict[str, Any]


class LayerReader:
    """Makes the layers of one file, and keeps what they were and what there is to report.

    Attributes:
        version: The version of Keras that wrote the file.
        origins: What each layer was, an `Origin`, by its `id`.
        exchanged: How often which layer became one of ours.
        notes: Lines on what is not carried over.
        order: The layers of each model in Keras 2's order, by the model's `id`.
    """

    def __init__(self):
        self.version = ""
        self.origins: dict[int, Origin] = {}
        self.exchanged: collections.Counter[str] = collections.Counter()
        self.notes: list[str] = []
        self.order: dict[int, list[Any]] = {}
        self._kept: list[Any] = []  # so that no `id` is given twice

    def lines(self, name):
        """What was done, line by line."""
        number = sum(self.exchanged.values())
        yield f"{name}: {number} layer{'' if number == 1 else 's'} became layers of keras_norm"
        for what, times in sorted(self.exchanged.items()):
            yield f"  {what}: {times}"
        for note in self.notes:
            yield f"  not carried: {note}"

    def remember(self, layer, origin):
        """Keeps what a layer was."""
        self._kept.append(layer)
        self.origins[id(layer)] = origin
        if type(layer).__module__.startswith("keras_norm."):
            new = type(layer).__name__
            self.exchanged[f"{origin.family} {origin.name} -> {new}"] += 1

    def nested(self, described, shape=None):
        """A layer within another; readers of models know those, too."""
        return self.layer(described, shape)

    def layer(self, described, shape=None):
        """The layer of Keras 3 that a config of Keras 2 describes.

        Args:
            described: Dictionary with `class_name` and `config`.
            shape: Shape of its input, where it is known.

        Returns:
            A layer that is not built.

        Raises:
            ValueError: If the class is unknown or refused, or an argument cannot be carried.
        """
        name, family, make = self._class_of(described)
        config = described["config"]
        given = Arguments(self, name, config, shape)
        layer = make(given)
        if family == "keras-contrib" and "module" not in described:
            given.note("taken for keras-contrib's by its name; the file does not say whose it is")
        self.remember(layer, Origin(name, family, config))
        return layer

    def _class_of(self, described):
        """A layer's class name, whose it is, and the function that makes ours of it."""
        if not is_object(described) or not isinstance(described.get("config"), dict):
            raise ValueError(f"`path` must hold layers. Received: {str(described)[:200]}.")
        bare = str(described["class_name"])
        package, _, name = str(described.get("registered_name") or bare).rpartition(">")
        module = described.get("module", "")
        home = _SCRIPT if module is None else str(module).partition(".")[0]
        for family, table in self._tables(package, home, name, described["config"]):
            if name in table:
                return name, family, table[name]
        raise _refused(name, package or ("" if home in _HOMES else home))

    def _tables(self, package, home, name, config):
        """Whose layers a name may mean, and their tables."""
        if package == "Addons":
            return [("Addons", norms.ADDONS)]
        if package or name in _REFUSED:
            return []
        if home in ("", "keras_contrib") and self._is_contributed(name, home, config):
            return [("keras-contrib", norms.CONTRIB)]
        if home and home not in _HOMES:  # somebody's own class, whatever it is called
            return []
        keras_2 = {**dict.fromkeys(BUILT_IN, _built_in), **norms.KERAS}
        return [("Keras 2", keras_2), ("Addons", norms.ADDONS)]

    def _is_contributed(self, name, home, config):
        """Whether a bare name is keras-contrib's: Keras 2.11 has a GroupNormalization too."""
        if name == "InstanceNormalization":
            return "groups" not in config  # which Addons's always writes
        if name != "GroupNormalization":
            return name in norms.CONTRIB
        parts = [int(part) for part in self.version.split(".")[:2] if part.isdecimal()]
        return bool(home) or (len(parts) == 2 and parts < [2, 11])


class Arguments:
    """The arguments of one layer in a file, each of which is used, dropped or reported.

    Args:
        reader: The `LayerReader`.
        name: The layer's class name.
        config: The arguments.
        shape: Shape of its input, or `None`.
    """

    def __init__(self, reader, name, config, shape):
        self.reader, self.name, self.shape = reader, name, shape
        self.config = dict(config)

    @property
    def title(self):
        """How the report calls the layer."""
        return f"{self.config.get('name', self.name)} ({self.name})"

    def note(self, text):
        """Puts a line into the report."""
        self.reader.notes.append(f"{self.title}: {text}")

    def refused(self, reason):
        """The error for an argument that has no meaning in Keras 3."""
        return ValueError(
            f"`path` must hold layers that can be carried over. Received: {self.title} with "
            f"{reason}. Load the model without it, or exchange the layer in its own environment."
        )

    def take(self, name, default=None):
        """An argument's value, which then counts as used."""
        return self.config.pop(name, default)

    def drop(self, *names):
        """Counts arguments as used that change nothing."""
        for name in names:
            self.config.pop(name, None)

    def rename(self, **names):
        """Gives arguments their names of Keras 3."""
        for old, new in names.items():
            if old in self.config:
                self.config[new] = self.config.pop(old)

    def known_shape(self):
        """The input's shape.

        Raises:
            ValueError: If it is unknown.
        """
        if self.shape is None:
            raise self.refused("an input whose shape the file does not say")
        return self.shape

    def axis(self):
        """`axis` as an integer where it is a list of one."""
        axis = self.take("axis", -1)
        return axis[0] if isinstance(axis, list) and len(axis) == 1 else axis

    def layer(self):
        """The layer that a wrapper is around."""
        return self.reader.nested(self.take("layer"), self.shape)

    def make(self, cls, **arguments):
        """The layer of a class of Keras 3, with the arguments that are left and those given.

        Raises:
            ValueError: If an argument is left that the class has not, and that means something.
        """
        parameters = inspect.signature(cls).parameters
        # Some of Keras's layers name those of every layer's arguments that they take.
        open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        names = parameters.keys() - {"kwargs"}
        for name in list(self.config):
            if name not in names and name not in _BASE:
                self._leave(name, self.take(name))
        base = {name: self.config[name] for name in _BASE if self.config.get(name) is not None}
        if not open_ended:
            base = {name: value for name, value in base.items() if name in names}
        if "dtype" in base:
            base["dtype"] = policy(base["dtype"])
        for name, value in self.config.items():
            if name in names and name not in _BASE:
                arguments.setdefault(name, argument(name, value, self.note))
        for name, value in arguments.items():
            if is_object(value):
                raise self.refused(f"argument {name} of class {value['class_name']!r}")
        try:
            return cls(**arguments, **base)
        except (TypeError, ValueError) as error:
            raise self.refused(f"arguments that {cls.__name__} refuses ({error})") from error

    def _leave(self, name, value):
        neutral = _NEUTRAL.get(name)
        if neutral is ... or value is None or value == neutral:
            return
        raise self.refused(f"{name}={value!r}, which Keras 3 has not")


def _built_in(given):
    """A layer of Keras by its own name."""
    given.rename(**_RENAMED.get(given.name, {}))
    nested = {}
    for name in ("layer", "cell", "backward_layer"):
        if given.config.get(name) is not None:
            shape = _inner_shape(given) if name == "layer" else None
            nested[name] = given.reader.nested(given.take(name), shape)
    if "cells" in given.config:
        nested["cells"] = [given.reader.nested(one, None) for one in given.take("cells")]
    if given.name == "Activation":
        nested["activation"] = activation(given.take("activation"))
    return given.make(BUILT_IN[given.name], **nested)


def _inner_shape(given):
    """Shape of what the layer within a wrapper sees."""
    if given.name != "TimeDistributed" or given.shape is None:
        return given.shape
    return (given.shape[0], *given.shape[2:])


def _refused(name, package):
    if name in ("Lambda", "TensorFlowOpLayer"):
        return ValueError(
            "`path` must hold no code of its own. Received: a layer of class "
            f"{name!r}, which runs what the file says. Exchange it for layers of Keras in the "
            "environment that wrote the file."
        )
    known = [f"Addons>{n}" for n in norms.ADDONS] + [f"{n} (keras-contrib)" for n in norms.CONTRIB]
    title = f"{package}>{name}" if package else name
    return ValueError(
        "`path` must hold layers of known classes. Received: a layer of class "
        f"{title!r}. Known are the layers of Keras 3 and {', '.join(known)}; a layer of your own "
        "must be exchanged in the environment that wrote the file."
    )
