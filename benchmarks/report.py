"""The results as tables."""

import math
from dataclasses import dataclass

from rich.table import Table

from benchmarks.arithmetic import geometric_mean, normalized_ratio, over_floor, ratio
from benchmarks.cases import ACCELERATED, AS_IT_COMES, MODELS, PATHS, ROWS, WITHOUT_NORMS

NAMES = {"torch": "PyTorch", "flax": "Flax", "addons": "TensorFlow Addons"}
NONE = "–"
WORDS = ("layer", "peer", "dtype", "path", "varied", "shape", "model")  # not numbers: to the left


@dataclass(frozen=True)
class Summary:
    """Geometric means over a row's shapes, for one path, pass and dtype."""

    ratio: float | None = None
    normalized: float | None = None
    over_floor: float | None = None


def summarize(records, layer, peer):
    """The means of records that hold both contestants."""
    both = [r for r in records if layer in r.get("times", ()) and peer in r["times"]]
    if not both:
        return Summary()
    return Summary(
        geometric_mean(ratio(r, layer, peer) for r in both),
        geometric_mean(normalized_ratio(r, layer, peer) for r in both),
        geometric_mean(over_floor(r, layer) for r in both),
    )


def select(results, **wanted):
    """The records that have all these values."""
    return [r for r in results.records if all(r.get(k) == v for k, v in wanted.items())]


def row_summary(results, row, path, way="step", dtype="float32", part="layers", **others):
    """A row's means, of peers in the same process."""
    wanted = {"part": part, "set": row.set, "path": path, "pass": way, "dtype": dtype} | others
    return summarize(select(results, **wanted), row.layer, row.peer)


def library_summary(results, library, layer, path, way="step"):
    """A layer's means beside a library in a process of its own."""
    wanted = {"part": "others", "library": library, "layer": layer, "path": path, "pass": way}
    return summarize(select(results, **wanted), layer, library)


def number(value, form="{:.2f}"):
    return NONE if value is None else form.format(value)


def bracketed(value, second):
    """A ratio with a second number in brackets."""
    return NONE if value is None else f"{number(value)} ({second})"


def size_of(shape):
    return "×".join(map(str, shape))


def headline_cells(results):
    """Layer, peer, ratios of a float32 step in graph and XLA, and ours over the floor."""
    for row in ROWS if select(results, part="layers") else ():
        graph, xla = (row_summary(results, row, path) for path in ("graph", "xla"))
        floors = f"{number(graph.over_floor, '{:.1f}')} / {number(xla.over_floor, '{:.1f}')}"
        yield row.layer, row.peer, number(graph.ratio), number(xla.ratio), floors


HEADLINE = ("layer", "peer", "graph step", "XLA step", "over the floor")


def headlines(results):
    """The table that a run ends with."""
    table = Table(title="Peer's time over ours, and ours over the floor (graph / XLA); float32")
    for place, name in enumerate(HEADLINE):
        table.add_column(name, justify="left" if place < 2 else "right", no_wrap=place < 2)
    for layer, peer, *numbers in headline_cells(results):
        # Eighty columns are enough for short names.
        names = (name.replace("ormalization", "orm") for name in (layer, peer))
        table.add_row(*names, *numbers)
    return table


def grid(head, rows):
    """A table in Markdown, numbers to the right; nothing where there is no row."""
    rows = list(rows)
    if not rows:
        return ""
    rule = ["---" if name in WORDS else "---:" for name in head]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)) + "\n"


def all_paths(results):
    """Every dtype and path: ratio, and ours over the floor in brackets."""
    ways = [(path, way) for path in PATHS for way in ("forward", "step")]
    dtypes = dict.fromkeys(r["dtype"] for r in select(results, part="layers"))
    head = ("layer", "peer", "dtype", *(f"{path} {way}" for path, way in ways))
    lines = []
    for row in ROWS:
        for dtype in dtypes:
            found = [row_summary(results, row, path, way, dtype) for path, way in ways]
            cells = [bracketed(s.ratio, number(s.over_floor, "{:.1f}")) for s in found]
            lines.append((row.layer, row.peer, dtype, *cells))
    return grid(head, lines if dtypes else ())


def every_shape(results):
    """Milliseconds of a float32 step, ours and the peer's, for each shape."""
    head = ("layer", "peer", "shape", *(f"{path}, ms" for path in PATHS))
    shapes = dict.fromkeys((r["set"], tuple(r["shape"])) for r in select(results, part="layers"))
    lines = []
    for row in ROWS:
        for shape in [shape for chosen, shape in shapes if chosen == row.set]:
            cells = []
            for path in PATHS:
                wanted = {"part": "layers", "set": row.set, "path": path, "shape": list(shape)}
                found = select(results, **wanted, dtype="float32", **{"pass": "step"})
                times = found[0].get("times", {}) if found else {}
                pair = (number(times.get(name), "{:.3g}") for name in (row.layer, row.peer))
                cells.append(" / ".join(pair))
            lines.append((row.layer, row.peer, size_of(shape), *cells))
    return grid(head, lines)


