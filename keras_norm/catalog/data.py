"""Rows of the norms of input data."""

from keras_norm.catalog.row import Row

ROWS: tuple[Row, ...] = ()
