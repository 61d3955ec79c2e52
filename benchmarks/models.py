"""Training steps of whole models, as they come and with `keras_norm.accelerate`."""

import keras
import numpy as np

import keras_norm
from benchmarks.cases import ACCELERATED, AS_IT_COMES
from benchmarks.peers.method import alternate, limits


def application(name):
    return lambda shape: getattr(keras.applications, name)(
        weights=None, input_shape=shape, classes=10
    )


def group_norm_resnet(shape):
    """ResNet50 with Keras's group norm in the place of every batch norm."""

    def exchange(layer):
        if isinstance(layer, keras.layers.BatchNormalization):
            return keras.layers.GroupNormalization(32, epsilon=layer.epsilon, name=layer.name)
        return layer.__class__.from_config(layer.get_config())

    return keras.models.clone_model(application("ResNet50")(shape), clone_function=exchange)


BUILDERS = {
    "ResNet50": application("ResNet50"),
    "MobileNetV2": application("MobileNetV2"),
    "DenseNet121": application("DenseNet121"),
    "ConvNeXtTiny": application("ConvNeXtTiny"),
    "ResNet50 with GroupNormalization": group_norm_resnet,
}


def compiled(model, path):
    """The model, ready to train. SGD costs little, so that the layers are what is seen."""
    model.compile(
        keras.optimizers.SGD(1e-4),
        "sparse_categorical_crossentropy",
        jit_compile={"graph": False, "xla": True}[path],
    )
    return model


def contestants(model, path):
    """The model as it comes and, where this release of keras_norm can, accelerated."""
    made = {}
    if hasattr(keras_norm, "accelerate"):
        made[ACCELERATED] = compiled(keras_norm.accelerate(model, verbose=False), path)
    return {AS_IT_COMES: compiled(model, path), **made}


def measure(case):
    """Milliseconds of a training step on one batch."""
    batch, *shape = case["shape"]
    random = np.random.default_rng(0)
    x = random.random((batch, *shape), "float32")
    y = random.integers(0, 10, batch)
    models = contestants(BUILDERS[case["model"]](tuple(shape)), case["path"])
    calls = {name: lambda m=model: m.train_on_batch(x, y) for name, model in models.items()}
    return alternate(calls, **limits(case))
