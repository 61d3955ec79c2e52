"""Rows of the norms of weights."""

from keras_norm.catalog.row import Row
from keras_norm.layers.cosine import CosineConv1D, CosineConv2D, CosineConv3D, CosineDense

ROWS: tuple[Row, ...] = (
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
