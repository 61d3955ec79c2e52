"""The frame of the layers that learn statistics of a data set by `adapt`."""

import numpy as np
from keras import initializers, ops
from keras.backend import result_type
from keras.layers import InputSpec

from keras_norm.arguments import check_choice
from keras_norm.layers.base import BaseWideArithmetic
from keras_norm.ops import axes
from keras_norm.statistics import merge
from keras_norm.streams import batches


class BaseDataNormalization(BaseWideArithmetic):
    """Base of every layer that learns statistics of a data set.

    Each statistic is counted in float64 on the host and held by two weights: itself, and its
    residual, which is what the rounding to float32 left over. So saved statistics keep the digits
    with which `adapt(..., reset=False)` goes on, on every backend and under every dtype policy.
    `fit` leaves the weights alone. Before `adapt` a layer changes nothing.

    A layer states which statistics it keeps, `initial_statistics`, how it finds those of a batch,
    `measure`, how it joins two, `merge` (moments, unless it says otherwise), and its map, `call`.

    Args:
        axis: Integer, list of integers or `None`, the axes that have statistics of their own.
        invert: If `True`, map normalized data back.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Raises:
        ValueError: If an argument's value, the data or the input's shape does not fit.
        TypeError: If `axis`, the data or the input is of the wrong type.
    """

    minimum_rank = 2
    given: tuple[str, ...] = ()
    """Names of the arguments that state the statistics where they are known."""

    def __init__(self, axis=-1, invert=False, **kwargs):
        super().__init__(**kwargs)
        if axis is not None:
            axes.check(axis)
            axis = [int(a) for a in axis] if isinstance(axis, (list, tuple)) else int(axis)
        self.axis = axis
        self.invert = check_choice("invert", invert, (False, True))
        self.supports_masking = True

    def keep_given(self, **values):
        """Keeps statistics that the constructor was given, all of them or none.

        Args:
            **values: Numbers, nested lists or arrays by name, or `None`.

        Raises:
            ValueError: If some but not all are given, or one of them holds no finite numbers.
        """
        received = ", ".join(f"{name}={value!r}" for name, value in values.items())
        names = " and ".join(f"`{name}`" for name in values)
        if len({value is None for value in values.values()}) > 1:
            raise ValueError(
                f"{names} must be given together. Received: {received}. Give both, or call `adapt`."
            )
        for name, value in values.items():
            try:
                value = None if value is None else np.asarray(value, "float64")
            except (TypeError, ValueError):
                value = np.asarray(np.nan)
            if value is not None and not np.isfinite(value).all():
                raise ValueError(
                    f"`{name}` must hold finite numbers. Received: {received}. "
                    "Give numbers or nested lists of them, or call `adapt`."
                )
            setattr(self, name, None if value is None else value.tolist())

    def axes_of(self, shape):
        """`axis` as sorted, non-negative axes of data of some shape."""
        if self.axis is None:
            return axes.canonical([], shape, minimum_rank=1)
        return axes.canonical(self.axis, shape, self.minimum_rank)

    def build(self, input_shape):
        """Creates the weights and fixes the sizes of `axis`."""
        over = self.axes_of(input_shape)
        self._feature_shape = axes.sizes(over, input_shape, self.axis)
        self._data_shape = tuple(size if a in over else None for a, size in enumerate(input_shape))
        own = [] if self.axis is None else self.axis
        own = own if isinstance(own, list) else [own]
        self.input_spec = InputSpec(axes={a: input_shape[a] for a in own})
        dtype = result_type(self.variable_dtype, "float32")
        parts = {n: split(v, dtype) for n, v in self.known_statistics().items()}
        for place, suffix in enumerate(("", "_residual")):
            for name, part in parts.items():
                self.add_constant(name + suffix, part[place])

    def add_constant(self, name, value):
        """Creates `_name`, a weight in float32 or wider that training leaves alone."""
        weight = self.add_weight(
            name=name,
            shape=value.shape,
            initializer=initializers.Constant(value),
            dtype=result_type(self.variable_dtype, "float32"),
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
        )
        setattr(self, f"_{name}", weight)

    def known_statistics(self):
        """The statistics before `adapt`: the given ones, or those that change nothing."""
        statistics = self.initial_statistics()
        for name in self.given:
            if getattr(self, name) is not None:
                value = np.asarray(getattr(self, name))
                try:
                    statistics[name] = np.array(np.broadcast_to(value, self._feature_shape))
                except ValueError:
                    raise ValueError(
                        f"`{name}` must fit the sizes of `axis`. Received: {name} of shape "
                        f"{value.shape} (axis={self.axis}, of sizes {self._feature_shape}). "
                        "Give one number, or one per feature."
                    ) from None
        return statistics

    def initial_statistics(self):
        """Statistics that make the layer the identity, by name; `count` is among them."""
        raise NotImplementedError

    def measure(self, x):
        """Statistics of a batch in float64; NaN does not count."""
        raise NotImplementedError

    def merge(self, first, second):
        """Statistics of all that two others stand on, either of which may have seen nothing."""
        return merge(first, second)

    def input_shape_for(self, data_shape):
        """The shape of the layer's input that belongs to data of some shape."""
        return tuple(data_shape)

    def inverse_arguments(self):
        """Arguments of the inverse that differ from the layer's, `invert` apart."""
        return {}

    def statistics(self):
        """What the layer knows of the data, in float64.

        Returns:
            Arrays by name. `count` is how much was seen: 0 before `adapt`.
        """
        self._need_weights("statistics")
        return {
            name: sum(
                ops.convert_to_numpy(getattr(self, f"_{name}{suffix}")).astype("float64")
                for suffix in ("", "_residual")
            )
            for name in self.initial_statistics()
        }

    def store(self, statistics):
        """Puts statistics into the weights.

        Args:
            statistics: Arrays in float64 by name, as `statistics()` returns them.

        Raises:
            ValueError: If one of them does not fit float32.
        """
        parts = {n: split(v, getattr(self, f"_{n}").dtype) for n, v in statistics.items()}
        for name, (value, _) in parts.items():
            if not np.isfinite(value).all():
                raise ValueError(
                    f"`data` must be of a size that float32 can hold. Received: a {name} of "
                    f"{np.abs(statistics[name]).max():.3g}. Divide the data by a constant first."
                )
        for name, (value, residual) in parts.items():
            getattr(self, f"_{name}").assign(value)
            getattr(self, f"_{name}_residual").assign(residual)

    def adapt(self, data, batch_size=None, steps=None, reset=True, verbose="auto"):
        """Learns the statistics of a data set.

        They are counted in float64, whatever the dtype policy, and do not depend on how the data is
        batched. NaN stands for a missing value. The layer's weights change at the end and all at
        once: where the data proves bad on the way, they stay as they were. A compiled model uses
        the new ones from its next call on.

        Args:
            data: The inputs: an array or tensor; or batches of them from a `tf.data.Dataset`, a
                `keras.utils.PyDataset`, a generator or another iterable. Of batches that are tuples
                (inputs, targets, ...) the inputs count.
            batch_size: Integer, how many rows of an array make a batch that `steps` counts.
            steps: Integer, the number of batches to read; needed where the data never ends.
            reset: If `False`, go on from what was learned so far, be it in another process.
            verbose: Whether to show a progress bar; "auto" shows it when it takes some seconds.

        Raises:
            ValueError: If the data is empty, infinite somewhere, of a wrong shape or too short for
                `steps`, or if the statistics were given to the constructor.
            TypeError: If the data holds no numbers, or is ragged or sparse.
        """
        for name in self.given:
            if getattr(self, name) is not None:
                raise ValueError(
                    f"`{name}` must be None in a layer that is adapted. Received: "
                    f"{name}={getattr(self, name)!r}. Make the layer without it, or do not adapt."
                )
        statistics = None if reset or not self.built else self.statistics()
        # What overflows on the way is refused as a whole when it is stored.
        with np.errstate(over="ignore", invalid="ignore"):
            for x in batches(data, batch_size, steps, verbose):
                self._check_batch(x.shape)
                found = self.measure(x)
                statistics = found if statistics is None else self.merge(statistics, found)
        if statistics is None or not np.any(statistics["count"] > 0):
            raise ValueError(
                "`data` must hold at least one value that is not missing. Received: none "
                f"(data of type {type(data).__name__}). Is the data set empty or used up?"
            )
        seen, initial = statistics["count"] > 0, self.initial_statistics()
        self.store({name: np.where(seen, v, initial[name]) for name, v in statistics.items()})

    def inverse(self):
        """A layer of the same class and statistics that undoes this one.

        Returns:
            A built layer, its `invert` the opposite.

        Raises:
            ValueError: If the layer is not built yet.
        """
        self._need_weights("inverse")
        config = {**self.get_config(), **self.inverse_arguments(), "invert": not self.invert}
        layer = type(self).from_config({**config, "name": f"{self.name}_inverse"})
        layer.build(layer.input_shape_for(self._data_shape))
        layer.store(self.statistics())
        return layer

    def _need_weights(self, method):
        if not self.built:
            raise ValueError(
                f"`{method}` needs a layer that has weights. Received: layer {self.name!r}, which "
                "is not built. Call `adapt` first, or the layer itself."
            )

    def _check_batch(self, shape):
        """Builds the layer on its first batch; refuses batches of other features."""
        over = self.axes_of(shape)
        if not self.built:
            known = tuple(size if a in over else None for a, size in enumerate(shape))
            self.build(self.input_shape_for(known))
        sizes = tuple(shape[a] for a in over)
        if sizes != self._feature_shape:
            raise ValueError(
                f"`data` must have sizes {self._feature_shape} on axis {self.axis}. "
                f"Received: sizes {sizes} (data of shape {tuple(shape)}). "
                "Adapt to the data that the layer was built for, or make a new layer."
            )

    def compute_output_shape(self, input_shape):
        """The input's shape."""
        return tuple(input_shape)

    def constants(self, x, *names):
        """Some weights in x's dtype, broadcasting to x."""
        shape = axes.broadcastable(self.axes_of(x.shape), x.shape)
        weights = [getattr(self, f"_{name}") for name in names]
        return [ops.reshape(ops.cast(weight, x.dtype), shape) for weight in weights]


def split(value, dtype):
    """A number in float64 as the sum of two of another dtype, the larger part first."""
    with np.errstate(over="ignore", invalid="ignore"):
        first = value.astype(dtype)
        return first, (value - first).astype(dtype)
