"""Curves with their bands, the axes they lie on, and the legend above them.

Attention positions are filled circles, feed-forward ones open squares. Columns of a table as in `tables`.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

MARKERS = {"attention": ("o", True), "mlp": ("s", False)}
ACROSS = 66  # characters of a legend beside each other; a wider one would leave its axis no room


def by(table: pd.DataFrame, column: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yields `(name, rows)` for every name in a column, in order of appearance."""
    for name, rows in table.groupby(column, sort=False):
        yield str(name), rows


def curves(table: pd.DataFrame) -> Iterator[tuple]:
    """Yields `(model, step, rows, strength of the colour)` for every curve in a table; the last step is the strongest."""
    if "step" not in table:
        for name, rows in by(table, "model"):
            yield name, None, rows, 1.0
        return
    steps = list(dict.fromkeys(table["step"]))
    strengths = np.linspace(1, 0.3, len(steps))[::-1] if len(steps) > 1 else [1.0]
    for name, rows in by(table, "model"):
        for step, strength in zip(steps, strengths, strict=True):
            yield name, step, rows[rows["step"] == step], strength


def curve(ax: Axes, rows: pd.DataFrame, x: str, colour, label: str, **style) -> None:
    """Draws one line with its band, and markers by kind of sublayer where the rows have it.

    The label says where nothing is finite.
    """
    if not np.isfinite(rows["mean"]).any():
        label = f"{label}: not finite"
    ax.plot(rows[x], rows["mean"], color=colour, label=label, **style)
    ax.fill_between(rows[x], rows["low"], rows["high"], color=colour, alpha=0.18, linewidth=0)
    if "kind" not in rows:
        return
    for kind, (marker, filled) in MARKERS.items():
        of_kind = rows[rows["kind"] == kind]
        inside = colour if filled else "white"
        ax.plot(of_kind[x], of_kind["mean"], marker, color=colour, mfc=inside, ms=2.5, mew=0.7)


def law(ax: Axes, laws: pd.DataFrame | None, name: str, step, x: str, colour) -> str:
    """Draws the law of one model and step as a thin dashed line, and returns `: ` and the law in words.

    Nothing is drawn, and the text is empty, where there is no law.
    """
    if laws is None:
        return ""
    at_step = laws["step"].isna() if step is None else laws["step"] == step
    rows = laws[(laws["model"] == name) & at_step]
    if rows.empty:
        return ""
    ax.plot(rows[x], rows["mean"], "--", color=colour, linewidth=0.7)
    return f": {rows['text'].iloc[0]}"


def folded(label: str) -> str:
    """Returns `label`, on two lines where a column of a page is too narrow for one."""
    if len(label) > 48:
        return label.replace(" (or ", "\n(or ")
    return label


def scale(ax: Axes, positive: bool, reference: float | None) -> None:
    """Makes the axis logarithmic for a positive quantity, and draws a thin line at the value that means "unchanged".

    Where nothing is above zero, a logarithmic axis has no place for it.
    """
    if positive and (reference or _has_positive(ax)):
        ax.set_yscale("log")
    if reference is not None:
        ax.axhline(reference, color="0.6", linewidth=0.6, zorder=0)


def _has_positive(ax: Axes) -> bool:
    """Returns whether a line has a number above zero."""
    return any((np.asarray(line.get_ydata(), float) > 0).any() for line in ax.get_lines())


def over(ax: Axes, what: str) -> None:
    """Names the axis over depth, and puts its ticks at whole numbers."""
    ax.set_xlabel(f"{what} (input → output)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def over_steps(ax: Axes, steps: pd.Series) -> None:
    """Makes the horizontal axis one of training steps: linear below step 1, then logarithmic."""
    ticks = [step for step in (0, 1, 10, 100, 1000, 10_000, 100_000) if step <= steps.max()]
    ax.set_xscale("symlog", linthresh=1)
    ax.set_xticks(ticks, list(map(str, ticks)))
    ax.set_xlabel("training step")


def over_total_depth(ax: Axes, depths: pd.Series) -> None:
    """Makes both axes logarithmic, and the horizontal one of numbers of blocks, a tick at each."""
    ticks = sorted(set(depths))
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(ticks, list(map(str, ticks)), minor=False)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("number of blocks")


def legend_above(ax: Axes, columns: int) -> None:
    """Draws a legend at the top, in room made for it: no curve lies under it, also where axes share a scale.

    Axes that nothing could be drawn on say so.
    """
    labels = ax.get_legend_handles_labels()[1]
    if not labels:
        ax.text(0.5, 0.5, "not finite", transform=ax.transAxes, ha="center")
        return
    longest, lines = 1, 0
    for label in labels:
        parts = label.split("\n")
        lines += len(parts)
        longest = max(longest, *map(len, parts))
    columns = max(1, min(columns, ACROSS // longest))
    _make_room(ax, rows=-(-lines // columns))
    if columns < 3:
        spacing = {"handlelength": 2.0, "columnspacing": 1.2}
    else:  # fits a journal's column
        spacing = {"handlelength": 1.2, "handletextpad": 0.5, "columnspacing": 0.8}
    ax.legend(loc="upper center", ncols=columns, **spacing)


def _make_room(ax: Axes, rows: int) -> None:
    """Raises the upper end of the axis by the height of a legend of that many rows."""
    ax.set_autoscaley_on(True)
    ax.autoscale_view(scalex=False)
    low, high = ax.get_ylim()
    share = 0.13 * rows + 0.03
    if ax.get_yscale() != "log":
        ax.set_ylim(low, high + share * (high - low))
        return
    ax.set_ylim(low, high * (high / low) ** share)
    if high < 100 * low:
        plain_ticks(ax.yaxis)


def plain_ticks(axis: Axis) -> None:
    """Puts ticks at 1, 2 and 5 times powers of ten, or closer ones, written out: for a log axis of two decades or less."""
    low, high = axis.get_view_interval()
    if high > 3 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    else:
        axis.set_major_locator(MaxNLocator(4, steps=(1, 2, 5, 10)))
    axis.set_major_formatter(FuncFormatter(_plain))
    axis.set_minor_formatter(NullFormatter())


def _plain(value: float, _position) -> str:
    return f"{value:g}"
