"""Times keras_norm's layers, Keras's own and the five-dimensional recipe, in one process."""

import keras
import tensorflow as tf

import keras_norm
from benchmarks import memory, models
from benchmarks.peers import steps
from benchmarks.peers.method import serve


class FiveDimensions(keras.layers.Layer):
    """Group norm as it is often written by hand: moments of x seen as [B, H, W, G, C/G]."""

    def __init__(self, groups, epsilon=1e-3, **kwargs):
        super().__init__(**kwargs)
        self.groups, self.epsilon = groups, epsilon

    def build(self, input_shape):
        self.gamma = self.add_weight(name="gamma", shape=input_shape[-1:], initializer="ones")
        self.beta = self.add_weight(name="beta", shape=input_shape[-1:], initializer="zeros")

    def call(self, x):
        *sizes, channels = x.shape
        grouped = tf.reshape(x, [*sizes, self.groups, channels // self.groups])
        mean, variance = tf.nn.moments(grouped, [1, 2, 4], keepdims=True)
        grouped = (grouped - mean) / tf.sqrt(variance + self.epsilon)
        return tf.reshape(grouped, x.shape) * self.gamma + self.beta


CONTESTANTS = {
    "BatchNormalization": keras_norm.BatchNormalization,
    "BatchRenormalization": keras_norm.BatchRenormalization,
    "SwitchableNormalization": keras_norm.SwitchableNormalization,
    "GroupNormalization": keras_norm.GroupNormalization,
    "InstanceNormalization": keras_norm.InstanceNormalization,
    "LayerNormalization": keras_norm.LayerNormalization,
    "RMSNormalization": keras_norm.RMSNormalization,
    "Keras BatchNormalization": keras.layers.BatchNormalization,
    "Keras GroupNormalization": keras.layers.GroupNormalization,
    "Keras GroupNormalization(-1)": keras.layers.GroupNormalization,
    "Keras LayerNormalization": keras.layers.LayerNormalization,
    "Keras RMSNormalization": keras.layers.RMSNormalization,
    "5-D recipe": FiveDimensions,
}


def make(name, case):
    """A contestant for a case."""
    arguments = {"dtype": case["dtype"]}
    if name in ("GroupNormalization", "Keras GroupNormalization", "5-D recipe"):
        arguments["groups"] = case["groups"]
    elif name == "Keras GroupNormalization(-1)":
        arguments["groups"] = -1
    return CONTESTANTS[name](**arguments)


def measure(case):
    if case["part"] == "models":
        return models.measure(case)
    layers = {name: make(name, case) for name in case["contestants"]}
    if case["part"] == "memory":
        return {"kept": {name: memory.kept(layer, case) for name, layer in layers.items()}}
    return steps.measure(case, layers)


if __name__ == "__main__":
    serve(measure, versions={"tensorflow": tf.__version__, "keras": keras.__version__})
