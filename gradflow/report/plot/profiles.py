"""Figures of profiles over depth, of the budget and of training, and the page that puts wirings side by side."""

from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...results.arguments import known
from ...results.quantities import GEOMETRIC, QUANTITIES, Quantity
from ...results.sweeps import families, last_output
from .. import tables
from ..tables import fits, nonfinite
from ..text import captions
from .canvas import PARTS, across_all, axes, colours, darker, faded, legend, naming, styled
from .lines import by, curve, curves, folded, law, legend_above, over, over_steps, over_total_depth, scale

TICKS = 12  # steps that a heatmap names
NAMED = 6  # steps of a model that the legend of a profile names, where there are more than it has room for


@styled
def profile(
    tree, quantity="stream_gradient", *, relative_to=None, steps=None, theory=None, laws=None, ax=None, **where
) -> Axes:
    """Draws a quantity over depth: mean and band over seeds, one colour a model, one shade a step.

    `where` chooses one entry along a further dimension (`parameter="down"`). For a gradient pass `relative_to="readout"`
    (or "top"); by default values are absolute. `laws` (`fits.law_curves`, of the same quantity and reference) are drawn
    dashed, in words in the legend. `theory` (`gf.predict` of the same models) is dashed too, over the average that it
    predicts: the start of training, and root mean squares.
    """
    _check_laws(laws, quantity, relative_to)
    ax = axes(ax)
    table = tables.profile(tree, quantity, relative_to=relative_to, steps=steps, theory=theory, **where)
    described = tables.described(quantity)
    palette = colours(tables.nodes(tree))
    position = "depth" if "depth" in table else "sublayer"
    named = _named_steps(table)
    for name, step, rows, strength in curves(table):
        colour = faded(palette[name], strength)
        label = naming(name, step) + law(ax, laws, name, step, position, colour)
        if step not in named:
            label = "_"
        curve(ax, rows, position, colour, folded(label))
        if theory is not None:
            ax.plot(rows[position], rows["theory"], "--", color=darker(colour))
    columns = table["model"].nunique()
    if theory is not None:
        ax.plot([], [], "--", color="0.3", label="theory")
        columns += 1
    columns = min(3, columns) if laws is None else 1
    scale(ax, described.mean == GEOMETRIC, _unchanged(described, relative_to))
    ax.set_ylabel(_ylabel(described, relative_to, where))
    over(ax, tables.places(table))
    legend_above(ax, columns=columns)
    lead = _lead(tree, described, relative_to, laws, where)
    probe = captions.LOSS_PROBE
    if "probe" in where:
        probe = f"probe: {where['probe']}, on the sphere"
    if theory is None:
        return captions.attached(ax, tree, lead, quantity, probe=probe)
    lines = captions.theory(tree, theory, quantity)
    return captions.attached(ax, tree, lead, quantity, probe=probe, lines=lines, alone=lines)


def _named_steps(table: pd.DataFrame) -> list:
    """Returns the steps that a legend names: all, or of many the first, the last and some between."""
    steps = list(dict.fromkeys(table["step"])) if "step" in table else [None]
    if len(steps) <= TICKS:
        return steps
    return [steps[i] for i in np.linspace(0, len(steps) - 1, NAMED).round().astype(int)]


def _unchanged(quantity: Quantity, relative_to) -> float | None:
    """Returns the value that means "unchanged": 0 where the mean is arithmetic, 1 for a ratio; None for an absolute norm."""
    if quantity.mean != GEOMETRIC:
        return 0.0
    if relative_to or quantity.units != "norm":
        return 1.0
    return None


def _ylabel(quantity: Quantity, relative_to, where: dict) -> str:
    """Returns the label of the axis: the quantity, the entry of it that is drawn, and its reference or unit, where it has one."""
    unit = "" if quantity.units == "1" else f" ({quantity.units})"
    if relative_to:
        unit = f" / {relative_to}"
    name = fill(quantity.long_name, 32)
    if not where:
        return f"{name}{unit}"
    entry = ", ".join(map(legend, where.values()))
    return f"{name},\n{entry.replace('_', ' ')}{unit}"


def _lead(tree, quantity: Quantity, relative_to, laws, where: dict) -> str:
    """Returns the first sentence of a profile's caption."""
    lead = ", ".join([quantity.long_name.capitalize(), *map(legend, where.values())]) + " over depth"
    if relative_to:
        lead += f", relative to the {relative_to}"
    if laws is not None:
        lead += _dashed(tree, "l the position")
    return lead


