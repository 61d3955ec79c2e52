"""Every normalization layer of Keras 3 in one place.

Importing the package registers every class under the package name `keras_norm`, so that saved
models load.
"""

from keras_norm.backend import portable_only
from keras_norm.catalog import catalog
from keras_norm.export import (
    Audit,
    Verification,
    audit,
    export_litert,
    export_saved_model,
    verify,
)
from keras_norm.layers.activations import DynamicTanh, EvoNormB0, EvoNormS0, ThresholdedLinearUnit
from keras_norm.layers.batch import (
    BatchNormalization,
    BatchRenormalization,
    GhostBatchNormalization,
    MeanOnlyBatchNormalization,
)
from keras_norm.layers.conditional import (
    AdaptiveInstanceNormalization,
    ConditionalNormalization,
    SpatiallyAdaptiveNormalization,
)
from keras_norm.layers.cosine import CosineConv1D, CosineConv2D, CosineConv3D, CosineDense
from keras_norm.layers.data import (
    MinMaxNormalization,
    StandardNormalization,
    WhiteningNormalization,
)
from keras_norm.layers.features import LayerNormalization, RMSNormalization
from keras_norm.layers.groups import (
    FilterResponseNormalization,
    GlobalResponseNormalization,
    GroupNormalization,
    InstanceNormalization,
)
from keras_norm.layers.mixtures import SwitchableNormalization
from keras_norm.layers.pointwise import LocalResponseNormalization, PixelNormalization
from keras_norm.layers.recurrent import LayerNormGRUCell, LayerNormLSTMCell, LayerNormSimpleRNNCell
from keras_norm.layers.recurrent_batch import BatchNormLSTMCell
from keras_norm.layers.whitening import DecorrelatedBatchNormalization, IterativeNormalization
from keras_norm.report import Invariances, invariances
from keras_norm.surgery.accelerate import accelerate
from keras_norm.surgery.bake import bake
from keras_norm.surgery.fold import fold
from keras_norm.surgery.foreign.load import addons_compat, load_foreign
from keras_norm.surgery.freeze import freeze, unfreeze
from keras_norm.surgery.ports.load import (
    LoadedWeights,
    load_flax_weights,
    load_torch_weights,
)
from keras_norm.surgery.recalibrate import recalibrate
from keras_norm.surgery.replace import replace
from keras_norm.wrappers.spectral import SpectralNormalization
from keras_norm.wrappers.standardization import WeightStandardization
from keras_norm.wrappers.weight import WeightNormalization

__version__ = "0.1.0"

__all__ = [
    "AdaptiveInstanceNormalization",
    "Audit",
    "BatchNormLSTMCell",
    "BatchNormalization",
    "BatchRenormalization",
    "ConditionalNormalization",
    "CosineConv1D",
    "CosineConv2D",
    "CosineConv3D",
    "CosineDense",
    "DecorrelatedBatchNormalization",
    "DynamicTanh",
    "EvoNormB0",
    "EvoNormS0",
    "FilterResponseNormalization",
    "GhostBatchNormalization",
    "GlobalResponseNormalization",
    "GroupNormalization",
    "InstanceNormalization",
    "Invariances",
    "IterativeNormalization",
    "LayerNormGRUCell",
    "LayerNormLSTMCell",
    "LayerNormSimpleRNNCell",
    "LayerNormalization",
    "LoadedWeights",
    "LocalResponseNormalization",
    "MeanOnlyBatchNormalization",
    "MinMaxNormalization",
    "PixelNormalization",
    "RMSNormalization",
    "SpatiallyAdaptiveNormalization",
    "SpectralNormalization",
    "StandardNormalization",
    "SwitchableNormalization",
    "ThresholdedLinearUnit",
    "Verification",
    "WeightNormalization",
    "WeightStandardization",
    "WhiteningNormalization",
    "accelerate",
    "addons_compat",
    "audit",
    "bake",
    "catalog",
    "export_litert",
    "export_saved_model",
    "fold",
    "freeze",
    "invariances",
    "load_flax_weights",
    "load_foreign",
    "load_torch_weights",
    "portable_only",
    "recalibrate",
    "replace",
    "unfreeze",
    "verify",
]
