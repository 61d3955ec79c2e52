"""Whatever comes in: the paper's answer, or a ValueError or TypeError, and a stable config.

`pytest --hypothesis-profile=thorough tests/conformance/test_fuzz.py` tries 2,000 of each.
"""

import inspect

import keras
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keras_norm.catalog import catalog
from tests.conformance.support import (
    arguments,
    assert_close,
    oracle,
    randomize,
    weights_of,
)
from tests.strategies import ANYTHING, cases

# One argument is drawn for all rows, so that examples are spread over them evenly.
ANY_CASE = st.sampled_from(catalog).flatmap(lambda row: st.tuples(st.just(row), cases(row)))


@given(ANY_CASE)
def test_any_input_gets_the_papers_answer(drawn):
    row, (chosen, x, mask, training) = drawn
    layer = row.build(**chosen)
    layer.build(x.shape)
    randomize(layer)
    config, weights = layer.get_config(), weights_of(layer)
    expected, state, _ = oracle(row, x, weights, arguments(row, **chosen), training, mask)
    y = layer(x, training=training, mask=mask).numpy()
    assert y.shape == x.shape and np.isfinite(y).all()
    fully_masked = mask is not None and not mask.all()  # there the paper says nothing
    if not fully_masked:
        # Where the answer is 0, the oracle's is a rounding of x in float64 over the root of ε.
        assert_close(y, expected, 2e-5, 2e-10 * np.abs(x).max() / np.sqrt(layer.epsilon))
    assert row.layer.from_config(config).get_config() == layer.get_config() == config
    after = weights_of(layer)
    for name, value in after.items():
        if not training:
            np.testing.assert_array_equal(value, weights[name])
        elif name in state:
            assert_close(value, state[name], 2e-5, 1.0)


@given(st.sampled_from(catalog), st.data())
def test_any_argument_is_taken_or_refused_in_words(row, drawn):
    names = [n for n in inspect.signature(row.layer).parameters if n != "kwargs"]
    chosen = drawn.draw(st.dictionaries(st.sampled_from(names), ANYTHING, max_size=2))
    try:
        layer = row.build(**chosen)
        layer.build(row.input_shape)
    except (ValueError, TypeError) as error:
        assert len(str(error)) > 20
        return
    y = layer(np.ones(row.input_shape, "float32"), training=True)
    assert y.shape == row.input_shape
    assert row.layer.from_config(layer.get_config()).get_config() == layer.get_config()
    keras.utils.clear_session(free_memory=False)
