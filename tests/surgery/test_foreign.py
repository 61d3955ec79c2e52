"""Models of Keras 2, Addons and keras-contrib load without either, exactly or with a word on why.

The files of `saved_models/golden/addons` were written by the real TensorFlow Addons;
`make test-addons` checks many more.
"""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

import keras_norm
from keras_norm.cli import app
from keras_norm.surgery.foreign import norms
from tests.surgery.argument_table import CONTRIB, PAGE, table
from tests.surgery.foreign_files import called, functional, layer, sequential, write_h5

GOLDEN = Path(__file__).parents[2] / "saved_models" / "golden" / "addons"
FILES = "instance.h5", "masked.keras", "spectral", "weight_fresh.keras"


def recorded(name):
    data = np.load(GOLDEN / f"{Path(name).stem}.npz")
    return data["x"], data["y"]


def load(path, **how):
    """The model, and what was printed."""
    lines = []
    model = keras_norm.load_foreign(path, print_fn=lines.append, **how)
    return model, "\n".join(lines)


def check(model, name):
    x, y = recorded(name)
    assert np.abs(np.asarray(model(x)) - y).max() <= 1e-5 * max(np.abs(y).max(), 1.0)


@pytest.mark.parametrize("name", FILES)
def test_files_of_the_real_addons(name, tmp_path):
    old, new = GOLDEN / name, tmp_path / "new.keras"
    done = CliRunner().invoke(app, ["migrate", str(old), str(new)])
    assert done.exit_code == 0, done.output
    again = keras.saving.load_model(new)
    check(again, name)
    x, y = recorded(name)
    assert keras_norm.verify(keras_norm.load_foreign(old, verbose=False), new, data=x).passed
    again.compile(keras.optimizers.Adam(1e-2), "mse", run_eagerly=True)
    losses = again.fit(x, y + 0.5, epochs=8, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


def test_the_program(tmp_path):
    """In a process of its own, as the console script runs it."""
    program = [sys.executable, "-c", "from keras_norm.cli import main; main()"]
    command = [*program, "migrate", GOLDEN / "instance.h5", "new.keras"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, *_, last = done.stdout.splitlines()
    assert first == "sequential: 3 layers became layers of keras_norm"
    assert last == "Wrote new.keras" and [path.name for path in tmp_path.iterdir()] == [last[6:]]
    check(keras.saving.load_model(tmp_path / "new.keras"), "instance.h5")


def test_the_report():
    _, text = load(GOLDEN / "spectral")
    assert text.startswith("model: 4 layers became layers of keras_norm\n")
    assert "  Addons SpectralNormalization -> SpectralNormalization: 4\n" in text
    assert "not carried: optimizer, loss and metrics" in text
    assert "spectral_normalization_1 (SpectralNormalization): from now on training divides" in text


def test_it_is_silent_if_told(capsys):
    keras_norm.load_foreign(GOLDEN / "instance.h5", verbose=False)
    assert capsys.readouterr().out == ""


def test_the_scope_serves_plain_load_model(tmp_path):
    before = keras.saving.load_model
    with keras_norm.addons_compat():
        check(keras.saving.load_model(GOLDEN / "instance.h5"), "instance.h5")
        with pytest.warns(match="model: not carried over:\n  optimizer, loss and metrics"):
            old = keras.models.load_model(str(GOLDEN / "masked.keras"))
        check(old, "masked.keras")
        new = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        new.save(tmp_path / "new.keras")
        assert keras.models.load_model(tmp_path / "new.keras").count_params() == 3
    assert keras.saving.load_model is before and keras.models.load_model is before
    with pytest.raises(RuntimeError, match="why"), keras_norm.addons_compat():
        raise RuntimeError("why")
    assert keras.saving.load_model is before


def test_nothing_is_registered_under_the_names_of_others():
    names = keras.saving.get_custom_objects()
    assert not [name for name in names if name.startswith(("Addons>", "Instance", "Group"))]


def test_weights_alone():
    model, _ = load(GOLDEN / "masked.keras")
    other = keras.models.clone_model(model)
    keras_norm.load_foreign(GOLDEN / "masked.keras", model=other, verbose=False)
    check(other, "masked.keras")
    mine = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(6, 3, activation="relu"),
            keras_norm.InstanceNormalization(name="a"),
            keras.layers.Conv2D(4, 3, padding="same"),
            keras_norm.InstanceNormalization(epsilon=1e-5, name="b"),
            keras_norm.InstanceNormalization(center=False, scale=False),
            keras.layers.GlobalMaxPooling2D(),
        ]
    )
    keras_norm.load_foreign(GOLDEN / "instance.h5", model=mine, verbose=False)
    check(mine, "instance.h5")


