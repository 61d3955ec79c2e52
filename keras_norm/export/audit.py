"""What a LiteRT (`.tflite`) file asks of the device that runs it, operation by operation."""

import collections
import dataclasses
import importlib.util
import io
import itertools
import os
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from keras_norm.export import delegates, operations
from keras_norm.export.operations import CONVERSIONS, Operation

REQUIREMENTS = MappingProxyType(
    {
        "builtin": "are built into LiteRT",
        "rank": f"have tensors of rank {delegates.HIGHEST_RANK} at most",
        "static": "have no free size",
        "xnnpack": "are run by XNNPACK",
        "gpu": "keep to the rules of LiteRT's GPU delegates",
        "int8": "compute in int8, or convert to or from it",
    }
)
"""What the operations of a file can be required to do."""

USUAL = ("builtin", "rank", "static", "xnnpack")
"""What `audit` requires if not told otherwise."""

# What norms stand between. The converter leaves no other sure sign of where a layer ends.
_KERNELS = frozenset(
    {
        "AVERAGE_POOL_2D",
        "BATCH_MATMUL",
        "CONV_2D",
        "CONV_3D",
        "CONV_3D_TRANSPOSE",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
        "MAX_POOL_2D",
        "TRANSPOSE_CONV",
    }
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One operation of a file, and who runs it.

    Attributes:
        operation: The operation.
        delegate: `"XNNPACK"`, `""` where LiteRT's own kernels run it, or `"unknown"` where that
            cannot be seen: in graphs other than the model itself, and in files that do not run.
        partition: Number of the delegate's partition; `None` where no delegate has it.
        gpu_refusal: Why LiteRT's GPU delegates refuse it; empty where they do not.
        full_pass: Whether it goes through a tensor as large as the largest one of its block.
    """

    operation: Operation
    delegate: str
    partition: int | None
    gpu_refusal: str
    full_pass: bool

    def as_dict(self) -> dict[str, Any]:
        """The row in types that JSON has."""
        described = dataclasses.asdict(self.operation)
        return {
            **described,
            "delegate": self.delegate,
            "partition": self.partition,
            "gpu_refusal": self.gpu_refusal,
            "full_pass": self.full_pass,
            "int8": self.operation.int8,
        }


@dataclasses.dataclass(frozen=True)
class Block:
    """A run of operations between two that have a kernel or a window (convolutions, matrix
    products, pools): a norm with the activation behind it, as a rule.

    Attributes:
        layer: The name scope that most of its operations have; empty where they have none.
        operations: How many operations it has.
        full_passes: How many of them read or write a tensor, not a constant, as large as the
            largest that the block touches. Memory bounds a norm, so these are what it costs.
        largest: Number of elements of that tensor.
    """

    layer: str
    operations: int
    full_passes: int
    largest: int


@dataclasses.dataclass(frozen=True)
class Audit:
    """What `audit` found.

    Attributes:
        path: The file.
        runtime: Name and version of the runtime that was asked.
        rows: One `Row` per operation.
        blocks: One `Block` per norm, as a rule.
        partitions: How many partitions XNNPACK has.
        stopped: Why LiteRT does not run the file, in its own words; empty where it does.
        required: The keys of `REQUIREMENTS` that `passed` goes by.
    """

    path: Path
    runtime: str
    rows: tuple[Row, ...]
    blocks: tuple[Block, ...]
    partitions: int
    stopped: str
    required: tuple[str, ...]

    @property
    def histogram(self) -> dict[str, int]:
        """How often each operation occurs, the most frequent first."""
        return dict(collections.Counter(row.operation.name for row in self.rows).most_common())

    @property
    def highest_rank(self) -> int:
        """The highest rank of a tensor that an operation reads or writes."""
        return max((row.operation.rank for row in self.rows), default=0)

    @property
    def int8_share(self) -> float:
        """The share of operations that write int8 and neither read nor write floats."""
        return sum(row.operation.int8 for row in self.rows) / max(len(self.rows), 1)

    @property
    def offenders(self) -> dict[str, tuple[Row, ...]]:
        """Per key of `REQUIREMENTS` the rows that do not hold to it."""
        held = {
            "builtin": lambda row: row.operation.builtin,
            "rank": lambda row: row.operation.rank <= delegates.HIGHEST_RANK,
            "static": lambda row: row.operation.static,
            "xnnpack": lambda row: row.delegate == "XNNPACK",
            "gpu": lambda row: not row.gpu_refusal,
            "int8": lambda row: row.operation.int8 or row.operation.name in CONVERSIONS,
        }
        return {key: tuple(r for r in self.rows if not holds(r)) for key, holds in held.items()}

    @property
    def passed(self) -> bool:
        """Whether every operation holds to what is required."""
        offenders = self.offenders
        return not any(offenders[key] for key in self.required)

    def as_dict(self) -> dict[str, Any]:
        """Everything in types that JSON has."""
        return {
            "path": str(self.path),
            "runtime": self.runtime,
            "passed": self.passed,
            "required": list(self.required),
            "offenders": {key: len(rows) for key, rows in self.offenders.items()},
            "stopped": self.stopped,
            "histogram": self.histogram,
            "highest_rank": self.highest_rank,
            "partitions": self.partitions,
            "int8_share": self.int8_share,
            "blocks": [dataclasses.asdict(block) for block in self.blocks],
            "rows": [row.as_dict() for row in self.rows],
        }

    def __str__(self) -> str:
        from rich.console import Console

        page = io.StringIO()
        Console(file=page, width=140, markup=False).print(self._table())
        table = [line.rstrip() for line in page.getvalue().rstrip().splitlines()]
        return "\n".join([*self._summary(), *table])

    def _summary(self) -> list[str]:
        lines = [f"{self.path} {'passes' if self.passed else 'DOES NOT PASS'} ({self.runtime})"]
        if self.stopped:
            lines.append(f"  LiteRT does not run it: {self.stopped}")
        count = len(self.rows)
        for key, rows in self.offenders.items():
            mark = "yes" if not rows else "NO" if key in self.required else "no"
            line = f"  {key:8} {mark:4} {count - len(rows)} of {count} {REQUIREMENTS[key]}"
            names = dict.fromkeys(row.operation.name for row in rows)
            lines.append(line + (f"; not {', '.join(names)}" if rows else ""))
        tally = ", ".join(f"{often} {name}" for name, often in self.histogram.items())
        lines.append(f"  operations: {count} ({tally})")
        lines.append(
            f"  highest rank: {self.highest_rank}; partitions of XNNPACK: {self.partitions}; "
            f"operations in int8: {self.int8_share:.0%}"
        )
        for block in self.blocks:
            lines.append(
                f"  {block.layer or '(no name)'}: {block.full_passes} full passes over "
                f"{block.largest} elements in {block.operations} operations"
            )
        return lines

    def _table(self) -> Any:
        from rich.box import SIMPLE
        from rich.table import Table

        table = Table(box=SIMPLE, pad_edge=False)
        for heading in (
            "#",
            "operation",
            "layer",
            "writes",
            "run by",
            "full pass",
            "why GPUs refuse it",
        ):
            table.add_column(heading, overflow="fold")
        for row in self.rows:
            operation = row.operation
            partition = "" if row.partition is None else f" {row.partition}"
            table.add_row(
                f"{operation.subgraph}:{operation.place}",
                operation.name,
                operation.layer,
                " ".join(str(tensor) for tensor in operation.outputs),
                (row.delegate or "LiteRT") + partition,
                "yes" if row.full_pass else "",
                row.gpu_refusal,
            )
        return table


def audit(path: str | os.PathLike[str], *, require: Collection[str] = USUAL) -> Audit:
    """Tells what a LiteRT file asks of the device that runs it.

    LiteRT's interpreter loads the file in this process, on the CPU, and XNNPACK takes of it what it
    takes; the file is not run on data. What GPU delegates refuse is told by rule: the operations
    that they have kernels for, ranks, free sizes, axes that are no constants.

    Args:
        path: A `.tflite` file, of this package or of another exporter.
        require: What `passed` goes by, any of `"builtin"` (no Flex or other custom operations),
            `"rank"` (4 at most), `"static"` (no free sizes), `"xnnpack"` (it runs every operation),
            `"gpu"` (no operation that GPU delegates refuse), `"int8"` (every operation but those
            that convert its inputs and outputs computes in int8). Defaults to the first four.

    Returns:
        An `Audit`. `print` shows it as a table; `as_dict` is made for JSON.

    Raises:
        FileNotFoundError: If there is no file at `path`.
        ImportError: If LiteRT is not installed.
        ValueError: If `path` is no sound `.tflite` file, or if `require` has other keys.

    Example:

    >>> import keras
    >>> import keras_norm
    >>> layers = [keras.Input((8, 8, 4)), keras_norm.GroupNormalization(2)]
    >>> path = keras_norm.export_litert(keras.Sequential(layers), "norm.tflite")
    >>> found = keras_norm.audit(path, require=["builtin", "rank", "static", "xnnpack", "gpu"])
    >>> found.passed, found.highest_rank, found.partitions
    (True, 4, 1)
    """
    path = Path(path)
    listed = isinstance(require, Collection) and not isinstance(require, str)
    if not listed or not all(isinstance(key, str) and key in REQUIREMENTS for key in require):
        raise ValueError(
            f"`require` must be a list of keys of {list(REQUIREMENTS)}. "
            f"Received: require={require!r}. Pass for example {list(USUAL)}."
        )
    interpreter, found = _opened(path)
    stopped = ""
    try:
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        stopped = " ".join(str(error).split())
    taken = {} if stopped else delegates.xnnpack_partitions(interpreter, found)
    runs = _blocks(found)
    full = {operation for run in runs for operation in _full_passes(run)}
    return Audit(
        path=path,
        runtime=f"ai-edge-litert {version('ai-edge-litert')}",
        rows=tuple(_row(each, taken, bool(stopped), each in full) for each in found),
        blocks=tuple(map(_block, runs)),
        partitions=len(set(taken.values())),
        stopped=stopped,
        required=tuple(require),
    )


def _opened(path: Path) -> tuple[Any, list[Operation]]:
    """LiteRT's interpreter of the file, and the file's operations."""
    if not path.is_file():
        raise FileNotFoundError(
            "`path` must be a file that exists. "
            f"Received: path={str(path)!r}. Write it with `export_litert` first."
        )
    if importlib.util.find_spec("ai_edge_litert") is None:
        raise ImportError(
            "Auditing a .tflite file needs LiteRT, which is not installed. "
            f'Received: path={str(path)!r}. Run `pip install "keras_norm[lite]"`.'
        )
    from ai_edge_litert.interpreter import Interpreter

    content = path.read_bytes()
    try:
        # LiteRT checks every offset of the file, but not the numbers that tensors and operations
        # are known by: the reader after it stumbles over those.
        return Interpreter(model_content=content), operations.read(content)
    except (ValueError, IndexError, KeyError) as error:
        raise ValueError(
            "`path` must be a sound LiteRT (.tflite) file. "
            f"Received: path={str(path)!r}. Write it again with `export_litert`."
        ) from error


def _row(operation: Operation, taken: dict[int, int], stopped: bool, full_pass: bool) -> Row:
    seen = operation.subgraph == 0 and not stopped
    partition = taken.get(operation.place) if seen else None
    delegate = "unknown" if not seen else "" if partition is None else "XNNPACK"
    return Row(operation, delegate, partition, delegates.gpu_refusal(operation), full_pass)


def _blocks(found: list[Operation]) -> list[list[Operation]]:
    """The runs of operations that make the blocks of a file."""
    runs = itertools.groupby(found, lambda each: (each.subgraph, each.name in _KERNELS))
    return [list(run) for (_, is_kernel), run in runs if not is_kernel]


def _full_passes(run: list[Operation]) -> list[Operation]:
    largest = max(operation.reach for operation in run)
    return [operation for operation in run if operation.reach == largest]


def _block(run: list[Operation]) -> Block:
    scopes = collections.Counter(operation.layer for operation in run if operation.layer)
    layer = scopes.most_common(1)[0][0] if scopes else ""
    passes = _full_passes(run)
    return Block(layer, len(run), len(passes), passes[0].reach)
