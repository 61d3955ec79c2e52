"""Rows of the cells of recurrent networks."""

from keras_norm.catalog.row import Row
from keras_norm.layers.recurrent import (
    LayerNormGRUCell,
    LayerNormLSTMCell,
    LayerNormSimpleRNNCell,
)

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
    ),
    Row(
        LayerNormLSTMCell,
        "layer-lstm",
        {"units": 4},
        (4, 5, 6),
        "4 · C; C",
        PAPER,
        kind="recurrent",
    ),
    Row(
        LayerNormGRUCell,
        "layer-gru",
        {"units": 4},
        (4, 5, 6),
        "2 · C; C",
        PAPER,
        kind="recurrent",
    ),
)