@pytest.mark.parametrize("alone", [False, True])
def test_moments_that_a_layer_was_adapted_to(alone, tmp_path):
    described = layer("Normalization", axis=[-1], invert=False, mean=None, variance=None)
    mean, variance = [1.0, 2.0, 3.0, 4.0], [4.0, 9.0, 16.0, 25.0]
    weights = {"layer": {"mean": mean, "variance": variance, "count": 3}}
    path = write_h5(tmp_path / "old.h5", sequential(described), weights)
    mine = keras.Sequential([keras.Input((4,)), keras.layers.Normalization()]) if alone else None
    model, _ = load(path, model=mine)
    y = np.asarray(model(np.zeros((1, 4), "float32")))
    np.testing.assert_allclose(y, [[-1 / 2, -2 / 3, -3 / 4, -4 / 5]], rtol=1e-6)


def test_renormalization_of_virtual_batches_is_reported(tmp_path):
    described = layer("BatchNormalization", axis=[2], renorm=True, virtual_batch_size=2)
    moments = {"mean": np.zeros(4), "variance": np.ones(4)}
    weights = {"layer": {"gamma": np.ones(4), "beta": np.zeros(4), **moments}}
    _, text = load(write_h5(tmp_path / "old.h5", sequential(described), weights))
    assert "layer (BatchNormalization): virtual_batch_size=2 is left out" in text


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def contributed(tmp_path, described, weights, shape):
    path = tmp_path / "old.h5"
    return load(write_h5(path, sequential(described, shape=shape), weights, version="2.2.4"))


@pytest.mark.parametrize("axis", [None, -1, 1])
def test_contributed_instance_norm_adds_epsilon_to_the_deviation(axis, tmp_path, rng):
    arguments = {**CONTRIB["InstanceNormalization"], "axis": axis, "epsilon": 0.1}
    described = layer("InstanceNormalization", **arguments)
    size = 1 if axis is None else 3
    gamma, beta = rng.normal(size=(2, size))
    model, text = contributed(
        tmp_path, described, {"layer": {"gamma": gamma, "beta": beta}}, (None, 3, 4, 3)
    )
    x = rng.normal(2.0, 0.5, (2, 3, 4, 3))
    over = (1, 2, 3) if axis is None else (2, 3) if axis == 1 else (1, 2)
    shape = (1, 3, 1, 1) if axis == 1 else (1, 1, 1, size)
    expected = (x - x.mean(over, keepdims=True)) / (x.std(over, keepdims=True) + 0.1)
    expected = expected * gamma.reshape(shape) + beta.reshape(shape)
    np.testing.assert_allclose(np.asarray(model(x)), expected, atol=1e-5)
    assert "keras-contrib InstanceNormalization" in text
    assert "layer (InstanceNormalization): taken for keras-contrib's by its name" in text


def test_contributed_group_norm_with_channels_first(tmp_path, rng):
    arguments = {**CONTRIB["GroupNormalization, axis=1"], "groups": 2, "epsilon": 1e-3}
    described = layer("GroupNormalization", **arguments)
    gamma, beta = rng.normal(size=(2, 4))
    model, _ = contributed(
        tmp_path, described, {"layer": {"gamma": gamma, "beta": beta}}, (None, 4, 3)
    )
    x = rng.normal(2.0, 3.0, (2, 4, 3))
    parts = x.reshape(2, 2, 6)
    parts = parts - parts.mean(-1, keepdims=True)
    parts = parts / np.sqrt((parts**2).mean(-1, keepdims=True) + 1e-3)
    expected = parts.reshape(x.shape) * gamma[:, None] + beta[:, None]
    np.testing.assert_allclose(np.asarray(model(x)), expected, atol=1e-5)


