"""Which operations of a LiteRT file the delegates take: XNNPACK's by asking it, a GPU's by rule."""

from typing import Any

from keras_norm.export.operations import Operation

HIGHEST_RANK = 4
"""The highest rank of a tensor that GPU delegates take."""

REDUCTIONS = frozenset({"MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"})
SLICES = frozenset({"SLICE", "STRIDED_SLICE"})

# The cases of `CheckGpuDelegateCompatibility` in TensorFlow's
# tensorflow/lite/tools/versioning/gpu_compatibility.cc. The analyzer that comes with the wheels
# cannot be asked instead: it calls files with Flex operations and rank 5 compatible.
_OTHERS = """
    ABS ADD ADD_N ATAN2 AVERAGE_POOL_2D BATCH_MATMUL CAST CEIL CONCATENATION CONV_2D COS CUMSUM
    DENSIFY DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV DYNAMIC_UPDATE_SLICE ELU
    EMBEDDING_LOOKUP EQUAL EXP FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GELU GREATER
    GREATER_EQUAL HARD_SWISH LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGISTIC LSTM MAXIMUM
    MAX_POOL_2D MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL ONE_HOT PACK PAD PADV2 POW PRELU QUANTIZE RELU
    RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SELECT SELECT_V2 SIGN
    SIN SOFTMAX SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE STABLEHLO_CLAMP SUB TANH
    TILE TRANSPOSE TRANSPOSE_CONV
"""
GPU_OPERATIONS = REDUCTIONS | SLICES | frozenset(_OTHERS.split())
"""Operations that LiteRT's GPU delegates have kernels for."""


def gpu_refusal(operation: Operation) -> str:
    """Why LiteRT's GPU delegates refuse an operation.

    These are the rules that norms run into, not all that there are: a file without a refusal may
    still be refused for what no norm does, such as a dilation of 0.

    Args:
        operation: An operation of a file.

    Returns:
        The reason; empty where the rules have none.
    """
    if not operation.builtin:
        return "is not built into LiteRT"
    if operation.name not in GPU_OPERATIONS:
        return "has no GPU kernel"
    if operation.rank > HIGHEST_RANK:
        return f"has a tensor of rank {operation.rank}"
    if operation.name in SLICES and len(operation.inputs[0].shape) < 3:
        return f"slices a tensor of rank {len(operation.inputs[0].shape)}"
    if operation.name in REDUCTIONS and not operation.inputs[1].constant:
        return "has axes that are no constant"
    if not operation.static:
        return "has a free size"
    return ""


def xnnpack_partitions(interpreter: Any, operations: list[Operation]) -> dict[int, int]:
    """Which operations of the model XNNPACK runs.

    Args:
        interpreter: A LiteRT interpreter of the file, with its tensors allocated.
        operations: The operations of the file.

    Returns:
        From the place of each operation that XNNPACK took, in subgraph 0, to the number of its
        partition.
    """
    writers = {
        tensor.index: operation
        for operation in operations
        if operation.subgraph == 0
        for tensor in operation.outputs
    }
    # No public method tells. A delegate stands behind the operations as one node per partition,
    # with the tensors that go in and come out; between these lies what it has taken.
    nodes = [n for n in interpreter._get_ops_details() if n["op_name"] == "DELEGATE"]
    result: dict[int, int] = {}
    for number, node in enumerate(nodes):
        given = {int(index) for index in node["inputs"]}
        wanted = [int(index) for index in node["outputs"]]
        while wanted:
            index = wanted.pop()
            if index in given or index not in writers or writers[index].place in result:
                continue
            operation = writers[index]
            result[operation.place] = number
            wanted += [tensor.index for tensor in operation.inputs]
    return result
