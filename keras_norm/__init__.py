"""Every normalization layer of Keras 3 in one place.

Importing the package registers every class under the package name `keras_norm`, so that saved
models load.
"""

from keras_norm.backend import portable_only
from keras_norm.catalog import catalog
from keras_norm.export import Verification, export_litert, export_saved_model, verify
from keras_norm.layers.batch import BatchNormalization, BatchRenormalization
from keras_norm.layers.features import LayerNormalization, RMSNormalization
from keras_norm.layers.groups import GroupNormalization, InstanceNormalization
from keras_norm.layers.mixtures import SwitchableNormalization
from keras_norm.layers.pointwise import PixelNormalization
from keras_norm.layers.recurrent import (
    LayerNormGRUCell,
    LayerNormLSTMCell,
    LayerNormSimpleRNNCell,
)
from keras_norm.layers.recurrent_batch import BatchNormLSTMCell

__version__ = "0.1.0"

__all__ = [
    "BatchNormLSTMCell",
    "BatchNormalization",
    "BatchRenormalization",
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormGRUCell",
    "LayerNormLSTMCell",
    "LayerNormSimpleRNNCell",
    "LayerNormalization",
    "PixelNormalization",
    "RMSNormalization",
    "SwitchableNormalization",
    "Verification",
    "catalog",
    "export_litert",
    "export_saved_model",
    "portable_only",
    "verify",
]
