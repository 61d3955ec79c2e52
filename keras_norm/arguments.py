"""Arguments of layers: registered, checked, kept as given, and written to configs."""

import inspect
import math
import numbers

import keras
import numpy as np
from keras import activations, constraints, initializers, regularizers

_KINDS = {
    "activation": activations,
    "initializer": initializers,
    "regularizer": regularizers,
    "constraint": constraints,
}

SMALLEST = 1e-30
"""Smallest epsilon: processors take float32 below 1.18e-38 for 0, and some layers divide it."""


def register(layer: type) -> type:
    """Registers a class under the package name that files carry; it never changes."""
    return keras.saving.register_keras_serializable(package="keras_norm")(layer)


class KeepsArguments(keras.layers.Layer):
    """Base of every layer: its config is what its constructor was given.

    A class hands arguments that it does not name to its base, as `*args, **kwargs`, or without
    `*args` if they are to be given by name; its signature shows them all the same. Each argument is
    kept as the attribute of its name. Whatever ends in `initializer`, `regularizer`, `constraint`
    or `activation` is written as Keras writes those, and so are layers.
    """

    without: frozenset = frozenset()
    """Names of inherited arguments that the class does not have."""

    def __new__(cls, *args, **kwargs):
        """Refuses the arguments that the class does not have."""
        unknown = {name: value for name, value in kwargs.items() if name in cls.without}
        if unknown:
            raise ValueError(
                f"Unrecognized keyword arguments passed to {cls.__name__}: {unknown}. "
                f"Its equation has no such term; see `help(keras_norm.{cls.__name__})`."
            )
        return super().__new__(cls, *args, **kwargs)

    def __init_subclass__(cls, **kwargs):
        """Gives `help()` and `get_config` the whole list of arguments, inherited ones included."""
        super().__init_subclass__(**kwargs)
        bases = [c for c in cls.__mro__[1:] if "__init__" in vars(c)]
        if "__init__" not in vars(cls) or not issubclass(bases[0], KeepsArguments):
            return
        own = inspect.signature(cls.__init__).parameters
        inherited = dict(inspect.signature(bases[0].__init__).parameters)
        if not any(p.kind is p.VAR_POSITIONAL for p in own.values()):
            inherited = {n: _by_name(p) for n, p in inherited.items()}
        parameters = {n: p for n, p in {**inherited, **own}.items() if n not in cls.without}
        parameters = {**{n: parameters[n] for n in own}, **parameters}
        kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
        ordered = [p for kind in kinds for p in parameters.values() if p.kind is kind]
        signature = inspect.Signature([*ordered, parameters["kwargs"]])
        cls.__init__.__signature__ = signature  # type: ignore[attr-defined]

    @classmethod
    def arguments(cls):
        """Names of the constructor's arguments, but for those of every Keras layer."""
        parameters = inspect.signature(cls).parameters.values()
        return [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]

    def get_config(self):
        """All arguments, as given to the constructor."""
        config = super().get_config()
        for name in self.arguments():
            value = getattr(self, name)
            kind = _KINDS.get(name.rpartition("_")[2])
            if kind is not None:
                value = kind.serialize(value)
            elif isinstance(value, keras.layers.Layer):
                value = keras.saving.serialize_keras_object(value)
                value.pop("build_config", None)  # the outer layer's build comes first, and does it
            config[name] = list(value) if isinstance(value, (list, tuple)) else value
        return config

    @classmethod
    def from_config(cls, config):
        """The layer that `get_config` described."""
        layers = {
            name: keras.saving.deserialize_keras_object(value)
            for name, value in config.items()
            if isinstance(value, dict) and name in cls.arguments() and "layer" in name
        }
        return cls(**{**config, **layers})


def _by_name(parameter):
    """The parameter as one that is given by its name only."""
    if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
        return parameter.replace(kind=parameter.KEYWORD_ONLY)
    return parameter


def check_number(name, value, low=-math.inf, high=math.inf, above=-math.inf):
    """Checks that an argument is a finite number within limits.

    Args:
        name: The argument's name.
        value: What the user gave.
        low: Smallest value allowed.
        high: Largest value allowed.
        above: Value that must be exceeded.

    Returns:
        The value as a float.

    Raises:
        ValueError: If it is not a number, not finite or out of limits.
    """
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not (math.isfinite(value) and low <= value <= high and value > above):
        rule = f"above {above:g}" if above > -math.inf else f"of at least {low:g}"
        rule = f"from {low:g} to {high:g}" if high < math.inf else rule
        raise ValueError(
            f"`{name}` must be a finite number {rule}. Received: {name}={value!r}. "
            f"Choose a value in that range, or leave `{name}` at its default."
        )
    return float(value)