def test_contributed_batch_renorm_and_its_counters(tmp_path, rng):
    arguments = {**CONTRIB["BatchRenormalization"], "momentum": 0.9, "r_max_value": 2.0}
    described = layer("BatchRenormalization", **arguments)
    gamma, beta, mean = rng.normal(size=(3, 4))
    variance = rng.uniform(0.5, 2.0, 4)
    weights = {"layer_gamma": gamma, "layer_beta": beta, "layer_running_mean": mean}
    counters = {"layer_r_max": [1.0], "layer_d_max": [0.0], "layer_t": [0.0]}
    stored = {"layer": {**weights, "layer_running_std": variance, **counters}}
    model, text = contributed(tmp_path, described, stored, (None, 4))
    x = rng.normal(size=(5, 4))
    expected = gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta
    np.testing.assert_allclose(np.asarray(model(x)), expected, atol=1e-5)
    assert model.layers[0].rmax == 2.0 and "follow the paper's ramps" in text


def test_arguments_of_a_cell(tmp_path):
    cell = layer(
        "LayerNormLSTMCell", "cell", "tensorflow_addons.rnn", units=2, dropout=0.1, norm_epsilon=0.5
    )
    sizes = (4, 8), (2, 8), (8,), (8,), (8,), (8,), (8,), (2,), (2,)
    weights = {f"weight_{n}": np.full(size, n) for n, size in enumerate(sizes)}
    described = layer("RNN", cell={**cell, "registered_name": "Addons>LayerNormLSTMCell"})
    path = write_h5(
        tmp_path / "old.h5", sequential(described, shape=(None, 3, 4)), {"layer": weights}
    )
    model, _ = load(path)
    cell = model.layers[0].cell
    assert type(cell) is keras_norm.LayerNormLSTMCell
    assert (cell.dropout, cell.epsilon, cell.layout) == (0.1, 0.5, "addons")
    assert float(cell.state_beta[0]) == 8.0 and float(cell.kernel_gamma[0]) == 3.0


def test_hard_sigmoid_is_that_of_keras_2(tmp_path):
    x = np.linspace(-4, 4, 4, dtype="float32")[None]
    described = layer("Activation", activation="hard_sigmoid")
    model, _ = load(write_h5(tmp_path / "old.h5", sequential(described)))
    np.testing.assert_allclose(np.asarray(model(x)), np.clip(0.2 * x + 0.5, 0, 1), atol=1e-6)
    model.save(tmp_path / "new.keras")
    again = keras.saving.load_model(tmp_path / "new.keras")
    np.testing.assert_array_equal(np.asarray(again(x)), np.asarray(model(x)))


def test_a_number_before_an_operator(tmp_path):
    """Keras 2 writes it in place of a reference, and the tensor among the arguments."""
    node = ["_CONSTANT_VALUE", -1, 3.0, {"y": ["input_1", 0, 0], "name": None}]
    described = {**layer("TFOpLambda", function="math.subtract"), "inbound_nodes": [node]}
    model, _ = load(write_h5(tmp_path / "old.h5", functional(described)))
    np.testing.assert_array_equal(np.asarray(model(np.ones((1, 4)))), np.full((1, 4), 2.0))


def test_a_state_to_begin_with(tmp_path, rng):
    """Keras 2 writes it among the inputs."""
    steps = called(layer("Reshape", "steps", target_shape=[2, 2]), ("input_1", 0, 0))
    described = layer("SimpleRNN", units=4, activation="tanh")
    described["inbound_nodes"] = [[["steps", 0, 0, {}], ["input_1", 0, 0, {}]]]
    kernel, recurrent, bias = rng.normal(size=(2, 4)), rng.normal(size=(4, 4)), rng.normal(size=4)
    weights = {"layer": {"kernel": kernel, "recurrent": recurrent, "bias": bias}}
    model, _ = load(write_h5(tmp_path / "old.h5", functional(steps, described), weights))
    state = x = rng.normal(size=(3, 4))
    for step in (x[:, :2], x[:, 2:]):
        state = np.tanh(step @ kernel + state @ recurrent + bias)
    np.testing.assert_allclose(np.asarray(model(x)), state, atol=1e-5)


