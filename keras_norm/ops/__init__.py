"""Pure functions on tensors: no weights, no layers, every one written with `keras.ops`."""

from keras_norm.ops import axes, whitening
from keras_norm.ops.columns import columns, product, uncolumns
from keras_norm.ops.cosine import Window, cosine, cosine_windows
from keras_norm.ops.elements import larger, root, visible, widened, window_sum
from keras_norm.ops.lengths import relative_length
from keras_norm.ops.moments import (
    Moments,
    blend,
    count,
    location,
    mean,
    mean_and_deviation,
    mean_square,
    merge,
    moments,
    over_groups,
    without_residuals,
)
from keras_norm.ops.normalize import (
    affine,
    centre,
    normalize,
    normalize_by_root,
    rescale,
    root_and_quotient,
    standardize,
    standardize_by,
)
from keras_norm.ops.resize import resize_nearest
from keras_norm.ops.steps import loop_of, write_rows

__all__ = [
    "Moments",
    "Window",
    "affine",
    "axes",
    "blend",
    "centre",
    "columns",
    "cosine",
    "cosine_windows",
    "count",
    "larger",
    "location",
    "loop_of",
    "mean",
    "mean_and_deviation",
    "mean_square",
    "merge",
    "moments",
    "normalize",
    "normalize_by_root",
    "over_groups",
    "product",
    "relative_length",
    "rescale",
    "resize_nearest",
    "root",
    "root_and_quotient",
    "standardize",
    "standardize_by",
    "uncolumns",
    "visible",
    "whitening",
    "widened",
    "window_sum",
    "without_residuals",
    "write_rows",
]
