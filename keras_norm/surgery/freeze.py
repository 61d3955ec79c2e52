"""Stops what training moves in norms, and lets it move again."""

import keras

from keras_norm.surgery.recalibrate import is_stateful
from keras_norm.surgery.replace import Exchange


def freeze(model):
    """Puts every norm that keeps moving moments into inference mode, in training too.

    It then normalizes with its moving moments, which training leaves alone, and so its gamma and
    beta: `trainable=False`, in Keras's meaning. Use it to train on with small batches, or with data
    unlike the first. Nothing else changes; the old model stays as it is.

    Args:
        model: A functional, sequential or subclassed model, or one layer, that is built.

    Returns:
        A new model or layer.

    Raises:
        TypeError: If `model` is neither.
        ValueError: If it is not built, or has layers that their configs do not describe.

    Example:

    >>> import keras
    >>> layers = [keras.layers.Dense(2), BatchNormalization()]
    >>> model = freeze(keras.Sequential([keras.Input((3,)), *layers]))
    >>> [layer.trainable for layer in model.layers]
    [True, False]
    """
    return _with_norms_trainable(model, False)


def unfreeze(model):
    """Lets every norm that keeps moving moments train, and follow the data, again.

    The undoing of `freeze`: `trainable=True` for those norms. Nothing else changes; the old model
    stays as it is. A layer that holds a norm and is frozen itself goes on to freeze it.

    Args:
        model: A functional, sequential or subclassed model, or one layer, that is built.

    Returns:
        A new model or layer.

    Raises:
        TypeError: If `model` is neither.
        ValueError: If it is not built, or has layers that their configs do not describe.

    Example:

    >>> import keras
    >>> layers = [keras.layers.Dense(2), BatchNormalization(trainable=False)]
    >>> model = unfreeze(keras.Sequential([keras.Input((3,)), *layers]))
    >>> [layer.trainable for layer in model.layers]
    [True, True]
    """
    return _with_norms_trainable(model, True)


def _with_norms_trainable(model, trainable):
    exchange = Exchange(lambda layer: None)
    new = exchange.run(model)
    for layer in model._flatten_layers():
        if is_stateful(layer) or isinstance(layer, keras.layers.BatchNormalization):
            exchange.copies(layer).trainable = trainable
    return new
