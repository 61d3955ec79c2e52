"""Checkpoints of PyTorch and Flax, as kept files have them, load; what does not fit is refused."""

import doctest
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import keras_norm
from tests.torch.twins import check_flax, check_torch, closely, read

GOLDEN = Path(__file__).parents[2] / "saved_models" / "golden"
TORCH = read(GOLDEN / "torch" / "modules.npz", nested=False)
FLAX = read(GOLDEN / "flax" / "modules.npz", nested=True)


@pytest.mark.parametrize("name", TORCH)
def test_modules_of_torch(name):
    check_torch(name, TORCH[name])


@pytest.mark.parametrize("name", FLAX)
def test_modules_of_flax(name):
    check_flax(name, FLAX[name])


def small(**kwargs):
    """A network of two layers."""
    norm = keras_norm.BatchNormalization(name="norm", **kwargs)
    return keras.Sequential([keras.Input((3,)), layers.Dense(2, name="dense"), norm])


def checkpoint():
    """What PyTorch would have of it, every number another."""
    shapes = {"fc.weight": (2, 3), "fc.bias": 2, "bn.weight": 2, "bn.bias": 2}
    shapes |= {"bn.running_mean": 2, "bn.running_var": 2}
    drawn = np.random.default_rng(0)
    state = {key: drawn.uniform(0.5, 2.0, shape) for key, shape in shapes.items()}
    return {**state, "bn.num_batches_tracked": np.array(3)}


def refused(model, *args, match, load=keras_norm.load_torch_weights, **kwargs):
    """Loading fails with a message, and the model is as it was."""
    before = model.get_weights()
    with pytest.raises(ValueError, match=match):
        load(model, *args, **kwargs)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_the_report_says_what_came_from_where():
    report = keras_norm.load_torch_weights(small(), checkpoint())
    assert report.loaded["dense/kernel"] == "fc.weight"
    assert report.loaded["norm/moving_variance"] == "bn.running_var"
    assert report.left == report.unused == []
    assert report.ignored == ["bn.num_batches_tracked"]


def test_layers_find_modules_by_name_before_order():
    state = {key.replace("bn", "norm"): value for key, value in checkpoint().items()}
    state = {key.replace("fc", "dense"): value for key, value in reversed(state.items())}
    model = small()
    keras_norm.load_torch_weights(model, state)
    closely(model.get_layer("dense").kernel, state["dense.weight"].T)


def test_layers_within_layers_and_shared_ones():
    shared = layers.Dense(2, name="shared")
    inner = keras.Sequential([keras.Input((2,)), shared], name="inner")
    inputs = keras.Input((2,))
    model = keras.Model(inputs, inner(shared(inputs)))
    state = {"a.weight": np.ones((2, 2)), "a.bias": np.ones(2)}
    (path,) = {label.rpartition("/")[0] for label in keras_norm.load_torch_weights(model, state)[0]}
    keras_norm.load_torch_weights(model, state, mapping={path: "a"})
    nested = keras.Sequential([keras.Input((3,)), small(), layers.Dense(1, name="head")])
    part = {f"{nested.layers[0].name}/dense": "fc"}
    report = keras_norm.load_torch_weights(nested, checkpoint(), mapping=part, strict=False)
    assert report.left[-2:] == ["head/kernel", "head/bias"]
    assert "bn.weight" in report.unused


class Tensor:
    """As PyTorch's tensors behave: they must be detached and on the CPU before NumPy sees them."""

    def __init__(self, array, dtype="torch.float32", ready=()):
        self.array, self.dtype, self.ready = array, dtype, ready

    def detach(self):
        return Tensor(self.array, self.dtype, (*self.ready, "detached"))

    def cpu(self):
        return Tensor(self.array, self.dtype, (*self.ready, "cpu"))

    def float(self):
        return Tensor(self.array, "torch.float32", self.ready)

    def __array__(self, dtype=None, copy=None):
        assert self.ready == ("detached", "cpu") and self.dtype != "torch.bfloat16"
        return np.asarray(self.array, dtype)


@pytest.mark.parametrize("dtype", ["torch.float32", "torch.bfloat16"])
def test_tensors(dtype):
    model, state = small(), checkpoint()
    keras_norm.load_torch_weights(model, {k: Tensor(v, dtype) for k, v in state.items()})
    closely(model.get_layer("norm").gamma, state["bn.weight"])