def _dashed(tree, letter: str) -> str:
    """Returns the part of a caption that says which law is dashed."""
    if nonfinite.alone(tables.nodes(tree)):
        return f"; dashed: the law chosen, {letter}"
    return f"; dashed: the law chosen, {letter}, with the 95% interval of its exponent"


def _check_laws(laws, quantity: str, relative_to) -> None:
    """Raises where the laws are those of another quantity or reference than the figure's."""
    if laws is None or laws.empty:
        return
    fitted_quantity, fitted_reference = laws.iloc[0][["quantity", "relative_to"]]
    reference = relative_to or "nothing"
    if (fitted_quantity, fitted_reference) != (quantity, reference):
        raise ValueError(
            f"these laws are of {fitted_quantity} relative to {fitted_reference}, the figure of {quantity} to {reference}"
        )


@styled
def budget(node, *, steps=None, ax=None) -> Axes:
    """Draws where the gradient gains and loses: log-gains of norms, forks and both, summed from the top to each depth."""
    ax = axes(ax)
    table = tables.budget_from_top(node, steps=steps)
    for part, rows in by(table, "part"):
        for _, step, at_step, strength in curves(rows):
            curve(ax, at_step, "depth", faded(PARTS[part], strength), naming(part, step))
    scale(ax, False, 0.0)
    ax.set_ylabel("log-gain from the top (nat)")
    over(ax, "stream position")
    name = tables.called(node)
    ax.set_title(legend(name), loc="left")
    legend_above(ax, columns=len(PARTS))
    return captions.attached(ax, node, f"Budget of {name}, summed from the top of the stack down", "budget")


@styled
def budget_totals(tree, *, steps=None, ax=None) -> Axes:
    """Draws the budget over the whole stack: norms, forks, and their sum, the end-to-end log-gain; 95% intervals."""
    ax = axes(ax)
    table = tables.budget_totals(tree, steps=steps)
    groups = table[["model"]].assign(step=table.get("step")).drop_duplicates()
    ticks = []
    for name, step in zip(groups["model"], groups["step"], strict=True):
        ticks.append(naming(name, step).replace(", step", "\nstep"))
    for i, part in enumerate(PARTS):
        rows = table[table["part"] == part]
        x = np.arange(len(groups)) + (i - 1) * 0.27
        reach = np.abs(rows[["low", "high"]].to_numpy().T - rows["mean"].to_numpy())
        style = {"elinewidth": 0.7, "ecolor": "0.2"}
        ax.bar(x, rows["mean"], 0.25, color=PARTS[part], label=part, yerr=reach, error_kw=style)
    ax.set_xticks(range(len(groups)), ticks)
    scale(ax, False, 0.0)
    ax.set_ylabel("total log-gain (nat)")
    legend_above(ax, columns=len(PARTS))
    lead = "Budget over the whole stack: norms, forks (skip plus branch), and both"
    return captions.attached(ax, tree, lead, "budget")


@styled
def heatmap(node, quantity="stream_gradient", *, relative_to="readout", ax=None) -> Axes:
    """Draws a profile through training: recorded step against depth, log10 of the mean over seeds as colour."""
    ax = axes(ax)
    values = tables.heat(node, quantity, relative_to=relative_to)
    depth = values[str(values.dims[-1])]
    steps = values["step"].values
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log10(values.values)
    mesh = ax.pcolormesh(depth, np.arange(len(steps)), logs, cmap="viridis", shading="nearest")
    ticks = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), TICKS)).round().astype(int))
    ax.set_yticks(ticks, list(map(str, steps[ticks])))
    ax.set_ylabel("training step")
    over(ax, tables.places(values.coords))
    model = tables.called(node)
    title = legend(model)
    if not np.isfinite(values).any():
        title += ": not finite"
    ax.set_title(title, loc="left")
    name = tables.described(quantity).long_name
    if relative_to:
        name += f" / {relative_to}"
    ax.figure.colorbar(mesh, ax=ax, label=f"log$_{{10}}$ {name}")
    lead = f"{name[:1].upper()}{name[1:]} of {model} through training"
    return captions.attached(ax, node, lead, quantity, lines=captions.LINES)


