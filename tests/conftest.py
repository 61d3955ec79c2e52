"""Two logical CPU devices for replicas, one thread pool per worker, and the row under test."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, settings
from tensorflow.python.framework.ops import gradient_registry

from keras_norm.catalog import catalog

COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "print_blob": True}
settings.register_profile("quick", max_examples=400, derandomize=True, **COMMON)
settings.register_profile("thorough", max_examples=16_000, **COMMON)
settings.load_profile("quick")

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


def pytest_collection_finish():
    """What imports have made stays: no collection of garbage needs to look through it again."""
    gc.freeze()


@pytest.fixture(params=catalog, ids=lambda row: row.name)
def row(request):
    """Each row of the catalog in turn."""
    return request.param


@pytest.fixture(params=catalog.of_kind("activations"), ids=lambda row: row.name)
def norm(request):
    """Each row of a layer of the frame in turn."""
    return request.param


@pytest.fixture(scope="session")
def strategy():
    """One for the process: TensorFlow numbers the collectives of each new strategy from 1 again."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture(autouse=True)
def fresh_keras():
    """No test sees another's names, seeds or dtype policy."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


@pytest.fixture(autouse=True)
def forgotten_graphs():
    """TensorFlow keeps each custom gradient of a graph, and so the whole graph, for ever.

    Those of a run are gigabytes, which every collection of garbage looks through.
    """
    kept = set(gradient_registry.list())
    yield
    for name in set(gradient_registry.list()) - kept:
        if name.startswith("CustomGradient-"):
            del gradient_registry._registry[name]