def check_epsilon(value):
    """Checks that `epsilon` is a positive number that float32 does not take for 0.

    Args:
        value: What the user gave.

    Returns:
        The value as a float.

    Raises:
        ValueError: If it is not a number, not finite, not above 0, or too small.
    """
    number = check_number("epsilon", value, above=0.0)
    if number < SMALLEST:
        raise ValueError(
            f"`epsilon` must be at least {SMALLEST:g}, or float32 loses it. "
            f"Received: epsilon={value!r}. Choose a larger one, such as 1e-12."
        )
    return number


def check_flag(name, value):
    """Checks that an argument is `True` or `False`.

    0 and 1 will do, which configs may hold; other values would be read as `True`, "False" too.

    Args:
        name: The argument's name.
        value: What the user gave.

    Returns:
        The value as a bool.

    Raises:
        ValueError: If it is neither.
    """
    if not isinstance(value, (numbers.Integral, np.bool_)) or value not in (0, 1):
        raise ValueError(
            f"`{name}` must be True or False. Received: {name}={value!r}. "
            f"Choose one of them, or leave `{name}` at its default."
        )
    return bool(value)


def check_integer(name, value, low=1):
    """Checks that an argument is an integer of at least `low`.

    Args:
        name: The argument's name.
        value: What the user gave.
        low: Smallest value allowed.

    Returns:
        The value as an int.

    Raises:
        ValueError: If it is not an integer, or too small.
    """
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < low:
        raise ValueError(
            f"`{name}` must be an integer of at least {low}. Received: {name}={value!r}. "
            f"Choose such a number, or leave `{name}` at its default."
        )
    return int(value)


def check_integers(name, value, length):
    """Checks that an argument is a positive integer, or one for each of several axes.

    Args:
        name: The argument's name.
        value: What the user gave.
        length: Number of axes.

    Returns:
        The value as an int, or as a tuple of ints.

    Raises:
        ValueError: If it is neither.
    """
    entries = value if isinstance(value, (list, tuple)) else [value] * length
    whole = all(isinstance(n, numbers.Integral) and not isinstance(n, bool) for n in entries)
    if len(entries) != length or not whole or min(entries) < 1:
        raise ValueError(
            f"`{name}` must be a positive integer, or a list of {length} of them. "
            f"Received: {name}={value!r}. Give one for each axis of space, or one for all."
        )
    return tuple(map(int, value)) if isinstance(value, (list, tuple)) else int(value)


def check_groups(name, value, per_channel=True):
    """Checks that an argument can be a number of groups, or a group's number of channels.

    Args:
        name: The argument's name.
        value: What the user gave.
        per_channel: Whether -1, one group per channel, is allowed.

    Returns:
        The value as an int.

    Raises:
        ValueError: If it is not an integer, or too small.
    """
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or not (value >= 1 or (per_channel and value == -1)):
        raise ValueError(
            f"`{name}` must be a positive integer{' or -1' if per_channel else ''}. "
            f"Received: {name}={value!r}. Use a divisor of the number of channels."
        )
    return int(value)


def check_choice(name, value, choices):
    """Checks that an argument is one of a few values.

    Args:
        name: The argument's name.
        value: What the user gave.
        choices: The values allowed.

    Returns:
        The value.

    Raises:
        ValueError: If it is none of them.
    """
    if not any(
        value is choice or (type(value) is type(choice) and value == choice) for choice in choices
    ):
        allowed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(
            f"`{name}` must be one of {allowed}. Received: {name}={value!r}. "
            f"Choose one of them, or leave `{name}` at its default."
        )
    return value


def check_ramp(name, value):
    """Checks that an argument is a pair of steps in order, or `None`.

    Args:
        name: The argument's name.
        value: What the user gave.

    Returns:
        The pair as a list, or `None`.

    Raises:
        ValueError: If it is neither.
    """
    if value is None:
        return None
    steps = list(value) if isinstance(value, (list, tuple)) else []
    whole = all(isinstance(s, numbers.Integral) and not isinstance(s, bool) for s in steps)
    if len(steps) != 2 or not whole or not 0 <= steps[0] <= steps[1]:
        raise ValueError(
            f"`{name}` must be a pair (first, last) of steps with 0 <= first <= last, or None. "
            f"Received: {name}={value!r}. Choose such a pair, or leave `{name}` at its default."
        )
    return [int(s) for s in steps]
