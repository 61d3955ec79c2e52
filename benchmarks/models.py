"""Training steps of whole models: as they come, with `keras_norm.accelerate`, without any norm."""

import keras
import numpy as np

import keras_norm
from benchmarks.cases import ACCELERATED, AS_IT_COMES, WITHOUT_NORMS
from benchmarks.peers.method import alternate, limits


def application(name):
    return lambda shape: getattr(keras.applications, name)(
        weights=None, input_shape=shape, classes=10
    )


def convolution(x, filters, size, stride=1):
    x = keras.layers.Conv2D(filters, size, stride, padding="same", use_bias=False)(x)
    return keras.layers.GroupNormalization(32)(x)


def bottleneck(x, filters, stride):
    """Three convolutions beside a shortcut, which is projected where the shape changes."""
    y = keras.layers.ReLU()(convolution(x, filters, 1, stride))
    y = keras.layers.ReLU()(convolution(y, filters, 3))
    y = convolution(y, 4 * filters, 1)
    if stride > 1 or x.shape[-1] != 4 * filters:
        x = convolution(x, 4 * filters, 1, stride)
    return keras.layers.ReLU()(keras.layers.Add()([x, y]))


def group_norm_resnet(shape):
    """ResNet50's layers with group norm. A clone of ResNet50 cannot have it: the calls of batch
    norm that it repeats pass a mask, which Keras's group norm does not take."""
    inputs = keras.Input(shape)
    x = keras.layers.ReLU()(convolution(inputs, 64, 7, 2))
    x = keras.layers.MaxPooling2D(3, 2, padding="same")(x)
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            x = bottleneck(x, 64 * 2**stage, 2 if stage and not block else 1)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))


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


NORMS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
)


class Nothing(keras.layers.Layer):
    """Its input, in place of a norm; it takes what calls of norms pass along."""

    def call(self, inputs, training=None, mask=None):
        return inputs


def without_norms(model):
    """The model with nothing in the place of its norms: what it would gain if they cost nothing."""
    return keras_norm.replace(model, dict.fromkeys(NORMS, Nothing), verbose=False)


def contestants(model, path):
    """The model as it comes and its two twins."""
    made = {
        ACCELERATED: keras_norm.accelerate(model, verbose=False),
        WITHOUT_NORMS: without_norms(model),
        AS_IT_COMES: model,
    }
    return {name: compiled(one, path) for name, one in made.items()}


def measure(case):
    """Milliseconds of a training step on one batch."""
    batch, *shape = case["shape"]
    random = np.random.default_rng(0)
    x = random.random((batch, *shape), "float32")
    y = random.integers(0, 10, batch)
    models = contestants(BUILDERS[case["model"]](tuple(shape)), case["path"])
    calls = {name: lambda m=model: m.train_on_batch(x, y) for name, model in models.items()}
    return alternate(calls, **limits(case))
