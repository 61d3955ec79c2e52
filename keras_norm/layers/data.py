"""Statistics of a whole data set, learned by `adapt` before training and inverted after it."""

import math

import numpy as np
from keras import ops
from keras.layers import InputSpec

from keras_norm.arguments import check_choice, check_epsilon, check_integer, check_number, register
from keras_norm.layers.base_data import BaseDataNormalization
from keras_norm.ops import affine, axes, columns, product, uncolumns
from keras_norm.statistics import comoments, extremes, moments, whitening_matrix


@register
class StandardNormalization(BaseDataNormalization):
    """Gives each feature of the data set mean 0 and variance 1 (z-score).

        y = (x - mean) / √variance, and with `invert=True` y = x · √variance + mean

    Statistics over the data set and all axes but `axis`, learned by `adapt` or given; no gamma and
    no beta. Training and inference are the same, and `fit` changes nothing. The mean is subtracted
    as two float32 numbers, so that data with mean 1e6 and variance 1 is centred. The variance is
    biased, as in Keras and scikit-learn. A constant feature is divided by 1: the data set's value
    becomes 0. NaN stands for a missing value: it does not count, and stays NaN. What was never seen
    stays as it is, and everything before `adapt`.

    Use it for tables, signals and regression targets, in place of `keras.layers.Normalization`,
    whose arguments it has. For bounded data with no outliers, as pixels, `MinMaxNormalization`
    keeps zeros and bounds.

    Args:
        axis: Integer, list of integers or `None`, the axes that have statistics of their own:
            -1 for one mean per feature, `None` for one in all. Inputs may have another rank than
            the data, as long as they have these axes.
        mean: Number or nested list, the mean where it is known; `adapt` is then not needed.
        variance: Number or nested list, the variance; given together with `mean`.
        invert: If `True`, map normalized data back. See also `inverse()`.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating or integer tensor of rank 2 or higher; with `axis=None` of any rank.
        training: Not used.
        mask: Not used; passed on.

    Input shape:
        [B, ..., C]; every size but those of `axis` may be unknown.

    Output shape:
        The input's.

    Weights:
        mean [C], variance [C], count [C] (values seen), and what their rounding to float32 left
        over, mean_residual [C], variance_residual [C], count_residual [C]; not trainable.

    Raises:
        ValueError: If an argument's value, the data or the input's shape does not fit.
        TypeError: If `axis`, the data or the input is of the wrong type.

    Example:

    >>> layer = StandardNormalization()
    >>> layer.adapt(np.array([[1.0, 10.0], [3.0, 30.0]]))
    >>> layer(np.array([[3.0, 20.0]], "float32")).numpy()
    array([[1., 0.]], dtype=float32)
    >>> layer.inverse()(np.array([[1.0, 0.0]], "float32")).numpy()
    array([[ 3., 20.]], dtype=float32)

    Reference:
        `StandardScaler` of [Pedregosa et al., 2011](https://arxiv.org/abs/1201.0490). Deviation:
        none.
    """

    given = ("mean", "variance")

    def __init__(self, axis=-1, mean=None, variance=None, invert=False, **kwargs):
        super().__init__(axis, invert, **kwargs)
        self.keep_given(mean=mean, variance=variance)
        if variance is not None and np.min(variance) < 0:
            received = f"Received: variance={variance!r}"
            raise ValueError(f"`variance` must not be negative. {received}. Pass a square.")

    def initial_statistics(self):
        zeros = np.zeros(self._feature_shape)
        return {"mean": zeros, "variance": zeros + 1.0, "count": zeros}

    def measure(self, x):
        return moments(x, axes.others(self.axes_of(x.shape), x.ndim))

    def store(self, statistics):
        """Takes for zero a variance that the rounding of the mean explains."""
        mean, variance = statistics["mean"], statistics["variance"]
        rounding = 2.0**-45 * np.abs(mean)
        variance = np.where(variance <= rounding * rounding, 0.0, variance)
        if np.any((variance > 0) & (variance < np.finfo("float32").tiny)):
            raise ValueError(
                "`data` must not vary by less than float32 can square. Received: a variance of "
                f"{variance[variance > 0].min():.3g}. Multiply the data by a constant first."
            )
        super().store({**statistics, "variance": variance})

    def call(self, inputs, training=None, mask=None):
        x = self.cast_up(inputs)
        mean, residual, variance = self.constants(x, "mean", "mean_residual", "variance")
        deviation = ops.sqrt(ops.where(variance > 0, variance, ops.ones_like(variance)))
        if self.invert:
            return ops.cast((x * deviation + residual) + mean, self.compute_dtype)
        factor = 1.0 / deviation
        # The residual goes last: next to the mean, graph optimizers would add the two and lose it.
        return ops.cast((x - mean) * factor - residual * factor, self.compute_dtype)


