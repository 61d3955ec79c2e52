"""Rows of the norms of input data."""

from keras_norm.catalog.row import Row
from keras_norm.layers.data import (
    MinMaxNormalization,
    StandardNormalization,
    WhiteningNormalization,
)

ROWS: tuple[Row, ...] = (
    Row(
        StandardNormalization,
        "standard",
        {},
        (4, 5, 6),
        "data set",
        "[Pedregosa et al. 2011](https://arxiv.org/abs/1201.0490)",
        kind="data",
        folds=True,
        invariances=frozenset({"rescaling", "weight scale", "shift", "bias"}),
    ),
    Row(
        MinMaxNormalization,
        "minmax",
        {"feature_range": (-1.0, 2.0)},
        (4, 5, 6),
        "data set",
        "[Pedregosa et al. 2011](https://arxiv.org/abs/1201.0490)",
        kind="data",
        folds=True,
        invariances=frozenset({"rescaling", "weight scale", "shift", "bias"}),
    ),
    Row(
        WhiteningNormalization,
        "whitening",
        {},
        (4, 5, 6),
        "data set",
        "[Kessy et al. 2018](https://arxiv.org/abs/1512.00809)",
        kind="data",
        invariances=frozenset({"rescaling", "shift", "bias"}),
    ),
)
