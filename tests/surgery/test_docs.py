"""The examples of the verbs run."""

import doctest
import inspect

import numpy as np
import pytest

import keras_norm

VERBS = ["accelerate", "bake", "fold", "freeze", "recalibrate", "replace", "unfreeze"]


@pytest.mark.parametrize("verb", VERBS)
def test_example_runs(verb):
    text, names = inspect.getdoc(getattr(keras_norm, verb)), {**vars(keras_norm), "np": np}
    example = doctest.DocTestParser().get_doctest(text, names, verb, None, None)
    assert example.examples
    assert doctest.DocTestRunner(verbose=False).run(example).failed == 0