@register
class MinMaxNormalization(BaseDataNormalization):
    """Maps each feature's smallest and largest value of the data set to the ends of a range.

        y = low + (high - low) · (x - minimum) / (maximum - minimum)

    Statistics over the data set and all axes but `axis`, learned by `adapt` or given; no gamma and
    no beta. Training and inference are the same, and `fit` changes nothing. A constant feature is
    divided by 1: the data set's value becomes `low`. NaN stands for a missing value: it does not
    count, and stays NaN. What was never seen stays as it is, and everything before `adapt`.

    Use it for bounded data: pixels, angles, percentages; for outputs of a network that ends in a
    sigmoid, with `inverse()` behind it. One outlier squeezes all the rest; where there are some,
    use `StandardNormalization`.

    Args:
        axis: Integer, list of integers or `None`, the axes that have statistics of their own:
            -1 for one range per feature, `None` for one in all. Inputs may have another rank than
            the data, as long as they have these axes.
        feature_range: Two numbers, `low` and `high`, the range of the output.
        minimum: Number or nested list, the minimum where it is known; `adapt` is then not needed.
        maximum: Number or nested list, the maximum; given together with `minimum`.
        clip: If `True`, outputs beyond the range become its nearer end; not in the inverse.
        invert: If `True`, map normalized data back. See also `inverse()`.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating or integer tensor of rank 2 or higher; with `axis=None` of any rank.
        training: Not used.
        mask: Not used; passed on.

    Input shape:
        [B, ..., C]; every size but those of `axis` may be unknown.

    Output shape:
        The input's.

    Weights:
        minimum [C], maximum [C], count [C] (values seen), and what their rounding to float32 left
        over, minimum_residual [C], maximum_residual [C], count_residual [C]; not trainable.

    Raises:
        ValueError: If an argument's value, the data or the input's shape does not fit.
        TypeError: If `axis`, the data or the input is of the wrong type.

    Example:

    >>> layer = MinMaxNormalization(feature_range=(-1, 1))
    >>> layer.adapt(np.array([[0, 10], [255, 30]], "uint8"))
    >>> layer(np.array([[255, 20]], "uint8")).numpy()
    array([[1., 0.]], dtype=float32)

    Reference:
        `MinMaxScaler` of [Pedregosa et al., 2011](https://arxiv.org/abs/1201.0490). Deviation:
        none.
    """

    given = ("minimum", "maximum")

    def __init__(
        self,
        axis=-1,
        feature_range=(0.0, 1.0),
        minimum=None,
        maximum=None,
        clip=False,
        invert=False,
        **kwargs,
    ):
        super().__init__(axis, invert, **kwargs)
        low, high = 1.0, 0.0
        if isinstance(feature_range, (list, tuple)) and len(feature_range) == 2:
            low, high = (check_number("feature_range", end) for end in feature_range)
        if low >= high:
            raise ValueError(
                "`feature_range` must be two numbers, the lower first. "
                f"Received: feature_range={feature_range!r}. Use (0, 1) or (-1, 1)."
            )
        self.feature_range = (low, high)
        self.clip = check_choice("clip", clip, (False, True))
        self.keep_given(minimum=minimum, maximum=maximum)
        if minimum is not None and np.any(np.greater(minimum, maximum)):
            received = f"Received: minimum={minimum!r}, maximum={maximum!r}"
            raise ValueError(f"`minimum` must not exceed `maximum`. {received}. Swap them.")

    def initial_statistics(self):
        low, high = self.feature_range
        zeros = np.zeros(self._feature_shape)
        return {"minimum": zeros + low, "maximum": zeros + high, "count": zeros}

    def measure(self, x):
        return extremes(x, axes.others(self.axes_of(x.shape), x.ndim))

    def merge(self, first, second):
        seen = first["count"] > 0
        lowest = np.where(seen, first["minimum"], np.inf)
        highest = np.where(seen, first["maximum"], -np.inf)
        return {
            "count": first["count"] + second["count"],
            "minimum": np.minimum(lowest, second["minimum"]),
            "maximum": np.maximum(highest, second["maximum"]),
        }

    def call(self, inputs, training=None, mask=None):
        x = self.cast_up(inputs)
        minimum, maximum = self.constants(x, "minimum", "maximum")
        low, high = self.feature_range
        size = maximum - minimum
        size = ops.where(size == 0, ops.ones_like(size), size)
        if self.invert:
            y = affine(x - low, size * (1.0 / (high - low)), minimum)
        else:
            y = affine(x - minimum, (high - low) / size, low)
            y = ops.clip(y, low, high) if self.clip else y
        return ops.cast(y, self.compute_dtype)


