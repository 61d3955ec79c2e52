"""The frame of every normalization layer, written once."""

import keras
from keras import constraints, initializers, ops, regularizers
from keras.backend import result_type, standardize_dtype

from keras_norm.arguments import KeepsArguments, check_epsilon, check_flag, check_number
from keras_norm.backend import abilities
from keras_norm.ops import Moments, affine, axes, count, standardize, visible, widened

AFFINE = frozenset(
    f"{weight}_{what}"
    for weight in ("beta", "gamma")
    for what in ("initializer", "regularizer", "constraint")
) | {"center", "scale"}
"""Names of the arguments about gamma and beta, for layers that have neither."""


class BaseWideArithmetic(KeepsArguments):
    """Base of every layer whose arithmetic is float32 or wider under every dtype policy."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.autocast = False  # inputs come as they are: casting 7e4 to float16 first loses it

    def cast_up(self, inputs):
        """The input in the dtype of the statistics, float32 or wider."""
        return widened(inputs, self._statistics_dtype(inputs))

    def compute_output_spec(self, inputs, **kwargs):
        """Shape and compute dtype of the output; refuses here what the call would refuse."""
        self._statistics_dtype(inputs)
        return super().compute_output_spec(inputs, **kwargs)

    def _statistics_dtype(self, inputs):
        ragged = hasattr(inputs, "row_splits") or getattr(inputs, "ragged", False)
        if ragged or hasattr(inputs, "dense_shape") or getattr(inputs, "sparse", False):
            raise TypeError(
                f"The input of layer {self.name!r} must be a dense tensor. Received: a "
                f"{'ragged' if ragged else 'sparse'} {type(inputs).__name__}. Convert it first: "
                "`ragged.to_tensor()` and a mask, or `tf.sparse.to_dense(sparse)`."
            )
        dtype = standardize_dtype(inputs.dtype)
        if "float" not in dtype and "int" not in dtype:
            raise TypeError(
                f"The input of layer {self.name!r} must be of a floating or integer dtype. "
                f"Received: dtype={dtype}. Convert it first, e.g. with `keras.ops.cast`."
            )
        return result_type(dtype if "float" in dtype else "float32", self.variable_dtype, "float32")


class BaseNormalization(BaseWideArithmetic):
    """Base of every layer that normalizes activations.

    It owns `axis`, `epsilon`, gamma and beta, the dtype of the arithmetic, the shape of the mask,
    and the config. A layer adds its arguments and one method, `normalize`, its paper's equation.

    Statistics and the affine part are computed in float32 or wider under every dtype policy; the
    result is cast to the policy's compute dtype. Arguments are kept as given: `get_config` returns
    the same before and after the layer is built.

    Args:
        axis: Integer or list of integers, the axes that gamma and beta span: -1 for channels last,
            1 for channels first.
        epsilon: Positive float added to the variance (or mean square) under the root.
        center: If `True`, add `beta`.
        scale: If `True`, multiply by `gamma`.
        beta_initializer: Initializer of `beta`.
        gamma_initializer: Initializer of `gamma`.
        beta_regularizer: Regularizer of `beta`.
        gamma_regularizer: Regularizer of `gamma`.
        beta_constraint: Constraint of `beta`.
        gamma_constraint: Constraint of `gamma`.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Raises:
        ValueError: If an argument's value, or the input's shape, does not fit.
        TypeError: If `axis` or the input is of the wrong type.
    """

    minimum_rank = 2
    single_axis = False  # whether the layer needs to know the one axis of channels
    any_rank = False  # whether a built layer takes inputs of other ranks, as Keras's LayerNorm does
    affine_last = True  # whether the equation ends with "times gamma plus beta"

    def __init__(
        self,
        axis=-1,
        epsilon=1e-3,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        axes.check(axis)
        self.axis = [int(a) for a in axis] if isinstance(axis, (list, tuple)) else int(axis)
        self.epsilon = check_epsilon(epsilon)
        self.center = check_flag("center", center)
        self.scale = check_flag("scale", scale)
        self.keep_weight_arguments("beta", beta_initializer, beta_regularizer, beta_constraint)
        self.keep_weight_arguments("gamma", gamma_initializer, gamma_regularizer, gamma_constraint)
        self.gamma = None
        self.beta = None
        self.supports_masking = True

    def build(self, input_shape):
        """Creates gamma and beta; fixes the rank and the size of `axis`."""
        over = axes.canonical(self.axis, input_shape, self.minimum_rank)
        if self.single_axis and len(over) > 1:
            raise ValueError(
                "`axis` must be one axis, the channels. "
                f"Received: axis={self.axis} (input shape {tuple(input_shape)}). Use axis=-1."
            )
        self._feature_shape = axes.sizes(over, input_shape, self.axis)
        self.check_features(input_shape)
        given = self.axis if isinstance(self.axis, list) else [self.axis]
        rank = {"min_ndim": self.minimum_rank} if self.any_rank else {"ndim": len(input_shape)}
        self.input_spec = keras.layers.InputSpec(axes={a: input_shape[a] for a in given}, **rank)
        for name, wanted in (("gamma", self.scale), ("beta", self.center)):
            if wanted:
                setattr(self, name, self.add_affine(name))

    def keep_weight_arguments(self, name, initializer, regularizer, constraint):
        """Keeps the arguments `<name>_initializer` and so on, which `add_affine` reads."""
        setattr(self, f"{name}_initializer", initializers.get(initializer))
        setattr(self, f"{name}_regularizer", regularizers.get(regularizer))
        setattr(self, f"{name}_constraint", constraints.get(constraint))

    def add_affine(self, name):
        """Creates a weight that spans `axis`, such as gamma, as its arguments say."""
        return self.add_feature_weight(
            name,
            getattr(self, f"{name}_initializer"),
            regularizer=getattr(self, f"{name}_regularizer"),
            constraint=getattr(self, f"{name}_constraint"),
        )

    def add_feature_weight(self, name, initializer, **kwargs):
        """Creates a weight that spans `axis`, never cast to half precision."""
        return self.add_weight(
            name=name, shape=self._feature_shape, initializer=initializer, autocast=False, **kwargs
        )

    def check_features(self, input_shape):
        """Raises where the sizes along `axis` do not suit the layer; any size suits by default."""

    def call(self, inputs, training=None, mask=None):
        """Casts up, normalizes, casts down. Layers state `normalize` alone."""
        mask = axes.expand_mask(mask, inputs.shape, self.axes_of(inputs))
        x = self.cast_up(visible(inputs, mask))
        gamma, beta = self.broadcast(self.gamma, x), self.broadcast(self.beta, x)
        y = self.normalize(x, gamma, beta, training, mask)
        return ops.cast(y, self.compute_dtype)

    def normalize_with(self, x, gamma, beta, training=None, mask=None):
        """`call` of a layer without gamma and beta, then times a gamma plus a beta made elsewhere.

        Args:
            x: What `cast_up` returned.
            gamma: Factor in x's dtype that broadcasts to x.
            beta: Offset likewise.
            training: Whether the call is a training step.
            mask: A mask as Keras has them, or `None`.

        Returns:
            The normalized tensor, in the compute dtype.
        """
        mask = axes.expand_mask(mask, x.shape, self.axes_of(x))
        x = visible(x, mask)
        if self.affine_last:  # the equation may join them with factors of its own
            y = self.normalize(x, gamma, beta, training, mask)
        else:
            y = affine(self.normalize(x, None, None, training, mask), gamma, beta)
        return ops.cast(y, self.compute_dtype)

    def normalize(self, x, gamma, beta, training, mask):
        """The layer's equation.

        Args:
            x: The input in float32 or wider.
            gamma: Factor in x's dtype that broadcasts to x, or `None`.
            beta: Offset likewise, or `None`.
            training: Whether the call is a training step.
            mask: Booleans that broadcast to x, or `None`.

        Returns:
            The normalized tensor, of x's shape and dtype.
        """
        raise NotImplementedError

    def axes_of(self, x):
        """`axis` as sorted, non-negative integers."""
        return axes.canonical(self.axis, x.shape, self.minimum_rank)

    def broadcast(self, weight, x):
        """A weight that spans `axis`, in x's dtype and broadcasting to x; `None` stays `None`."""
        if weight is None:
            return None
        shape = axes.broadcastable(self.axes_of(x), x.shape)
        return ops.reshape(ops.cast(weight, x.dtype), shape)

    def compute_output_shape(self, input_shape):
        """The input's shape."""
        return tuple(input_shape)


