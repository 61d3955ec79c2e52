"""One row per layer. Tests, command line and README read what they know of the layers here."""

from keras_norm.catalog import activations, conditional, data, recurrent, weights
from keras_norm.catalog.row import INVARIANCES, KINDS, Catalog, Row

__all__ = ["INVARIANCES", "KINDS", "Catalog", "Row", "catalog"]

catalog = Catalog(
    (*activations.ROWS, *conditional.ROWS, *weights.ROWS, *recurrent.ROWS, *data.ROWS)
)
"""Every layer of the package."""
