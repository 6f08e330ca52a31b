"""Figures of theory beside measurement against the width: how far off the theory is, and how much seeds scatter."""

from typing import Any

from matplotlib.axes import Axes

from ...results.agreement import squared
from ...results.sweeps import families
from ..tables import theory
from ..tables.profiles import context_differences, described
from ..text import captions
from .canvas import axes, colours, legend, styled
from .lines import by, legend_above, scale


def _over_widths(ax: Axes, tree, table) -> None:
    """Draws a point with its interval at every width, one colour a model; a log axis with the widths as its ticks."""
    palette = colours(families(tree, "width"))
    for name, rows in by(table, "model"):
        colour, label = palette[name], legend(name)
        reach = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
        style: dict[str, Any] = {"color": colour, "label": label, "marker": "o", "ms": 3, "lw": 1, "capsize": 2}
        ax.errorbar(rows["width"], rows["mean"], reach, **style)
        if "law" in rows:
            ax.plot(rows["width"], rows["law"], "--", color=colour, linewidth=0.7, label=f"{label}, 1/width")
    widths = sorted(set(table["width"]))
    ax.set_xscale("log")
    ax.set_xticks(widths, list(map(str, widths)), minor=False)
    ax.minorticks_off()
    ax.set_xlabel("width")


@styled
def agreement(measured, predicted, quantity="stream_gradient", *, ax=None, **where) -> Axes:
    """Draws measured over theory at one place of a quantity against the width; 1 is agreement.

    The place is by default `depth=0`, the bottom. Both are sweeps over the same widths, `gf.sweep(..., width=…)` and the
    same with `take=gf.predict`.
    """
    ax = axes(ax)
    where = where or {"depth": 0}
    _over_widths(ax, measured, theory.agreement(measured, predicted, quantity, **where))
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
    """Draws the variance over seeds of the log-gain from the readout to the bottom against the width; dashed: 1/width."""
    ax = axes(ax)
    _over_widths(ax, measured, theory.variance(measured))
    scale(ax, True, None)
    ax.set_ylabel("variance over seeds\nof the log-gain")
    legend_above(ax, columns=2)
    lead = "Variance over seeds of log(‖∂loss/∂x_0‖/‖∂loss/∂out‖) against the width; dashed: the nearest c/width"
    return captions.attached(ax, measured, lead, "stream_gradient", lines="Bars: 95% intervals (χ²).")
