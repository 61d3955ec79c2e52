"""Trains a WGAN on handwritten digits: spectral normalization bounds how steep the critic is, so it
needs neither clipped weights nor a gradient penalty. Draws digits and the critic's norms."""

import argparse
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from keras import layers
from sklearn.datasets import load_digits

import keras_norm

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=30)
folder = Path(__file__).parents[1] / "saved_models/demo/02_wgan_spectral_critic"
parser.add_argument("--output", type=Path, default=folder)
flags = parser.parse_args()
keras.utils.set_random_seed(0)
digits = load_digits().images[..., None].astype("float32") / 8 - 1
LATENT, SN = 32, keras_norm.SpectralNormalization

generator = keras.Sequential([keras.Input((LATENT,)), layers.Dense(4 * 4 * 64)])
for layer in (layers.Reshape((4, 4, 64)), layers.Conv2DTranspose(64, 4, 2, padding="same")):
    for part in (layer, keras_norm.BatchNormalization(momentum=0.9), layers.ReLU()):
        generator.add(part)
generator.add(layers.Conv2D(1, 3, padding="same", activation="tanh"))

critic = keras.Sequential([keras.Input((8, 8, 1))])
for filters, strides in ((32, 1), (64, 2), (64, 1)):
    critic.add(SN(layers.Conv2D(filters, 3, strides, padding="same")))
    critic.add(layers.LeakyReLU(0.2))
for part in (layers.Flatten(), SN(layers.Dense(1))):
    critic.add(part)
normalized = [layer for layer in critic.layers if isinstance(layer, SN)]
adams = [keras.optimizers.Adam(1e-3, beta_1=0.0, beta_2=0.9) for _ in range(2)]


@tf.function
def step(real):
    """One step of the critic, then one of the generator; the distance as the critic sees it."""
    noise = tf.random.normal((2, len(real), LATENT))
    with tf.GradientTape() as tape:
        fake = generator(noise[0], training=True)
        loss = tf.reduce_mean(critic(fake, training=True) - critic(real, training=True))
    w = critic.trainable_variables
    adams[0].apply(tape.gradient(loss, w), w)
    with tf.GradientTape() as tape:
        cost = -tf.reduce_mean(critic(generator(noise[1], training=True), training=True))
    w = generator.trainable_variables
    adams[1].apply(tape.gradient(cost, w), w)
    return -loss


data = tf.data.Dataset.from_tensor_slices(digits).shuffle(2000).batch(64, True)
stored, effective = [], []
for epoch in range(1, flags.epochs + 1):
    distance = np.mean([step(real) for real in data])
    for norms, index in ((stored, 0), (effective, 1)):  # largest singular value of each kernel
        kernels = [layer.effective_weights()[0][index] for layer in normalized]
        norms.append([np.linalg.norm(np.reshape(k, (-1, k.shape[-1])), 2) for k in kernels])
    print(f"epoch {epoch}: distance {distance:.4f}, the critic's norms {np.round(norms[-1], 3)}")

flags.output.mkdir(parents=True, exist_ok=True)
keras_norm.bake(critic).save(flags.output / "critic.keras")  # plain layers, the same answers
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
drawn = generator(tf.random.normal((64, LATENT))).numpy().reshape(8, 8, 8, 8)
drawn = np.pad(drawn, ((0, 0), (0, 0), (1, 1), (1, 1))).transpose(0, 2, 1, 3).reshape(80, 80)
left.imshow(drawn, cmap="gray")
left.set(title=f"Generated after {flags.epochs} epochs", xticks=[], yticks=[])
epochs = range(1, flags.epochs + 1)
right.plot(epochs, stored, "o-", color="lightgray", markersize=3)
right.plot(epochs, effective, color="crimson")
right.set(title="Spectral norms of the critic's layers", xlabel="epoch", ylim=(0, None))
right.legend(right.get_lines()[3:5], ["stored kernels", "effective kernels"])
figure.savefig(flags.output / "wgan.png", dpi=150)
