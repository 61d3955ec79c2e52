"""Rows of the cells of recurrent networks."""

from keras_norm.catalog.row import Row

ROWS: tuple[Row, ...] = ()
