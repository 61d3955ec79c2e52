"""A model that tells which version of an op it was traced with."""

import keras
import pytest

from keras_norm import backend


@pytest.fixture
def five_or_three(monkeypatch):
    """Multiplies by 5 through an override, and by 3 by the op's definition."""
    monkeypatch.setattr(backend, "OVERRIDABLE", {})
    monkeypatch.setattr(backend, "override_of", lambda name: lambda x: x * 5.0)
    thrice = backend.overridable(lambda x: x * 3.0)

    class Thrice(keras.layers.Layer):
        def call(self, x):
            return thrice(x)

    return keras.Sequential([keras.Input((2,), name="x"), Thrice(name="y")])
