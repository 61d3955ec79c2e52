"""What is peculiar to batch normalization, batch renormalization, ghosts and means alone."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_norm
from tests.conformance.support import assert_close, data, randomize, weights_of
from tests.oracles.batch import renorm as renorm_oracle

SHAPE = (6, 4, 4, 3)


def test_momentum_zero_makes_inference_repeat_training():
    layer = keras_norm.BatchNormalization(momentum=0.0)
    x = data(SHAPE)
    trained = layer(x, training=True)
    assert_close(layer(x, training=False), trained.numpy(), 2e-6)


@pytest.mark.parametrize("name", ["BatchNormalization", "SwitchableNormalization"])
def test_momentum_none_is_the_moments_of_all_batches(name):
    layer = getattr(keras_norm, name)(momentum=None)
    batches = [data((size, 4, 4, 3), size) + size for size in (2, 5, 3)]
    for batch in batches:
        layer(batch, training=True)
    everything = np.concatenate(batches).astype("float64")
    for _ in range(2):
        assert_close(layer.moving_mean, everything.mean((0, 1, 2)), 1e-6)
        assert_close(layer.moving_variance, everything.var((0, 1, 2)), 1e-6)
        assert_close(layer.moving_count, np.full(3, 160.0), 1e-6)
        layer.reset_moving_moments()
        np.testing.assert_array_equal(layer.moving_variance, np.ones(3))
        for batch in batches:
            layer(batch, training=True)


def test_momentum_none_counts_what_masks_leave():
    layer = keras_norm.BatchNormalization(momentum=None)
    kept = []
    for seed in range(3):
        x, mask = data((4, 5, 3), seed), np.random.default_rng(seed).random((4, 5)) > 0.5
        layer(x, training=True, mask=mask)
        kept.append(x[mask])
    kept = np.concatenate(kept).astype("float64")
    assert_close(layer.moving_mean, kept.mean(0), 1e-6)
    assert_close(layer.moving_variance, kept.var(0), 1e-6)


def test_keras_renorm_is_refused_by_name():
    for arguments in ({"renorm": True}, {"renorm_clipping": {"rmax": 2.0}}):
        with pytest.raises(ValueError, match=r"Use `keras_norm\.BatchRenormalization"):
            keras_norm.BatchNormalization(**arguments)
    keras_norm.BatchNormalization(renorm=False, renorm_momentum=0.9)  # as in Keras's configs


def test_renorm_within_closed_limits_is_batch_norm():
    renorm = keras_norm.BatchRenormalization(rmax=1.0, dmax=0.0, rmax_ramp=None, dmax_ramp=None)
    plain = keras_norm.BatchNormalization()
    for seed in range(3):
        x = data(SHAPE, seed)
        assert_close(renorm(x, training=True), plain(x, training=True).numpy(), 1e-6)


def test_renorm_begins_as_batch_norm_by_default():
    layer, plain = keras_norm.BatchRenormalization(), keras_norm.BatchNormalization()
    x = data(SHAPE) * 5 + 3
    assert_close(layer(x, training=True), plain(x, training=True).numpy(), 1e-6)


def test_renorm_within_open_limits_trains_on_the_inference_function():
    layer = keras_norm.BatchRenormalization(rmax=1e3, dmax=1e3, rmax_ramp=None, dmax_ramp=None)
    layer.build(SHAPE)
    randomize(layer)
    x = data(SHAPE)
    expected = layer(x, training=False).numpy()
    assert_close(layer(x, training=True), expected, 2e-6)


def test_no_gradient_runs_through_r_and_d():
    """With open limits the output is the inference output, but its gradient is batch norm's · r."""
    layer = keras_norm.BatchRenormalization(
        rmax=1e3, dmax=1e3, rmax_ramp=None, dmax_ramp=None, scale=False, center=False
    )
    layer.build(SHAPE)
    layer.moving_variance.assign(4.0 * tf.ones(3))
    x, dy = tf.constant(data(SHAPE)), tf.constant(data(SHAPE, 2))
    plain = keras_norm.BatchNormalization(scale=False, center=False)
    gradients = []
    for each in (layer, plain):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(each(x, training=True) * dy)
        gradients.append(tape.gradient(loss, x).numpy())
    variance = x.numpy().astype("float64").var((0, 1, 2))
    r = np.sqrt((variance + 1e-3) / (4.0 + 1e-3))
    assert_close(gradients[0], gradients[1] * r, 1e-5)


