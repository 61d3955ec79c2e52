"""Times the layers of TensorFlow Addons, on the last release of TensorFlow that it runs with."""

import tensorflow as tf
import tensorflow_addons as addons

from benchmarks.peers import steps
from benchmarks.peers.method import serve


def measure(case):
    # Addons takes its dtype as `tf.keras` does; its instance norm is a group norm of one channel.
    if case["layer"] == "GroupNormalization":
        layer = addons.layers.GroupNormalization(groups=case["groups"], dtype=case["dtype"])
    else:
        layer = addons.layers.InstanceNormalization(dtype=case["dtype"])
    return steps.measure(case, {case["layer"]: layer})


if __name__ == "__main__":
    serve(measure, versions={"tensorflow": tf.__version__, "addons": addons.__version__})
