"""Exchanges Keras's own norms for those of this package."""

import collections
import functools

import keras

from keras_norm.layers.batch import BatchNormalization
from keras_norm.layers.features import LayerNormalization, RMSNormalization
from keras_norm.layers.groups import GroupNormalization
from keras_norm.surgery.copying import check_model
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
    Masks that arise inside of one are not known beforehand; in our layers they count, also where
    Keras's `GroupNormalization` ignores them.

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
    exchange = Exchange(maker_of(drop_ins(model)), exact=True)
    new = exchange.run(model)
    exchange.note_derived(model, DROP_INS)
    other = "others" if len(exchange.made) > 1 else "another"
    head = f"exchanged {counted(exchange.made, 'layer')} for {other} of keras_norm"
    names = collections.Counter(type(one).__name__ for _, one in exchange.made)
    counts = [f"{name}: {count}" for name, count in sorted(names.items())]
    say(model, head, [*counts, *exchange.left_alone()], verbose, print_fn)
    return new


def drop_ins(model):
    """What makes ours in the place of each of Keras's norms in a model, or says why not."""
    check_model(model)
    masked = _masked(model)
    return {
        kind: functools.partial(_drop_in, new=new, masked=masked) for kind, new in DROP_INS.items()
    }


def _drop_in(layer, new, masked):
    """Our layer in place of Keras's of the same name, if the two agree."""
    reason = _difference(layer, id(layer) in masked)
    if reason:
        raise ValueError(reason)
    return from_config(new, layer)


def _difference(layer, masked):
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
    if differs and masked:
        return "a mask reaches it, which Keras's layer takes in another way"
    return None


def _masked(model):
    """The `id` of each layer that a mask may reach: in a graph, or from a layer that holds it."""
    found: set[int] = set()
    for layer in model._flatten_layers():
        if id(layer) not in found and any(_has_mask(node) for node in layer._inbound_nodes):
            found |= {id(one) for one in layer._flatten_layers()}
    return found


def _has_mask(node):
    """Whether a layer is called with a mask, its own argument or one that comes with a tensor."""
    masks = keras.tree.flatten(node.arguments.kwargs.get("mask"))
    masks += [getattr(tensor, "_keras_mask", None) for tensor in node.input_tensors]
    return any(mask is not None for mask in masks)


DROP_INS = {
    keras.layers.BatchNormalization: BatchNormalization,
    keras.layers.LayerNormalization: LayerNormalization,
    keras.layers.GroupNormalization: GroupNormalization,
    keras.layers.RMSNormalization: RMSNormalization,
}
"""Keras's norms, and ours of the same names."""
