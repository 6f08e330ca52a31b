"""A published figure made again: its curves with their bands, the verdict above them."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullFormatter

from ...results.arguments import of_class
from ...results.reproduction import Reproduction
from .canvas import axes, legend, styled
from .legends import legend_above
from .lines import by, curve
from .looks import GUIDE, looks
from .scales import plain_ticks, readable_ticks

FEW = 8  # positions that have a tick each on a logarithmic axis


@styled
def reproduction(report: Reproduction, *, ax=None) -> Axes:
    """Draws the curves of a reproduction with their 95% intervals; numbers that have no scatter are dotted.

    The caption has the source, both settings, and the verdict.
    """
    of_class("report", report, Reproduction)
    ax = axes(ax)
    table = report.curves
    by_name = looks(dict.fromkeys(table["curve"]))
    for name, rows in by(table, "curve"):
        style: dict[str, Any] = {"ms": 2}
        if (rows["n"] == 1).all():
            style["linestyle"] = GUIDE
        curve(ax, rows.sort_values("x"), "x", by_name[name], legend(name), **style)
    if report.scales.log_y:
        ax.set_yscale("log")
    if report.scales.log_x:
        _logarithmic_x(ax, table["x"])
    ax.set_xlabel(report.scales.x)
    ax.set_ylabel(report.scales.y)
    readable_ticks(ax)
    legend_above(ax, 2, f"{legend(str(report.source.authors))} {report.source.year}: {report.verdict}")
    ax.set_label(_caption(report))
    return ax


def _logarithmic_x(ax: Axes, x: pd.Series) -> None:
    """Makes the horizontal axis logarithmic, with a tick at every position where these are few."""
    ax.set_xscale("log")
    places = sorted(set(x))
    if len(places) > FEW:
        plain_ticks(ax.xaxis)
        return
    ax.set_xticks(places, [f"{place:g}" for place in places])
    ax.xaxis.set_minor_locator(FixedLocator([]))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _caption(report: Reproduction) -> str:
    reduced = report.reduced or "nothing"
    return (
        f"{report.title}. {report.source}. Published: {report.published_setting}. "
        f"Ours: {report.our_setting}. Reduced: {reduced}. Verdict: {report.verdict}. "
        "Lines: means over seeds (geometric for positive quantities); bands: 95% t-intervals."
    )
