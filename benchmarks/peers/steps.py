"""What is timed of a TensorFlow layer, for every release of TensorFlow and Keras."""

import numpy as np
import tensorflow as tf

from benchmarks.peers.method import alternate, cores, limits

tf.config.threading.set_intra_op_parallelism_threads(cores())
tf.config.threading.set_inter_op_parallelism_threads(cores())

MODES = {
    "eager": lambda function: function,
    "graph": tf.function,
    "xla": lambda function: tf.function(function, jit_compile=True),
}


def forward(layer):
    return lambda x, dy: layer(x, training=True)


def step(layer):
    """The forward pass and all gradients. The output is kept: the next layer would read it."""

    def run(x, dy):
        weights = [v.value for v in layer.trainable_variables]
        weights = [v() if callable(v) else v for v in weights]  # Keras 2: `value` is a method
        with tf.GradientTape() as tape:
            tape.watch([x, *weights])
            y = layer(x, training=True)
        return y, tape.gradient(y, [x, *weights], dy)

    return run


PASSES = {"forward": forward, "step": step}


def data(case):
    """x, away from zero as activations are, and dy."""
    random = np.random.default_rng(0)
    dtype = {"mixed_float16": "float16"}.get(case["dtype"], case["dtype"])
    arrays = [random.standard_normal(case["shape"], "float32") + shift for shift in (0.5, 0.0)]
    return [tf.cast(array, dtype) for array in arrays]


def measure(case, layers):
    """Times of the layers, by name, and of the floor."""
    x, dy = data(case)
    for layer in layers.values():
        layer.build(x.shape)
    functions = {name: PASSES[case["pass"]](layer) for name, layer in layers.items()}
    functions["copy"] = lambda x, dy: x + 1
    functions["read"] = lambda x, dy: tf.reduce_sum(x)
    compiled = {name: MODES[case["path"]](function) for name, function in functions.items()}
    calls = {name: lambda f=function: f(x, dy) for name, function in compiled.items()}
    return alternate(calls, **limits(case))
