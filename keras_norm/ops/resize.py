"""Maps brought to the size of other maps."""

from typing import Any

import numpy as np
from keras import ops


def resize_nearest(maps: Any, height: Any, width: Any) -> Any:
    """Maps [B, h, w, C] as [B, height, width, C]: pixel i is pixel ⌊i · h / height⌋ of the input.

    It gathers rows and columns, which every backend and runtime does alike and differentiates as
    often as one likes; TensorFlow's own resizing has no second derivative and another rule.

    Args:
        maps: A tensor of rank 4, channels last.
        height: The wanted height, an int or an integer tensor.
        width: The wanted width likewise.

    Returns:
        The resized maps; the input itself where the size is known to be right.
    """
    for axis, wanted in ((1, height), (2, width)):
        size = maps.shape[axis]
        if isinstance(wanted, int) and wanted == size:
            continue
        if isinstance(wanted, int) and size is not None:
            source = np.arange(wanted, dtype="int32") * size // wanted
        else:
            source = ops.arange(wanted, dtype="int32") * ops.shape(maps)[axis] // wanted
        maps = ops.take(maps, source, axis=axis)
    return maps
