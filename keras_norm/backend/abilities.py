"""What the running backend is called and what it can do, for those who must name or refuse it.

No other file of the package asks Keras which backend runs. A faster version of an op is no matter
of abilities: the rule of this folder's `__init__` picks it.
"""

import keras


def running() -> str:
    """The running backend's name, for messages and for processes that must use the same one."""
    return keras.backend.backend()


def joins_replicas() -> bool:
    """Whether an op can sum over the replicas that train together: see `ops.replica_sum`."""
    return running() == "tensorflow"


def keeps_state_in_loops() -> bool:
    """Whether a weight that is written in each step of a recurrent layer's loop stays written."""
    return running() != "jax"


def optimizers_take_fewer() -> bool:
    """Whether an optimizer that was built for some weights may be given fewer of them."""
    return running() != "jax"


def writes_saved_models() -> bool:
    """Whether models can be traced into TensorFlow's graphs."""
    return running() == "tensorflow"
