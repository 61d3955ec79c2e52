"""The operations of a LiteRT file, as they stand in it."""

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Any

CONVERSIONS = frozenset({"DEQUANTIZE", "QUANTIZE"})
"""Operations that stand between integers and floats, as at the borders of a file in int8."""

_NUMBER = re.compile(r"_\d+$")


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor that an operation reads or writes.

    Attributes:
        index: Its place in the subgraph.
        shape: Its sizes, `None` for a free one.
        dtype: Name of its type, such as `"float32"` or `"int8"`.
        constant: Whether the file holds its numbers.
    """

    index: int
    shape: tuple[int | None, ...]
    dtype: str
    constant: bool

    @property
    def static(self) -> bool:
        """Whether no size is free."""
        return None not in self.shape

    @property
    def elements(self) -> int:
        """Number of elements, a free size counting 1."""
        return math.prod(size or 1 for size in self.shape)

    def __str__(self) -> str:
        sizes = "×".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.dtype}[{sizes}]"


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operation of a file.

    Attributes:
        subgraph: Which graph of the file it stands in: 0 is the model, others are loops' bodies.
        place: Its place in that graph.
        name: LiteRT's name of a built-in operation, or the name of a custom one.
        builtin: Whether it is built into LiteRT; Flex (TensorFlow) and other custom ones are not.
        layer: The name scope that the converter left on its output, mostly a Keras layer's path;
            empty where it left none.
        inputs: What it reads.
        outputs: What it writes.
    """

    subgraph: int
    place: int
    name: str
    builtin: bool
    layer: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What it reads, then what it writes."""
        return (*self.inputs, *self.outputs)

    @property
    def rank(self) -> int:
        """The highest rank among its tensors."""
        return max((len(tensor.shape) for tensor in self.tensors), default=0)

    @property
    def static(self) -> bool:
        """Whether none of its tensors has a free size."""
        return all(tensor.static for tensor in self.tensors)

    @property
    def int8(self) -> bool:
        """Whether it writes int8 and neither reads nor writes floats."""
        return any(tensor.dtype == "int8" for tensor in self.outputs) and not any(
            "float" in tensor.dtype for tensor in self.tensors
        )

    @property
    def reach(self) -> int:
        """Elements of the largest tensor that it goes through, constants apart."""
        # SHAPE looks at the sizes of what it is given, and at no number.
        through = self.outputs if self.name == "SHAPE" else self.tensors
        return max((tensor.elements for tensor in through if not tensor.constant), default=0)


def read(content: bytes) -> list[Operation]:
    """Reads the operations of a `.tflite` file, graph by graph, in the order they run in.

    Args:
        content: What the file holds; its offsets must be known to be sound.

    Returns:
        The operations.

    Raises:
        IndexError: If the file names a tensor or an operation that it does not have.
        KeyError: If it has a kind of operation or tensor that LiteRT has not.
    """
    # Imported here: LiteRT is an extra.
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    builtin, types = _names(schema.BuiltinOperator), _names(schema.TensorType)
    codes = [_code(code, builtin) for code in model.operatorCodes or []]
    return [
        operation
        for number, graph in enumerate(model.subgraphs)
        for operation in _of_graph(number, graph, codes, types)
    ]


def _names(enumeration: type) -> dict[int, str]:
    """The names of a generated class of numbers, by number."""
    return {v: k for k, v in vars(enumeration).items() if isinstance(v, int)}


def _code(code: Any, builtin: dict[int, str]) -> tuple[str, bool]:
    """Name of an operator code, and whether it is built in."""
    if code.customCode:
        return code.customCode.decode(), False
    # Old files have the code in a field of one byte, which is the greater where both are set.
    return builtin[max(code.builtinCode, code.deprecatedBuiltinCode)], True


def _of_graph(
    number: int, graph: Any, codes: list[tuple[str, bool]], types: dict[int, str]
) -> Iterator[Operation]:
    operators = _entries(graph.operators)
    computed = {index for operator in operators for index in _entries(operator.outputs)}
    computed.update(_entries(graph.inputs))
    tensors = [
        Tensor(
            index,
            _shape(tensor),
            types[tensor.type].lower(),
            index not in computed and not tensor.isVariable,
        )
        for index, tensor in enumerate(_entries(graph.tensors))
    ]
    for place, operator in enumerate(operators):
        name, builtin = codes[operator.opcodeIndex]
        # An argument that is left out has the index -1.
        inputs, outputs = (
            [index for index in _entries(indices) if index >= 0]
            for indices in (operator.inputs, operator.outputs)
        )
        yield Operation(
            number,
            place,
            name,
            builtin,
            _scope(graph.tensors[outputs[0]].name) if outputs else "",
            tuple(tensors[index] for index in inputs),
            tuple(tensors[index] for index in outputs),
        )


def _entries(vector: Any) -> list[Any]:
    """A vector of the file as a list: one without entries is `None`."""
    return [] if vector is None else list(vector)


def _shape(tensor: Any) -> tuple[int | None, ...]:
    # The signature is there only where a size is free.
    for sizes in (tensor.shapeSignature, tensor.shape):
        if sizes is not None:
            return tuple(None if size < 0 else int(size) for size in sizes)
    return ()


def _scope(name: bytes | None) -> str:
    """`b"model_1/norm_2/Mean;model_1/norm_2/sum"` as `norm`: neither the model nor the operation.

    Keras 3 opens every scope twice, so TensorFlow numbers the second one, the model's as well: one
    number goes. Where the model's scope has none, numbers belong to the names.
    """
    model, *scopes = (name or b"").decode(errors="replace").split(";")[0].split("/")[:-1] or [""]
    numbered = _NUMBER.search(model)
    return "/".join(_NUMBER.sub("", scope) if numbered else scope for scope in scopes)
