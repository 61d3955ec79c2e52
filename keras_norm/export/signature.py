"""The names by which files and callers know a model's inputs and outputs."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import keras


def input_tensors(model: keras.Model) -> list[keras.KerasTensor]:
    """The symbolic inputs of `model`, in the order of its call.

    Args:
        model: A Functional or Sequential model.

    Returns:
        Its input tensors.

    Raises:
        ValueError: If the model does not know its inputs, as subclassed models do not.
    """
    tensors = getattr(model, "inputs", None) if isinstance(model, keras.Model) else None
    if not tensors:
        raise ValueError(
            "`model` must be a Functional or Sequential `keras.Model` whose inputs are known. "
            f"Received: model={model!r}. Wrap it: `inputs = keras.Input(shape); "
            "keras.Model(inputs, model(inputs))`."
        )
    return list(tensors)


def input_names(model: keras.Model) -> list[str]:
    """The signature's name of each input: the name of its `keras.Input`.

    The layer's name is taken, not the tensor's: without a name given by the user the tensor is
    called after a counter of the process and gets another name when the model is loaded again.

    Args:
        model: A Functional or Sequential model.

    Returns:
        One identifier per input, in the order of the model's call.
    """
    return identifiers(tensor._keras_history.operation.name for tensor in input_tensors(model))


def packed(model: keras.Model, tensors: Sequence[Any]) -> Any:
    """`tensors` in the structure that the model's call takes.

    Args:
        model: A Functional or Sequential model.
        tensors: One tensor per input, in the order of `input_names`.

    Returns:
        A tensor, or the list, tuple or dict of tensors that the model was built with.
    """
    if isinstance(model, keras.Sequential):
        return tensors[0]
    return keras.tree.pack_sequence_as(model.input, list(tensors))


def named_outputs(model: keras.Model, outputs: Any) -> dict[str, Any]:
    """What the model's call returned, by name.

    Args:
        model: A Functional or Sequential model.
        outputs: The result of calling it.

    Returns:
        A dict from name to tensor: the keys of a model that returns a dict, else the names of the
        layers that the outputs come from.
    """
    tensors = keras.tree.flatten(outputs)
    flat = isinstance(outputs, dict) and not any(map(keras.tree.is_nested, outputs.values()))
    if flat and len(outputs) == len(tensors):
        return dict(zip(identifiers(outputs), outputs.values(), strict=True))
    if isinstance(model, keras.Sequential):
        return {identifier(model.layers[-1].name): tensors[0]}
    return dict(zip(identifiers(model.output_names), tensors, strict=True))


def identifier(name: str) -> str:
    """`name` as TensorFlow accepts it for a parameter: letters, digits and underscores.

    Args:
        name: Any name of a layer.

    Returns:
        The name with every other character replaced by an underscore.
    """
    plain = re.sub(r"[^0-9A-Za-z_]", "_", name)
    return plain if plain[:1].isalpha() else f"tensor_{plain}"


def identifiers(names: Iterable[str]) -> list[str]:
    """Identifiers for `names`, each one different from the others.

    Args:
        names: Names, perhaps with repetitions (a layer may give two outputs).

    Returns:
        One identifier per name; a repeated one gets a number.
    """
    result: list[str] = []
    for name in map(identifier, names):
        candidate, count = name, 0
        while candidate in result:
            count += 1
            candidate = f"{name}_{count}"
        result.append(candidate)
    return result