def test_other_layers_with_moving_moments():
    norm = keras_norm.BatchRenormalization()
    norm.build((None, 2))
    norm.step.assign(7)
    state = {k[3:]: v for k, v in checkpoint().items() if k.startswith("bn.")}
    keras_norm.load_torch_weights(norm, state)
    closely(norm.moving_variance, state["running_var"])
    assert int(norm.step) == 7


def test_shapes_that_differ():
    state = {**checkpoint(), "fc.weight": np.ones((4, 3))}
    text = r"'fc.weight' of shape \(4, 3\) for weight 'dense/kernel' of shape \(3, 2\)"
    refused(small(), state, match=text)
    refused(small(), state, match=text, strict=False)
    refused(small(), {**checkpoint(), "fc.weight": np.ones((2, 3, 1))}, match="'dense/kernel'")
    wrapper = keras_norm.WeightNormalization(layers.Conv1DTranspose(3, 2))
    wrapper.build((None, 4, 2))
    of_inputs = TORCH["weight_norm of inputs"].state
    refused(wrapper, of_inputs, match=r"original0' of shape \(2, 1, 1\) for weight .*/g'")
    wrapper = keras_norm.SpectralNormalization(layers.DepthwiseConv2D(2))
    wrapper.build((None, 4, 4, 2))
    refused(wrapper, TORCH["spectral_norm of ConvTranspose2d"].state, match="/kernel' of shape")


def test_what_is_left_over():
    state = checkpoint()
    refused(small(), {**state, "fc.scale": np.ones(2)}, match=r"Received: \['fc.scale'\]")
    refused(small(scale=False), state, match=r"Received: \['bn.weight'\].*strict=False")
    without = {key: value for key, value in state.items() if key != "bn.running_var"}
    refused(small(), without, match=r"none for \['norm/moving_variance'\]")
    report = keras_norm.load_torch_weights(small(), without, strict=False)
    assert report.left == ["norm/moving_variance"]
    refused(small(momentum=None), state, match=r"none for \['norm/moving_count'\]")
    norm = keras_norm.InstanceNormalization()
    norm.build((None, 4, 2))
    tracked = {k[3:]: v for k, v in state.items() if k.startswith("bn.")}
    refused(norm, tracked, match="is another function than a module that does")
    lstm = layers.LSTM(2)
    lstm.build((None, 3, 2))
    refused(lstm, {"weight": np.ones((2, 8)), "bias": np.ones(8)}, match="none for .*/kernel'")


def test_layers_and_modules_that_cannot_be_matched():
    state = checkpoint()
    refused(small(), {k: v for k, v in state.items() if "bn" in k}, match="as many modules as")
    refused(small(), state, match="must name layers with weights", mapping={"relu": "fc"})
    refused(small(), state, match="must name modules of `state_dict`", mapping={"dense": "f"})
    params = {"params": {"first": {"kernel": np.ones((3, 2)), "bias": np.ones(2)}}}
    flax = keras_norm.load_flax_weights
    refused(small(), params, match="the names that Linen gives", load=flax)
    flax(small(), params, mapping={"dense": "first"}, strict=False)


class Twice(keras.Model):
    """Two layers of one name."""

    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(2, name="same"), layers.Dense(2, name="same")

    def call(self, x):
        return self.second(self.first(x))


def test_names_that_do_not_tell_layers_apart():
    model = Twice()
    model(np.ones((1, 2)))
    refused(model, {}, match="`model` must have a name of its own.*'same' for several")


def test_what_is_no_checkpoint():
    with pytest.raises(TypeError, match="`state_dict` must be a dictionary"):
        keras_norm.load_torch_weights(small(), "net.pt")
    with pytest.raises(TypeError, match="`variables` must be a nested dictionary"):
        keras_norm.load_flax_weights(small(), [1])
    with pytest.raises(TypeError, match="`mapping` must be a dictionary"):
        keras_norm.load_torch_weights(small(), checkpoint(), mapping=["fc"])
    with pytest.raises(TypeError, match="`model` must be a Keras model or layer"):
        keras_norm.load_torch_weights(3, {})
    with pytest.raises(ValueError, match="`model` must be built"):
        keras_norm.load_torch_weights(layers.Dense(2), {})
    refused(small(), {"a": "text"}, match="`state_dict` must hold arrays of real numbers")


@pytest.mark.parametrize("load", [keras_norm.load_torch_weights, keras_norm.load_flax_weights])
def test_examples_run(load):
    names = {**vars(keras_norm), "np": np}
    example = doctest.DocTestParser().get_doctest(load.__doc__, names, load.__name__, None, None)
    assert example.examples and doctest.DocTestRunner(verbose=False).run(example).failed == 0
