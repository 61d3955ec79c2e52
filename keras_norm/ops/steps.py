"""What a step of a loop hands to the code after the loop."""

from typing import Any

from keras import ops

from keras_norm.backend import overridable


@overridable
def write_rows(variable: Any, start: Any, rows: Any) -> None:
    """Assigns some rows of a variable. Writes of different rows may come in any order.

    Args:
        variable: A `keras.Variable` of rank 2.
        start: Number of the first row, a scalar.
        rows: The rows, of shape [number, columns].
    """
    table = ops.convert_to_tensor(variable)
    variable.assign(ops.slice_update(table, (start, 0), rows))


@overridable
def loop_of() -> Any:
    """The loop that is being traced, where a variable written in it is lost after it; or `None`.

    Compare two answers with `==`. TensorFlow's loops write variables as any other code does.
    """
    return None
