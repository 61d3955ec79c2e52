"""Whatever comes in: the paper's answer, or a ValueError or TypeError, and a stable config.

`pytest --hypothesis-profile=thorough tests/conformance/test_fuzz.py` tries 2,000 of each.
"""

import keras
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keras_norm.catalog import catalog
from tests.conformance.support import (
    arguments,
    assert_close,
    data,
    mapped,
    oracle,
    randomize,
    several,
    weights_of,
)
from tests.strategies import ANYTHING, cases

# One argument is drawn for all rows, so that examples are spread over them evenly.
NORMS = st.sampled_from(catalog.of_kind("activations"))
ANY_CASE = NORMS.flatmap(lambda row: st.tuples(st.just(row), cases(row)))


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
    # What float32 cannot tell from no variance at all comes out as a share of 1/√ε, or as less.
    gain = 1e-2 * np.ptp(x) / np.sqrt(layer.epsilon) if row.amplifies and training else 0.0
    if not fully_masked:
        # Where the answer is 0, the oracle's is a rounding of x in float64 over the root of ε.
        root = np.sqrt(layer.epsilon) if row.takes("epsilon") else 1.0
        assert_close(y, expected, 10 * row.tolerance, max(gain, 2e-10 * np.abs(x).max() / root))
    assert row.layer.from_config(config).get_config() == layer.get_config() == config
    after = weights_of(layer)
    for name, value in after.items():
        if not training:
            np.testing.assert_array_equal(value, weights[name])
        elif name in state:
            large = max(gain * np.ptp(x) / layer.epsilon, 1.0) if name == "moving_matrix" else 1.0
            assert_close(value, state[name], 10 * row.tolerance, large)


@given(st.sampled_from(catalog), st.data())
def test_any_argument_is_taken_or_refused_in_words(row, drawn):
    names = row.layer.arguments()
    chosen = drawn.draw(st.dictionaries(st.sampled_from(names), ANYTHING, max_size=2))
    several_inputs = several(row.input_shape)
    try:
        example = row.example(**chosen)
        example.build(list(row.input_shape) if several_inputs else row.input_shape)
    except (ValueError, TypeError) as error:
        assert len(str(error)) > 20
        return
    layer = getattr(example, "cell", example)
    y = example(mapped(np.ones_like, data(row.input_shape)), training=True)
    assert y.shape == example.compute_output_shape(
        list(row.input_shape) if several_inputs else row.input_shape
    )
    assert row.layer.from_config(layer.get_config()).get_config() == layer.get_config()
    keras.utils.clear_session(free_memory=False)
