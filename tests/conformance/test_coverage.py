"""The catalog, the public list, the oracles and the golden files name the same layers."""

import keras

import keras_norm
from keras_norm.arguments import KeepsArguments
from keras_norm.catalog import INVARIANCES, KINDS, catalog
from keras_norm.layers.base import BaseNormalization
from tests.conformance.golden import LAYOUTS
from tests.oracles import ORACLES


def public_layers():
    values = [getattr(keras_norm, name) for name in keras_norm.__all__]
    return {v for v in values if isinstance(v, type) and issubclass(v, keras.layers.Layer)}


def all_subclasses(base):
    for cls in base.__subclasses__():
        yield cls
        yield from all_subclasses(cls)


def test_catalog_is_the_public_list():
    assert {row.layer for row in catalog} == public_layers()
    assert len({row.name for row in catalog}) == len({row.short for row in catalog}) == len(catalog)


def test_every_class_is_abstract_or_has_a_row_and_is_final():
    """Abstract classes begin with "Base"; every other class is a leaf.

    What stands in for layers of old files alone is not among them.
    """
    places = "keras_norm.layers.", "keras_norm.wrappers."
    ours = {c for c in all_subclasses(KeepsArguments) if c.__module__.startswith(places)}
    assert {c for c in ours if not c.__name__.startswith("Base")} == {row.layer for row in catalog}
    assert not ours & {c for row in catalog for c in all_subclasses(row.layer)}


def test_kinds():
    """Norms of activations are those of the frame; the tests of the frame run over them."""
    assert {row.kind for row in catalog} <= set(KINDS)
    for row in catalog:
        assert (row.kind == "activations") == issubclass(row.layer, BaseNormalization)


def test_every_row_has_an_oracle_and_a_golden_layout():
    names = {row.name for row in catalog}
    assert set(ORACLES) == names
    assert {path.stem for path in LAYOUTS.glob("*.json")} == names


def test_rows_are_found_by_either_name():
    for index, row in enumerate(catalog):
        assert catalog[row.name] is catalog[row.short] is catalog[index] is row
        assert row.invariances <= set(INVARIANCES)


def test_listing_names_every_layer():
    lines = str(keras_norm.catalog).splitlines()
    assert [line.split()[0] for line in lines[1:]] == [row.name for row in catalog]
    assert len(catalog.markdown().splitlines()) == len(catalog) + 5 * len(KINDS) - 1
