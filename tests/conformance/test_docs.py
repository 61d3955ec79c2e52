"""Every docstring says what a user must know, and its example runs."""

import doctest
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import keras_norm
from keras_norm.catalog import catalog
from tests.conformance.support import affine, built

SECTIONS = [
    "Args:",
    "Call arguments:",
    "Input shape:",
    "Output shape:",
    "Weights:",
    "Raises:",
    "Example:",
    "Reference:",
]
README = Path(__file__).parents[2] / "README.md"


def test_sections_in_order(row):
    text = inspect.getdoc(row.layer)
    places = [text.index(f"\n{section}\n") for section in SECTIONS]
    assert places == sorted(places)
    assert "Statistics over" in text and re.search(r"y = .*\n", text) and "Deviation" in text
    assert re.search(r"\nUse it ", text), "when to use it"
    link = re.search(r"\((https?://[^)]+)\)", row.paper).group(1)
    assert link in text


def test_every_argument_is_documented(row):
    text = inspect.getdoc(row.layer)
    section = text[text.index("\nArgs:\n") : text.index("\nCall arguments:\n")]
    entries = re.findall(r"^    (\*{0,2}\w+(?:, \w+)*):", section, re.MULTILINE)
    documented = [name for entry in entries for name in entry.split(", ")]
    parameters = inspect.signature(row.layer).parameters
    assert sorted(documented) == sorted("**kwargs" if n == "kwargs" else n for n in parameters)


def test_every_weight_is_documented(row):
    text = inspect.getdoc(row.layer)
    section = text[text.index("\nWeights:\n") : text.index("\nRaises:\n")]
    for weight in built(row, **affine(row)).weights:
        assert re.search(rf"\b{weight.name}\b", section), weight.name


def test_example_runs(row):
    names = {**vars(keras_norm), "np": np}
    example = doctest.DocTestParser().get_doctest(
        inspect.getdoc(row.layer), names, row.name, None, None
    )
    assert example.examples
    runner = doctest.DocTestRunner(verbose=False)
    assert runner.run(example).failed == 0


@pytest.mark.parametrize("name", keras_norm.__all__)
def test_everything_public_has_a_docstring(name):
    """Of its own: `inspect.getdoc` would answer with that of a base class."""
    assert getattr(keras_norm, name).__doc__


def test_readme_shows_the_catalog():
    """`python -c "import keras_norm; print(keras_norm.catalog.markdown())"` prints the table."""
    assert catalog.markdown() in README.read_text()


def test_readme_code_runs(tmp_path, monkeypatch):
    """Every Python block of the README, one after the other, as a reader would run them."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) >= 2
    names = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
