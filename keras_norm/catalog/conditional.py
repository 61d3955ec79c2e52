"""Rows of the conditional layers."""

from keras_norm.catalog.row import Row

ROWS: tuple[Row, ...] = ()
