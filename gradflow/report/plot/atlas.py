"""The figure of an atlas: a row for every wiring, by family, a panel for every number, before and after the training."""

import math
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import blended_transform_factory

from ...results.arguments import known
from ..tables import atlas as atlas_tables
from ..text import captions, families
from .canvas import COLOURS, COLUMN, PARTS, across_all, faded, legend, styled
from .lines import by
from .looks import MARKERS


class Panel(NamedTuple):
    """Title, numbers with their colours, scale of the axis, the value that means "unchanged", and the width beside others."""

    title: str
    numbers: dict[str, str]
    scale: str
    reference: float | None
    share: float


PANELS = (
    Panel("gradient (nat)\nlog g$_0$/g$_S$", {"net": PARTS["net"]}, "symlog", 0.0, 1.35),
    Panel("budget (nat)\n● norm ■ fork", {"norm": PARTS["norm"], "fork": PARTS["fork"]}, "symlog", 0.0, 1.35),
    Panel("partial\nJacobian", {"partial_jacobian": COLOURS[0]}, "log", 1.0, 1.0),
    Panel("sublayer's\n● σ$_{min}$ ■ σ$_{max}$", {"sigma_min": COLOURS[4], "sigma_max": COLOURS[1]}, "log", 1.0, 1.0),
    Panel("token cosine\nat the top", {"token_cosine": COLOURS[2]}, "linear", None, 0.9),
    Panel("held-out\nloss (nat)", {"loss": COLOURS[5]}, "linear", None, 0.9),
    Panel("measured\n/ theory", {"theory": "#333333"}, "log", 1.0, 0.9),
)
SCALES: dict[str, dict] = {"symlog": {"linthresh": 1, "linscale": 0.6}}
FENCE = 3  # interquartile ranges beyond the quartiles that an axis reaches; what lies further is a triangle at its edge
# Ticks of axes of both signs, and of ratios, the widest first.
SYMMETRIC = tuple((-end, 0.0, end) for end in (30.0, 5.0, 1.0, 0.2))
RATIOS = ((0.1, 1.0, 3.0), (0.5, 1.0, 2.0), (0.8, 1.0, 1.2), (0.9, 1.0, 1.1), (0.98, 1.0, 1.02))
# Inches: of a row, of what stands above and below the rows, of a letter of a name, of the narrowest panel, and of a tick's label.
ROW, ABOVE, BELOW, LETTER, NARROWEST, TICK = 0.155, 0.4, 0.22, 0.057, 0.54, 0.21


class Rows(NamedTuple):
    """Where the wirings stand, and above them the names of their families: heights from the top, in rows."""

    wirings: dict[str, int]
    families: dict[str, int]

    @classmethod
    def of(cls, table: pd.DataFrame) -> "Rows":
        """Returns those of a table of points; a family without a name takes no row."""
        rows = cls({}, {})
        for family in dict.fromkeys(table["family"]):
            if family:
                rows.families[family] = rows.number
            for model in dict.fromkeys(table.loc[table["family"] == family, "model"]):
                rows.wirings[model] = rows.number
        return rows

    @property
    def number(self) -> int:
        """How many there are."""
        return len(self.wirings) + len(self.families)


@styled
def atlas(tree, family: str | None = None, *, width=None, points: pd.DataFrame | None = None) -> Figure:
    """Draws every wiring of `gf.atlas` in one row: open circles at initialization, filled ones after the training.

    Families stand one below the other, each sorted by the gradient that is left at the bottom after the training. With a
    `family` it is drawn alone, as wide as a column, where panels stand in several lines. Where a point is missing the number is
    not defined, or no seed is finite. Bars are 95% intervals over seeds; of measured over theory, two standard errors. `points`
    is the table of `atlas_tables.points(tree)`, for callers that have it already.
    """
    every = atlas_tables.points(tree) if points is None else points
    table, lead = every, f"Wirings side by side{_LEAD}"
    if family is not None:
        known("family in this atlas", family, dict.fromkeys(every["family"]))
        table = every[every["family"] == family]
        lead = f"{families.of_tree(tree, every)[family]}. Its wirings{_LEAD}"
    rows = Rows.of(table)
    whole, panels = _panels(rows, across_all(width, "icml" if family is None else COLUMN))
    for ax, panel in zip(panels, PANELS, strict=True):
        ax.set_title(panel.title, fontsize=6)
        of_panel = table[table["number"].isin(panel.numbers)]
        _frame(ax, rows, of_panel["mean"], panel)
        for (number, colour), marker in zip(panel.numbers.items(), MARKERS, strict=False):
            _dots(ax, of_panel[of_panel["number"] == number], rows.wirings, colour, marker)
    return captions.attached(whole, tree["training"], lead, "budget", "partial_jacobian", lines=_BARS, alone=_ALONE)