def test_a_norm_in_each_step_behind_a_mask(tmp_path, rng):
    embedding = layer("Embedding", "words", input_dim=3, output_dim=4, mask_zero=True)
    norm = layer("Addons>GroupNormalization", "norm", groups=1, epsilon=1e-9)
    described = layer("TimeDistributed", layer=norm)
    layers = called(embedding, ("input_1", 0, 0)), called(described, ("words", 0, 0))
    table = rng.normal(size=(3, 4))
    weights = {"words": {"table": table}, "layer": {"gamma": np.ones(4), "beta": np.zeros(4)}}
    model, _ = load(write_h5(tmp_path / "old.h5", functional(*layers), weights))
    model.save(tmp_path / "new.keras")
    words = np.array([[0, 1, 2, 0]])
    rows = table[words]
    expected = (rows - rows.mean(-1, keepdims=True)) / rows.std(-1, keepdims=True)
    for one in (model, keras.saving.load_model(tmp_path / "new.keras")):
        y = one(words)
        np.testing.assert_allclose(np.asarray(y), expected, atol=1e-5)
        np.testing.assert_array_equal(np.asarray(y._keras_mask), words != 0)


def test_what_only_training_would_tell_is_reported(tmp_path):
    mine = {"class_name": "Mine", "config": {}}
    described = layer("Dense", units=1, kernel_initializer=mine, kernel_regularizer=mine)
    weights = {"layer": {"kernel": np.ones((4, 1)), "bias": [2.0]}}
    model, text = load(write_h5(tmp_path / "old.h5", sequential(described), weights))
    assert np.asarray(model(np.ones((1, 4)))) == 6.0
    assert "layer (Dense): kernel_initializer 'Mine' is unknown and left out" in text
    assert "layer (Dense): kernel_regularizer 'Mine' is unknown and left out" in text


@pytest.mark.parametrize("nested_first", [False, True])
def test_a_layer_of_several_models(nested_first, tmp_path, rng):
    """Keras 2 marks it, but for a nested model that it wrote before it saw the layer again."""
    kernel, bias = rng.normal(size=(4, 4)), rng.normal(size=4)
    dense = layer("Dense", "both", units=4)
    marked = {**dense, "shared_object_id": 3}
    if nested_first:
        inner = functional(
            called(dense, ("input_2", 0, 0)), name="old", inputs="input_2", output="both"
        )
        layers = called(inner, ("input_1", 0, 0)), called(marked, ("old", 1, 0))
        config = functional(*layers, output="both")
    else:
        layers = called(marked, ("input_1", 0, 0)), called(sequential(marked), ("both", 0, 0))
        config = functional(*layers, output="old", call=1)
    weights = {"both": {"kernel": kernel, "bias": bias}}
    weights["old"] = {"both/kernel": kernel, "both/bias": bias}
    model, text = load(write_h5(tmp_path / "old.h5", config, weights))
    model.save(tmp_path / "new.keras")
    x = rng.normal(size=(2, 4))
    expected = (x @ kernel + bias) @ kernel + bias
    for one in (model, keras.saving.load_model(tmp_path / "new.keras")):
        np.testing.assert_allclose(np.asarray(one(x)), expected, rtol=1e-5, atol=1e-5)
    assert text.count("both (Dense): it stands in several models; now each has a layer") == 1


def test_weight_norm_that_was_never_called_has_no_data_init(tmp_path, rng):
    """Addons sets g and bias by the data of the first call, whatever they are."""
    dense = layer("Dense", "dense", units=3)
    described = layer("Addons>WeightNormalization", "wrapper", layer=dense, data_init=True)
    kernel, bias = rng.normal(size=(4, 3)), rng.normal(size=3)
    weights = {"g": np.ones(3), "v": kernel, "bias": bias, "initialized": False}
    copy = {"clone/kernel": kernel, "clone/bias": bias}
    path = write_h5(tmp_path / "a.h5", sequential(described), {"wrapper": {**weights, **copy}})
    model, text = load(path)
    x = rng.normal(size=(2, 4))
    np.testing.assert_allclose(np.asarray(model(x)), x @ kernel + bias, atol=1e-5)
    assert "wrapper (WeightNormalization): it was saved before its first call" in text


def test_the_table_of_arguments_is_what_the_code_does():
    assert table() in PAGE.read_text()


def test_the_table_has_every_class():
    for name in [*(f"Addons>{name}" for name in norms.ADDONS), *norms.CONTRIB]:
        assert f"| `{name}" in PAGE.read_text()
