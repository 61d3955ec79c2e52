"""Kernels with spectral norm 1."""

from keras import ops

from keras_norm.arguments import check_integer, check_number, register
from keras_norm.backend import abilities
from keras_norm.ops.weights import as_matrix, power_iteration, spectral_norm, start
from keras_norm.wrappers.base import BaseWeightWrapper, is_cell

_WARM_UP = 15


@register
class SpectralNormalization(BaseWeightWrapper):
    """Runs a layer with its kernel divided by the kernel's largest singular value.

        y = layer(x) with W/σ in place of W,   σ = vᵀ W u

    W is the kernel as a matrix [fan-in, outputs]. u and v are close to its leading singular
    vectors: each call in training moves them by `power_iterations` steps of the power method, and
    they begin 15 steps on, so that inference before any training is normalized too. They are
    constants to the gradient; σ is not. The stored kernel is never changed but by training. With
    `norm_bound=c` kernels are only shrunk: W · min(1, c/σ).

    Statistics over all axes of the kernel; no gamma and no beta. Training and inference differ in
    that u and v move. A layer that is called twice in one step moves them twice: the two
    effective kernels differ as two estimates of one σ do, which is little once they have settled.

    Use it in the critic of a GAN, or wherever the Lipschitz constant of a layer must be bounded. A
    convolution's kernel is taken as a matrix, as in the paper: that is not the norm of the
    convolution itself.

    Args:
        layer: The layer to wrap, built or not.
        power_iterations: Positive integer, steps of the power method in each training call.
        norm_bound: Positive float, the largest spectral norm to allow, or `None`: make it 1.
        axis: Output axes of the weights. `None` knows the layers of Keras. Else an integer or a
            list of integers for `kernel`, or a dictionary from names of weights to those.
        **kwargs: Base layer keyword arguments (`name`, `dtype`, `trainable`).

    Call arguments:
        inputs: As the wrapped layer's.
        training: Whether u and v move (and `trainable` is `True`); handed to the wrapped layer.
        mask: Handed to the wrapped layer.

    Input shape:
        The wrapped layer's.

    Output shape:
        The wrapped layer's.

    Weights:
        The wrapped layer's (kernel and bias, mostly), and for each kernel u [outputs] and
        v [fan-in], not trainable; for a `recurrent_kernel` they are called `recurrent_u` and
        `recurrent_v`, and so on.

    Raises:
        TypeError: If `layer` is none, or `axis` is of the wrong type.
        ValueError: If an argument's value does not fit, the layer has no such weight, or it is a
            recurrent cell on a backend where a cell's state cannot change (wrap the recurrent
            layer).

    Example:

    >>> import keras
    >>> layer = SpectralNormalization(keras.layers.Dense(1, use_bias=False))
    >>> float(layer(np.array([[3.0, 4.0]], "float32"))[0, 0]) <= 5.0
    True

    Reference:
        [Miyato et al., 2018](https://arxiv.org/abs/1802.05957). Deviation: in each step a
        thousandth of a fixed vector is added to u, which would otherwise stay orthogonal to the
        leading vector for ever if it began so.
    """

    def __init__(self, layer, power_iterations=1, norm_bound=None, *args, **kwargs):
        super().__init__(layer, *args, **kwargs)
        self.power_iterations = check_integer("power_iterations", power_iterations)
        self.norm_bound = norm_bound
        if norm_bound is not None:
            self.norm_bound = check_number("norm_bound", norm_bound, above=0.0)
        if is_cell(layer) and not abilities.keeps_state_in_loops():
            raise ValueError(
                "`layer` of SpectralNormalization must not be a cell with this backend, where no "
                f"state can change within a loop. Received: layer {layer.name!r} of class "
                f"{type(layer).__name__}. Wrap the recurrent layer instead of its cell."
            )

    def build_for(self, weight):
        def warmed_up(index):
            matrix = as_matrix(weight.value(), weight.axes)
            return power_iteration(matrix, start(matrix[0]), _WARM_UP)[index]

        matrix = as_matrix(weight.value(), weight.axes)
        # Replicas of a strategy must not drift apart: each assignment is averaged over them.
        kept = {"trainable": False, "aggregation": "mean"}
        self.add_own(weight, "u", (matrix.shape[1],), lambda: warmed_up(0), **kept)
        self.add_own(weight, "v", (matrix.shape[0],), lambda: warmed_up(1), **kept)

    def effective_weight(self, weight, training):
        value = weight.value()
        matrix = as_matrix(value, weight.axes)
        u, v = self.own(weight, "u"), self.own(weight, "v")
        if training:
            u, v = power_iteration(matrix, u, self.power_iterations)
            getattr(self, f"{weight.prefix}u").assign(u)
            getattr(self, f"{weight.prefix}v").assign(v)
        sigma = spectral_norm(matrix, u, v)
        if self.norm_bound is None:
            return value / sigma
        return value * ops.minimum(self.norm_bound / sigma, 1.0)
