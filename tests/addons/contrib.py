"""The published formulas of keras-contrib's norms as layers of Keras 2, under its bare names.

keras-contrib is on no package index and needs a Keras of 2019. Its files differ from these by
nothing that a reader looks at: class names without a package, arguments, weights and their order.
"""

import tensorflow as tf

_INITIALIZERS = {"beta_initializer": "zeros", "gamma_initializer": "ones"}
_HOME = "keras_contrib.layers"  # what .keras files say
_NONE = "beta_regularizer", "gamma_regularizer", "beta_constraint", "gamma_constraint"


def _spread(weight, axis, rank):
    shape = [1] * rank
    if axis is not None:
        shape[axis] = -1
    return tf.reshape(weight, shape)


class _Norm(tf.keras.layers.Layer):
    def __init__(self, axis, epsilon, center=True, scale=True, **kwargs):
        super().__init__(**kwargs)
        self.axis, self.epsilon, self.center, self.scale = axis, epsilon, center, scale

    def build(self, shape):
        size = (1 if self.axis is None else shape[self.axis],)
        if self.scale:
            self.gamma = self.add_weight(name="gamma", shape=size, initializer="ones")
        if self.center:
            self.beta = self.add_weight(name="beta", shape=size)

    def affine(self, x):
        if self.scale:
            x = x * _spread(self.gamma, self.axis, len(x.shape))
        return x + _spread(self.beta, self.axis, len(x.shape)) if self.center else x

    def get_config(self):
        own = {name: getattr(self, name) for name in ("axis", "epsilon", "center", "scale")}
        kept = {name: tf.keras.initializers.get(how) for name, how in _INITIALIZERS.items()}
        kept = {name: tf.keras.initializers.serialize(one) for name, one in kept.items()}
        return {**super().get_config(), **own, **kept, **dict.fromkeys(_NONE)}


class InstanceNormalization(_Norm):
    """Epsilon is added to the standard deviation; `axis=None` reduces over a whole sample."""

    __module__ = _HOME

    def __init__(self, axis=None, epsilon=1e-3, **kwargs):
        super().__init__(axis, epsilon, **kwargs)

    def call(self, x):
        kept = {0} if self.axis is None else {0, self.axis % len(x.shape)}
        over = [a for a in range(len(x.shape)) if a not in kept]
        centred = x - tf.reduce_mean(x, over, keepdims=True)
        deviation = tf.sqrt(tf.reduce_mean(centred * centred, over, keepdims=True))
        return self.affine(centred / (deviation + self.epsilon))


class GroupNormalization(_Norm):
    """Groups stand on axis 1 whatever `axis` is."""

    __module__ = _HOME

    def __init__(self, groups=32, axis=-1, epsilon=1e-5, **kwargs):
        super().__init__(axis, epsilon, **kwargs)
        self.groups = groups

    def call(self, x):
        shape = list(x.shape)
        spread = [1] * len(shape)
        spread[self.axis] = shape[self.axis] = shape[self.axis] // self.groups
        shape.insert(1, self.groups)
        spread.insert(1, self.groups)
        y = tf.reshape(x, [-1, *shape[1:]])
        mean, variance = tf.nn.moments(y, list(range(2, len(shape))), keepdims=True)
        y = (y - mean) / tf.sqrt(variance + self.epsilon)
        y = y * tf.reshape(self.gamma, spread) + tf.reshape(self.beta, spread)
        return tf.reshape(y, tf.shape(x))

    def get_config(self):
        return {**super().get_config(), "groups": self.groups}


class BatchRenormalization(_Norm):
    """What inference needs: the moving moments. Names of weights are the layer's and an ending."""

    __module__ = _HOME

    def __init__(self, axis=-1, momentum=0.99, epsilon=1e-3, **kwargs):
        super().__init__(axis, epsilon, **kwargs)
        self.momentum = momentum

    def build(self, shape):
        super().build(shape)
        for name, start in (("running_mean", "zeros"), ("running_variance", "ones")):
            weight = self.add_weight(
                name=f"{self.name}_{name}",
                shape=(shape[self.axis],),
                initializer=start,
                trainable=False,
            )
            setattr(self, name, weight)

    def call(self, x):
        rank = len(x.shape)
        mean = _spread(self.running_mean, self.axis, rank)
        variance = _spread(self.running_variance, self.axis, rank)
        return self.affine((x - mean) / tf.sqrt(variance + self.epsilon))

    def get_config(self):
        config = {**super().get_config(), "momentum": self.momentum}
        limits = {"r_max_value": 2.0, "d_max_value": 4.0, "t_delta": 1.0}
        unwritten = "center", "scale", *_INITIALIZERS
        return {**{k: v for k, v in config.items() if k not in unwritten}, **limits}
