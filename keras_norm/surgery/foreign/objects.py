"""Small things in configs of layers: initializers, regularizers, constraints, activations."""

import contextlib
import inspect

import keras
from keras import activations, constraints, initializers, ops, regularizers


@keras.saving.register_keras_serializable(package="keras_norm", name="hard_sigmoid_of_keras_2")
def hard_sigmoid(x):
    """Keras 2's hard sigmoid, max(0, min(1, 0.2 · x + 0.5)); that of Keras 3 has a slope of 1/6.

    Args:
        x: A tensor.

    Returns:
        A tensor of its shape.
    """
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


_KINDS = {
    "initializer": (initializers, initializers.Initializer),
    "regularizer": (regularizers, regularizers.Regularizer),
    "constraint": (constraints, constraints.Constraint),
}
_SHORT = {  # names in strings; those in dictionaries are of classes
    "zeros": "Zeros",
    "zero": "Zeros",
    "ones": "Ones",
    "one": "Ones",
    "constant": "Constant",
    "uniform": "RandomUniform",
    "random_uniform": "RandomUniform",
    "normal": "RandomNormal",
    "random_normal": "RandomNormal",
    "truncated_normal": "TruncatedNormal",
    "identity": "Identity",
    "orthogonal": "Orthogonal",
    "glorot_uniform": "GlorotUniform",
    "glorot_normal": "GlorotNormal",
    "he_uniform": "HeUniform",
    "he_normal": "HeNormal",
    "lecun_uniform": "LecunUniform",
    "lecun_normal": "LecunNormal",
    "variance_scaling": "VarianceScaling",
    "l1": "L1",
    "l2": "L2",
    "l1_l2": "L1L2",
    "max_norm": "MaxNorm",
    "non_neg": "NonNeg",
    "unit_norm": "UnitNorm",
    "min_max_norm": "MinMaxNorm",
}
_ACTIVATIONS = {
    "elu": activations.elu,
    "exponential": activations.exponential,
    "gelu": activations.gelu,
    "hard_sigmoid": hard_sigmoid,
    "leaky_relu": activations.leaky_relu,
    "linear": activations.linear,
    "mish": activations.mish,
    "relu": activations.relu,
    "relu6": activations.relu6,
    "selu": activations.selu,
    "sigmoid": activations.sigmoid,
    "silu": activations.silu,
    "softmax": activations.softmax,
    "softplus": activations.softplus,
    "softsign": activations.softsign,
    "swish": activations.silu,
    "tanh": activations.tanh,
}
_POLICIES = (
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "mixed_float16",
    "mixed_bfloat16",
    "int32",
    "int64",
)


def is_object(value):
    """Whether a part of a config describes an object."""
    return isinstance(value, dict) and "class_name" in value


def argument(name, value, note):
    """The value of an argument that its name says to be an object; others are as they are.

    Args:
        name: Name of the argument.
        value: What the config says.
        note: Function that takes a line for the report.

    Returns:
        What a constructor of Keras 3 takes.

    Raises:
        ValueError: If it is an activation that Keras 3 has not.
    """
    kind = name.rpartition("_")[2]
    if kind in _KINDS and value is not None:
        return _made(kind, name, value, note)
    if kind == "activation" and value is not None:
        return activation(value)
    return value


def activation(value):
    """An activation by its name."""
    name = value
    if is_object(value):
        name = value["config"] if value["class_name"] == "function" else value["class_name"]
    short = name.removeprefix("Addons>") if isinstance(name, str) else name
    # Addons's gelu is the approximation by default, Keras's is not.
    if short not in _ACTIVATIONS or name == "Addons>gelu":
        raise ValueError(
            f"`path` must hold activations that are known. Received: activation {name!r}. "
            f"Known are {', '.join(sorted(_ACTIVATIONS))}; others need their code."
        )
    return _ACTIVATIONS[short]


def policy(value):
    """The name of a dtype policy."""
    name = value.get("config", {}).get("name") if is_object(value) else value
    if name is not None and name not in _POLICIES:
        raise ValueError(
            f"`path` must hold layers of dtype policies that are known. Received: dtype={value!r}. "
            f"Known are {', '.join(_POLICIES)}."
        )
    return name


def _made(kind, argument, value, note):
    """An initializer, regularizer or constraint; `None`, or the argument's default, if unknown."""
    module, base = _KINDS[kind]
    name, config = (value["class_name"], value.get("config")) if is_object(value) else (value, {})
    name = _SHORT.get(name, name)
    cls = vars(module).get(name) if isinstance(name, str) else None
    if inspect.isclass(cls) and issubclass(cls, base) and isinstance(config, dict):
        known = inspect.signature(cls).parameters
        for lost in sorted(config.keys() - known.keys() - {"dtype", "partitioner"}):
            note(f"{argument} {name}: argument {lost}={config[lost]!r} is left out")
        with contextlib.suppress(TypeError, ValueError):
            return cls(**{key: part for key, part in config.items() if key in known})
    # Weights are in the file, so an initializer is told only to whoever trains anew.
    note(f"{argument} {name!r} is unknown and left out")
    return "zeros" if kind == "initializer" else None