def test_renorm_measures_small_moves_of_a_large_mean():
    """d = (mean - moving_mean) / σ, where float32 holds either mean to 0.06 only."""
    limits = {"rmax": 1e3, "dmax": 1e3, "rmax_ramp": None, "dmax_ramp": None}
    layer = keras_norm.BatchRenormalization(**limits)
    layer.build(SHAPE)
    layer.moving_mean.assign(1e6 * tf.ones(3))
    x = (data(SHAPE) + 1e6).astype("float32")
    expected, _, _ = renorm_oracle(x.astype("float64"), weights_of(layer), limits, True)
    assert_close(layer(x, training=True), expected, 1e-5)


def test_default_ramps_are_the_papers():
    layer = keras_norm.BatchRenormalization()
    layer.build(SHAPE)
    expected = {0: (1, 0), 5000: (1, 0), 22500: (2, 4.375), 25000: (1 + 2 * 20 / 35, 5)}
    for step, limits in {**expected, 40000: (3, 5), 10**6: (3, 5)}.items():
        layer.step.assign(step)
        rmin, rmax, dmax = (float(limit) for limit in layer.limits())
        assert (rmax, dmax) == pytest.approx(limits) and rmin == pytest.approx(1 / limits[0])


def test_a_ramp_may_be_a_jump_and_rmin_its_own():
    layer = keras_norm.BatchRenormalization(rmin=0.25, rmax_ramp=(3, 3), dmax_ramp=(0, 0))
    layer.build(SHAPE)
    for step, limits in {2: (1, 1, 5), 3: (0.25, 3, 5)}.items():
        layer.step.assign(step)
        assert [float(limit) for limit in layer.limits()] == pytest.approx(limits)


def test_limits_move_in_compiled_fit_and_go_on_after_loading(tmp_path):
    layer = keras_norm.BatchRenormalization(rmax_ramp=(2, 10), dmax_ramp=(2, 10), name="norm")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3), layer])
    model.compile("sgd", "mse", jit_compile=True)
    x = data((12, 3))
    model.fit(x, x, batch_size=3, epochs=1, verbose=0)
    assert int(layer.step) == 4
    assert float(layer.limits()[1]) == pytest.approx(1.5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.fit(x, x, batch_size=3, epochs=1, verbose=0)
    assert int(loaded.get_layer("norm").step) == 8
    assert float(loaded.get_layer("norm").limits()[2]) == pytest.approx(5 * 6 / 8)


def test_weights_of_batch_norm_fit_renorm_but_for_the_step():
    plain, renorm = keras_norm.BatchNormalization(), keras_norm.BatchRenormalization()
    for layer in (plain, renorm):
        layer.build(SHAPE)
    randomize(plain)
    renorm.set_weights([*plain.get_weights(), np.int32(0)])
    x = data(SHAPE)
    assert_close(renorm(x), plain(x).numpy(), 2e-6)
    assert list(weights_of(renorm)) == [*weights_of(plain), "step"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"rmax": 0.5}, "`rmax` must be a finite number of at least 1. Received: rmax=0.5"),
        ({"dmax": -1.0}, "`dmax` must be a finite number of at least 0. Received: dmax=-1.0"),
        ({"rmin": 1.5}, "`rmin` must be a finite number from 0 to 1. Received: rmin=1.5"),
        ({"rmin": -0.5}, "Received: rmin=-0.5"),
        ({"rmax": float("inf")}, "Received: rmax=inf"),
        ({"rmax_ramp": (9, 3)}, "`rmax_ramp` must be a pair (first, last) of steps"),
        ({"dmax_ramp": (-1, 3)}, "Received: dmax_ramp=(-1, 3). Choose such a pair, or leave"),
        ({"dmax_ramp": 5}, "Received: dmax_ramp=5"),
        ({"rmax_ramp": (1.5, 2)}, "Received: rmax_ramp=(1.5, 2)"),
    ],
)
def test_limits_of_the_wrong_order(arguments, text):
    with pytest.raises(ValueError) as error:
        keras_norm.BatchRenormalization(**arguments)
    assert text in str(error.value)