_LEAD = (
    ": stream gradient at the bottom over that at the top, the budget it is made of, the partial "
    "Jacobian from the bottom, the ends of the spectrum of a sublayer's Jacobian (median over sublayers, first tokens), "
    "token cosine, held-out loss, and measured over predicted mean square of the stream gradient at its worst position. "
    "Open: at initialization; filled: after the training; triangles: beyond the axis; squares: the second "
    "of two numbers"
)
_BARS = "Bars: 95% t-intervals over seeds; of measured over theory two standard errors."
_ALONE = "Of one seed, without intervals; bars of measured over theory: two standard errors over the seeds that it has."


def _panels(rows: Rows, across: float) -> tuple[Figure, list[Axes]]:
    """Returns the figure and its panels, as many side by side as have room beside the names at their left; sizes in inches."""
    longest = max(map(len, rows.wirings), default=1)
    label = 0.1 + LETTER * longest
    most = int(np.clip((across - label - 0.1) / NARROWEST, 1, len(PANELS)))
    in_line = math.ceil(len(PANELS) / math.ceil(len(PANELS) / most))
    lines = [PANELS[first : first + in_line] for first in range(0, len(PANELS), in_line)]
    high = ABOVE + ROW * rows.number + BELOW
    height = len(lines) * high
    whole = plt.figure(figsize=(across, height))
    panels: list[Axes] = []
    for number, line in enumerate(lines):
        top = height - number * high
        grid = whole.add_gridspec(
            1,
            in_line,
            width_ratios=[panel.share for panel in (*line, *PANELS[:in_line])][:in_line],
            wspace=0.18,
            left=label / across,
            right=1 - 0.1 / across,
            bottom=(top - high + BELOW) / height,
            top=(top - ABOVE) / height,
        )
        first, *others = [whole.add_subplot(grid[place]) for place in range(len(line))]
        for ax in (first, *others):
            ax.set_ylim(rows.number - 0.4, -0.6)
            ax.set_yticks([])
        _name(first, rows, 0.05 / across)
        panels += [first, *others]
    return whole, panels


def _name(ax: Axes, rows: Rows, left: float) -> None:
    """Writes wirings at the left of a line of panels, and their families from `left`, a share of the figure's width."""
    ax.set_yticks(list(rows.wirings.values()), [legend(name.replace("_", " ")) for name in rows.wirings])
    at_left = blended_transform_factory(ax.figure.transFigure, ax.transData)
    for family, place in rows.families.items():
        ax.text(left, place, legend(family), transform=at_left, va="center", fontsize=7, fontweight="bold")


def _dots(ax: Axes, rows: pd.DataFrame, heights: dict[str, int], colour: str, marker: str) -> None:
    """Draws one number of every wiring: before, after, and a line between the two."""
    at = {}
    for when, of_time in by(rows, "when"):
        at[when] = of_time.set_index("model").reindex(list(heights))
    y = np.array(list(heights.values()))
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


def _frame(ax: Axes, rows: Rows, values: pd.Series, panel: Panel) -> None:
    """Sets the axis, with thin lines to follow a row by, and a line at the value that means "unchanged"."""
    ax.set_xscale(panel.scale, **SCALES.get(panel.scale, {}))
    drawable = np.isfinite(values)
    if panel.scale == "log":
        drawable &= values > 0
    shown = list(values[drawable])
    if shown and panel.reference is not None:
        shown.append(panel.reference)
    if shown:
        ax.set_xlim(*_reach(ax, shown))
    _set_ticks(ax, panel.scale)
    across = ax.get_yaxis_transform()
    ax.hlines(list(rows.wirings.values()), 0, 1, color="0.92", lw=0.5, zorder=0, transform=across)
    if panel.reference is not None:
        ax.axvline(panel.reference, color="0.6", linewidth=0.6, zorder=0)
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


def _readable(choices, low: float, high: float):
    """Returns the widest of these ticks of which two or more are on the axis: one alone says nothing of its scale."""
    for ticks in choices:
        if sum(low <= tick <= high for tick in ticks) > 1:
            return ticks
    return choices[-1]


def _set_ticks(ax: Axes, scale: str) -> None:
    """Sets few ticks, with room for their labels."""
    low, high = ax.get_xlim()
    room = max(1, int(ax.get_window_extent().width / ax.figure.dpi / TICK))
    ax.xaxis.set_minor_locator(NullLocator())
    if scale == "linear":
        ax.xaxis.set_major_locator(MaxNLocator(min(2, room - 1) or 1))
        return
    if scale == "log" and high > 300 * low:
        powers = [10.0**power for power in range(-12, 13, 3)]
        ax.set_xticks(_some(powers, low, high, room))
        return
    choices = SYMMETRIC if scale == "symlog" else RATIOS
    ax.set_xticks(_some(_readable(choices, low, high), low, high, room))
    ax.xaxis.set_major_formatter(FuncFormatter(_true_minus))


def _some(ticks: list[float], low: float, high: float, most: int) -> list[float]:
    """Returns those of the ticks that are on the axis, every other one and so on where there are too many."""
    inside = [tick for tick in ticks if low < tick < high]
    return inside[:: math.ceil(len(inside) / most) or 1]


def _true_minus(value: float, _position) -> str:
    return f"{value:g}".replace("-", "−")
