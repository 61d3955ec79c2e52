"""What a layer does, measured."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keras_norm.catalog import INVARIANCES, Catalog, catalog

EXACT = 1e-6
"""Largest change, over the output's size, that counts as none."""

_KERNELS = ("kernel", "recurrent_kernel", "depthwise_kernel", "pointwise_kernel", "embeddings")


class Invariances(Mapping[str, float]):
    """What `invariances` measured: each change's effect on the output, over the output's size.

    Attributes:
        layer: Name of the layer's class.
        holds: The changes that leave the output alone.
    """

    def __init__(self, layer: str, effects: Mapping[str, float]) -> None:
        self.layer = layer
        self._effects = dict(effects)

    @property
    def holds(self) -> frozenset[str]:
        """The changes that leave the output alone."""
        return frozenset(name for name, effect in self.items() if effect < EXACT)

    def __getitem__(self, name: str) -> float:
        return self._effects[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._effects)

    def __len__(self) -> int:
        return len(self._effects)

    def __str__(self) -> str:
        lines = [f"{self.layer}: its training-mode output ..."]
        for name, effect in self.items():
            verdict = "stays " if name in self.holds else "changes"
            lines.append(f"  {verdict:8}{effect:7.0e}  {name}: {INVARIANCES[name]}")
        return "\n".join(lines)


def invariances(layer: Any, input_shape: Any = None, seed: int = 0) -> Invariances:
    """Measures which changes of weights and data leave a layer's training-mode output alone.

    The layer itself is left as it is: a twin in float64, with every ε at 1e-12, computes the output
    before and after each change. A layer with a kernel has its kernel scaled; for one without, the
    input stands for the output of a linear layer without bias, so that scaling weights is scaling
    the input. A layer with `adapt` is adapted to the changed data first.

    Args:
        layer: A layer, built or not. One that is not is built, and its weights are stirred, so that
            every term of its equation acts and every schedule has begun.
        input_shape: Shape of the input, batch included, or a list of shapes for several inputs (the
            first of which is changed). `None` takes the shape that the layer was built for.
        seed: Seed of the data and the changes.

    Returns:
        The effect of each change, keys of `keras_norm.catalog.INVARIANCES`, as largest difference
        over largest output; `holds` names those below 1e-6.

    Raises:
        ValueError: If there is no shape to be had.
    """
    shape = input_shape
    if shape is None and layer.built:
        shape = (layer.get_build_config() or {}).get("input_shape")
    if shape is None:
        raise ValueError(
            "`input_shape` must be given for a layer that is not built. Received: "
            f"input_shape=None (layer {layer.name!r}). Pass it, e.g. input_shape=(4, 8, 8, 6)."
        )
    generator = np.random.default_rng(seed)
    twin, weights = _twin(layer, shape, generator)
    inputs = [_data(one, generator) for one in (shape if _several(shape) else [shape])]
    expected = _answer(twin, weights, inputs)
    effects = {}
    for change in INVARIANCES:
        changed = _changed(change, twin, weights, inputs, generator)
        actual = _answer(twin, *changed)
        kept = slice(0, 1) if change == "batch" else slice(None)
        difference = np.abs(actual - expected)[kept].max()
        effects[change] = float(difference / np.abs(expected).max())
    return Invariances(type(layer).__name__, effects)


def invariance_table(rows: Catalog = catalog) -> str:
    """What `invariances` says of the example of each row of the catalog, in Markdown.

    Args:
        rows: Rows of the catalog.

    Returns:
        A table with one line per layer and one column per change.
    """
    lines = [("layer", *INVARIANCES), ("---",) * (1 + len(INVARIANCES))]
    for row in rows:
        holds = invariances(row.example(), row.input_shape).holds
        lines.append((row.name, *("yes" if name in holds else "–" for name in INVARIANCES)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _several(shape: Any) -> bool:
    return isinstance(shape[0], (list, tuple))


def _data(shape: Any, generator: Any) -> Any:
    """Data that is neither centred nor alike in two channels; sizes that are free are small."""
    sizes = [n or (4 if place == 0 else 5) for place, n in enumerate(shape)]
    spread, offset = generator.uniform(0.5, 2.0, sizes[-1]), generator.normal(size=sizes[-1])
    return generator.standard_normal(sizes) * spread + offset


def _twin(layer: Any, shape: Any, generator: Any) -> tuple[Any, list]:
    """A copy of the layer in float64 without ε, and the weights to measure it with."""
    twin = type(layer).from_config(_sharpened(layer.get_config()))
    twin.build([tuple(one) for one in shape] if _several(shape) else tuple(shape))
    if layer.built:
        # In the twin's dtype: a factor would round a narrower weight.
        pairs = zip(layer.get_weights(), twin.get_weights(), strict=True)
        return twin, [weight.astype(wide.dtype) for weight, wide in pairs]
    return twin, [_stirred(weight, generator) for weight in twin.get_weights()]


def _sharpened(config: Any) -> Any:
    """A config, and those within it, with float64 for every dtype and 1e-12 for every ε."""
    if not isinstance(config, dict):
        return config
    exact = {"dtype": "float64", "epsilon": 1e-12}
    return {
        name: exact[name] if name in exact and value is not None else _sharpened(value)
        for name, value in config.items()
    }


def _stirred(weight: Any, generator: Any) -> Any:
    if not np.issubdtype(weight.dtype, np.floating):
        return np.full_like(weight, 2)
    return weight * generator.uniform(0.8, 1.2, weight.shape) + generator.uniform(
        0.1, 0.4, weight.shape
    )


def _answer(twin: Any, weights: list, inputs: list) -> Any:
    """The twin's output in training, its weights being what they are before the call."""
    twin.set_weights(weights)
    if hasattr(twin, "adapt"):
        twin.adapt(inputs[0])
    return np.asarray(twin(inputs if len(inputs) > 1 else inputs[0], training=True), "float64")


def _changed(change: str, twin: Any, weights: list, inputs: list, generator: Any) -> tuple:
    """Weights and inputs after a change."""
    x, *others = inputs
    widest = max(n for array in (x, *weights) for n in (*array.shape, 1))
    factors = generator.uniform(0.5, 4.0, max(4096, widest))
    if change == "data scale":
        x = x * factors[: len(x)].reshape(-1, *(1,) * (x.ndim - 1))
    elif change == "shift":
        x = x + 3.5
    elif change == "bias":
        x = x + factors[: x.shape[-1]]
    elif change == "batch":
        x = np.concatenate([x[:1], _data(x[1:].shape, generator)])
    elif any(weight.name in _KERNELS for weight in twin.weights):
        scales = [
            _scale(weight.shape, change, factors) if weight.name in _KERNELS else 1
            for weight in twin.weights
        ]
        weights = [value * scale for value, scale in zip(weights, scales, strict=True)]
    else:
        x = x * _scale(x.shape, change, factors)
    return weights, [x, *others]


def _scale(shape: Any, change: str, factors: Any) -> Any:
    """One factor for everything, or one for each entry of the last axis."""
    return 7.0 if change == "rescaling" else factors[: shape[-1]]
