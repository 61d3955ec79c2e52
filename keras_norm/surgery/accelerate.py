"""Exchanges Keras's own norms for those of this package."""

import collections

import keras

from keras_norm.layers.batch import BatchNormalization
from keras_norm.layers.features import LayerNormalization, RMSNormalization
from keras_norm.layers.groups import GroupNormalization
from keras_norm.surgery.replace import Exchange, counted, from_config, maker_of, say


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
    exchange = Exchange(maker_of(DROP_INS), exact=True)
    new = exchange.run(model)
    exchange.note_derived(model, DROP_INS)
    other = "others" if len(exchange.made) > 1 else "another"
    head = f"exchanged {counted(exchange.made, 'layer')} for {other} of keras_norm"
    names = collections.Counter(type(one).__name__ for _, one in exchange.made)
    counts = [f"{name}: {count}" for name, count in sorted(names.items())]
    say(model, head, [*counts, *exchange.left_alone()], verbose, print_fn)
    return new


def _drop_in(new):
    """A function from Keras's layer to ours of the same name, if the two agree."""

    def make(layer):
        reason = _difference(layer)
        if reason:
            raise ValueError(reason)
        return from_config(new, layer)

    return make


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


DROP_INS = {
    keras.layers.BatchNormalization: _drop_in(BatchNormalization),
    keras.layers.LayerNormalization: _drop_in(LayerNormalization),
    keras.layers.GroupNormalization: _drop_in(GroupNormalization),
    keras.layers.RMSNormalization: _drop_in(RMSNormalization),
}
"""Keras's norms, and what makes ours in their places or says why not."""
