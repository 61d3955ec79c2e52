"""The results as a figure: ratios to the peers on the left, ours over the floor on the right."""

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.patheffects import withStroke
from matplotlib.ticker import NullFormatter, NullLocator

from benchmarks.cases import OTHERS, ROWS
from benchmarks.report import NAMES, library_summary, row_summary

STYLES = {"graph": ("o", "#4477aa", "graph"), "xla": ("D", "#cc6633", "XLA")}
TICKS = {1 / 16: "1/16", 1 / 4: "1/4", 1 / 2: "1/2"} | {
    tick: f"{tick}×" for tick in (1, 2, 4, 8, 16, 64)
}


def lines_of(results):
    """A line per row and library that was measured: its label and its summary by path."""
    found = []
    for row in ROWS:
        summaries = {path: row_summary(results, row, path) for path in STYLES}
        found.append((f"{row.layer}\nbeside {row.peer}", summaries))
    for library, layers in OTHERS.items():
        for layer in layers:
            summaries = {path: library_summary(results, library, layer, path) for path in STYLES}
            found.append((f"{layer}\nbeside {NAMES[library]}", summaries))
    return [(label, s) for label, s in found if any(value.ratio for value in s.values())]


def scatter(panel, lines, pick):
    """A mark per path, with its value beside it; marks that would overlap stand apart."""
    for place, (_, summaries) in enumerate(lines):
        for offset, (path, (marker, color, label)) in zip(
            (-0.16, 0.16), STYLES.items(), strict=True
        ):
            value = pick(summaries[path])
            if value is None:
                continue
            panel.plot(value, place + offset, marker, color=color, label=label, markersize=6)
            panel.annotate(
                f"{value:.2f}" if value < 10 else f"{value:.0f}",
                (value, place + offset),
                (7, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=color,
                path_effects=[withStroke(linewidth=3, foreground="white")],  # over the line at 1
            )


def scale(panel, lines, title):
    """A logarithmic axis with a line at 1, wide enough for the numbers beside the marks."""
    panel.set_xscale("log", base=2)
    low, high = panel.get_xlim()
    panel.set_xlim(min(low, 0.9) / 1.1, max(high, 2) * 1.4)
    low, high = panel.get_xlim()
    ticks = [tick for tick in TICKS if low <= tick <= high]
    panel.set_xticks(ticks, [TICKS[tick] for tick in ticks])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.axvline(1, color="black", linewidth=1, zorder=1)
    for place in range(1, len(lines), 2):
        panel.axhspan(place - 0.5, place + 0.5, color="#f3f3f3", zorder=0)
    panel.set_ylim(len(lines) - 0.5, -0.5)
    panel.set_title(title, loc="left", fontsize=10)
    panel.spines[["top", "right"]].set_visible(False)


def draw(results, path):
    """Writes the figure of float32 training steps."""
    lines = lines_of(results)
    height = 1.6 + 0.52 * max(len(lines), 3)
    figure, (left, right) = plt.subplots(
        1, 2, sharey=True, figsize=(11, height), layout="constrained", width_ratios=(3, 2)
    )
    scatter(left, lines, lambda summary: summary.ratio)
    scatter(right, lines, lambda summary: summary.over_floor)
    scale(left, lines, "Peer's time over ours: right of 1, ours is faster")
    scale(right, lines, "Ours over the floor (8 moves of the tensor)")
    left.set_yticks(range(len(lines)), [label for label, _ in lines], fontsize=9)
    handles, labels = left.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower right", ncols=2, frameon=False)
    figure.suptitle("A float32 training step (forward and gradients)", x=0.01, ha="left")
    figure.savefig(path, dpi=150)
    plt.close(figure)
