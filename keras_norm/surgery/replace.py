"""Exchanges layers of a model for others, by a table of what becomes what."""

import collections
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_norm.layers.batch import BatchNormalization
from keras_norm.layers.features import LayerNormalization, RMSNormalization
from keras_norm.layers.groups import GroupNormalization
from keras_norm.surgery.copying import (
    Copies,
    build_first,
    build_like,
    check_model,
    children,
    complete,
    custom_objects,
    exchange,
    is_graph,
    rebuilt,
    weights_of,
)


def accelerate(model, verbose=True, print_fn=None):
    """Exchanges Keras's own normalization layers for ours, which train faster.

    `BatchNormalization`, `LayerNormalization`, `GroupNormalization` and `RMSNormalization` of
    `keras.layers` become the layers of the same names here. The new model computes what the old one
    does, in training and in inference, with the same weights in the same order. Names, dtypes and
    what is trainable stay; shared layers stay shared; nested models, layers around layers, and
    layers in attributes, lists and dicts of subclassed models are gone through. The old model
    stays as it is. What cannot be exchanged is left alone and named: options that our layers have
    not, and classes derived from Keras's, which may compute something else.

    A subclassed model makes its own layers again when its file is loaded: accelerate it once more.
    Masks inside of one are not known beforehand; in our layers they count, also where Keras's
    `GroupNormalization` ignores them.

    Args:
        model: A functional, sequential or subclassed model, or one layer, that is built.
        verbose: Whether to print what was exchanged and what was left alone.
        print_fn: Function that takes each line, in place of `print`.

    Returns:
        A new model or layer. One that is compiled is compiled the same way, and its optimizer goes
        on from its state.

    Raises:
        TypeError: If `model` is neither.
        ValueError: If it is not built, or has layers that their configs do not describe.

    Example:

    >>> import keras
    >>> norm = keras.layers.BatchNormalization(name="norm")
    >>> model = keras.Sequential([keras.Input((3,)), norm], name="small")
    >>> accelerate(model).layers
    small: exchanged 1 layer for another of keras_norm
      BatchNormalization: 1
    [<BatchNormalization name=norm, built=True>]
    """
    new, done = replace(model, _DROP_INS)
    if verbose:
        for line in done.lines(model, "of keras_norm"):
            (print if print_fn is None else print_fn)(line)
    return new


def replace(model, table: Mapping[Any, Callable[[Any], Any]]):
    """Exchanges layers of a model for others with the same weights.

    Args:
        model: A model or layer that is built.
        table: What becomes what. A key is a class, which is that class alone and no class derived
            from it, or a function that says whether it means a layer. A value is a class, which is
            given the old layer's config, or a function from the old layer to the new one.
            Whatever raises `ValueError` or `TypeError` leaves the layer alone, for that reason.

    Returns:
        The new model or layer, and what was done.

    Raises:
        TypeError: If `model` is neither.
        ValueError: If it is not built, or has layers that their configs do not describe.
    """
    check_model(model)
    done = _Replacement(table)
    new = done.copies(model)
    complete(model, new, done.copies)
    done.note_derived(model)
    return new, done


