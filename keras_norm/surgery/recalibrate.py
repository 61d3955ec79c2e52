"""Puts the moments of a data set in place of moving averages."""

import functools
import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_norm.layers.base import BaseBatchNormalization
from keras_norm.layers.batch import BatchNormalization, BatchRenormalization
from keras_norm.layers.recurrent_batch import BatchNormLSTMCell
from keras_norm.layers.whitening import BaseWhitening
from keras_norm.ops import axes, count, moments
from keras_norm.statistics import comoments, merge
from keras_norm.streams import check_end
from keras_norm.surgery.replace import Exchange, maker_of


def recalibrate(model, data, steps=None, batch_size=None, verbose="auto"):
    """Puts the true moments of a data set in place of each norm's moving averages.

    Moving averages lag behind weights that still change, mix in the first steps, and do not belong
    to weights that were averaged, folded or edited. The data runs through the model once; each norm
    then has the mean and variance (of whitening ones the matrix) of all the inputs that it saw,
    frozen or not. Batches are merged by their counts, means and sums of squares in float64, so
    that the moments are those of the whole, however it is cut into batches; masked elements do not
    count. Nothing else changes: weights, optimizer, flags. The old model stays as it is.

    On the way each norm normalizes with the moments of its batch, as in training (renormalization
    without limits), and every other layer runs as in inference: dropout does nothing. What reaches
    a norm behind another one depends on the batches in so far as the other's output does; use
    batches of the size of those of training.

    Args:
        model: A functional, sequential or subclassed model that is built.
        data: What `model.predict` takes: an array, a list or dictionary of them for several inputs;
            or batches from a `tf.data.Dataset`, a `keras.utils.PyDataset` or a generator. Of
            batches that are tuples (inputs, targets, ...) the inputs count.
        steps: Integer, the number of batches; needed where the data never ends. A generator, which
            does not say whether it ends, is read as in `model.fit`: until it does, for ever if it
            does not.
        batch_size: Integer, rows of a batch where `data` is of arrays; 32 if not given.
        verbose: Whether to show a progress bar, as in `model.predict`.

    Returns:
        A new model.

    Raises:
        TypeError: If `model` is none.
        ValueError: If it is not built or has layers that their configs do not describe, if a data
            set never ends and `steps` is not given, or if a norm saw no data or data that is not
            finite.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((1,)), BatchNormalization()])
    >>> new = recalibrate(model, np.array([[1.0], [5.0]]), verbose=0)
    >>> [weight.numpy().tolist() for weight in new.layers[0].non_trainable_weights]
    [[3.0], [4.0]]

    Reference:
        [Wu and Johnson, 2021](https://arxiv.org/abs/2105.07576), section 3 (PreciseBN). Deviation:
        batches are merged by their counts, what lies between their means included.
    """
    check_end(data, steps)
    copy, measuring = Exchange(lambda layer: None), Exchange(maker_of(_BY_BATCH))
    new, through = copy.run(model), measuring.run(model)
    records = []
    for layer in model._flatten_layers():
        if is_stateful(layer):
            records.append((copy.copies(layer), _Record(measuring.copies(layer))))
        elif isinstance(layer, (BatchNormLSTMCell, keras.layers.BatchNormalization)):
            warnings.warn(
                f"Layer {layer.name!r} of class {type(layer).__name__} keeps the moving moments "
                "that it has: they are not simply those of its input.",
                stacklevel=2,
            )
    _Pass(through).predict(data, batch_size=batch_size, steps=steps, verbose=verbose)
    for norm, record in records:
        record.store(norm)
    return new


def is_stateful(layer):
    """Whether a layer is a norm that keeps moving moments of its input."""
    if type(layer) is keras.layers.BatchNormalization:
        return True
    return isinstance(layer, BaseBatchNormalization) and layer.keeps_moving_moments()


