"""What a row of the catalog holds, and the catalog as a table."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import keras

KINDS = MappingProxyType(
    {
        "activations": "Norms of activations",
        "conditional": "Norms whose gamma and beta a second input predicts",
        "weights": "Norms of weights",
        "recurrent": "Cells of recurrent networks",
        "data": "Norms of input data, learned by `adapt`",
    }
)
"""The kinds of layers: what they are given and where they stand in a model."""

INVARIANCES = MappingProxyType(
    {
        "rescaling": "all weights times one positive factor",
        "weight scale": "the weights of each channel times a positive factor of their own",
        "data scale": "each sample times a positive factor of its own",
        "shift": "one constant added to every element",
        "bias": "a constant added to each channel",
        "batch": "the other samples of the batch exchanged",
    }
)
"""Changes of weights and data that may leave the training-mode output alone."""


@dataclass(frozen=True)
class Row:
    """What there is to know of a layer.

    Attributes:
        layer: The class.
        short: Name for command lines and figures.
        arguments: Arguments of the example that tests build, chosen so that every term acts.
        input_shape: Shape of the example's input, batch included; one per input where a layer takes
            several.
        statistics: What the statistics run over.
        paper: Where the layer was defined.
        kind: A key of `KINDS`.
        training_differs: Whether training and inference compute different functions.
        folds: Whether inference is a fixed affine map per channel, which a convolution can absorb.
        invariances: Changes of the input, keys of `INVARIANCES`, that leave the output alone.
        tolerance: Largest error of a float32 output, over the output's size.
        amplifies: Whether directions without data, and their rounding errors, are scaled by 1/√ε.
        runner: Arguments of the recurrent layer that runs the example of a cell.
        uncorrected: Arguments that switch off what the paper holds constant under differentiation.
    """

    layer: type
    short: str
    arguments: Mapping[str, Any]
    input_shape: tuple[Any, ...]
    statistics: str
    paper: str
    kind: str = "activations"
    training_differs: bool = False
    folds: bool = False
    invariances: frozenset[str] = field(default_factory=frozenset)
    tolerance: float = 2e-6
    amplifies: bool = False
    runner: Mapping[str, Any] = field(default_factory=dict)
    uncorrected: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The class's name."""
        return self.layer.__name__

    def build(self, **overrides: Any) -> Any:
        """The example layer, with some arguments replaced.

        An argument that is a layer stands in the row as a function that makes one: two layers must
        not share it.
        """
        chosen = {**self.arguments, **overrides}
        made = {k: v() if inspect.isfunction(v) else v for k, v in chosen.items()}
        return self.layer(**made)

    def example(self, **overrides: Any) -> Any:
        """What a model calls: the layer itself, or the recurrent layer that runs the cell."""
        layer = self.build(**overrides)
        if self.kind == "recurrent":
            how = {"return_sequences": True, "dtype": layer.dtype_policy, **self.runner}
            return keras.layers.RNN(layer, **how)
        return layer

    def takes(self, argument: str) -> bool:
        """Whether the layer has an argument."""
        return argument in inspect.signature(self.layer).parameters

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
            epsilon, momentum = row.default("epsilon"), row.default("momentum")
            yield (
                row.name,
                row.statistics,
                "yes" if row.training_differs else "no",
                "–" if epsilon is None else f"{epsilon:g}",
                "–" if momentum is None else f"{momentum:g}",
                row.paper,
            )

    def of_kind(self, kind: str) -> "Catalog":
        """The rows of one kind."""
        return Catalog(row for row in self if row.kind == kind)

    def markdown(self) -> str:
        """A table per kind in Markdown, as the README shows them."""
        parts = []
        for kind, title in KINDS.items():
            lines = [self.COLUMNS, ("---",) * len(self.COLUMNS), *self.of_kind(kind).cells()]
            table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
            parts.append(f"### {title}\n\n{table}")
        return "\n\n".join(parts)

    def __str__(self) -> str:
        lines = [self.COLUMNS, *self.cells()]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )
