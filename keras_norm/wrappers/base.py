"""The frame of every wrapper: a layer that runs with effective weights in place of stored ones."""

import functools
from typing import Any, NamedTuple

import keras
from keras import ops
from keras.backend import result_type

from keras_norm.arguments import KeepsArguments
from keras_norm.ops.axes import check


class StoredWeight(NamedTuple):
    """A weight of the wrapped layer that has an effective one.

    Attributes:
        prefix: What the names of the wrapper's own weights for it begin with.
        variable: The variable, which training alone changes.
        axes: Its output axes, sorted and non-negative.
    """

    prefix: str
    variable: Any
    axes: tuple[int, ...]

    @property
    def shape(self):
        """The variable's shape."""
        return tuple(self.variable.shape)

    @property
    def outputs(self):
        """Sizes of the output axes."""
        return tuple(self.shape[a] for a in self.axes)

    def value(self):
        """The stored value, in float32 or wider."""
        return ops.cast(self.variable, result_type(self.variable.dtype, "float32"))

    def spread(self, table):
        """A table [outputs], shaped so that it broadcasts to the weight."""
        shape = [n if a in self.axes else 1 for a, n in enumerate(self.shape)]
        return ops.reshape(ops.cast(table, self.value().dtype), shape)


class Substitution(keras.StatelessScope):
    """Within it some variables have other values; whatever else is read is as it is outside.

    Variables that are assigned within it (moving moments, seeds) have their new values within it,
    and are assigned outside by `finish`.
    """

    def __init__(self, values):
        """Takes pairs of a variable and the value that stands in for it."""
        super().__init__(collect_losses=True)
        self._values = {id(variable): value for variable, value in values}
        self._updates = {}

    def __enter__(self):
        super().__enter__()
        if self.original_scope is not None:  # losses are told apart by their identity there
            self.losses = self.original_scope.losses
            self.collect_losses = self.original_scope.collect_losses
        return self

    def add_update(self, update):
        """Keeps a value that is assigned to a variable."""
        variable, value = update
        self._updates[id(variable)] = variable, value

    def get_current_value(self, variable):
        """A variable's value, or `None` where that is the one that it stores."""
        if id(variable) in self._updates:
            return self._updates[id(variable)][1]
        if id(variable) in self._values:
            return self._values[id(variable)]
        outside = self.original_scope
        return None if outside is None else outside.get_current_value(variable)

    def finish(self, layer):
        """Once the scope is left: assigns what was assigned in it, hands `layer` its losses."""
        for variable, value in self._updates.values():
            variable.assign(value)
        if self.original_scope is None and self.losses:
            layer.add_loss(self.losses)


class _AsStored(keras.layers.Layer):
    """Runs a function that reads variables unrounded.

    Within a call Keras hands out variables in the calling layer's compute dtype, but for a layer
    without autocast. The norm of a kernel must not be that of its float16 copy.
    """

    def __init__(self, dtype):
        super().__init__(name="as_stored", dtype=dtype, autocast=False)
        self.built = True

    def call(self, *, function):
        """What `function()` returns."""
        return function()


_as_stored = functools.cache(_AsStored)


_KNOWN_AXES: tuple[tuple[Any, dict[str, list[int]]], ...] = (
    (keras.layers.Dense, {"kernel": [-1]}),
    ((keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D), {"kernel": [-1]}),
    (
        (
            keras.layers.Conv1DTranspose,
            keras.layers.Conv2DTranspose,
            keras.layers.Conv3DTranspose,
        ),
        {"kernel": [-2]},
    ),
    # A kernel [height, width, C, M] has a unit for each of the M filters of each of the C channels.
    ((keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D), {"kernel": [-2, -1]}),
    (
        (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D),
        {"depthwise_kernel": [-2, -1], "pointwise_kernel": [-1]},
    ),
    (keras.layers.Embedding, {"embeddings": [0]}),
)


def output_axes(layer):
    """Output axes of the weights of a layer that Keras has, by their names; `None` of another."""
    if isinstance(layer, keras.layers.EinsumDense):
        _, kernel, output = layer.equation.replace("->", ",").replace("...", "").split(",")
        return {"kernel": [a for a, letter in enumerate(kernel) if letter in output]}
    if is_cell(layer) or is_cell(getattr(layer, "cell", None)):
        return {"kernel": [-1], "recurrent_kernel": [-1]}
    found = [axes for classes, axes in _KNOWN_AXES if isinstance(layer, classes)]
    return found[0] if found else None


