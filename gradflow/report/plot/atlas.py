"""The figure of an atlas, part of `plot`: a row a wiring, a panel a number, at initialization and after the training."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from ..tables import atlas as atlas_tables
from ..text import captions
from .canvas import COLOURS, PARTS, by, faded, inches, legend, styled

# Title, numbers with their colours, scale of the axis, the value that means "unchanged".
PANELS: tuple[tuple[str, dict[str, str], str, float | None], ...] = (
    ("gradient\nlog g$_0$/g$_S$ (nat)", {"net": PARTS["net"]}, "symlog", 0.0),
    ("its budget (nat):\nnorms, forks", {"norm": PARTS["norm"], "fork": PARTS["fork"]}, "symlog", 0.0),
    ("partial\nJacobian", {"partial_jacobian": COLOURS[0]}, "log", 1.0),
    ("sublayer's\nσ$_{min}$, σ$_{max}$", {"sigma_min": COLOURS[4], "sigma_max": COLOURS[1]}, "log", 1.0),
    ("token cosine\nat the top", {"token_cosine": COLOURS[2]}, "linear", None),
    ("held-out\nloss (nat)", {"loss": COLOURS[5]}, "linear", None),
    ("measured\n/ theory", {"theory": "#333333"}, "log", 1.0),
)
SCALES: dict[str, dict] = {"symlog": {"linthresh": 1, "linscale": 0.6}}
FENCE = 3  # interquartile ranges beyond the quartiles that an axis reaches; what lies further is a triangle at its edge


@styled
def atlas(tree, *, width="icml", points: pd.DataFrame | None = None) -> Figure:
    """Every wiring of `gf.atlas` in one row: open circles at initialization, filled ones after the training.

    Rows are sorted by the gradient that is left at the bottom after the training. Where a point is missing the number is not
    defined, or no seed is finite. Bars are 95% intervals over seeds; of measured over theory, two standard errors. `points` are
    `atlas_tables.points(tree)`, where they are there.
    """
    table = atlas_tables.points(tree) if points is None else points
    names, across = list(dict.fromkeys(table["model"])), inches(width)
    height, ratios = 0.8 + 0.155 * len(names), [1.35, 1.35, 1, 1, 0.9, 0.9, 0.9]
    label = 0.1 + 0.057 * max(map(len, names), default=1)  # of the names, inches
    edges = {"left": label / across, "right": 1 - 0.1 / across, "bottom": 0.25 / height, "top": 1 - 0.4 / height}
    grid = {"width_ratios": ratios, "wspace": 0.18, **edges}
    whole, places = plt.subplots(1, len(PANELS), sharey=True, figsize=(across, height), gridspec_kw=grid)
    for ax, (title, numbers, scale, reference) in zip(places, PANELS, strict=True):
        ax.set_title(title, fontsize=6.5)
        rows = table[table["number"].isin(numbers)]
        _frame(ax, len(names), rows["mean"], scale, reference)
        for number, colour in numbers.items():
            _dots(ax, rows[rows["number"] == number], names, colour)
    places[0].set_yticks(range(len(names)), [legend(name.replace("_", " ")) for name in names])
    places[0].set_ylim(len(names) - 0.4, -0.6)
    lead = (
        "Wirings side by side: stream gradient at the bottom over that at the top, the budget it is made of, the partial "
        "Jacobian from the bottom, the ends of the spectrum of a sublayer's Jacobian (median over sublayers, first tokens), "
        "token cosine, held-out loss, and measured over predicted mean square of the stream gradient at its worst position. "
        "Open: at initialization; filled: after the training; triangles: beyond the axis"
    )
    return captions.attached(whole, tree["training"], lead, "budget", "partial_jacobian", lines=_BARS, alone=_ALONE)


_BARS = "Bars: 95% t-intervals over seeds; of measured over theory two standard errors."
_ALONE = "Of one seed, without intervals; bars of measured over theory: two standard errors over the seeds that it has."


def _dots(ax: Axes, rows: pd.DataFrame, names: list[str], colour: str) -> None:
    """One number of every wiring: before, after, and the way between."""
    found = {when: own.set_index("model").reindex(names) for when, own in by(rows, "when")}
    y, (left, right) = np.arange(len(names)), ax.get_xlim()
    if "trained" in found:
        ax.hlines(y, found["start"]["mean"], found["trained"]["mean"], color=faded(colour, 0.4), lw=1.2, zorder=1)
    for when, own in found.items():
        style: dict[str, Any] = {
            "color": colour,
            "mfc": "white" if when == "start" else colour,
            "mew": 0.6,
            "ls": "",
            "zorder": 3,
        }
        ax.hlines(y, own["low"], own["high"], color=faded(colour, 0.7), lw=0.6, zorder=2)
        ax.plot(own["mean"], y, marker="o", ms=2.8, **style)
        for edge, beyond, marker in ((left, own["mean"] < left, "<"), (right, own["mean"] > right, ">")):
            ax.plot(np.full(beyond.sum(), edge), y[beyond], marker=marker, ms=3.5, clip_on=False, **style)


def _frame(ax: Axes, rows: int, values: pd.Series, scale: str, reference: float | None) -> None:
    """The axis, thin lines to follow a row by, and a line at what means "unchanged"."""
    ax.set_xscale(scale, **SCALES.get(scale, {}))
    there = values[np.isfinite(values) & ((values > 0) | (scale != "log"))]
    if len(there):
        ax.set_xlim(*_reach(ax, [*there, *([] if reference is None else [reference])]))
    _ticks(ax, scale)
    ax.hlines(range(rows), 0, 1, color="0.92", lw=0.5, zorder=0, transform=ax.get_yaxis_transform())
    if reference is not None:
        ax.axvline(reference, color="0.6", linewidth=0.6, zorder=0)
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", labelsize=6)
    ax.spines["left"].set_visible(False)


def _reach(ax: Axes, values) -> tuple[float, float]:
    """The ends of an axis that shows the values, but for those that lie far outside (Tukey's fences, on the axis' scale)."""
    places = ax.transScale.transform(np.column_stack([values, np.ones(len(values))]))[:, 0]
    first, third = np.quantile(places, [0.25, 0.75])
    fences = first - FENCE * (third - first), third + FENCE * (third - first)
    low, high = max(places.min(), fences[0]), min(places.max(), fences[1])
    room = 0.08 * (high - low) or 1.0
    return tuple(ax.transScale.inverted().transform([(low - room, 1.0), (high + room, 1.0)])[:, 0])


def _ticks(ax: Axes, scale: str) -> None:
    """Few of them, with room for their labels."""
    low, high = ax.get_xlim()
    gains = [-30, 0, 30] if max(-low, high) > 40 else [-5, 0, 5]
    ratios = [0.1, 0.3, 1, 3] if high > 8 * low else [0.5, 1, 2]
    chosen = gains if scale == "symlog" else ratios
    if scale == "linear":
        ax.xaxis.set_major_locator(MaxNLocator(2))
    elif scale == "log" and high > 300 * low:
        ax.set_xticks([10.0**power for power in range(-12, 13, 3) if low < 10.0**power < high])
    else:
        ax.set_xticks([tick for tick in chosen if low < tick < high])
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
    ax.xaxis.set_minor_locator(NullLocator())
