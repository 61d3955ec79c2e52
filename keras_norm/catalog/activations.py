"""Rows of the layers that normalize activations."""

from keras_norm.catalog.row import INVARIANCES, Row
from keras_norm.layers.batch import BatchNormalization, BatchRenormalization
from keras_norm.layers.features import LayerNormalization, RMSNormalization
from keras_norm.layers.groups import GroupNormalization, InstanceNormalization
from keras_norm.layers.mixtures import SwitchableNormalization
from keras_norm.layers.pointwise import PixelNormalization

ROWS: tuple[Row, ...] = (
    Row(
        BatchNormalization,
        "batch",
        {"momentum": 0.8},
        (4, 3, 5, 6),
        "B, H, W",
        "[Ioffe and Szegedy 2015](https://arxiv.org/abs/1502.03167)",
        training_differs=True,
        folds=True,
        invariances=frozenset({"rescaling", "weight scale", "shift", "bias"}),
    ),
    Row(
        BatchRenormalization,
        "renorm",
        {"momentum": 0.8, "rmax": 1.2, "dmax": 0.4, "rmax_ramp": (1, 4), "dmax_ramp": None},
        (4, 3, 5, 6),
        "B, H, W",
        "[Ioffe 2017](https://arxiv.org/abs/1702.03275)",
        training_differs=True,
        folds=True,
        uncorrected={"rmax": 1.0, "dmax": 0.0},
    ),
    Row(
        LayerNormalization,
        "layer",
        {},
        (4, 5, 6),
        "C",
        "[Ba et al. 2016](https://arxiv.org/abs/1607.06450)",
        invariances=frozenset({"rescaling", "data scale", "shift", "batch"}),
    ),
    Row(
        RMSNormalization,
        "rms",
        {},
        (4, 5, 6),
        "C",
        "[Zhang and Sennrich 2019](https://arxiv.org/abs/1910.07467)",
        invariances=frozenset({"rescaling", "data scale", "batch"}),
    ),
    Row(
        GroupNormalization,
        "group",
        {"groups": 3},
        (4, 3, 5, 6),
        "H, W, C/G",
        "[Wu and He 2018](https://arxiv.org/abs/1803.08494)",
        invariances=frozenset({"rescaling", "data scale", "shift", "batch"}),
    ),
    Row(
        InstanceNormalization,
        "instance",
        {},
        (4, 3, 5, 6),
        "H, W",
        "[Ulyanov et al. 2016](https://arxiv.org/abs/1607.08022)",
        invariances=frozenset(INVARIANCES),
    ),
    Row(
        SwitchableNormalization,
        "switchable",
        {"momentum": 0.8},
        (4, 3, 5, 6),
        "H, W; C, H, W; B, H, W (mixed)",
        "[Luo et al. 2019](https://arxiv.org/abs/1806.10779)",
        training_differs=True,
        invariances=frozenset({"rescaling", "shift"}),
    ),
    Row(
        PixelNormalization,
        "pixel",
        {},
        (4, 3, 5, 6),
        "C",
        "[Karras et al. 2018](https://arxiv.org/abs/1710.10196)",
        invariances=frozenset({"rescaling", "data scale", "batch"}),
    ),
)