class _Replacement:
    """One run of `replace`: the copies that it made, and what it has to say."""

    def __init__(self, table):
        self.copies = Copies(self._copy, same_class=True)
        self.exchanged: collections.Counter[str] = collections.Counter()
        self.left: list[tuple[Any, str]] = []
        self._table = table

    def lines(self, model, what):
        """What was done, line by line."""
        number = sum(self.exchanged.values())
        layers = "no layer" if not number else f"{number} layer{'s' if number > 1 else ''}"
        yield f"{model.name}: exchanged {layers} for {'others' if number > 1 else 'another'} {what}"
        for name, count in sorted(self.exchanged.items()):
            yield f"  {name}: {count}"
        for layer, reason in self.left:
            yield f"  left alone: {layer.name} ({type(layer).__name__}): {reason}"

    def _copy(self, layer):
        """The copy of a layer that is no graph, or what comes in its place."""
        if not isinstance(layer, keras.layers.Layer):
            return rebuilt(layer)
        make = self._maker(layer)
        new = None if make is None else self._made(layer, make)
        if new is None:
            new = rebuilt(layer)
            if layer._layers:
                build_first(layer, new)
                self._exchange_within(layer, new)
        return new

    def _exchange_within(self, layer, new):
        """Exchanges layers that a copy, which made its own, holds."""
        twins = children(new)
        instead = {}
        for path, child in children(layer).items():
            twin = twins.get(path)
            if twin is None:
                continue
            if self._is_exchanged(child, twin):
                instead[id(twin)] = self.copies(child)
            else:
                self._adopt(child, twin)
        if instead:
            _check_own_layers(layer)
            exchange(new, instead)

    def _is_exchanged(self, layer, twin):
        """Whether the layer that a copy made itself must give way to another."""
        if layer in self.copies or not _is_alike(layer, twin):
            return True
        return any(self._maker(one) for one in layer._flatten_layers())

    def _adopt(self, layer, twin):
        """Takes the layers that a copy made itself for copies, so that what is shared stays so."""
        self.copies[layer] = twin
        within = children(twin)
        for path, child in children(layer).items():
            if child not in self.copies and path in within:
                self._adopt(child, within[path])

    def _maker(self, layer):
        """The value of the table for a layer, or `None`."""
        for key, make in self._table.items():
            if type(layer) is key if isinstance(key, type) else key(layer):
                return make
        return None

    def _made(self, layer, make):
        """What comes in place of a layer, or `None` if it is left alone."""
        try:
            new = _from_config(make, layer) if isinstance(make, type) else make(layer)
            build_like(layer, new)
            mine, its = (weights_of(one.weights) for one in (layer, new))
            if mine != its:
                raise ValueError(f"the weights would be {its}. Received: {mine}.")
        except (TypeError, ValueError) as error:
            # The rule is the reason; what was received and how to mend it are for constructors.
            reason = str(error).splitlines()[0].split(" Received:")[0].rstrip(".")
            self.left.append((layer, reason))
            return None
        self.exchanged[type(new).__name__] += 1
        return new

    def note_derived(self, model):
        """Says which layers are of classes derived from one that the table exchanges."""
        classes = tuple(key for key in self._table if isinstance(key, type))
        for layer in model._flatten_layers():
            if isinstance(layer, classes) and self._maker(layer) is None:
                base = next(key for key in classes if isinstance(layer, key)).__name__
                reason = f"its class is derived from {base} and may compute something else"
                self.left.append((layer, reason))


def _is_alike(layer, twin):
    """Whether a copy has layers of the same classes, as where none was exchanged before."""
    within = children(twin)
    return type(layer) is type(twin) and all(
        path in within and _is_alike(child, within[path]) for path, child in children(layer).items()
    )


def _check_own_layers(layer):
    """Refuses a model whose constructor makes a graph, in which no layer can be exchanged."""
    if is_graph(layer):
        raise ValueError(
            "`model` must be of a class that does not make its graph in its constructor. "
            f"Received: {layer.name!r} of class {type(layer).__name__}. Pass "
            "`keras.Model(model.inputs, model.outputs)`, or keep the layers in attributes."
        )


def _drop_in(new):
    """A function from Keras's layer to ours of the same name, if the two agree."""

    def make(layer):
        reason = _difference(layer)
        if reason:
            raise ValueError(reason)
        return _from_config(new, layer)

    return make


def _from_config(new: Any, layer):
    """A layer of another class with a layer's config."""
    # Initializers and the like need not be registered.
    with keras.saving.custom_object_scope(custom_objects(layer)):
        return new.from_config(layer.get_config())


def _difference(layer):
    """Why Keras's layer computes something else than ours would, or `None`."""
    if not layer.built:
        return None
    rank = len(layer.get_build_config()["input_shape"])
    given = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    over = [axis % rank for axis in given]
    if over != sorted(over):
        return f"axis={given} is not in order"
    if type(layer) is keras.layers.RMSNormalization and over != list(range(rank))[-len(over) :]:
        return f"axis={given} is not last, where Keras's layer scales another axis"
    if type(layer) is keras.layers.BatchNormalization:
        differs = over != [rank - 1]  # it takes masks as if channels were last
    else:
        differs = type(layer) is keras.layers.GroupNormalization or len(over) > 1
    if differs and _is_masked(layer):
        return "a mask reaches it, which Keras's layer takes in another way"
    return None


def _is_masked(layer):
    """Whether a mask reaches a layer in a graph."""
    return any(
        getattr(tensor, "_keras_mask", None) is not None
        for node in layer._inbound_nodes
        for tensor in node.input_tensors
    )


_DROP_INS = {
    keras.layers.BatchNormalization: _drop_in(BatchNormalization),
    keras.layers.LayerNormalization: _drop_in(LayerNormalization),
    keras.layers.GroupNormalization: _drop_in(GroupNormalization),
    keras.layers.RMSNormalization: _drop_in(RMSNormalization),
}