@styled
def total_depth(sweep, quantity="parameter_gradient", *, sublayer=-1, laws=None, ax=None, **where) -> Axes:
    """Draws one entry of a profile against the number of blocks, with the fitted slope.

    The entry is by default the last feed-forward output, of a program the last parameter of its last sublayer. `laws`
    (`fits.law_curves` of `fits.total_depth_laws`) are drawn dashed, in words in place of the slope.
    """
    _check_laws(laws, quantity, None)
    ax = axes(ax)
    entry = f"last {', '.join(map(str, where.values()))}"
    if not where or where == {"parameter": "down"}:
        entry = last_output(sweep, quantity, "total_depth")
    table = tables.total_depth(sweep, quantity, sublayer=sublayer, **where)
    slopes = fits.total_depth_slopes(sweep, quantity, sublayer=sublayer, **where)
    palette = colours(families(sweep, "total_depth"))
    for name, _, rows, _ in curves(table):
        words = law(ax, laws, name, None, "total_depth", palette[name])
        if not words and name in slopes:
            words = f", slope {tables.interval(slopes[name].sel(number='k'))}"
        curve(ax, rows, "total_depth", palette[name], folded(f"{legend(name)}{words}"), marker="o", ms=3)
    over_total_depth(ax, table["total_depth"])
    described = tables.described(quantity)
    ax.set_ylabel(f"{described.long_name},\n{legend(entry)}")
    legend_above(ax, columns=1)
    lead = f"{described.long_name.capitalize()}, {entry}, at initialization against the number of blocks"
    if laws is not None:
        lead += _dashed(sweep, "L their number")
    return captions.attached(ax, sweep, lead, quantity)


@styled
def training(run, quantity: str, *, ax=None) -> Axes:
    """Draws loss or token cosine (at the top of the stack) against the step: linear below step 1, then logarithmic."""
    ax = axes(ax)
    table = tables.training(run)
    known("quantity through training", quantity, dict.fromkeys(table["quantity"]))
    palette = colours(tables.nodes(run))
    for name, rows in by(table[table["quantity"] == quantity], "model"):
        curve(ax, rows, "step", palette[name], legend(name), marker="o", ms=2)
    over_steps(ax, table["step"])
    long_name = QUANTITIES[quantity].long_name
    place = " (nat)" if quantity == "loss" else ", top"
    ax.set_ylabel(f"{long_name}{place}")
    return captions.attached(ax, run, f"{long_name.capitalize()} through training", quantity)


@styled
def comparison(run, sweep, *, profile_steps=(0, 10, 100), budget_steps=(0, 25), width=None) -> Figure:
    """Draws wirings side by side: profile through training, gradient against total depth, budget, tokens and loss."""
    across = across_all(width, "icml")
    whole = plt.figure(figsize=(across, 0.78 * across), layout="constrained")
    grid = whole.add_gridspec(2, 2)
    halves = grid[1, 1].subgridspec(2, 1)
    a = whole.add_subplot(grid[0, 0])
    b = whole.add_subplot(grid[0, 1])
    c = whole.add_subplot(grid[1, 0])
    d = whole.add_subplot(halves[0])
    e = whole.add_subplot(halves[1])
    profile(run, relative_to="readout", steps=tables.steps_of(run, profile_steps), ax=a)
    total_depth(sweep, ax=b)
    budget_totals(run, steps=tables.steps_of(run, budget_steps), ax=c)
    training(run, "token_cosine", ax=d)
    training(run, "loss", ax=e)
    d.tick_params(labelbottom=False)
    d.set_xlabel("")
    a.set_title(r"$\bf{a}$  gradient through the stack", loc="left")
    b.set_title(r"$\bf{b}$  at initialization, against depth", loc="left")
    c.set_title(r"$\bf{c}$  where it gains and loses", loc="left")
    d.set_title(r"$\bf{d}$  tokens and loss", loc="left")
    subtitle = f"probe: the loss's gradient; {captions.short(run)}; bands: {captions.intervals(run)}"
    whole.suptitle(subtitle.replace("bands: no", "no"), fontsize=7, color="0.3")
    lead = captions.COMPARISON.format(output=last_output(sweep, "parameter_gradient", "total_depth"))
    return captions.attached(whole, run, lead, "stream_gradient", "parameter_gradient", "budget")
