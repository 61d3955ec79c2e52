"""The config is what the constructor was given, for ever."""

import inspect
import json

import keras
import numpy as np
import pytest

from tests.conformance.support import data

EVERYTHING = {
    "axis": [-1],
    "epsilon": 0.02,
    "center": False,
    "scale": True,
    "beta_initializer": "ones",
    "gamma_initializer": keras.initializers.RandomNormal(seed=3),
    "beta_regularizer": "l2",
    "gamma_regularizer": keras.regularizers.L1(0.1),
    "beta_constraint": "non_neg",
    "gamma_constraint": keras.constraints.MaxNorm(2.0),
    "moving_mean_initializer": "ones",
    "moving_variance_initializer": keras.initializers.Constant(2.0),
    "momentum": 0.7,
    "synchronized": True,
    "zero_centered_gamma": True,
    "group_size": 2,
    "using_bn": False,
    "rmax": 2.0,
    "dmax": 1.0,
    "rmin": 0.25,
    "rmax_ramp": (3, 9),
    "dmax_ramp": None,
    "mean": 0.5,
    "variance": 2.0,
    "minimum": -0.5,
    "maximum": 2.0,
    "feature_range": (-1.0, 2.0),
    "clip": True,
    "invert": True,
    "kind": "pca",
    "components": 6,
    "feature_shape": [8],
}


def arguments_of(layer_class):
    parameters = inspect.signature(layer_class).parameters.values()
    return [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]


def test_every_argument_is_in_the_config_and_is_json(row):
    config = row.build().get_config()
    assert set(arguments_of(row.layer)) <= set(config)
    json.dumps(config)


def test_fixed_point_through_build_and_call(row):
    layer = row.build(name="norm")
    config = layer.get_config()
    assert row.layer.from_config(config).get_config() == config
    layer.build(row.input_shape)
    assert layer.get_config() == config
    layer(data(row.input_shape), training=True)
    assert layer.get_config() == config


def test_fixed_point_with_no_argument_at_its_default(row):
    names = [name for name in arguments_of(row.layer) if name in EVERYTHING]
    assert set(arguments_of(row.layer)) - set(names) <= {"groups"}
    layer = row.layer(**{name: EVERYTHING[name] for name in names}, name="norm", dtype="float64")
    config = layer.get_config()
    again = row.layer.from_config(json.loads(json.dumps(config)))
    assert again.get_config() == config
    for name in names:
        value = getattr(again, name)
        if isinstance(EVERYTHING[name], (bool, int, float, type(None))):
            assert value == EVERYTHING[name]
    layer.build(row.input_shape)
    again.build(row.input_shape)
    assert layer.get_config() == again.get_config() == config


def test_arguments_given_by_position_arrive(row):
    """Keras's order: whatever stands first may be given without its name."""
    parameters = inspect.signature(row.layer).parameters.values()
    names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD][:5]
    values = [{**EVERYTHING, "groups": 3, "axis": -1}[name] for name in names]
    by_name = row.layer(**dict(zip(names, values, strict=True)), name="norm")
    assert row.layer(*values, name="norm").get_config() == by_name.get_config()
    assert by_name.epsilon == 0.02 and by_name.center is False


def test_regularizers_and_constraints_act(row):
    layer = row.build(
        center=True,
        scale=True,
        beta_initializer="ones",
        beta_regularizer=keras.regularizers.L2(0.5),
        gamma_constraint=keras.constraints.MaxNorm(0.1),
    )
    layer.build(row.input_shape)
    features = int(np.prod(layer.beta.shape))
    assert float(sum(layer.losses)) == pytest.approx(0.5 * features)
    assert isinstance(layer.gamma.constraint, keras.constraints.MaxNorm)
    assert layer.beta.constraint is None


def test_center_and_scale_can_be_left_out(row):
    for center, scale in ((False, False), (True, False), (False, True)):
        layer = row.build(center=center, scale=scale)
        layer.build(row.input_shape)
        names = {w.name for w in layer.weights}
        assert ("beta" in names, bool(names & {"gamma", "scale"})) == (center, scale)


def test_clone_model_keeps_everything(row):
    inputs = keras.Input(row.input_shape[1:])
    model = keras.Model(inputs, row.build()(inputs))
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    x = data(row.input_shape)
    np.testing.assert_array_equal(model(x), clone(x))
    assert clone.layers[1].get_config() == model.layers[1].get_config()
