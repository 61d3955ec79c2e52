"""Runs a `.tflite` file in NumPy with every number rounded to float16, accumulators included.

A GPU of a phone may do so. Constants, inputs and the result of each operation are rounded to
nearest, and so is the running sum of a reduction after each of its terms, one term after the other;
a reduction over several axes has one running sum. A mean is its sum over the number of terms.
Optionally numbers below float16's full precision become 0, as on hardware that has no such numbers.
Not modelled: the order in which a certain GPU adds, and its inexact divisions and roots.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

SMALLEST = 2.0**-14
CODES = {code: name for name, code in vars(schema.BuiltinOperator).items() if name.isupper()}
ACTIVATIONS = {
    schema.ActivationFunctionType.NONE: lambda x: x,
    schema.ActivationFunctionType.RELU: lambda x: np.maximum(x, np.float16(0.0)),
}
ELEMENTWISE = {
    "ABS": np.abs,
    "ADD": np.add,
    "SUB": np.subtract,
    "MUL": np.multiply,
    "DIV": np.divide,
    "MAXIMUM": np.maximum,
    "SQRT": np.sqrt,
    "RSQRT": lambda x: 1.0 / np.sqrt(x.astype("float32")),
}


def run(path, x, flush=True):
    """The file's output for one input.

    Args:
        path: A file with one input, one output and no other operations than those above, means,
            maxima and changes of shape.
        x: The input.
        flush: Whether numbers below 2^-14 become 0.

    Returns:
        The output, as float16.
    """
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    (graph,) = model.subgraphs

    def rounded(values):
        values = np.asarray(values).astype("float16")
        return np.where(np.abs(values) < SMALLEST, np.float16(0.0), values) if flush else values

    values = {graph.inputs[0]: rounded(x)}
    for index, tensor in enumerate(graph.tensors):
        constant = constant_of(model.buffers[tensor.buffer].data, tensor)
        if constant is not None:
            values[index] = rounded(constant) if constant.dtype == "float32" else constant
    with np.errstate(all="ignore"):
        for operator in graph.operators:
            name = CODES[code_of(model.operatorCodes[operator.opcodeIndex])]
            given = [values[index] for index in operator.inputs]
            result = computed(name, given, operator.builtinOptions, rounded)
            values[operator.outputs[0]] = rounded(result)
    return values[graph.outputs[0]]


def code_of(code):
    """An operation's number; the first hundred stand in a field of an older format, too."""
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def constant_of(data, tensor):
    """A constant tensor's values, or `None`."""
    if data is None or not len(data):
        return None
    dtype = {schema.TensorType.FLOAT32: "float32", schema.TensorType.INT32: "int32"}[tensor.type]
    shape = () if tensor.shape is None else tuple(tensor.shape)
    return np.frombuffer(bytes(data), dtype).reshape(shape)


def computed(name, given, options, rounded):
    """What an operation makes of its inputs."""
    if name in ELEMENTWISE:
        activation = getattr(options, "fusedActivationFunction", schema.ActivationFunctionType.NONE)
        return ACTIVATIONS[activation](rounded(ELEMENTWISE[name](*given)))
    x, argument = given
    if name == "RESHAPE":
        return x.reshape(argument)
    axes = tuple(np.atleast_1d(argument) % x.ndim)
    kept = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    kept = kept if options.keepDims else [n for axis, n in enumerate(x.shape) if axis not in axes]
    terms = np.moveaxis(x, axes, range(len(axes))).reshape(-1, *np.delete(x.shape, axes))
    if name == "REDUCE_MAX":
        return terms.max(0).reshape(kept)
    if name not in ("MEAN", "SUM"):
        raise NotImplementedError(f"The simulator has no {name}.")
    total = terms[0]
    for term in terms[1:]:
        total = rounded(total + term)
    return (total / np.float32(len(terms)) if name == "MEAN" else total).reshape(kept)
