"""Nothing to learn."""

from tests.oracles.features import rms


def pixel(x, weights, arguments, training, mask=None, held=None):
    arguments = {"epsilon": 1e-8, **arguments}
    return rms(x, weights, arguments, training)


ORACLES = {
    "PixelNormalization": pixel,
}
