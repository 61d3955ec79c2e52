"""Argument by argument: norms of TensorFlow Addons, keras-contrib and Keras 2, and ours."""

import keras

from keras_norm.layers.activations import ThresholdedLinearUnit
from keras_norm.layers.batch import (
    BatchNormalization,
    BatchRenormalization,
    GhostBatchNormalization,
)
from keras_norm.layers.groups import (
    FilterResponseNormalization,
    GroupNormalization,
    InstanceNormalization,
)
from keras_norm.layers.recurrent import LayerNormLSTMCell, LayerNormSimpleRNNCell
from keras_norm.surgery.foreign.contrib import ContribInstanceNormalization
from keras_norm.wrappers.spectral import SpectralNormalization
from keras_norm.wrappers.weight import WeightNormalization

UNLIMITED = 1e9  # what is no limit to r and d; ours are numbers

# Each function takes an `Arguments`, and returns a layer.


def group(given):
    """Addons's GroupNormalization, argument for argument."""
    return given.make(GroupNormalization)


def instance(given):
    """Addons's InstanceNormalization; `groups`, which it writes too, is the number of channels."""
    given.drop("groups")
    return given.make(InstanceNormalization)


def filter_response(given):
    """Addons's FilterResponseNormalization over [1, 2]; it takes the magnitude of ε."""
    if given.take("axis", [1, 2]) != [1, 2]:
        raise given.refused("axis must be [1, 2]: nothing else was ever written")
    if given.take("learned_epsilon_constraint") is not None:
        given.note("learned_epsilon_constraint is left out")
    return given.make(
        FilterResponseNormalization, axis=-1, epsilon=abs(given.take("epsilon", 1e-6))
    )


def thresholded(given):
    """Addons's TLU, with a threshold for each element of a sample."""
    if given.take("affine", False):
        raise given.refused("affine=True has a slope, which ThresholdedLinearUnit has not")
    for what in ("initializer", "regularizer", "constraint"):
        given.drop(f"alpha_{what}")
    return given.make(ThresholdedLinearUnit, axis=list(range(1, len(given.known_shape()))))


def weight(given):
    """Addons's WeightNormalization, whose units are the last axis of whatever kernel."""
    layer = given.layer()
    name = "recurrent_kernel" if isinstance(layer, keras.layers.RNN) else "kernel"
    given.drop("data_init")  # it has had its effect
    return given.make(WeightNormalization, layer=layer, axis={name: -1})


def spectral(given):
    """Addons's SpectralNormalization, whose units are the last axis of whatever kernel."""
    layer = given.layer()
    name = "embeddings" if isinstance(layer, keras.layers.Embedding) else "kernel"
    given.note(
        "from now on training divides by the spectral norm in each call and leaves the stored "
        "kernel alone; Addons divided the stored kernel"
    )
    return given.make(SpectralNormalization, layer=layer, axis={name: -1})


def lstm_cell(given):
    """Addons's LayerNormLSTMCell, which carries the normalized state."""
    given.drop("implementation")
    given.rename(
        norm_gamma_initializer="gamma_initializer",
        norm_beta_initializer="beta_initializer",
        norm_epsilon="epsilon",
    )
    return given.make(LayerNormLSTMCell, layout="addons")


def simple_cell(given):
    """Addons's LayerNormSimpleRNNCell."""
    given.drop("implementation")
    given.rename(layernorm_epsilon="epsilon")
    return given.make(LayerNormSimpleRNNCell)


def contrib_instance(given):
    """keras-contrib's InstanceNormalization."""
    return given.make(ContribInstanceNormalization)


def contrib_group(given):
    """keras-contrib's GroupNormalization where its groups are groups of channels."""
    axis, groups = given.config.get("axis", -1), given.config.get("groups", 32)
    rank = len(given.known_shape())
    if axis % rank != 1 and groups != 1:
        raise given.refused(
            f"axis={axis} and groups={groups}: keras-contrib cut such tensors into groups along "
            "axis 1, across pixels and channels, which no group normalization does"
        )
    return given.make(GroupNormalization, epsilon=given.take("epsilon", 1e-5))


def contrib_renorm(given):
    """keras-contrib's BatchRenormalization."""
    given.note("r and d follow the paper's ramps from step 0 on, not `t_delta`")
    given.drop("t_delta")
    given.rename(r_max_value="rmax", d_max_value="dmax")
    return given.make(BatchRenormalization)


def batch(given):
    """Keras 2's BatchNormalization in each of its forms."""
    given.drop("fused")
    ghosts, axis = given.take("virtual_batch_size"), given.take("axis", -1)
    axis = axis if isinstance(axis, list) else [axis]
    if ghosts is not None:  # which writes axes of a tensor that has one more
        axis = [a - 1 if a > 0 else a for a in axis]
    axis = axis[0] if len(axis) == 1 else axis
    if given.take("renorm", False):
        if ghosts is not None:
            given.note(f"virtual_batch_size={ghosts} is left out: moments are of whole batches")
        return _renorm(given, axis)
    given.drop("renorm_clipping", "renorm_momentum")
    if ghosts is None:
        return given.make(BatchNormalization, axis=axis)
    given.note(
        "moving moments are of whole batches; Keras 2 let in one virtual batch after another"
    )
    given.drop("synchronized")
    return given.make(GhostBatchNormalization, axis=axis, virtual_batch_size=ghosts)


def _renorm(given, axis):
    limits = given.take("renorm_clipping") or {}
    momentum = given.take("renorm_momentum", 0.99)
    given.note(
        "r and d are told by the moving moments; Keras 2 kept others for that, "
        f"with renorm_momentum={momentum}"
    )
    return given.make(
        BatchRenormalization,
        axis=axis,
        rmax=float(limits.get("rmax", UNLIMITED)),
        dmax=float(limits.get("dmax", UNLIMITED)),
        rmin=float(limits.get("rmin", 0.0)),
        rmax_ramp=None,
        dmax_ramp=None,
    )


def synchronized(given):
    """Keras 2's SyncBatchNormalization."""
    return given.make(BatchNormalization, axis=given.axis(), synchronized=True)


ADDONS = {
    "GroupNormalization": group,
    "InstanceNormalization": instance,
    "FilterResponseNormalization": filter_response,
    "TLU": thresholded,
    "WeightNormalization": weight,
    "SpectralNormalization": spectral,
    "LayerNormLSTMCell": lstm_cell,
    "LayerNormSimpleRNNCell": simple_cell,
}
CONTRIB = {
    "InstanceNormalization": contrib_instance,
    "GroupNormalization": contrib_group,
    "BatchRenormalization": contrib_renorm,
}
KERAS = {
    "BatchNormalization": batch,
    "BatchNormalizationV1": batch,
    "BatchNormalizationV2": batch,
    "SyncBatchNormalization": synchronized,
}
