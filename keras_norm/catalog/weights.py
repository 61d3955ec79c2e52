"""Rows of the norms of weights."""

import keras

from keras_norm.catalog.row import Row
from keras_norm.layers.cosine import CosineConv1D, CosineConv2D, CosineConv3D, CosineDense
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
    Row(
        CosineDense,
        "cosine_dense",
        {"units": 5, "use_bias": False, "scale_initializer": "ones", "activation": "sigmoid"},
        (4, 5, 6),
        "C",
        "[Luo et al. 2017](https://arxiv.org/abs/1702.05870)",
        kind="weights",
        invariances=frozenset({"rescaling", "weight scale", "data scale", "batch"}),
    ),
    Row(
        CosineConv1D,
        "cosine_conv1d",
        {
            "filters": 4,
            "kernel_size": 3,
            "padding": "causal",
            "use_bias": False,
            "centered": True,
        },
        (3, 5, 6),
        "T, C/G (window)",
        "[Luo et al. 2017](https://arxiv.org/abs/1702.05870)",
        kind="weights",
        invariances=frozenset({"rescaling", "weight scale", "data scale", "shift", "batch"}),
    ),
    Row(
        CosineConv2D,
        "cosine_conv2d",
        {"filters": 4, "kernel_size": (3, 2), "padding": "same", "centered": True},
        (2, 3, 4, 6),
        "H, W, C/G (window)",
        "[Luo et al. 2017](https://arxiv.org/abs/1702.05870)",
        kind="weights",
        invariances=frozenset({"shift", "batch"}),
    ),
    Row(
        CosineConv3D,
        "cosine_conv3d",
        {"filters": 4, "kernel_size": 2, "strides": (1, 2, 1), "padding": "same"},
        (2, 2, 3, 2, 6),
        "D, H, W, C/G (window)",
        "[Luo et al. 2017](https://arxiv.org/abs/1702.05870)",
        kind="weights",
        invariances=frozenset({"batch"}),
    ),
)
