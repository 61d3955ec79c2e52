"""Bytes that a training step keeps between its forward and its backward pass.

They are counted in the graph of the step, as the layer and its gradients write it: every tensor
that an operation of the forward pass (or the input itself) has made and that an operation of the
backward pass reads. A tensor that is the same memory under another name (a reshape, an identity)
counts once. Weights do not count, since they stay anyway; nor does what is read for its shape
alone. The executor may keep less where it can fold or recompute; under XLA the whole step is one
program, and nothing is kept in this sense.
"""

import tensorflow as tf

SAME_MEMORY = ("Identity", "IdentityN", "Reshape", "StopGradient", "ExpandDims", "Squeeze")
SHAPE_ALONE = ("Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike")
FIXED = ("Const", "ReadVariableOp")


def origin(tensor):
    """The tensor whose memory this one is."""
    while tensor.op.type in SAME_MEMORY:
        tensor = tensor.op.inputs[tensor.value_index]
    return tensor


def bytes_of(tensor):
    """Its size, or 0 where it has none of its own: handles of weights, lists of tensors."""
    if tensor.dtype in (tf.resource, tf.variant) or tensor.op.type in FIXED:
        return 0
    return tensor.dtype.size * (tensor.shape.num_elements() or 0)


def kept(layer, case):
    """Bytes kept by a layer for the input shape and dtype of a case."""
    shape = tuple(case["shape"])
    layer.build(shape)
    return kept_by(lambda x: layer(x, training=True), shape, layer.compute_dtype)


def kept_by(function, shape, dtype="float32"):
    """Bytes kept by a function of one tensor for the gradients of it and of all variables."""
    forward = set()

    @tf.function
    def step(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        forward.update(op.name for op in x.graph.get_operations())
        # dy arrives later: it is no more than the gradient's own input.
        forward.discard(dy.op.name)
        return y, tape.gradient(y, [x, *tape.watched_variables()], dy)

    spec = tf.TensorSpec(shape, dtype)
    graph = step.get_concrete_function(spec, spec).graph
    tensors = {}
    for op in graph.get_operations():
        if op.name in forward or op.type in SHAPE_ALONE or op.type in SAME_MEMORY:
            continue
        for read in map(origin, op.inputs):
            if read.op.name in forward:
                tensors[read.name] = read
    return sum(map(bytes_of, tensors.values()))
