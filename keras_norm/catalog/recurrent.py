"""Rows of the cells of recurrent networks."""

from keras_norm.catalog.row import Row
from keras_norm.layers.recurrent import (
    LayerNormGRUCell,
    LayerNormLSTMCell,
    LayerNormSimpleRNNCell,
)
from keras_norm.layers.recurrent_batch import BatchNormLSTMCell

PAPER = "[Ba et al. 2016](https://arxiv.org/abs/1607.06450)"

ROWS: tuple[Row, ...] = (
    Row(
        LayerNormSimpleRNNCell,
        "layer-rnn",
        {"units": 4},
        (4, 5, 6),
        "C",
        PAPER,
        kind="recurrent",
        invariances=frozenset({"rescaling", "batch"}),
    ),
    Row(
        LayerNormLSTMCell,
        "layer-lstm",
        {"units": 4},
        (4, 5, 6),
        "4 · C; C",
        PAPER,
        kind="recurrent",
        invariances=frozenset({"rescaling", "data scale", "batch"}),
    ),
    Row(
        LayerNormGRUCell,
        "layer-gru",
        {"units": 4},
        (4, 5, 6),
        "2 · C; C",
        PAPER,
        kind="recurrent",
        invariances=frozenset({"rescaling", "data scale", "batch"}),
    ),
    Row(
        BatchNormLSTMCell,
        "batch-lstm",
        {"units": 4, "max_steps": 3, "momentum": 0.8},
        (16, 5, 6),
        "B, per step",
        "[Cooijmans et al. 2017](https://arxiv.org/abs/1603.09025)",
        kind="recurrent",
        invariances=frozenset({"rescaling", "weight scale", "shift", "bias"}),
        training_differs=True,
        # Each step divides by the spread of a few samples, and the next starts from the result.
        tolerance=1e-5,
        runner={"unroll": True},
    ),
)
