"""Pure functions on tensors: no weights, no layers, every one written with `keras.ops`."""

from keras_norm.ops import axes
from keras_norm.ops.moments import Moments, blend, count, mean, mean_square, merge, moments
from keras_norm.ops.normalize import affine, normalize, normalize_by_root
from keras_norm.ops.steps import loop_of, write_rows

__all__ = [
    "Moments",
    "affine",
    "axes",
    "blend",
    "count",
    "loop_of",
    "mean",
    "mean_square",
    "merge",
    "moments",
    "normalize",
    "normalize_by_root",
    "write_rows",
]
