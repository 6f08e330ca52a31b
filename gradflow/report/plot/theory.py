"""Figures of theory beside measurement against the width, part of `plot`: how far off, and how much seeds scatter."""

from matplotlib.axes import Axes

from ...results.agreement import squared
from ...results.tree import families
from ..tables import theory
from ..tables.profiles import context_differences, described
from ..text import captions
from .canvas import axes, by, colours, legend, legend_above, scale, styled


def _over_widths(ax: Axes, tree, table) -> None:
    """A point with its interval at every width, one colour a model; a log axis with the widths as its ticks."""
    palette = colours(families(tree, "width"))
    for name, rows in by(table, "model"):
        reach = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
        ax.errorbar(
            rows["width"],
            rows["mean"],
            reach,
            color=palette[name],
            label=legend(name),
            marker="o",
            ms=3,
            lw=1,
            capsize=2,
        )
        if "law" in rows:
            ax.plot(
                rows["width"], rows["law"], "--", color=palette[name], linewidth=0.7, label=f"{legend(name)}, 1/width"
            )
    widths = sorted(set(table["width"]))
    ax.set_xscale("log")
    ax.set_xticks(widths, [str(width) for width in widths], minor=False)
    ax.minorticks_off()
    ax.set_xlabel("width")


@styled
def agreement(measured, predicted, quantity="stream_gradient", *, ax=None, **where) -> Axes:
    """Measured over theory at one place of a quantity (by default `depth=0`, the bottom) against the width; 1 is agreement.

    Both are sweeps over the same widths, `gf.sweep(..., width=…)` and the same with `take=gf.predict`.
    """
    ax, where = axes(ax), where or {"depth": 0}
    _over_widths(ax, measured, theory.agreement(measured, predicted, quantity, **where))
    scale(ax, False, 1.0)
    kind = "mean square" if squared(quantity) else "mean"
    entry = ", ".join(f"{dim} {value}" for dim, value in where.items())
    ax.set_ylabel(f"{described(quantity).long_name}, {entry}:\n{kind} / theory")
    legend_above(ax, columns=2)
    lead = (
        f"{described(quantity).long_name.capitalize()} at {entry}: {kind} over seeds over its theory, against the width"
    )
    lines = f"Bars: 95% intervals over seeds and Monte Carlo. Theory, {captions.assumed(predicted, quantity)}"
    if differ := context_differences(measured, predicted):
        lines += f" Not alike: {differ}."
    return captions.attached(ax, measured, lead, quantity, lines=lines)


@styled
def variance(measured, *, ax=None) -> Axes:
    """Variance over seeds of the log-gain from the readout to the bottom, against the width; dashed: 1/width."""
    ax = axes(ax)
    _over_widths(ax, measured, theory.variance(measured))
    scale(ax, True, None)
    ax.set_ylabel("variance over seeds\nof the log-gain")
    legend_above(ax, columns=2)
    lead = "Variance over seeds of log(‖∂loss/∂x_0‖/‖∂loss/∂out‖) against the width; dashed: the nearest c/width"
    return captions.attached(ax, measured, lead, "stream_gradient", lines="Bars: 95% intervals (χ²).")
