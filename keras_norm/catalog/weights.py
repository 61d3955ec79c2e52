"""Rows of the norms of weights."""

import keras

from keras_norm.catalog.row import Row
from keras_norm.wrappers.spectral import SpectralNormalization
from keras_norm.wrappers.standardization import WeightStandardization
from keras_norm.wrappers.weight import WeightNormalization

ROWS: tuple[Row, ...] = (
    Row(
        WeightNormalization,
        "weight",
        {"layer": lambda: keras.layers.Dense(5)},
        (4, 5, 6),
        "fan-in of a kernel",
        "[Salimans and Kingma 2016](https://arxiv.org/abs/1602.07868)",
        kind="weights",
        invariances=frozenset({"rescaling", "weight scale", "batch"}),
    ),
    Row(
        SpectralNormalization,
        "spectral",
        {"layer": lambda: keras.layers.Dense(5), "power_iterations": 2},
        (4, 5, 6),
        "a whole kernel",
        "[Miyato et al. 2018](https://arxiv.org/abs/1802.05957)",
        kind="weights",
        training_differs=True,
        invariances=frozenset({"rescaling", "batch"}),
    ),
    Row(
        WeightStandardization,
        "standardized",
        {"layer": lambda: keras.layers.Conv2D(5, 2), "scaled": True, "gamma": 1.7},
        (4, 3, 5, 6),
        "fan-in of a kernel",
        "[Qiao et al. 2019](https://arxiv.org/abs/1903.10520)",
        kind="weights",
        invariances=frozenset({"rescaling", "weight scale", "shift", "batch"}),
    ),
)
