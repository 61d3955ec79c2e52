"""Stops what training moves in norms, and lets it move again."""

import functools

import keras

from keras_norm.layers.recurrent_batch import BatchNormLSTMCell
from keras_norm.surgery.accelerate import drop_ins
from keras_norm.surgery.recalibrate import is_stateful
from keras_norm.surgery.replace import Exchange, counted, maker_of, say

THEIRS = keras.layers.BatchNormalization
"""The norm of Keras that keeps moving moments."""


def freeze(model, affine=True, verbose=True, print_fn=None):
    """Has every norm that keeps moving moments use them in training too, and never move them.

    Use it to train on with small batches, or with data unlike the first. Nothing else changes; the
    old model stays as it is. A subclassed model makes its own layers again when its file is loaded:
    freeze them once more.

    With `affine=True` the norms are in inference mode, gamma and beta stay as they are as well:
    `trainable=False`, in Keras's meaning. With `affine=False` these train on, by
    `freeze_statistics=True`, an argument of the norms of this package. Keras's own
    `BatchNormalization` has none like it, and is exchanged for ours, as `accelerate` does. Of a
    `BatchNormLSTMCell`, whose gamma and beta are not to be told from its other weights, the
    statistics alone are frozen either way.

    Args:
        model: A functional, sequential or subclassed model, or one layer, that is built.
        affine: Whether to freeze gamma and beta too, and what else of a norm is trained.
        verbose: Whether to print how many norms were frozen, and exchanged.
        print_fn: Function that takes each line, in place of `print`.

    Returns:
        A new model or layer. One that is compiled is compiled the same way; its optimizer goes on
        from its state, or starts anew where it does not know all that is trained now.

    Raises:
        TypeError: If `model` is neither.
        ValueError: If it is not built, or has layers that their configs do not describe; with
            `affine=False` also if it has norms that ours cannot stand in for.

    Example:

    >>> import keras
    >>> layers = [keras.layers.Dense(2), BatchNormalization()]
    >>> model = keras.Sequential([keras.Input((3,)), *layers], name="small")
    >>> [layer.trainable for layer in freeze(model).layers]
    small: froze 1 norm
    [True, False]
    >>> norm = freeze(model, affine=False).layers[1]
    small: froze the statistics of 1 norm
    >>> norm.trainable, norm.freeze_statistics
    (True, True)
    """
    table = {} if affine else {THEIRS: drop_ins(model)[THEIRS]}
    exchange = Exchange(maker_of(table), exact=True)
    new = exchange.run(model, functools.partial(_freeze_norms, affine=affine))
    exchange.note_derived(model, table)
    _check_all_were_exchanged(exchange)
    head = f"froze {'' if affine else 'the statistics of '}{counted(_norms(new), 'norm')}"
    lines = [f"exchanged {counted(exchange.made, 'norm')} of Keras for ours"]
    say(model, head, lines if exchange.made else [], verbose, print_fn)
    return new


def unfreeze(model, verbose=True, print_fn=None):
    """Lets every norm that keeps moving moments train, and follow the data, again.

    The undoing of `freeze`: `trainable=True` and `freeze_statistics=False` for those norms. Nothing
    else changes; the old model stays as it is. Norms within a layer or model that is itself frozen
    go on to be: set its `trainable` first.

    Args:
        model: A functional, sequential or subclassed model, or one layer, that is built.
        verbose: Whether to print how many norms were unfrozen.
        print_fn: Function that takes each line, in place of `print`.

    Returns:
        A new model or layer. One that is compiled is compiled the same way; its optimizer goes on
        from its state, or starts anew where it does not know all that is trained now.

    Raises:
        TypeError: If `model` is neither.
        ValueError: If it is not built, or has layers that their configs do not describe.

    Example:

    >>> import keras
    >>> layers = [keras.layers.Dense(2), BatchNormalization(trainable=False)]
    >>> model = keras.Sequential([keras.Input((3,)), *layers], name="small")
    >>> [layer.trainable for layer in unfreeze(model).layers]
    small: unfroze 1 norm
    [True, True]
    """
    new = Exchange(maker_of({})).run(model, _unfreeze_norms)
    norms, left = _by_holder(new)
    why = "a layer that holds it is frozen"
    lines = [f"left alone: {norm.name} ({type(norm).__name__}): {why}" for norm in left]
    say(model, f"unfroze {counted(norms, 'norm')}", lines, verbose, print_fn)
    return new


def _freeze_norms(model, affine):
    """Freezes every norm in a model."""
    for norm in _norms(model):
        if affine and not isinstance(norm, BatchNormLSTMCell):
            norm.trainable = False
        else:
            norm.freeze_statistics = True


def _unfreeze_norms(model):
    """Unfreezes every norm in a model that no frozen layer holds."""
    norms, _ = _by_holder(model)
    for norm in norms:
        if not isinstance(norm, THEIRS):
            norm.freeze_statistics = False
        if not isinstance(norm, BatchNormLSTMCell):
            norm.trainable = True


def _norms(model):
    """The norms in a model, itself included, that keep moving moments."""
    return [
        layer
        for layer in model._flatten_layers()
        if is_stateful(layer) or isinstance(layer, (THEIRS, BatchNormLSTMCell))
    ]


def _by_holder(model):
    """The norms in a model that not only frozen layers hold, and the others."""
    free: set[int] = set()
    waiting = [model]
    while waiting:
        layer = waiting.pop()
        if id(layer) not in free:
            free.add(id(layer))
            waiting += layer._layers if layer.trainable else []
    norms = _norms(model)
    return [one for one in norms if id(one) in free], [one for one in norms if id(one) not in free]


def _check_all_were_exchanged(exchange):
    """Refuses a model with norms that would go on to follow the data."""
    if exchange.left:
        layer, reason = exchange.left[0]
        raise ValueError(
            "`affine` must be True where norms that are not of this package cannot be exchanged. "
            f"Received: affine=False (layer {layer.name!r} of class {type(layer).__name__}: "
            f"{reason}). Put others in their places first, with `replace`."
        )
