"""Figures of profiles over depth, of the budget and of training, and the page that puts wirings side by side."""

from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...results.arguments import known
from ...results.quantities import GEOMETRIC, QUANTITIES, Quantity
from ...results.tree import families
from .. import tables
from ..tables import fits, nonfinite
from ..text import captions
from .canvas import (
    PARTS,
    axes,
    by,
    colours,
    curve,
    curves,
    darker,
    faded,
    folded,
    inches,
    law,
    legend,
    legend_above,
    naming,
    over,
    over_steps,
    over_total_depth,
    scale,
    styled,
)


@styled
def profile(
    tree, quantity="stream_gradient", *, relative_to=None, steps=None, theory=None, laws=None, ax=None, **where
) -> Axes:
    """A quantity over depth: mean and band over seeds, one colour a model, one shade a step.

    `where` chooses one entry along a further dimension (`parameter="down"`). For a gradient pass `relative_to="readout"`
    (or "top"); by default values are absolute. `laws` (`fits.law_curves`, of the same quantity and reference) are drawn
    dashed, in words in the legend. `theory` (`gf.predict` of the same models) is dashed too, over the average that it
    predicts: the start of training, and root mean squares.
    """
    _agree(laws, quantity, relative_to)
    ax, table = axes(ax), tables.profile(tree, quantity, relative_to=relative_to, steps=steps, theory=theory, **where)
    what, palette = tables.described(quantity), colours(tables.nodes(tree))
    position = "depth" if "depth" in table else "sublayer"
    for name, step, rows, strength in curves(table):
        colour = faded(palette[name], strength)
        curve(ax, rows, position, colour, folded(naming(name, step) + law(ax, laws, name, step, position, colour)))
        if theory is not None:
            ax.plot(rows[position], rows["theory"], "--", color=darker(colour))
    if theory is not None:
        ax.plot([], [], "--", color="0.3", label="theory")
    scale(ax, what.mean == GEOMETRIC, _unchanged(what, relative_to))
    entry = "".join(f", {legend(value)}" for value in where.values())
    unit = f" / {relative_to}" if relative_to else f" ({what.units})"
    name = fill(what.long_name, 32)
    ax.set_ylabel(f"{name},\n{entry[2:].replace('_', ' ')}{unit}" if entry else f"{name}{unit}")
    over(ax, "stream position" if position == "depth" else "sublayer")
    legend_above(ax, columns=min(3, table["model"].nunique() + (theory is not None)) if laws is None else 1)
    told = {} if theory is None else {"lines": captions.theory(tree, theory, quantity)}
    lead = f"{what.long_name.capitalize()}{entry} over depth{f', relative to the {relative_to}' if relative_to else ''}"
    lead += _dashed(tree, "l the position") if laws is not None else ""
    probe = f"probe: {where['probe']}, on the sphere" if "probe" in where else captions.LOSS_PROBE
    told |= {"alone": told["lines"]} if told else {}
    return captions.attached(ax, tree, lead, quantity, probe=probe, **told)


def _unchanged(what: Quantity, relative_to) -> float | None:
    """The value that means "unchanged": 0 where the mean is arithmetic, 1 of a ratio; a norm by itself has none."""
    if what.mean != GEOMETRIC:
        return 0.0
    return 1.0 if relative_to or what.units != "norm" else None


def _dashed(tree, letter: str) -> str:
    """What the dashed lines of laws are."""
    interval = "" if nonfinite.alone(tables.nodes(tree)) else ", with the 95% interval of its exponent"
    return f"; dashed: the law chosen, {letter}{interval}"


def _agree(laws, quantity: str, relative_to) -> None:
    """An error where the laws are those of another quantity or reference: they would be drawn beside their curves."""
    if laws is None or laws.empty:
        return
    given, wanted = tuple(laws.iloc[0][["quantity", "relative_to"]]), (quantity, relative_to or "nothing")
    if given != wanted:
        raise ValueError(
            f"these laws are of {given[0]} relative to {given[1]}, the figure of {wanted[0]} to {wanted[1]}"
        )


@styled
def budget(node, *, steps=None, ax=None) -> Axes:
    """Where the gradient gains and loses: log-gains of norms, forks and both, summed from the top down to each depth."""
    ax, table = axes(ax), tables.budget_from_top(node, steps=steps)
    for part, rows in by(table, "part"):
        for _, step, at_step, strength in curves(rows):
            curve(ax, at_step, "depth", faded(PARTS[part], strength), naming(part, step))
    scale(ax, False, 0.0)
    ax.set_ylabel("log-gain from the top (nat)")
    over(ax, "stream position")
    ax.set_title(legend(tables.called(node)), loc="left")
    legend_above(ax, columns=len(PARTS))
    return captions.attached(
        ax, node, f"Budget of {tables.called(node)}, summed from the top of the stack down", "budget"
    )


@styled
def budget_totals(tree, *, steps=None, ax=None) -> Axes:
    """Totals of the budget over the whole stack: norms, forks, and their sum, the end-to-end log-gain; 95% intervals."""
    ax, table = axes(ax), tables.budget_totals(tree, steps=steps)
    groups = list(
        dict.fromkeys(zip(table["model"], table["step"] if "step" in table else [None] * len(table), strict=True))
    )
    for i, part in enumerate(PARTS):
        rows = table[table["part"] == part]
        x = np.arange(len(groups)) + (i - 1) * 0.27
        bars = np.abs(rows[["low", "high"]].to_numpy().T - rows["mean"].to_numpy())
        ax.bar(
            x,
            rows["mean"],
            0.25,
            color=PARTS[part],
            label=part,
            yerr=bars,
            error_kw={"elinewidth": 0.7, "ecolor": "0.2"},
        )
    ax.set_xticks(range(len(groups)), [naming(name, step).replace(", step", "\nstep") for name, step in groups])
    scale(ax, False, 0.0)
    ax.set_ylabel("total log-gain (nat)")
    legend_above(ax, columns=len(PARTS))
    return captions.attached(
        ax, tree, "Budget over the whole stack: norms, forks (skip plus branch), and both", "budget"
    )


