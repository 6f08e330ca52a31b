"""Figures of theory beside measurement against the width: how far off the theory is, and how much seeds scatter."""

from typing import Any

from matplotlib.axes import Axes

from ...results.agreement import squared
from ...results.sweeps import families
from ..tables import theory
from ..tables.profiles import context_differences, described
from ..text import captions
from .canvas import axes, legend, styled
from .legends import legend_above
from .lines import by, check_drawable, guide
from .looks import looks
from .scales import over_sizes, scale


def _over_widths(ax: Axes, tree, table) -> None:
    """Draws a point with its interval at every width; a log axis with the widths as its ticks."""
    palette = looks(families(tree, "width"), ax)
    for name, rows in by(table, "model"):
        look, label = palette[name], legend(name)
        reach = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
        style: dict[str, Any] = {"color": look.colour, "ls": look.dash, "marker": look.marker, "label": label}
        style |= {"ms": 3, "lw": 1, "capsize": 2}
        ax.errorbar(rows["width"], rows["mean"], reach, **style)
        if "law" in rows:
            guide(ax, rows["width"], rows["law"], look, label=f"{label}, 1/width")
    over_sizes(ax, table["width"], "width")


@styled
def agreement(measured, predicted, quantity="stream_gradient", *, ax=None, **where) -> Axes:
    """Draws measured over theory at one place of a quantity against the width; 1 is agreement.

    The place is by default `depth=0`, the bottom. Both are sweeps over the same widths, `gf.sweep(..., width=…)` and the
    same with `take=gf.predict`.
    """
    where = where or {"depth": 0}
    table = theory.agreement(measured, predicted, quantity, **where)
    check_drawable(table, "measured over theory")
    ax = axes(ax)
    _over_widths(ax, measured, table)
    scale(ax, False, 1.0)
    average = "mean square" if squared(quantity) else "mean"
    place = ", ".join(f"{dim} {value}" for dim, value in where.items())
    name = described(quantity).long_name
    ax.set_ylabel(f"{name}, {place}:\n{average} / theory")
    legend_above(ax, columns=2)
    lead = f"{name.capitalize()} at {place}: {average} over seeds over its theory, against the width"
    lines = f"Bars: 95% intervals over seeds and Monte Carlo. Theory, {captions.assumed(predicted, quantity)}"
    differences = context_differences(measured, predicted)
    if differences:
        lines += f" Not alike: {differences}."
    return captions.attached(ax, measured, lead, quantity, lines=lines)


@styled
def variance(measured, *, ax=None) -> Axes:
    """Draws the variance over seeds of the log-gain from the readout to the bottom against the width; dotted: 1/width."""
    table = theory.variance(measured)
    check_drawable(table, "the variance over seeds")
    ax = axes(ax)
    _over_widths(ax, measured, table)
    scale(ax, True, None)
    ax.set_ylabel("variance over seeds\nof the log-gain")
    legend_above(ax, columns=2)
    lead = "Variance over seeds of log(‖∂loss/∂x_0‖/‖∂loss/∂out‖) against the width; dotted: the nearest c/width"
    return captions.attached(ax, measured, lead, "stream_gradient", lines="Bars: 95% intervals (χ²).")
