"""The config is what the constructor was given, for ever."""

import inspect
import json

import keras
import numpy as np
import pytest

from tests.conformance.support import data, inputs_of, randomize, several

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
    "freeze_statistics": True,
    "zero_centered_gamma": True,
    "group_size": 2,
    "iterations": 7,
    "using_bn": False,
    "learned_epsilon": True,
    "learned_epsilon_initializer": keras.initializers.Constant(0.5),
    "virtual_batch_size": 3,
    "rmax": 2.0,
    "dmax": 1.0,
    "rmin": 0.25,
    "rmax_ramp": (3, 9),
    "dmax_ramp": None,
    "hidden_units": 5,
    "hidden_filters": 5,
    "hidden_kernel_initializer": keras.initializers.RandomNormal(seed=4),
    "v_initializer": "zeros",
    "v_regularizer": "l2",
    "v_constraint": "non_neg",
    "tau_initializer": keras.initializers.Constant(-1.0),
    "tau_regularizer": "l1",
    "tau_constraint": keras.constraints.MaxNorm(3.0),
    "recurrent_activation": "hard_sigmoid",
    "unit_forget_bias": False,
    "recurrent_initializer": "identity",
    "recurrent_regularizer": "l2",
    "recurrent_constraint": "non_neg",
    "dropout": 0.25,
    "recurrent_dropout": 0.125,
    "seed": 7,
    "layout": "addons",
    "max_steps": 4,
    "sequence_wise_inputs": False,
    "mask_value": -1.0,
    "initial_noise": 0.5,
    "alpha_initializer": keras.initializers.Constant(0.7),
    "alpha_regularizer": "l2",
    "alpha_constraint": "non_neg",
    "depth_radius": 1,
    "bias": 1.25,
    "alpha": 0.5,
    "power": 0.5,
    "units": 3,
    "filters": 4,
    "kernel_size": 2,
    "strides": 1,  # with a dilation no other value is allowed
    "padding": "same",
    "data_format": "channels_first",
    "dilation_rate": 2,
    "activation": "silu",
    "use_bias": False,
    "kernel_initializer": keras.initializers.RandomNormal(seed=4),
    "bias_initializer": "ones",
    "kernel_regularizer": "l2",
    "bias_regularizer": keras.regularizers.L1(0.2),
    "activity_regularizer": "l1",
    "kernel_constraint": keras.constraints.UnitNorm(axis=0),
    "bias_constraint": "non_neg",
    "centered": True,
    "scale_initializer": keras.initializers.Constant(10.0),
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
    "data_init": False,  # True goes with no axis; tests/wrappers has it
    "power_iterations": 3,
    "norm_bound": 0.9,
    "scaled": True,
    "gamma": 1.5,
}


def example_of(row):
    """The row's layer, and the row's example where that is another (a cell in an RNN)."""
    example = row.example()
    return getattr(example, "cell", example), example


def everything(row):
    """Every argument of the row's layer, away from its default wherever a test can choose."""
    chosen = {n: EVERYTHING[n] for n in row.layer.arguments() if n in EVERYTHING}
    parameters = inspect.signature(row.layer).parameters
    required = [n for n in row.arguments if parameters[n].default is inspect.Parameter.empty]
    if "groups" in row.arguments and not row.takes("group_size"):
        required.append("groups")  # its default divides no six channels
    made = {n: row.arguments[n] for n in required}
    return {**chosen, **{n: v() if inspect.isfunction(v) else v for n, v in made.items()}}


def test_every_argument_is_in_the_config_and_is_json(row):
    config = row.build().get_config()
    assert set(row.layer.arguments()) <= set(config)
    json.dumps(config)


def test_fixed_point_through_build_and_call(row):
    layer, example = example_of(row)
    config = layer.get_config()
    assert row.layer.from_config(config).get_config() == config
    example(data(row.input_shape), training=True)
    assert layer.get_config() == config


def test_fixed_point_with_no_argument_at_its_default(row):
    chosen = everything(row)
    assert set(row.layer.arguments()) - set(chosen) <= {"groups"}
    layer = row.layer(**chosen, name="norm", dtype="float64")
    config = layer.get_config()
    again = row.layer.from_config(json.loads(json.dumps(config)))
    assert again.get_config() == config
    for name, value in chosen.items():
        if isinstance(value, (bool, int, float, type(None))):
            assert getattr(again, name) == value
    for one in (layer, again):
        one.build(list(row.input_shape) if several(row.input_shape) else row.input_shape)
        assert one.get_config() == config


def test_arguments_given_by_position_arrive(row):
    """Keras's order: whatever stands first may be given without its name."""
    parameters = inspect.signature(row.layer).parameters.values()
    names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD][:5]
    chosen = {**everything(row), "groups": 3 if row.kind == "activations" else 1}
    if row.takes("axis"):
        chosen["axis"] = -1
    values = [chosen[name] for name in names]
    by_keyword = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    rest = {n: chosen[n] for n in by_keyword}
    by_name = row.layer(**dict(zip(names, values, strict=True)), **rest, name="norm")
    assert row.layer(*values, **rest, name="norm").get_config() == by_name.get_config()
    for name, value in zip(names, values, strict=True):
        if isinstance(value, (bool, int, float)):
            assert getattr(by_name, name) == value


def test_regularizers_and_constraints_act(norm):
    if not (norm.takes("center") and norm.takes("scale")):
        return
    layer = norm.build(
        center=True,
        scale=True,
        beta_initializer="ones",
        beta_regularizer=keras.regularizers.L2(0.5),
        gamma_constraint=keras.constraints.MaxNorm(0.1),
    )
    layer.build(norm.input_shape)
    features = int(np.prod(layer.beta.shape))
    assert float(sum(layer.losses)) == pytest.approx(0.5 * features)
    assert isinstance(layer.gamma.constraint, keras.constraints.MaxNorm)
    assert layer.beta.constraint is None


def test_center_and_scale_can_be_left_out(norm):
    if not (norm.takes("center") and norm.takes("scale")):
        return
    for center, scale in ((False, False), (True, False), (False, True)):
        layer = norm.build(center=center, scale=scale)
        layer.build(norm.input_shape)
        names = {w.name for w in layer.weights}
        assert ("beta" in names, bool(names & {"gamma", "scale"})) == (center, scale)


def test_clone_model_keeps_everything(row):
    inputs, layer = inputs_of(row), row.example()
    model = keras.Model(inputs, layer(inputs))
    clone = keras.models.clone_model(model)
    clone.set_weights(randomize(model).get_weights())
    x = data(row.input_shape)
    np.testing.assert_array_equal(model(x), clone(x))
    assert clone.layers[-1].get_config() == layer.get_config()
    assert clone.layers[-1] is not layer
