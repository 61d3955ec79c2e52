"""Rows of the norms of weights."""

from keras_norm.catalog.row import Row

ROWS: tuple[Row, ...] = ()