@register
class WhiteningNormalization(BaseDataNormalization):
    """Removes the correlations between the features of the data set, and their spread.

        y = (x - mean) · matrix, with covariance = U Λ Uᵀ
        zca: matrix = U (Λ + ε)^(-½) Uᵀ;  pca: matrix = U (Λ + ε)^(-½), the first columns of it

    Statistics over the data set and all axes but `axis`, learned by `adapt`; no gamma and no beta.
    Training and inference are the same, and `fit` changes nothing. ZCA stays as close to the input
    as a whitening can: whitened images are still images. PCA puts the directions of largest
    variance first, of which `components` remain; the largest entry of each is positive. A sample
    with a NaN does not count, and becomes NaN. Before `adapt` nothing is changed.

    Use it before layers that learn slowly from correlated inputs: small images, spectra, sensors.
    Beyond a few thousand features its d² numbers are too many; use `StandardNormalization`.

    Args:
        axis: Integer or list of integers, the axes of the features: -1 for the channels, with each
            position a sample of its own; `[1, 2, 3]` for whole images.
        kind: "zca", which keeps the input's shape, or "pca".
        components: Number of directions that PCA keeps, or `None` for all of them.
        epsilon: Positive float added to the eigenvalues; directions of less variance stay small.
        invert: If `True`, map whitened data back. See also `inverse()`.
        feature_shape: List of integers, the sizes of `axis` in the data. The inverse of a PCA
            needs it; `inverse()` states it.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: Floating or integer tensor of rank 2 or higher.
        training: Not used.
        mask: Not used; passed on where the output has the input's axes.

    Input shape:
        [B, ..., C]; every size but those of `axis` may be unknown.

    Output shape:
        The input's. PCA puts one axis with the components in the place of `axis`.

    Weights:
        mean [d], covariance [d, d], count [] (samples seen), and what their rounding to float32
        left over, mean_residual [d], covariance_residual [d, d], count_residual []; matrix [d, d],
        for PCA [d, components], which the call multiplies with. Not trainable.

    Raises:
        ValueError: If an argument's value, the data or the input's shape does not fit.
        TypeError: If `axis`, the data or the input is of the wrong type.

    Example:

    >>> layer = WhiteningNormalization(kind="pca", components=1)
    >>> layer.adapt(np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]))
    >>> layer(np.array([[2.0, 2.0]], "float32")).shape
    TensorShape([1, 1])

    Reference:
        [Kessy et al., 2018](https://arxiv.org/abs/1512.00809). Deviation: ε, as in Keras 2's
        `ImageDataGenerator`. The covariance is divided by n, as there; scikit-learn's
        `PCA(whiten=True)` divides by n - 1.
    """

    def __init__(
        self,
        axis=-1,
        kind="zca",
        components=None,
        epsilon=1e-6,
        invert=False,
        feature_shape=None,
        **kwargs,
    ):
        axes.check(axis)
        super().__init__(axis, invert, **kwargs)
        self.kind = check_choice("kind", kind, ("zca", "pca"))
        self.epsilon = check_epsilon(epsilon)
        self.components = None if components is None else check_integer("components", components)
        if components is not None and kind == "zca":
            raise ValueError(
                "`components` must be None with ZCA, which keeps every feature. "
                f'Received: components={components}. Use kind="pca".'
            )
        if feature_shape is not None:
            feature_shape = [check_integer("feature_shape", size) for size in feature_shape]
        self.feature_shape = feature_shape

    def build(self, input_shape):
        """Creates the weights, the matrix last."""
        data_shape = self.data_shape(input_shape)
        super().build(data_shape)
        features, given = math.prod(self._feature_shape), self.feature_shape
        kept = features if self.components is None else self.components
        if kept > features or given not in (None, list(self._feature_shape)):
            raise ValueError(
                "`components` and `feature_shape` must suit the features. Received: components="
                f"{self.components}, feature_shape={given} (input shape {tuple(input_shape)}). "
                f"There are {features} features, of shape {self._feature_shape}."
            )
        if self.kind == "pca" and self.invert:
            place = self.axis if isinstance(self.axis, int) else self.axes_of(data_shape)[0]
            self.input_spec = InputSpec(axes={place: kept})
        matrix = np.eye(features, kept)
        self.add_constant("matrix", matrix.T if self.invert else matrix)

    def initial_statistics(self):
        features = math.prod(self._feature_shape)
        zeros = np.zeros(features)
        return {"mean": zeros, "covariance": np.eye(features), "count": np.zeros(())}

    def measure(self, x):
        over = self.axes_of(x.shape)
        x = np.moveaxis(x, over, range(-len(over), 0))
        return comoments(x.reshape(-1, math.prod(self._feature_shape)))

    def store(self, statistics):
        """Forms the matrix as well."""
        super().store(statistics)
        components = min(self._matrix.shape)
        if statistics["count"] > 0:
            how = self.kind, components, self.epsilon, self.invert
            self._matrix.assign(whitening_matrix(statistics["covariance"], *how))

    def inverse_arguments(self):
        return {"feature_shape": list(self._feature_shape)} if self.kind == "pca" else {}

    def call(self, inputs, training=None, mask=None):
        x = self.cast_up(inputs)
        over = self.axes_of(self.data_shape(x.shape))
        places = over[:1] if self.kind == "pca" else over
        weights = self._mean, self._mean_residual, self._matrix
        mean, residual, matrix = (ops.cast(weight, x.dtype) for weight in weights)
        if self.invert:
            y = (product(columns(x, places), matrix) + residual) + mean
            y = uncolumns(y, over, self._feature_shape)
        else:
            y = product(columns(x, over) - mean, matrix) - product(residual, matrix)
            sizes = matrix.shape[-1:] if self.kind == "pca" else self._feature_shape
            y = uncolumns(y, places, sizes)
        return ops.cast(y, self.compute_dtype)

    def data_shape(self, input_shape):
        """The shape of the data that an input stands for."""
        if self.kind == "zca" or not self.invert:
            return tuple(input_shape)
        over = self.axes_of((None,) * (len(input_shape) - 1 + len(np.atleast_1d(self.axis))))
        if self.feature_shape is None and (len(over) > 1 or self.components is not None):
            raise ValueError(
                "`feature_shape` must be given where a PCA is inverted: its input does not tell. "
                "Received: feature_shape=None. Use `layer.inverse()`, or pass the sizes of `axis`."
            )
        return axes.split(over, input_shape, self.feature_shape or [input_shape[over[0]]])

    def whitened_shape(self, data_shape):
        """The shape of data that was whitened."""
        if self.kind == "zca":
            return tuple(data_shape)
        over = self.axes_of(data_shape)
        features = math.prod(axes.sizes(over, data_shape, self.axis))
        return axes.joined(over, data_shape, self.components or features)

    def input_shape_for(self, data_shape):
        return self.whitened_shape(data_shape) if self.invert else tuple(data_shape)

    def compute_output_shape(self, input_shape):
        """The data's shape if inverted, else the whitened one's."""
        return self.data_shape(input_shape) if self.invert else self.whitened_shape(input_shape)

    def compute_mask(self, inputs, mask=None):
        """The mask, unless a PCA joins the axes that it spans."""
        return None if self.kind == "pca" and len(np.atleast_1d(self.axis)) > 1 else mask
