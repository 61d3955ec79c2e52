"""Pure functions on tensors: no weights, no layers, every one written with `keras.ops`."""

from keras_norm.ops import axes, whitening
from keras_norm.ops.moments import (
    Moments,
    blend,
    count,
    length,
    location,
    mean,
    mean_square,
    merge,
    moments,
)
from keras_norm.ops.normalize import affine, centre, normalize, normalize_by_root

__all__ = [
    "Moments",
    "affine",
    "axes",
    "blend",
    "centre",
    "count",
    "length",
    "location",
    "mean",
    "mean_square",
    "merge",
    "moments",
    "normalize",
    "normalize_by_root",
    "whitening",
]
