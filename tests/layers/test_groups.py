"""What is peculiar to group and instance normalization."""

import keras
import pytest

import keras_norm
from tests.conformance.support import assert_close, data

SHAPE = (3, 4, 5, 6)


def test_one_group_per_channel_is_instance_norm():
    x = data(SHAPE)
    expected = keras_norm.InstanceNormalization()(x).numpy()
    for arguments in ({"groups": -1}, {"groups": 6}, {"group_size": 1}):
        assert_close(keras_norm.GroupNormalization(**arguments)(x), expected, 1e-6)


def test_minus_one_stays_minus_one():
    layer = keras_norm.GroupNormalization(groups=-1)
    for _ in range(2):
        assert layer.get_config()["groups"] == -1
        layer(data(SHAPE))


def test_group_size_is_the_channels_of_a_group():
    x = data(SHAPE)
    for size, groups in ((1, 6), (2, 3), (3, 2), (6, 1)):
        layer = keras_norm.GroupNormalization(group_size=size)
        assert_close(layer(x), keras_norm.GroupNormalization(groups)(x).numpy(), 1e-7)
        assert layer.get_config()["group_size"] == size


@pytest.mark.parametrize("argument", ["groups", "group_size"])
@pytest.mark.parametrize("value", [0, -2, 2.0, "2", True, [2]])
def test_groups_that_are_no_number_of_groups(argument, value):
    with pytest.raises(ValueError) as error:
        keras_norm.GroupNormalization(**{argument: value})
    assert f"`{argument}` must be a positive integer" in str(error.value)
    assert f"Received: {argument}={value!r}" in str(error.value)


def test_no_groups_at_all():
    with pytest.raises(ValueError, match="Received: groups=None"):
        keras_norm.GroupNormalization(groups=None)


def test_groups_and_group_size():
    with pytest.raises(ValueError, match=r"groups=2, group_size=3\. Pass one of the two"):
        keras_norm.GroupNormalization(groups=2, group_size=3)


def test_groups_that_do_not_divide_the_channels():
    for groups, argument in ((4, "groups"), (64, "groups"), (7, "group_size")):
        with pytest.raises(ValueError) as error:
            keras_norm.GroupNormalization(**{argument: groups})(keras.Input((8, 8, 30)))
        text = str(error.value)
        assert f"`{argument}` must divide the number of channels" in text
        assert f"Received: {argument}={groups} (30 channels" in text
        assert "Use one of 1, 2, 3, 5, 6, 10, 15, 30." in text


def test_permuting_channels_within_a_group_permutes_the_output():
    x = data(SHAPE)
    order = [1, 2, 0, 5, 3, 4]
    layer = keras_norm.GroupNormalization(groups=2)
    assert_close(layer(x[..., order]), layer(x).numpy()[..., order], 1e-6)
    across = [3, 1, 2, 0, 4, 5]
    assert abs(layer(x[..., across]).numpy() - layer(x).numpy()[..., across]).max() > 1e-2


def test_instance_norm_needs_positions():
    with pytest.raises(ValueError, match=r"must have rank 3 or higher.*Add axes of space or time"):
        keras_norm.InstanceNormalization()(data((4, 6)))
