"""Axes: their scale, at least two ticks with a label on each, and thin lines at the values that mean "unchanged"."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from ...results.arguments import known

SCALES = ("linear", "log", "symlog")
REFERENCE = "gradflow-reference"
FAR = 20  # times the median: what a linear axis shows of both is one of them


def scale(ax: Axes, positive: bool, reference: float | None, wanted: str | None = None) -> None:
    """Makes the axis logarithmic for a positive quantity, and draws a thin line at the value that means "unchanged".

    `wanted` is the caller's own scale. Where nothing is above zero, a logarithmic axis has no place for it. The line is drawn
    only between the smallest and the largest number on the axis: it takes no room from the data.
    """
    if wanted is not None:
        ax.set_yscale(known("scale", wanted, SCALES))
    elif positive and _has_positive(ax):
        ax.set_yscale("log")
    _draw_reference(ax, reference)
    readable_ticks(ax)


def signed(ax: Axes, middle: float, largest: float, wanted: str | None = None) -> None:
    """Makes the axis one of numbers of either sign, with a thin line at 0.

    Where the `largest` size is far above the `middle` one, it is linear up to that alone, and logarithmic beyond. `wanted` is the
    caller's own scale.
    """
    far = largest > FAR * middle
    if known("scale", wanted or "symlog", SCALES) != "symlog":
        ax.set_yscale(str(wanted))
    elif far or wanted is not None:
        above = middle * (1 + 1e-6)  # of which the logarithm does not round down to the next tick
        ax.set_yscale("symlog", linthresh=above)
    _draw_reference(ax, 0.0)
    readable_ticks(ax)


def _draw_reference(ax: Axes, reference: float | None) -> None:
    """Draws the line where it lies between the data, and is not there already."""
    if reference is None or any(line.get_gid() == REFERENCE for line in ax.get_lines()):
        return
    ax.autoscale_view()
    low, high = sorted(ax.get_ylim())
    if low <= reference <= high:
        ax.axhline(reference, color="0.6", linewidth=0.6, zorder=0, gid=REFERENCE)


def _has_positive(ax: Axes) -> bool:
    """Returns whether a line has a number above zero."""
    return any((np.asarray(line.get_ydata(), float) > 0).any() for line in ax.get_lines())


def readable_ticks(ax: Axes) -> None:
    """Gives logarithmic axes of two decades or less ticks that are written out, so that at least two have labels."""
    ax.autoscale_view()
    for axis in (ax.xaxis, ax.yaxis):
        if axis.get_scale() == "log" and not isinstance(axis.get_major_locator(), FixedLocator):
            low, high = sorted(axis.get_view_interval())
            if low > 0 and high < 100 * low:
                plain_ticks(axis)


def over(ax: Axes, what: str) -> None:
    """Names the axis over depth, and puts its ticks at whole numbers."""
    ax.set_xlabel(f"{what} (input → output)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    low, high = ax.dataLim.intervalx
    if low == high:  # a single place, between its neighbours
        ax.set_xlim(low - 1, high + 1)


def over_steps(ax: Axes, steps: pd.Series) -> None:
    """Makes the horizontal axis one of training steps: linear below step 1, then logarithmic."""
    last = max(1, steps.max())
    ticks = [step for step in (0, 1, 10, 100, 1000, 10_000, 100_000) if step <= last]
    ax.set_xscale("symlog", linthresh=1)
    ax.set_xticks(ticks, list(map(str, ticks)))
    ax.set_xlabel("training step")


def over_total_depth(ax: Axes, depths: pd.Series) -> None:
    """Makes both axes logarithmic, and the horizontal one of numbers of blocks, a tick at each."""
    over_sizes(ax, depths, "number of blocks")
    ax.set_yscale("log")
    readable_ticks(ax)


def over_sizes(ax: Axes, sizes: pd.Series, what: str) -> None:
    """Makes the horizontal axis a logarithmic one of sizes, a tick at each."""
    ticks = sorted(set(sizes))
    ax.set_xscale("log")
    ax.set_xticks(ticks, list(map(str, ticks)), minor=False)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(what)


def plain_ticks(axis: Axis) -> None:
    """Puts ticks at a few multiples of powers of ten, or closer ones, written out: for a log axis of two decades or less."""
    low, high = sorted(axis.get_view_interval())
    if high > 10 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    elif high > 3 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
    else:
        axis.set_major_locator(MaxNLocator(4, steps=(1, 2, 5, 10)))
    axis.set_major_formatter(FuncFormatter(_plain))
    axis.set_minor_formatter(NullFormatter())


def plain_bar(ax: Axes) -> None:
    """Writes out the ticks of a colour bar whose scale is logarithmic and of two decades or less."""
    low, high = sorted(ax.get_ylim())
    if low > 0 and high < 100 * low:
        plain_ticks(ax.yaxis)


def _plain(value: float, _position) -> str:
    return f"{value:g}"
