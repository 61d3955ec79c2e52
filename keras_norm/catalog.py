"""One row per layer. Tests, command line and README read what they know of the layers here."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from keras_norm.layers.batch import BatchNormalization, BatchRenormalization
from keras_norm.layers.features import LayerNormalization, RMSNormalization
from keras_norm.layers.groups import GroupNormalization, InstanceNormalization
from keras_norm.layers.mixtures import SwitchableNormalization
from keras_norm.layers.pointwise import PixelNormalization

INVARIANCES = MappingProxyType(
    {
        "weight scale": "each channel times a positive factor of its own",
        "data scale": "each sample times a positive factor of its own",
        "shift": "one constant added to every element",
        "batch": "the other samples of the batch exchanged",
    }
)
"""What a change of the input may leave the training-mode output alone."""


@dataclass(frozen=True)
class Row:
    """What there is to know of a layer.

    Attributes:
        layer: The class.
        short: Name for command lines and figures.
        arguments: Arguments of the example that tests build, chosen so that every term acts.
        input_shape: Shape of the example's input, batch included.
        statistics: What the statistics run over.
        paper: Where the layer was defined.
        training_differs: Whether training and inference compute different functions.
        folds: Whether inference is a fixed affine map per channel, which a convolution can absorb.
        invariances: Changes of the input, keys of `INVARIANCES`, that leave the output alone.
        uncorrected: Arguments that switch off what the paper holds constant under differentiation.
    """

    layer: type
    short: str
    arguments: Mapping[str, Any]
    input_shape: tuple[int, ...]
    statistics: str
    paper: str
    training_differs: bool = False
    folds: bool = False
    invariances: frozenset[str] = field(default_factory=frozenset)
    uncorrected: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The class's name."""
        return self.layer.__name__

    def build(self, **overrides: Any) -> Any:
        """The example layer, with some arguments replaced."""
        return self.layer(**{**self.arguments, **overrides})

    def default(self, argument: str) -> Any:
        """An argument's default, or `None` where there is no such argument."""
        parameter = inspect.signature(self.layer).parameters.get(argument)
        return None if parameter is None else parameter.default


class Catalog(tuple[Row, ...]):
    """The rows, in the order of the documentation. `print(catalog)` shows them as a table."""

    __slots__ = ()

    COLUMNS = (
        "layer",
        "statistics over",
        "training ≠ inference",
        "output unchanged by",
        "ε",
        "momentum",
        "paper",
    )

    def __getitem__(self, key: Any) -> Any:
        """A row by index, class name or short name."""
        if not isinstance(key, str):
            return super().__getitem__(key)
        for row in self:
            if key in (row.name, row.short):
                return row
        names = ", ".join(row.short for row in self)
        raise ValueError(f"`name` must be a layer of the catalog. Received: {key!r}. Use {names}.")

    def cells(self) -> Iterator[tuple[str, ...]]:
        """The table's rows, as text, in the order of `COLUMNS`."""
        for row in self:
            momentum = row.default("momentum")
            yield (
                row.name,
                row.statistics,
                "yes" if row.training_differs else "no",
                ", ".join(key for key in INVARIANCES if key in row.invariances) or "–",
                f"{row.default('epsilon'):g}",
                "–" if momentum is None else f"{momentum:g}",
                row.paper,
            )

    def markdown(self) -> str:
        """The table in Markdown, as the README shows it."""
        lines = [self.COLUMNS, ("---",) * len(self.COLUMNS), *self.cells()]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def __str__(self) -> str:
        lines = [self.COLUMNS, *self.cells()]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )


catalog = Catalog(
    (
        Row(
            BatchNormalization,
            "batch",
            {"momentum": 0.8},
            (4, 3, 5, 6),
            "B, H, W",
            "[Ioffe and Szegedy 2015](https://arxiv.org/abs/1502.03167)",
            training_differs=True,
            folds=True,
            invariances=frozenset({"weight scale", "shift"}),
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
            invariances=frozenset({"data scale", "shift", "batch"}),
        ),
        Row(
            RMSNormalization,
            "rms",
            {},
            (4, 5, 6),
            "C",
            "[Zhang and Sennrich 2019](https://arxiv.org/abs/1910.07467)",
            invariances=frozenset({"data scale", "batch"}),
        ),
        Row(
            GroupNormalization,
            "group",
            {"groups": 3},
            (4, 3, 5, 6),
            "H, W, C/G",
            "[Wu and He 2018](https://arxiv.org/abs/1803.08494)",
            invariances=frozenset({"data scale", "shift", "batch"}),
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
            invariances=frozenset({"shift"}),
        ),
        Row(
            PixelNormalization,
            "pixel",
            {},
            (4, 3, 5, 6),
            "C",
            "[Karras et al. 2018](https://arxiv.org/abs/1710.10196)",
            invariances=frozenset({"data scale", "batch"}),
        ),
    )
)
"""Every layer of the package."""