@styled
def heatmap(node, quantity="stream_gradient", *, relative_to="readout", ax=None) -> Axes:
    """A profile through training: recorded step against depth, log10 of the mean over seeds as colour."""
    ax, values = axes(ax), tables.heat(node, quantity, relative_to=relative_to)
    position, steps = str(values.dims[-1]), values["step"].values
    with np.errstate(divide="ignore", invalid="ignore"):
        mesh = ax.pcolormesh(
            values[position], np.arange(len(steps)), np.log10(values.values), cmap="viridis", shading="nearest"
        )
    ax.set_yticks(range(len(steps)), [str(step) for step in steps])
    ax.set_ylabel("training step")
    over(ax, "stream position")
    called = tables.called(node)
    ax.set_title(legend(called) + ("" if np.isfinite(values).any() else ": not finite"), loc="left")
    name = tables.described(quantity).long_name + (f" / {relative_to}" if relative_to else "")
    ax.figure.colorbar(mesh, ax=ax, label=f"log$_{{10}}$ {name}")
    lead = f"{name[:1].upper()}{name[1:]} of {called} through training"
    return captions.attached(ax, node, lead, quantity, lines=captions.LINES)


@styled
def total_depth(sweep, quantity="parameter_gradient", *, sublayer=-1, laws=None, ax=None, **where) -> Axes:
    """One entry of a profile against the number of blocks, with the fitted slope; by default the last feed-forward output.

    `laws` (`fits.law_curves` of `fits.total_depth_laws`) are drawn dashed, in words in place of the slope.
    """
    _agree(laws, quantity, None)
    ax, where = axes(ax), where or {"parameter": "down"}
    table = tables.total_depth(sweep, quantity, sublayer=sublayer, **where)
    slopes = fits.total_depth_slopes(sweep, quantity, sublayer=sublayer, **where)
    palette = colours(families(sweep, "total_depth"))
    for name, _, rows, _ in curves(table):
        slope = f", slope {tables.interval(slopes[name].sel(number='k'))}" if name in slopes else ""
        words = law(ax, laws, name, None, "total_depth", palette[name])
        curve(ax, rows, "total_depth", palette[name], folded(f"{legend(name)}{words or slope}"), marker="o", ms=3)
    over_total_depth(ax, table["total_depth"])
    entry = (
        "last feed-forward output" if where == {"parameter": "down"} else f"last {', '.join(map(str, where.values()))}"
    )
    what = tables.described(quantity)
    ax.set_ylabel(f"{what.long_name},\n{legend(entry)}")
    legend_above(ax, columns=1)
    lead = f"{what.long_name.capitalize()}, {entry}, at initialization against the number of blocks"
    lead += _dashed(sweep, "L their number") if laws is not None else ""
    return captions.attached(ax, sweep, lead, quantity)


@styled
def training(run, quantity: str, *, ax=None) -> Axes:
    """Loss or token cosine (at the top of the stack) against the step; the axis is linear below 1, then logarithmic."""
    ax, table = axes(ax), tables.training(run)
    known("quantity through training", quantity, dict.fromkeys(table["quantity"]))
    palette = colours(tables.nodes(run))
    for name, rows in by(table[table["quantity"] == quantity], "model"):
        curve(ax, rows, "step", palette[name], legend(name), marker="o", ms=2)
    over_steps(ax, table["step"])
    ax.set_ylabel(f"{QUANTITIES[quantity].long_name}{' (nat)' if quantity == 'loss' else ', top'}")
    return captions.attached(ax, run, f"{QUANTITIES[quantity].long_name.capitalize()} through training", quantity)


@styled
def comparison(run, sweep, *, profile_steps=(0, 10, 100), budget_steps=(0, 25), width="icml") -> Figure:
    """Wirings side by side on one page: profile through training, gradient against total depth, budget, tokens and loss."""
    across = inches(width)
    whole = plt.figure(figsize=(across, 0.78 * across), layout="constrained")
    grid = whole.add_gridspec(2, 2)
    halves = grid[1, 1].subgridspec(2, 1)
    places = (grid[0, 0], grid[0, 1], grid[1, 0], halves[0], halves[1])
    a, b, c, d, e = (whole.add_subplot(place) for place in places)
    profile(run, relative_to="readout", steps=tables.steps_of(run, profile_steps), ax=a)
    total_depth(sweep, ax=b)
    budget_totals(run, steps=tables.steps_of(run, budget_steps), ax=c)
    training(run, "token_cosine", ax=d)
    training(run, "loss", ax=e)
    d.tick_params(labelbottom=False)
    d.set_xlabel("")
    titles = (
        "gradient through the stack",
        "at initialization, against depth",
        "where it gains and loses",
        "tokens and loss",
    )
    for ax, letter, title in zip((a, b, c, d), "abcd", titles, strict=True):
        ax.set_title(f"$\\bf{{{letter}}}$  {title}", loc="left")
    below = f"probe: the loss's gradient; {captions.short(run)}; bands: {captions.intervals(run)}"
    whole.suptitle(below.replace("bands: no", "no"), fontsize=7, color="0.3")
    return captions.attached(whole, run, captions.COMPARISON, "stream_gradient", "parameter_gradient", "budget")