class BaseBatchNormalization(BaseNormalization):
    """Base of every layer that normalizes with moments of the batch and keeps moving ones.

    In training the moments of the batch enter the moving moments,

        moving = moving + (1 - momentum) · (batch - moving),

    which inference uses. `trainable=False` means inference mode, as in Keras. The moving variance
    is biased, as in Keras. Moments of an empty, a fully masked or a non-finite batch never enter.

    Args:
        axis: Integer or list of integers, the axes that gamma and beta span: -1 for channels last,
            1 for channels first.
        momentum: Share of the moving moments that a batch leaves as it is, from 0 to 1. `None` is
            the plain average of all batches since `reset_moving_moments()`, the variance between
            them included: the moments of all their data.
        epsilon: Positive float added to the variance under the root.
        center: If `True`, add `beta`.
        scale: If `True`, multiply by `gamma`.
        beta_initializer: Initializer of `beta`.
        gamma_initializer: Initializer of `gamma`.
        moving_mean_initializer: Initializer of `moving_mean`.
        moving_variance_initializer: Initializer of `moving_variance`.
        beta_regularizer: Regularizer of `beta`.
        gamma_regularizer: Regularizer of `gamma`.
        beta_constraint: Constraint of `beta`.
        gamma_constraint: Constraint of `gamma`.
        synchronized: If `True`, moments run over all replicas of a `tf.distribute` strategy, with
            masks too. TensorFlow only.
        freeze_statistics: If `True`, training too normalizes with the moving moments and leaves
            them as they are; gamma and beta train on.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).
    """

    moving_mean = None
    moving_variance = None

    def __init__(
        self,
        axis=-1,
        momentum=0.99,
        epsilon=1e-3,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        moving_mean_initializer="zeros",
        moving_variance_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        synchronized=False,
        *,
        freeze_statistics=False,
        **kwargs,
    ):
        kinds = beta_initializer, gamma_initializer, beta_regularizer, gamma_regularizer
        limits = beta_constraint, gamma_constraint
        super().__init__(axis, epsilon, center, scale, *kinds, *limits, **kwargs)
        if synchronized and not abilities.joins_replicas():
            raise ValueError(
                "`synchronized` must be False with this backend. Received: synchronized=True "
                f"(backend {abilities.running()}). Only TensorFlow's replicas can be joined."
            )
        self.momentum = None if momentum is None else check_number("momentum", momentum, 0.0, 1.0)
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)
        self.synchronized = check_flag("synchronized", synchronized)
        self.freeze_statistics = check_flag("freeze_statistics", freeze_statistics)

    def build(self, input_shape):
        """Creates gamma, beta and the moving moments."""
        super().build(input_shape)
        if not self.keeps_moving_moments():
            return
        for name, shape in self.moving_shapes().items():
            setattr(self, name, self.add_moving(name, shape, getattr(self, f"{name}_initializer")))
        if self.momentum is None:
            self.moving_count = self.add_moving("moving_count", self._feature_shape, "zeros")

    def add_moving(self, name, shape, initializer):
        """Creates a weight that training moves but does not train."""
        # Replicas of a strategy must not drift apart: each assignment is averaged over them.
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer,
            autocast=False,
            trainable=False,
            aggregation="mean",
        )

    def moving_shapes(self):
        """Name and shape of each moving statistic; layers that keep others say so here."""
        return {"moving_mean": self._feature_shape, "moving_variance": self._feature_shape}

    def keeps_moving_moments(self):
        """Whether the layer has moving moments at all."""
        return True

    def uses_batch(self, training):
        """Whether this call normalizes with moments of the batch and updates the moving ones."""
        return bool(training) and self.trainable and not self.freeze_statistics

    def standardize_batch(self, x, gamma, beta, mask, correct=None):
        """x normalized with the moments of the batch over all axes but `axis`, and the moments.

        `correct(moments, gamma, beta)` returns the gamma and beta to use instead.
        """
        return standardize(
            x,
            axes.others(self.axes_of(x), len(x.shape)),
            gamma,
            beta,
            self.epsilon,
            mask=mask,
            synchronized=self.synchronized,
            correct=correct,
            training=True,
        )

    def moving_moments(self, x):
        """The moving moments in x's dtype, broadcasting to x."""
        mean = self.broadcast(self.moving_mean, x)
        return Moments(mean, None, self.broadcast(self.moving_variance, x))

    def update_moving_moments(self, batch, x, mask):
        """Lets the batch's moments into the moving ones, unless they are empty or not finite.

        Layers call it last, so that a call that fails leaves the weights as they were.
        """
        statistics = {"moving_mean": batch.mean, "moving_variance": batch.variance}
        kept = {name: self._flat(statistics[name]) for name in self.moving_shapes()}
        self.update_moving(kept, x, mask)

    def update_moving(self, new, x, mask):
        """`update_moving_moments` for any statistics.

        Args:
            new: The batch's statistics by name, each in its weight's shape.
            x: The input.
            mask: Booleans that broadcast to x, or `None`.
        """
        over = axes.others(self.axes_of(x), len(x.shape))
        number = self._flat(count(x, over, mask, self.synchronized))
        old = {name: ops.cast(getattr(self, name), x.dtype) for name in new}
        valid = number > 0
        for statistic in new.values():
            valid = valid & ops.all(ops.isfinite(statistic))
        if self.momentum is None:
            seen = ops.cast(self.moving_count, x.dtype)
            rate = number / ops.maximum(seen + number, 1.0)
            self.moving_count.assign(ops.where(valid, seen + number, seen))
        else:
            rate = 1.0 - self.momentum
        for name, moved in self.move(old, new, rate).items():
            getattr(self, name).assign(ops.where(valid, moved, old[name]))

    def move(self, old, new, rate):
        """Moving statistics, by name, after a batch that enters them with weight `rate`."""
        moved = {name: old[name] + rate * (new[name] - old[name]) for name in old}
        if self.momentum is None and {"moving_mean", "moving_variance"} <= old.keys():
            distance = new["moving_mean"] - old["moving_mean"]
            between = rate * (1.0 - rate) * distance * distance
            moved["moving_variance"] = moved["moving_variance"] + between
        return moved

    def reset_moving_moments(self):
        """Sets the moving statistics back to their initial values."""
        for name, shape in self.moving_shapes().items():
            getattr(self, name).assign(getattr(self, f"{name}_initializer")(shape))
        if self.momentum is None:
            self.moving_count.assign(ops.zeros_like(self.moving_count))

    def _flat(self, statistic):
        """A statistic that broadcasts to the input, in the shape of the layer's weights."""
        if len(statistic.shape) == 0:
            return statistic
        shape = [statistic.shape[a] for a in self.axes_of(statistic)]
        return ops.reshape(statistic, shape)
