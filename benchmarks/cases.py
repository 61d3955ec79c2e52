"""What is measured: rows, shapes, and the cases that they make."""

from dataclasses import dataclass, field, replace

IMAGES = ((32, 56, 56, 256), (8, 128, 128, 64), (16, 14, 14, 1024), (2, 256, 256, 64))
SEQUENCES = ((64, 128, 768), (8, 1024, 1024))
SMALL = ((4, 8, 8, 32), (4, 8, 32))  # where the calls cost, not the numbers
QUICK = (*IMAGES[:3], *SEQUENCES)
PATHS = ("eager", "graph", "xla")
PASSES = ("forward", "step")
DTYPES = ("float32", "bfloat16", "mixed_float16")
GROUPS = 32
RECIPE = "5-D recipe"
AS_IT_COMES, ACCELERATED, WITHOUT_NORMS = "as it comes", "accelerated", "without norms"  # a model
MODELS = (
    "ResNet50",
    "MobileNetV2",
    "DenseNet121",
    "ConvNeXtTiny",
    "ResNet50 with GroupNormalization",
)


@dataclass(frozen=True)
class Row:
    """A layer of ours beside a peer in the same process."""

    layer: str
    peer: str
    set: str

    @property
    def title(self):
        """As a table has it."""
        return f"{self.layer} | {self.peer}"


ROWS = (
    Row("BatchNormalization", "Keras BatchNormalization", "batch"),
    Row("GroupNormalization", "Keras GroupNormalization", "group"),
    Row("GroupNormalization", RECIPE, "group"),
    Row("InstanceNormalization", "Keras GroupNormalization(-1)", "instance"),
    Row("LayerNormalization", "Keras LayerNormalization", "layer"),
    Row("RMSNormalization", "Keras RMSNormalization", "rms"),
    Row("BatchRenormalization", "Keras BatchNormalization", "batch"),
    Row("SwitchableNormalization", "Keras BatchNormalization", "batch"),
)
SETS = tuple(dict.fromkeys(row.set for row in ROWS))
OTHERS = {  # library: layers that it has
    "torch": (
        "BatchNormalization",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "RMSNormalization",
    ),
    "flax": (
        "BatchNormalization",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "RMSNormalization",
    ),
    "addons": ("GroupNormalization", "InstanceNormalization"),
}
SWEEP = {  # what varies: the shapes and groups
    "batch": [((size, 56, 56, 64), 32) for size in (1, 4, 16, 64)],
    "space": [((16, size, size, 64), 32) for size in (7, 14, 28, 56, 112)],
    "channels": [((16, 28, 28, size), 32) for size in (32, 64, 256, 1024)],
    "groups": [((16, 28, 28, 256), size) for size in (1, 8, 32, 128, 256)],
}


@dataclass
class Plan:
    """What a run is asked for. An empty tuple of libraries leaves them out."""

    parts: tuple = ("layers", "small", "sweep", "memory", "others", "models")
    shapes: tuple = IMAGES + SEQUENCES
    paths: tuple = PATHS
    passes: tuple = PASSES
    dtypes: tuple = DTYPES
    libraries: tuple = tuple(OTHERS)
    limits: dict = field(default_factory=lambda: {"least": 7, "most": 21, "budget": 1.0})


QUICK_PLAN = Plan(
    parts=("layers",),
    shapes=QUICK,
    paths=("graph", "xla"),
    passes=("step",),
    dtypes=("float32",),
    limits={"least": 3, "most": 9, "budget": 0.7},
)


def key(case):
    """What tells a case from every other one: all but how often it is repeated."""
    told = {name: value for name, value in case.items() if name not in ("least", "most", "budget")}
    return repr(sorted((name, str(value)) for name, value in told.items()))


def shapes_of(layer, shapes):
    """Layer norm and RMS norm are measured on sequences, the others on images."""
    rank = 3 if layer in ("LayerNormalization", "RMSNormalization") else 4
    return [shape for shape in shapes if len(shape) == rank]


def contestants(chosen):
    """All names that the rows of a set compare, each once."""
    rows = [row for row in ROWS if row.set == chosen]
    return list(dict.fromkeys([row.layer for row in rows] + [row.peer for row in rows]))


def groups_of(shape):
    return min(GROUPS, shape[-1])


def base(part, chosen, shape, **others):
    """A case; JSON has lists and no tuples."""
    case = {"part": part, "set": chosen, "shape": list(shape), "groups": groups_of(shape)}
    return case | others


def layers(plan):
    for chosen in SETS:
        names = contestants(chosen)
        for dtype in plan.dtypes:
            shapes = shapes_of(names[0], plan.shapes)
            # The first dtype tells what shapes do; of the others, one shape tells what they do.
            for shape in shapes if dtype == plan.dtypes[0] else shapes[:2][-1:]:
                for path in plan.paths:
                    for way in plan.passes:
                        case = base("layers", chosen, shape, dtype=dtype, path=path)
                        yield case | {"pass": way, "contestants": names} | plan.limits


def small(plan):
    """The same for inputs that fit into a cache. The first dtype stands for all."""
    narrowed = replace(plan, shapes=SMALL, dtypes=plan.dtypes[:1])
    for case in layers(narrowed):
        yield case | {"part": "small"}


def sweep(plan):
    for layer in ("GroupNormalization", "BatchNormalization"):
        row = next(row for row in ROWS if row.layer == layer)
        for varied, points in SWEEP.items():
            if varied == "groups" and layer != "GroupNormalization":
                continue
            for shape, groups in points:
                for path in [path for path in plan.paths if path != "eager"]:
                    case = base("sweep", row.set, shape, dtype="float32", path=path)
                    case |= {"groups": groups, "varied": varied, "layer": layer, "pass": "step"}
                    yield case | {"contestants": [layer, row.peer]} | plan.limits


def memory(plan):
    for chosen in SETS:
        names = contestants(chosen)
        for dtype in plan.dtypes:
            shape = shapes_of(names[0], plan.shapes)[:1]
            for size in shape:
                yield base("memory", chosen, size, dtype=dtype, contestants=names)


def others(plan):
    """Cases of ours and a library's: each is asked of both, one right after the other."""
    for library in plan.libraries:
        for layer in OTHERS[library]:
            row = next(row for row in ROWS if row.layer == layer)
            for shape in shapes_of(layer, plan.shapes):
                for path in [path for path in plan.paths if path != "eager"]:
                    case = base("others", row.set, shape, dtype="float32", path=path)
                    case |= {"library": library, "layer": layer, "contestants": [layer]}
                    yield case | {"pass": "step"} | plan.limits


def models(plan):
    limits = plan.limits | {"budget": 20.0}  # seconds: single steps differ by a fifth
    for model in MODELS:
        for path in [path for path in plan.paths if path != "eager"]:
            yield base("models", model, (8, 224, 224, 3), model=model, path=path) | limits


PARTS = {
    "layers": layers,
    "small": small,
    "sweep": sweep,
    "memory": memory,
    "others": others,
    "models": models,
}


def cases(plan):
    """All cases of a plan, those of one process next to one another."""
    return [case for part in plan.parts for case in PARTS[part](plan)]


def process_of(case):
    """Cases of equal names share a process."""
    return "/".join(
        str(case.get(name, "")) for name in ("part", "set", "library", "dtype", "layer")
    )
