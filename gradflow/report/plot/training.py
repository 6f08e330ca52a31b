"""Figures of a run over its steps, of a sweep over its depths, and the page that puts wirings side by side."""

from textwrap import fill

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...results.arguments import known
from ...results.quantities import GEOMETRIC, QUANTITIES
from ...results.sweeps import families, last_output
from .. import tables
from ..tables import fits
from ..text import captions
from . import scales
from .budgets import budget_totals
from .canvas import across_all, axes, legend, styled
from .legends import legend_above, without_legend
from .lines import by, check_drawable, curve, curves, folded, law
from .looks import looks, named
from .profiles import check_laws, dotted, profile

NARROW = 5.0  # inches; a page that is narrower has its panels one below the other


@styled
def total_depth(
    sweep, quantity="parameter_gradient", *, sublayer=-1, laws=None, labels=None, colours=None, ax=None, **where
) -> Axes:
    """Draws one entry of a profile against the number of blocks, with the fitted slope.

    The entry is by default the last feed-forward output, of a program the last parameter of its last sublayer. `laws`
    (`fits.law_curves` of `fits.total_depth_laws`) are drawn dotted, in words in place of the slope. `labels` and `colours` are by
    the name of the model.
    """
    check_laws(laws, quantity, None)
    entry = f"last {', '.join(map(str, where.values()))}"
    if not where or where == {"parameter": "down"}:
        entry = last_output(sweep, quantity, "total_depth")
    table = tables.total_depth(sweep, quantity, sublayer=sublayer, **where)
    described = tables.described(quantity)
    check_drawable(table, described.long_name)
    ax = axes(ax)
    slopes = fits.total_depth_slopes(sweep, quantity, sublayer=sublayer, **where)
    members = families(sweep, "total_depth")
    palette, texts = looks(members, ax, colours), named(members, labels)
    for name, _, rows, _ in curves(table):
        words = law(ax, laws, name, None, "total_depth", palette[name])
        if not words and name in slopes:
            words = f", slope {tables.interval(slopes[name].sel(number='k'))}"
        curve(ax, rows, "total_depth", palette[name], folded(f"{legend(texts[name])}{words}"))
    scales.over_total_depth(ax, table["total_depth"])
    ax.set_ylabel(f"{described.long_name},\n{legend(entry)}")
    legend_above(ax, columns=1)
    lead = f"{described.long_name.capitalize()}, {entry}, at initialization against the number of blocks"
    if laws is not None:
        lead += dotted(sweep, "L their number")
    return captions.attached(ax, sweep, lead, quantity)


@styled
def training(run, quantity: str, *, labels=None, colours=None, scale=None, ax=None) -> Axes:
    """Draws a number of every model against the step: linear below step 1, then logarithmic.

    `quantity` is "loss", "heldout_loss", "output_change" or "token_cosine" (at the top of the stack). `labels` and `colours` are
    by the name of the model; `scale` is "linear", "log" or "symlog".
    """
    table = tables.training(run)
    known("quantity through training", quantity, dict.fromkeys(table["quantity"]))
    table = table[table["quantity"] == quantity]
    row = QUANTITIES[quantity]
    check_drawable(table, row.long_name)
    ax = axes(ax)
    members = tables.nodes(run)
    palette, texts = looks(members, ax, colours), named(members, labels)
    for name, rows in by(table, "model"):
        curve(ax, rows, "step", palette[name], legend(texts[name]))
    scales.over_steps(ax, table["step"])
    scales.scale(ax, row.mean == GEOMETRIC and row.units != "nat", None, scale)
    place = {"nat": " (nat)", "1": ""}[row.units]
    if quantity == "token_cosine":
        place = ", top"
    ax.set_ylabel(f"{row.long_name}{place}")
    legend_above(ax, columns=len(members))
    return captions.attached(ax, run, f"{row.long_name.capitalize()} through training", quantity)


@styled
def comparison(run, sweep, *, steps=(0, 10, 100), width=None) -> Figure:
    """Draws wirings side by side: profile through training, gradient against total depth, budget, tokens and loss.

    At a column's width the panels stand one below the other.
    """
    across = across_all(width, "icml")
    whole, (a, b, c, d, e) = _panels(across)
    shown = tables.steps_of(run, steps)
    profile(run, relative_to="readout", steps=shown, ax=a)
    total_depth(sweep, ax=b)
    budget_totals(run, steps=shown, ax=c)
    training(run, "token_cosine", ax=d)
    training(run, "loss", ax=e)
    without_legend(e)  # that of the panel above it
    d.tick_params(labelbottom=False)
    d.set_xlabel("")
    a.set_title(r"$\bf{a}$  gradient through the stack", loc="left")
    b.set_title(r"$\bf{b}$  at initialization, against depth", loc="left")
    c.set_title(r"$\bf{c}$  where it gains and loses", loc="left")
    d.set_title(r"$\bf{d}$  tokens and loss", loc="left")
    subtitle = f"probe: the loss's gradient; {captions.short(run)}; bands: {captions.intervals(run)}"
    lines = fill(subtitle.replace("bands: no", "no"), int(17 * across))
    whole.suptitle(lines, fontsize=7, color="0.3")
    lead = captions.COMPARISON.format(output=last_output(sweep, "parameter_gradient", "total_depth"))
    return captions.attached(whole, run, lead, "stream_gradient", "parameter_gradient", "budget")


def _panels(across: float) -> tuple[Figure, tuple[Axes, ...]]:
    """Returns the figure and its five panels: two by two with the last one halved, or one below the other."""
    if across < NARROW:
        whole = plt.figure(figsize=(across, 2.6 * across), layout="constrained")
        grid = whole.add_gridspec(5, 1, height_ratios=(1.15, 1, 1, 0.6, 0.6))
        return whole, tuple(whole.add_subplot(grid[i]) for i in range(5))
    whole = plt.figure(figsize=(across, 0.86 * across), layout="constrained")
    grid = whole.add_gridspec(2, 2)
    halves = grid[1, 1].subgridspec(2, 1)
    places = (grid[0, 0], grid[0, 1], grid[1, 0], halves[0], halves[1])
    return whole, tuple(whole.add_subplot(place) for place in places)