GHOSTS = {
    (6, 3): (3, 3),
    (7, 3): (3, 2, 2),
    (4, 3): (2, 2),
    (9, 4): (3, 3, 3),
    (5, 1): (1, 1, 1, 1, 1),
    (33, 32): (17, 16),
    (3, 8): (3,),
    (1, 2): (1,),
}


@pytest.mark.parametrize(("batch", "virtual"), GHOSTS)
@pytest.mark.parametrize("space", [(), (4, 5)], ids=["rank 2", "rank 4"])
def test_each_ghost_is_a_batch_of_its_own(batch, virtual, space):
    x = data((batch, *space, 3)) + 1e3
    layer = keras_norm.GhostBatchNormalization(virtual_batch_size=virtual)
    layer.build(x.shape)
    randomize(layer)
    plain = keras_norm.BatchNormalization()
    plain.build(x.shape)
    expected, first = [], 0
    for size in GHOSTS[batch, virtual]:
        plain.set_weights(layer.get_weights())
        expected.append(plain(x[first : first + size], training=True).numpy())
        first += size
    assert_close(layer(x, training=True), np.concatenate(expected), 2e-5)


def test_ghosts_are_plain_in_weights_inference_and_moving_moments():
    """Files, folding and recalibration serve both; inference takes any number of samples."""
    arguments = {"momentum": 0.8, "epsilon": 0.01}
    plain = keras_norm.BatchNormalization(**arguments)
    ghost = keras_norm.GhostBatchNormalization(**arguments, virtual_batch_size=4)
    for layer in (plain, ghost):
        layer.build(SHAPE)
        randomize(layer)
    assert list(weights_of(ghost)) == list(weights_of(plain))
    for seed, size in enumerate((8, 7, 3, 1)):
        x = data((size, *SHAPE[1:]), seed)
        mask = np.random.default_rng(seed).random(x.shape[:-1]) > 0.3
        for layer in (plain, ghost):
            layer(x, training=True, mask=mask)
    for name, value in weights_of(plain).items():
        assert_close(weights_of(ghost)[name], value, 1e-6)
    ghost.set_weights(plain.get_weights())
    for size in (1, 2, 5, 9):
        x = data((size, *SHAPE[1:]))
        np.testing.assert_array_equal(ghost(x), plain(x))


def test_the_moving_variance_is_what_inference_meets():
    """Ghosts of 2 samples hold half of the variance; the other half lies between them."""
    layer = keras_norm.GhostBatchNormalization(momentum=None, virtual_batch_size=2)
    x = np.random.default_rng(0).normal(size=(4000, 3)).astype("float32") * 3.0
    trained = layer(x, training=True).numpy()
    assert_close(layer.moving_variance, x.var(0), 1e-5)
    assert layer(x, training=False).numpy().std() == pytest.approx(trained.std(), rel=0.02)


@pytest.mark.parametrize("compile_", [False, True], ids=["graph", "xla"])
def test_batches_of_any_size_in_one_graph(compile_):
    """Keras 2 wanted the virtual batch size to divide the batch, in inference too."""
    layer, traces = keras_norm.GhostBatchNormalization(virtual_batch_size=4), []
    layer.build((None, 5, 3))

    @tf.function(input_signature=[tf.TensorSpec((None, 5, 3))], jit_compile=compile_)
    def call(x):
        traces.append(1)
        return layer(x, training=True), layer(x, training=False)

    for size in (4, 6, 3, 0, 1):
        x = data((size, 5, 3))
        expected = keras_norm.GhostBatchNormalization(virtual_batch_size=4)(x, training=True)
        trained, inferred = call(x)
        assert_close(trained, expected, 2e-6)
        assert inferred.shape == x.shape
    assert len(traces) == 1