def is_cell(layer):
    """Whether a layer is a cell, which a recurrent layer runs at each step."""
    return hasattr(layer, "state_size") and not hasattr(layer, "cell")


def _as_given(axis):
    """`axis` with lists for tuples, as files have it."""
    if isinstance(axis, dict):
        return {name: _as_given(axes) for name, axes in axis.items()}
    if axis is None:
        return None
    check(axis)
    return [int(a) for a in axis] if isinstance(axis, (list, tuple)) else int(axis)


def _named(axis):
    """Lists of axes by names of weights."""
    named = axis if isinstance(axis, dict) else {"kernel": axis}
    return {name: axes if isinstance(axes, list) else [axes] for name, axes in named.items()}


class BaseWeightWrapper(KeepsArguments):
    """Base of every layer that runs another layer with effective weights.

    The stored weights are those of the wrapped layer; training alone changes them, and their
    regularizers and constraints act on them. The effective weights are computed in each call, in
    float32 or wider, and never stored. What the wrapped layer keeps itself, its state, seeds and
    losses, is as without the wrapper.

    Args:
        layer: The layer to wrap, built or not.
        axis: Output axes of the weights: the axes with one entry per unit. `None` knows the layers
            of Keras. Else an integer or a list of integers for `kernel`, or a dictionary from
            names of weights to those.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`). `dtype`, if given, is
            set on `layer` too.
    """

    def __init__(self, layer, axis=None, **kwargs):
        if not isinstance(layer, keras.layers.Layer):
            raise TypeError(
                f"`layer` of {type(self).__name__} must be a Keras layer. "
                f"Received: layer={layer!r} (of type {type(layer).__name__}). "
                f"Write e.g. `{type(self).__name__}(keras.layers.Dense(8))`."
            )
        if kwargs.get("dtype") is None:
            kwargs["dtype"] = layer.dtype_policy
        super().__init__(**kwargs)
        self._take_policy(layer)
        self.axis = _as_given(axis)
        self._output_axes = _named(self.axis) if axis is not None else self._known_axes(layer)
        self._check_cell(layer)
        self.layer = layer
        if not self.trainable:
            layer.trainable = False
        self.supports_masking = layer.supports_masking
        self.autocast = False  # the wrapped layer casts its inputs

    def _take_policy(self, layer):
        if layer.dtype_policy == self.dtype_policy:
            return
        if layer.built:
            raise ValueError(
                f"`dtype` of {type(self).__name__} must be that of a layer that is built. "
                f"Received: dtype={self.dtype_policy.name} (layer {layer.name!r} has "
                f"{layer.dtype_policy.name}). Leave `dtype` out."
            )
        layer.dtype_policy = self.dtype_policy

    def _known_axes(self, layer):
        axes = output_axes(layer)
        if axes is None:
            raise ValueError(
                f"`layer` of {type(self).__name__} must be one whose kernel's output axis is known "
                f"where `axis` is None. Received: layer {layer.name!r} of class "
                f"{type(layer).__name__}. Name its weights: `axis={{'kernel': -1}}`."
            )
        return axes

    def _check_cell(self, layer):
        rates = [getattr(layer, name, 0) for name in ("dropout", "recurrent_dropout")]
        if is_cell(layer) and any(rates):
            raise ValueError(
                f"`layer` of {type(self).__name__} must be a cell without dropout, whose mask a "
                f"recurrent layer cannot renew in a wrapper. Received: layer {layer.name!r} of "
                f"class {type(layer).__name__}. Wrap the recurrent layer instead of its cell."
            )

    def build(self, input_shape):
        """Builds the wrapped layer, then what the effective weights need."""
        if not self.layer.built:
            self.layer.build(input_shape)
            self.layer.built = True
        for weight in self.stored_weights():
            self.build_for(weight)

    def stored_weights(self):
        """The wrapped layer's weights that have effective ones."""
        found = []
        for name, axes in self._output_axes.items():
            candidates = [w for w in self.layer.weights if w.name == name]
            if len(candidates) != 1 or "float" not in candidates[0].dtype:
                raise ValueError(
                    f"`layer` of {type(self).__name__} must have one floating weight {name!r}. "
                    f"Received: layer {self.layer.name!r} of class {type(self.layer).__name__} "
                    f"with weights {[w.name for w in self.layer.weights]}. "
                    "Name the weights to use in `axis`, or wrap a layer inside it."
                )
            found.append(self._stored_weight(name, candidates[0], axes))
        return found

    def _stored_weight(self, name, variable, axes):
        rank = len(variable.shape)
        if any(not -rank <= a < rank for a in axes) or len({a % rank for a in axes}) < len(axes):
            raise ValueError(
                f"`axis` must name axes of weight {name!r}, each once. "
                f"Received: axis={self.axis!r} (shape {tuple(variable.shape)}). Use -1 for the "
                "last axis."
            )
        prefix = "" if name == "embeddings" else name.removesuffix("kernel")
        prefix = prefix if not prefix or prefix.endswith("_") else f"{prefix}_"
        return StoredWeight(prefix, variable, tuple(sorted(a % rank for a in axes)))

    def build_for(self, weight):
        """Creates what the effective weight of a stored one needs; nothing by default."""

    def add_own(self, weight, name, shape, start, **kwargs):
        """Creates a weight of the wrapper's own.

        Args:
            weight: The stored weight that it belongs to.
            name: Its name, less the prefix.
            shape: Its shape.
            start: A function that computes its first value from the stored weight's.
            **kwargs: Further arguments of `add_weight`.
        """
        own = self.add_weight(
            name=weight.prefix + name,
            shape=shape,
            # Called when the stored weight has its value, which may be after `build`.
            initializer=lambda shape, dtype: ops.cast(ops.reshape(start(), shape), dtype),
            **{"autocast": False, **kwargs},
        )
        setattr(self, weight.prefix + name, own)

    def own(self, weight, name):
        """The value of a weight of the wrapper's own, in the dtype of the arithmetic."""
        return ops.cast(getattr(self, weight.prefix + name), weight.value().dtype)

    def effective_weight(self, weight, training):
        """The weight that the layer runs with.

        Args:
            weight: The stored weight.
            training: Whether the call is a training step.

        Returns:
            A tensor of its shape, in float32 or wider.
        """
        raise NotImplementedError

    def effective_weights(self, inputs=None, training=False):
        """Pairs of a variable of the wrapped layer and the value that it runs with.

        Args:
            inputs: What the layer is called with, or `None` outside of a call.
            training: Whether the call is a training step.

        Returns:
            A list of pairs.
        """
        return [(w.variable, self.effective_weight(w, training)) for w in self.stored_weights()]

    def call(self, inputs, *args, training=None, **kwargs):
        """Calls the wrapped layer with its effective weights."""
        # A mask that `inputs` carry finds its way by itself.
        kwargs = {name: value for name, value in kwargs.items() if value is not None}
        if training is not None:
            kwargs["training"] = training
        learning = bool(training) and self.trainable

        def run():
            values = [
                (variable, ops.cast(value, variable.dtype))
                for variable, value in self.effective_weights(inputs, learning)
            ]
            with Substitution(values) as scope:
                outputs = self.layer(inputs, *args, **kwargs)
            scope.finish(self)
            return outputs

        return _as_stored(self.variable_dtype)(function=run)

    def compute_output_spec(self, inputs, *args, training=None, **kwargs):
        """What the wrapped layer says."""
        return self.layer.compute_output_spec(inputs, *args, **kwargs)

    def compute_output_shape(self, *args, **kwargs):
        """What the wrapped layer says."""
        return self.layer.compute_output_shape(*args, **kwargs)

    def compute_mask(self, inputs, previous_mask):
        """What the wrapped layer says."""
        return self.layer.compute_mask(inputs, previous_mask)

    @property
    def state_size(self):
        """Sizes of the states, where a cell is wrapped."""
        return self.layer.state_size

    @property
    def output_size(self):
        """Size of the output, where a cell is wrapped."""
        return self.layer.output_size

    @property
    def get_initial_state(self):
        """The function that makes the first states, where a cell is wrapped."""
        return self.layer.get_initial_state