_BY_BATCH = {
    keras.layers.BatchNormalization: BatchNormalization,
    BatchRenormalization: BatchNormalization,
}
"""Norms that in training depend on moving moments, or cannot be measured, and what to measure."""


class _Pass(keras.Model):
    """Runs data through a model, batch by batch, and keeps no outputs."""

    def __init__(self, model):
        super().__init__()
        self._through = model
        self.autocast = False
        self.built = True  # or JAX's `predict` would run the first batch once more
        self.compile(run_eagerly=True)  # what is measured is kept in NumPy's float64

    def call(self, x):
        """One batch."""
        self._through(x, training=False)
        return ops.zeros((1,))


class _Record:
    """The moments of all inputs of a norm, which from now on normalizes with those of each batch.

    Args:
        norm: The norm of the copy through which the data runs.
    """

    def __init__(self, norm):
        self._norm = norm
        self._found: dict[str, Any] | None = None
        norm.normalize = functools.partial(self._normalize, norm.normalize)
        norm.uses_batch = lambda training: True

    def _normalize(self, normalize, x, gamma, beta, training, mask):
        whitens = isinstance(self._norm, BaseWhitening)
        found = (self._covariance if whitens else self._moments)(x, mask)
        if np.any(found["count"] > 0):
            self._found = found if self._found is None else merge(self._found, found)
        return normalize(x, gamma, beta, training, mask)

    def _moments(self, x, mask):
        over = axes.others(self._norm.axes_of(x), len(x.shape))
        batch = moments(x, over, mask=mask)
        shape = self._norm._feature_shape
        mean, variance = (np.reshape(_float64(one), shape) for one in (batch.shift, batch.variance))
        if batch.residual is not None:
            mean = mean + np.reshape(_float64(batch.residual), shape)
        number = np.broadcast_to(_float64(count(x, over, mask)), np.shape(batch.variance))
        return {"count": number.reshape(shape), "mean": mean, "variance": variance}

    def _covariance(self, x, mask):
        (channel,) = self._norm.axes_of(x)
        rows = np.moveaxis(_float64(x), channel, -1)
        if mask is not None:  # a position counts as a whole
            counted = np.broadcast_to(ops.convert_to_numpy(mask), x.shape).all(channel)
            rows = rows[counted]
        return comoments(rows.reshape(-1, x.shape[channel]))

    def store(self, norm):
        """Puts what was found into a norm of the same name."""
        found = self._found
        if found is None or not all(np.isfinite(one).all() for one in found.values()):
            raise ValueError(
                "`data` must reach each norm of the model, and be finite there. Received: "
                f"{'none' if found is None else 'NaN or infinity'} at layer {norm.name!r}. "
                "Look at the data, or at the weights in front of that layer."
            )
        for name, value in self._statistics(norm).items():
            weight = getattr(norm, name, None)
            if weight is not None:
                weight.assign(value)

    def _statistics(self, norm):
        """All that a norm keeps, by name."""
        found: Any = self._found
        known = {"moving_mean": found["mean"]}
        if isinstance(norm, BaseWhitening):
            known["moving_matrix"] = _matrices(norm, found["covariance"])
        else:
            deviation = np.sqrt(found["variance"] + norm.epsilon)
            known |= {"moving_variance": found["variance"], "moving_stddev": deviation}
            known |= {"renorm_mean": found["mean"], "renorm_stddev": deviation}
        number = np.broadcast_to(found["count"], found["mean"].shape)
        return {**known, "moving_count": number}


def _matrices(norm, covariance):
    """The matrices of a whitening norm, each from the covariance of its group of channels."""
    groups, size, _ = norm.moving_matrix.shape
    blocks = covariance.reshape(groups, size, groups, size)
    own = np.stack([blocks[g, :, g] for g in range(groups)]) + norm.epsilon * np.eye(size)
    return norm.inverse_root(ops.convert_to_tensor(own, dtype="float64"))


def _float64(x):
    return ops.convert_to_numpy(x).astype("float64")