def test_a_nan_stays_within_its_ghost():
    layer, x = keras_norm.GhostBatchNormalization(virtual_batch_size=2), data(SHAPE)
    clean = layer(x, training=True).numpy()
    x[3, 0, 0, 1] = np.nan
    poisoned = layer(x, training=True).numpy()
    assert np.isnan(poisoned[2:4, ..., 1]).all()
    poisoned[2:4], clean[2:4] = 0.0, 0.0
    np.testing.assert_array_equal(poisoned, clean)


def test_a_ghost_that_is_masked_as_a_whole():
    layer, x = keras_norm.GhostBatchNormalization(virtual_batch_size=2), data((6, 5, 3))
    mask = np.random.default_rng(0).random((6, 5)) > 0.3
    mask[2:4] = False
    y = layer(x, training=True, mask=mask).numpy()
    assert np.isfinite(y).all()
    kept = np.array([0, 1, 4, 5])
    again = keras_norm.GhostBatchNormalization(virtual_batch_size=2)
    assert_close(again(x[kept], training=True, mask=mask[kept]), y[kept], 2e-6)
    assert_close(again.moving_variance, layer.moving_variance.numpy(), 2e-6)


@pytest.mark.parametrize("value", [0, -1, 2.0, "2", None, True])
def test_virtual_batch_sizes_that_are_none(value):
    with pytest.raises(ValueError, match=r"`virtual_batch_size` must be an integer of at least 1"):
        keras_norm.GhostBatchNormalization(virtual_batch_size=value)


def test_ghosts_are_local():
    with pytest.raises(ValueError, match="Unrecognized keyword arguments"):
        keras_norm.GhostBatchNormalization(synchronized=True)


def test_mean_only_is_batch_norm_of_unit_variance():
    x = data(SHAPE)
    x = x / x.std((0, 1, 2))
    layer = keras_norm.MeanOnlyBatchNormalization(beta_initializer="ones")
    plain = keras_norm.BatchNormalization(
        epsilon=1e-12, momentum=0.9, beta_initializer="ones", scale=False
    )
    for _ in range(3):
        assert_close(layer(x, training=True), plain(x, training=True).numpy(), 2e-6)
    assert list(weights_of(layer)) == ["beta", "moving_mean"]
    assert_close(layer.moving_mean, plain.moving_mean.numpy(), 1e-6)


def test_mean_only_centres_the_gradient():
    """What Salimans and Kingma want of it: no gradient along a shift of the whole batch."""
    layer, x = keras_norm.MeanOnlyBatchNormalization(), tf.constant(data(SHAPE) + 1e4)
    dy = data(SHAPE, 2) + 5.0
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x, training=True) * dy)
    dx = tape.gradient(loss, x).numpy()
    assert_close(dx, dy - dy.mean((0, 1, 2)), 1e-6)


def test_mean_only_repeats_training_in_inference():
    layer, x = keras_norm.MeanOnlyBatchNormalization(momentum=0.0), data(SHAPE)
    trained = layer(x, training=True).numpy()
    assert_close(layer(x, training=False), trained, 2e-6)


def test_mean_only_averages_all_batches():
    layer = keras_norm.MeanOnlyBatchNormalization(momentum=None)
    batches = [data((size, 4, 3), size) + size for size in (2, 5, 3)]
    for _ in range(2):
        for batch in batches:
            layer(batch, training=True)
        everything = np.concatenate(batches).astype("float64")
        assert_close(layer.moving_mean, everything.mean((0, 1)), 1e-6)
        np.testing.assert_array_equal(layer.moving_count, np.full(3, 40.0))
        layer.reset_moving_moments()
        np.testing.assert_array_equal(layer.moving_mean, np.zeros(3))


def test_mean_only_has_no_variance_to_speak_of():
    for argument in ("epsilon", "scale", "gamma_initializer", "moving_variance_initializer"):
        with pytest.raises(ValueError, match="Unrecognized keyword arguments"):
            keras_norm.MeanOnlyBatchNormalization(**{argument: "ones"})
    kinds = inspect.signature(keras_norm.MeanOnlyBatchNormalization).parameters
    assert [name for name, p in kinds.items() if p.kind is p.POSITIONAL_OR_KEYWORD] == [
        "axis",
        "momentum",
        "center",
    ]
    with pytest.raises(TypeError):
        keras_norm.MeanOnlyBatchNormalization(-1, 0.9, True, "ones")
