"""The figure of an atlas: a row for every wiring, a panel for every number, at initialization and after the training."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from ..tables import atlas as atlas_tables
from ..text import captions
from .canvas import COLOURS, PARTS, across_all, faded, legend, styled
from .lines import by
from .looks import MARKERS

# Title, numbers with their colours, scale of the axis, the value that means "unchanged".
PANELS: tuple[tuple[str, dict[str, str], str, float | None], ...] = (
    ("gradient\nlog g$_0$/g$_S$ (nat)", {"net": PARTS["net"]}, "symlog", 0.0),
    ("its budget (nat):\n● norms, ■ forks", {"norm": PARTS["norm"], "fork": PARTS["fork"]}, "symlog", 0.0),
    ("partial\nJacobian", {"partial_jacobian": COLOURS[0]}, "log", 1.0),
    ("sublayer's\n● σ$_{min}$, ■ σ$_{max}$", {"sigma_min": COLOURS[4], "sigma_max": COLOURS[1]}, "log", 1.0),
    ("token cosine\nat the top", {"token_cosine": COLOURS[2]}, "linear", None),
    ("held-out\nloss (nat)", {"loss": COLOURS[5]}, "linear", None),
    ("measured\n/ theory", {"theory": "#333333"}, "log", 1.0),
)
SCALES: dict[str, dict] = {"symlog": {"linthresh": 1, "linscale": 0.6}}
FENCE = 3  # interquartile ranges beyond the quartiles that an axis reaches; what lies further is a triangle at its edge


@styled
def atlas(tree, *, width=None, points: pd.DataFrame | None = None) -> Figure:
    """Draws every wiring of `gf.atlas` in one row: open circles at initialization, filled ones after the training.

    Rows are sorted by the gradient that is left at the bottom after the training. Where a point is missing the number is not
    defined, or no seed is finite. Bars are 95% intervals over seeds; of measured over theory, two standard errors. `points` is
    the table of `atlas_tables.points(tree)`, for callers that have it already.
    """
    table = atlas_tables.points(tree) if points is None else points
    names = list(dict.fromkeys(table["model"]))
    whole, panels = _panels(names, across_all(width, "icml"))
    for ax, (title, numbers, scale, reference) in zip(panels, PANELS, strict=True):
        ax.set_title(title, fontsize=6.5)
        rows = table[table["number"].isin(numbers)]
        _frame(ax, len(names), rows["mean"], scale, reference)
        for (number, colour), marker in zip(numbers.items(), MARKERS, strict=False):
            _dots(ax, rows[rows["number"] == number], names, colour, marker)
    labels = [legend(name.replace("_", " ")) for name in names]
    panels[0].set_yticks(range(len(names)), labels)
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    lead = (
        "Wirings side by side: stream gradient at the bottom over that at the top, the budget it is made of, the partial "
        "Jacobian from the bottom, the ends of the spectrum of a sublayer's Jacobian (median over sublayers, first tokens), "
        "token cosine, held-out loss, and measured over predicted mean square of the stream gradient at its worst position. "
        "Open: at initialization; filled: after the training; triangles: beyond the axis; squares: the second "
        "of two numbers"
    )
    return captions.attached(whole, tree["training"], lead, "budget", "partial_jacobian", lines=_BARS, alone=_ALONE)


_BARS = "Bars: 95% t-intervals over seeds; of measured over theory two standard errors."
_ALONE = "Of one seed, without intervals; bars of measured over theory: two standard errors over the seeds that it has."


def _panels(names: list[str], across: float) -> tuple[Figure, np.ndarray]:
    """Returns the figure and its panels side by side, with room for the names at their left; sizes in inches."""
    longest = max(map(len, names), default=1)
    label = 0.1 + 0.057 * longest
    height = 0.8 + 0.155 * len(names)
    grid = {
        "width_ratios": [1.35, 1.35, 1, 1, 0.9, 0.9, 0.9],
        "wspace": 0.18,
        "left": label / across,
        "right": 1 - 0.1 / across,
        "bottom": 0.25 / height,
        "top": 1 - 0.4 / height,
    }
    return plt.subplots(1, len(PANELS), sharey=True, figsize=(across, height), gridspec_kw=grid)


def _dots(ax: Axes, rows: pd.DataFrame, names: list[str], colour: str, marker: str) -> None:
    """Draws one number of every wiring: before, after, and a line between the two."""
    at = {}
    for when, of_time in by(rows, "when"):
        at[when] = of_time.set_index("model").reindex(names)
    y = np.arange(len(names))
    left, right = ax.get_xlim()
    if "trained" in at:
        ax.hlines(y, at["start"]["mean"], at["trained"]["mean"], color=faded(colour, 0.4), lw=1.2, zorder=1)
    for when, points in at.items():
        inside = "white" if when == "start" else colour
        style: dict[str, Any] = {"color": colour, "mfc": inside, "mew": 0.6, "ls": "", "zorder": 3}
        ax.hlines(y, points["low"], points["high"], color=faded(colour, 0.7), lw=0.6, zorder=2)
        ax.plot(points["mean"], y, marker=marker, ms=2.8, **style)
        below = points["mean"] < left
        above = points["mean"] > right
        ax.plot(np.full(below.sum(), left), y[below], marker="<", ms=3.5, clip_on=False, **style)
        ax.plot(np.full(above.sum(), right), y[above], marker=">", ms=3.5, clip_on=False, **style)


def _frame(ax: Axes, rows: int, values: pd.Series, scale: str, reference: float | None) -> None:
    """Sets the axis, with thin lines to follow a row by, and a line at the value that means "unchanged"."""
    ax.set_xscale(scale, **SCALES.get(scale, {}))
    drawable = np.isfinite(values)
    if scale == "log":
        drawable &= values > 0
    shown = list(values[drawable])
    if shown and reference is not None:
        shown.append(reference)
    if shown:
        ax.set_xlim(*_reach(ax, shown))
    _set_ticks(ax, scale)
    ax.hlines(range(rows), 0, 1, color="0.92", lw=0.5, zorder=0, transform=ax.get_yaxis_transform())
    if reference is not None:
        ax.axvline(reference, color="0.6", linewidth=0.6, zorder=0)
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", labelsize=6)
    ax.spines["left"].set_visible(False)


def _reach(ax: Axes, values) -> tuple[float, float]:
    """Returns the ends of an axis that shows the values but for outliers (Tukey's fences, on the axis' scale)."""
    coordinates = np.column_stack([values, np.ones(len(values))])
    places = ax.transScale.transform(coordinates)[:, 0]
    first, third = np.quantile(places, [0.25, 0.75])
    beyond = FENCE * (third - first)
    low = max(places.min(), first - beyond)
    high = min(places.max(), third + beyond)
    room = 0.08 * (high - low) or 1.0
    ends = ax.transScale.inverted().transform([(low - room, 1.0), (high + room, 1.0)])
    return ends[0, 0], ends[1, 0]


def _set_ticks(ax: Axes, scale: str) -> None:
    """Sets few ticks, with room for their labels."""
    low, high = ax.get_xlim()
    ax.xaxis.set_minor_locator(NullLocator())
    if scale == "linear":
        ax.xaxis.set_major_locator(MaxNLocator(2))
        return
    if scale == "log" and high > 300 * low:
        powers = [10.0**power for power in range(-12, 13, 3)]
        ax.set_xticks(_between(powers, low, high))
        return
    if scale == "symlog":
        ticks = [-30.0, 0.0, 30.0] if max(-low, high) > 40 else [-5.0, 0.0, 5.0]
    else:
        ticks = [0.1, 0.3, 1.0, 3.0] if high > 8 * low else [0.5, 1.0, 2.0]
    ax.set_xticks(_between(ticks, low, high))
    ax.xaxis.set_major_formatter(FuncFormatter(_true_minus))


def _between(ticks: list[float], low: float, high: float) -> list[float]:
    return [tick for tick in ticks if low < tick < high]


def _true_minus(value: float, _position) -> str:
    return f"{value:g}".replace("-", "−")
