"""Figures of experiments, part of `plot`: outcomes of recipes, the anatomy of a collapse, amplification against depth."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...results.tree import families
from ..tables import experiments
from ..tables.profiles import nodes
from ..text import captions
from .canvas import (
    axes,
    by,
    colours,
    curve,
    faded,
    inches,
    legend,
    legend_above,
    over_steps,
    over_total_depth,
    scale,
    styled,
)

STYLES = ("-", "--", ":", "-.")


@styled
def outcomes(tree, *, ax=None) -> Axes:
    """Held-out loss after training against the learning rate: a colour a model, a line style a length of the warm-up.

    Where recipes do not differ in their learning rate, they stand side by side by name. A cross: a seed diverged.
    """
    ax, table, palette = axes(ax), experiments.outcomes(tree), colours(nodes(tree))
    over_rates = table["lr"].nunique() > 1
    x = "lr" if over_rates else "place"
    table = table.assign(place=[list(dict.fromkeys(table["recipe"])).index(name) for name in table["recipe"]])
    lengths = sorted(set(table["warmup"])) if over_rates else [None]
    for name, rows in by(table, "model"):
        for length, style in zip(lengths, STYLES, strict=False):
            some = rows if length is None else rows[rows["warmup"] == length]
            words = f", {length:g} steps" if length else ", no warm-up"
            label = f"{legend(name)}{words}" if len(lengths) > 1 else legend(name)
            curve(ax, some, x, palette[name], label, ls=style if over_rates else "", marker="o", ms=3)
            lost = some[some["diverged"] > 0]
            ax.plot(lost[x], lost["mean"].fillna(lost["mean"].max()), "x", color=palette[name], ms=6)
    if over_rates:
        ax.set_xscale("log")
        rates = sorted(set(table["lr"]))
        ax.set_xticks(rates, [f"{rate:g}" for rate in rates])
        ax.minorticks_off()
        ax.set_xlabel("learning rate")
    else:
        ax.set_xticks(sorted(set(table["place"])), list(map(legend, dict.fromkeys(table["recipe"]))))
        ax.margins(x=0.3)
    ax.set_ylabel("held-out loss after training (nat)")
    legend_above(ax, columns=2)
    lead = "Loss on held-out text after training, by recipe; crosses: at least one seed diverged"
    return captions.attached(ax, tree, lead, "heldout_loss")


@styled
def through(run, *quantities: str, ax=None) -> Axes:
    """Quantities of `experiments.THROUGH` against the step, a colour a model; linear below step 1, then logarithmic.

    By default the gradient at the bottom relative to the readout.
    """
    ax, palette, chosen = axes(ax), colours(nodes(run)), quantities or ("bottom / readout",)
    table = experiments.through(run, chosen)
    for quantity, strength in zip(chosen, (1.0, 0.5), strict=False):
        for name, rows in by(table[table["quantity"] == quantity], "model"):
            label = f"{legend(name)}, {quantity}" if len(chosen) > 1 else legend(name)
            curve(ax, rows, "step", faded(palette[name], strength), label, marker="o", ms=2)
    over_steps(ax, table["step"])
    gradient, gains = "bottom / readout" in chosen, "norm" in chosen or "fork" in chosen
    if gradient:
        scale(ax, True, 1.0)
    else:
        scale(ax, False, 0.0 if gains else None)
    ax.set_ylabel(f"{' and '.join(chosen)}{' (nat)' if gains or 'held-out loss' in chosen else ''}")
    legend_above(ax, columns=2)
    return captions.attached(ax, run, f"{' and '.join(chosen).capitalize()} through training", "stream_gradient")


@styled
def collapse(run, *, width="icml") -> Figure:
    """The anatomy of a collapse, through training: the gradient at the bottom, the budget, the tokens and the loss."""
    across = inches(width)
    whole, grid = plt.subplots(2, 2, figsize=(across, 0.66 * across), layout="constrained", sharex=True)
    panels = {
        "gradient at the bottom": ("bottom / readout",),
        "where it gains and loses": ("norm", "fork"),
        "tokens at the top": ("token cosine",),
        "loss": ("held-out loss",),
    }
    for ax, letter, (title, quantities) in zip(grid.flat, "abcd", panels.items(), strict=True):
        through(run, *quantities, ax=ax).set_title(f"$\\bf{{{letter}}}$  {title}", loc="left")
    for ax in grid[0]:
        ax.set_xlabel("")
    lead = (
        "The anatomy of a collapse. (a) Stream gradient at the bottom relative to the readout; (b) totals of the budget, norms "
        "and forks; (c) token cosine at the top of the stack; (d) loss on held-out text"
    )
    return captions.attached(whole, run, lead, "stream_gradient", "budget", "token_cosine", "heldout_loss")


@styled
def amplification(swept, quantity: str = "output_change", *, ax=None) -> Axes:
    """Mean squared change of the output by one update against the number of blocks; dotted: proportional to it."""
    ax, table, palette = (
        axes(ax),
        experiments.amplification(swept, quantity),
        colours(families(swept, "total_depth")),
    )
    for name, rows in by(table, "model"):
        curve(ax, rows, "total_depth", palette[name], legend(name), marker="o", ms=3)
        line = rows["mean"].iloc[0] * rows["total_depth"] / rows["total_depth"].iloc[0]
        ax.plot(rows["total_depth"], line, ":", color=palette[name], linewidth=0.8)
    over_total_depth(ax, table["total_depth"])
    ax.set_ylabel("mean squared change\nof the output by one update")
    legend_above(ax, columns=2)
    lead = "Mean squared change of the output by one update, against the number of blocks; dotted: in proportion to it"
    return captions.attached(ax, swept, lead, quantity)