def small(results):
    """Peer's time over ours where the input fits into a cache."""
    if not select(results, part="small"):
        return ""
    ways = [(path, way) for path in PATHS for way in ("forward", "step")]
    lines = []
    for row in ROWS:
        found = [row_summary(results, row, *way, part="small") for way in ways]
        lines.append((row.layer, row.peer, *(number(s.ratio) for s in found)))
    return grid(("layer", "peer", *(f"{path} {way}" for path, way in ways)), lines)


def libraries(results):
    """Other libraries: ratio of times, and of times over each one's own copy in brackets."""
    paths = ("graph", "xla")
    head = ("layer", "peer", *(f"{path} step" for path in paths))
    pairs = dict.fromkeys((r["layer"], r["library"]) for r in select(results, part="others"))
    lines = []
    for layer, library in pairs:
        found = [library_summary(results, library, layer, path) for path in paths]
        cells = [bracketed(s.ratio, number(s.normalized)) for s in found]
        lines.append((layer, NAMES[library], *cells))
    return grid(head, lines)


def sweeps(results):
    """A step's time per byte of x, in ps, as one size grows."""
    head = ("layer", "varied", "shape", "groups", "path", "ours", "Keras", "ours over the floor")
    lines = []
    for r in select(results, part="sweep"):
        if "times" not in r:
            continue
        size = 4 * math.prod(r["shape"])
        peer = next(name for name in r["times"] if name != r["layer"])
        per_byte = [f"{1e9 * r['times'][name] / size:.0f}" for name in (r["layer"], peer)]
        shape, floor = size_of(r["shape"]), f"{over_floor(r, r['layer']):.1f}"
        lines.append(
            (r["layer"], r["varied"], shape, str(r["groups"]), r["path"], *per_byte, floor)
        )
    return grid(head, lines)


def memory(results):
    """What a step keeps, as a multiple of x."""
    lines = []
    for r in select(results, part="memory"):
        size = (4 if r["dtype"] == "float32" else 2) * math.prod(r["shape"])
        for name, kept in r.get("kept", {}).items():
            lines.append((name, r["dtype"], f"{kept / 1e6:.1f}", f"{kept / size:.2f}"))
    return grid(("layer", "dtype", "MB", "times x"), lines)


def models(results):
    """Training steps of whole models."""
    lines = []
    for model in MODELS:
        for r in select(results, part="models", model=model):
            times = r.get("times", {})
            plain, *rest = (times.get(n) for n in (AS_IT_COMES, ACCELERATED, WITHOUT_NORMS))
            gains = (plain / other if plain and other else None for other in rest)
            numbers = (number(time, "{:.0f}") for time in (plain, *rest))
            lines.append((model, r["path"], *numbers, *map(number, gains)))
    head = ("model", "path", "as it comes, ms", "accelerated, ms", "without norms, ms")
    return grid((*head, "ratio", "ratio without norms"), lines)


SECTIONS = (
    (
        "Headlines",
        "Peer's time over ours, a float32 training step (forward and gradients): above 1, ours is "
        "faster. Last column: ours over the floor, the time of 8 moves of the tensor at a copy's "
        "speed, graph / XLA.",
        lambda results: grid(HEADLINE, headline_cells(results)),
    ),
    (
        "Every path and dtype",
        "Peer's time over ours; in brackets, ours over the floor. Rows of float32 are means over "
        "the shapes; bfloat16 and mixed_float16 are measured at one shape, the second of a row's.",
        all_paths,
    ),
    (
        "Every shape",
        "Milliseconds of a float32 step, ours / the peer's.",
        every_shape,
    ),
    (
        "Small inputs",
        "Peer's time over ours, float32, one shape, 4×8×8×32 or 4×8×32: what a call costs.",
        small,
    ),
    (
        "Other libraries",
        "Their time over ours, float32; in brackets, each over a copy in its own process. The path "
        "is ours: PyTorch runs its native kernels, Flax under `jax.jit`, Addons on our path.",
        libraries,
    ),
    (
        "Time per byte",
        "A float32 step as one size grows, in picoseconds per byte of x.",
        sweeps,
    ),
    (
        "Memory",
        "What a step keeps between forward and backward, counted in its graph.",
        memory,
    ),
    (
        "Whole models",
        "One `train_on_batch`, as the model comes, with `keras_norm.accelerate`, and with nothing "
        "in place of its norms: what norms that cost nothing would bring.",
        models,
    ),
)


def markdown(results):
    """All tables that the results fill."""
    a = results.about
    parts = [
        "# Benchmarks",
        f"{a['date']}, {a['processor']}, {a['cores']} cores, {a['system']}, Python {a['python']}; "
        f"load {a['load']} at the start. "
        "Medians of alternating calls; geometric means over the shapes, where a row has several. "
        "The method stands in `benchmarks/__init__.py`.",
    ]
    for title, words, make in SECTIONS:
        table = make(results)
        if table:
            parts.append(f"## {title}\n\n{words}\n\n{table.strip()}")
    versions = {k: v for r in results.records for k, v in r.get("versions", {}).items() if v}
    parts.append("Versions: " + ", ".join(f"{k} {v}" for k, v in versions.items()) + ".")
    failed = [f"- {r['key']}: {r['error']}" for r in results.records if "error" in r]
    if failed:
        parts.append("## Failed\n\n" + "\n".join(failed))
    return "\n\n".join(parts) + "\n"
