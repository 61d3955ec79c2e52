"""Rows of the conditional layers."""

from keras_norm.catalog.row import INVARIANCES, Row
from keras_norm.layers.batch import BatchNormalization
from keras_norm.layers.conditional import (
    AdaptiveInstanceNormalization,
    ConditionalNormalization,
    SpatiallyAdaptiveNormalization,
)
from keras_norm.layers.groups import GroupNormalization

ROWS: tuple[Row, ...] = (
    Row(
        ConditionalNormalization,
        "conditional",
        {
            "layer": lambda: BatchNormalization(
                momentum=0.8, center=False, scale=False, name="inner"
            ),
            "hidden_units": 4,
            "activation": "tanh",  # differences need a smooth one
        },
        ((4, 3, 5, 6), (4, 3)),
        "the inner norm's",
        "[Perez et al. 2018](https://arxiv.org/abs/1709.07871)",
        kind="conditional",
        training_differs=True,
        invariances=frozenset({"rescaling", "weight scale", "shift", "bias"}),
    ),
    Row(
        AdaptiveInstanceNormalization,
        "adain",
        {},
        ((4, 3, 5, 6), (4, 2, 3, 6)),
        "H, W of each input",
        "[Huang and Belongie 2017](https://arxiv.org/abs/1703.06868)",
        kind="conditional",
        invariances=frozenset(INVARIANCES),
    ),
    Row(
        SpatiallyAdaptiveNormalization,
        "spade",
        {
            "layer": lambda: GroupNormalization(groups=3, center=False, scale=False, name="inner"),
            "hidden_filters": 4,
            "activation": "tanh",
        },
        ((4, 3, 5, 6), (4, 6, 4, 2)),
        "the inner norm's",
        "[Park et al. 2019](https://arxiv.org/abs/1903.07291)",
        kind="conditional",
        invariances=frozenset({"rescaling", "data scale", "shift", "batch"}),
    ),
)
