"""Hypothesis strategies: whatever shape, axis, dtype and data a layer may meet."""

import numpy as np
from hypothesis import strategies as st

KINDS = {
    "normal": lambda n: n,
    "offset": lambda n: n * 0.1 + 1e4,
    "constant": lambda n: 0 * n + 7.25,
    "sparse": lambda n: n * (np.abs(n) > 1.5),
    "large": lambda n: n * 1e6,
    "tiny": lambda n: n * 1e-15,
    "denormal": lambda n: n * 1e-40,
}


@st.composite
def cases(draw, row):
    """A layer's arguments, an input and a mask that fit each other."""
    rank = draw(st.integers(row.layer.minimum_rank, 5))
    shape = tuple(draw(st.integers(1, 4)) for _ in range(rank))
    axis = draw(st.integers(1, rank - 1))
    shape = (*shape[:axis], draw(st.sampled_from([1, 2, 3, 4, 6])), *shape[axis + 1 :])
    arguments = {
        "axis": draw(st.sampled_from([axis, axis - rank, [axis]])),
        "epsilon": draw(st.floats(1e-6, 1.0)),
        "center": draw(st.booleans()),
        "scale": draw(st.booleans()),
    }
    arguments = {name: value for name, value in arguments.items() if row.takes(name)}
    if row.default("momentum") is not None:
        arguments["momentum"] = draw(st.floats(0.0, 1.0))
    if row.default("groups") is not None:
        divisors = [d for d in (1, 2, 3, 4, 6) if shape[axis] % d == 0]
        arguments["groups"] = draw(st.sampled_from([-1, *divisors]))
    if "group_size" in row.arguments:
        divisors = [d for d in (1, 2, 3, 4, 6) if shape[axis] % d == 0]
        arguments["group_size"] = draw(st.sampled_from([*divisors, 64]))
    seed = draw(st.integers(0, 2**31))
    generator = np.random.default_rng(seed)
    with np.errstate(under="ignore"):
        x = KINDS[draw(st.sampled_from(sorted(KINDS)))](generator.standard_normal(shape))
    mask = None
    if draw(st.booleans()):
        mask = generator.random(tuple(n for a, n in enumerate(shape) if a != axis)) > 0.3
    return arguments, x.astype("float32"), mask, draw(st.booleans())


# Arguments of any type and value, for constructors that must either take them or say why not.
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-9, 40),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers(-5, 5), max_size=3),
    st.tuples(st.integers(-5, 9), st.integers(-5, 9)),
)
