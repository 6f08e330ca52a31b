"""Figures of experiments: outcomes of recipes, the anatomy of a collapse, amplification against depth."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...results.sweeps import families
from ..tables import experiments
from ..tables.profiles import nodes
from ..text import captions
from .canvas import across_all, axes, colours, faded, legend, styled
from .lines import by, curve, legend_above, over_steps, over_total_depth, scale

STYLES = ("-", "--", ":", "-.")


@styled
def outcomes(tree, *, ax=None) -> Axes:
    """Draws held-out loss after training against the learning rate: a colour a model, a line style a length of the warm-up.

    Where recipes do not differ in their learning rate, they stand side by side by name. A cross: a seed diverged.
    """
    ax = axes(ax)
    table = experiments.outcomes(tree)
    palette = colours(nodes(tree))
    if table["lr"].nunique() > 1:
        _against_learning_rate(ax, table, palette)
    else:
        _against_recipe(ax, table, palette)
    ax.set_ylabel("held-out loss after training (nat)")
    legend_above(ax, columns=2)
    lead = "Loss on held-out text after training, by recipe; crosses: at least one seed diverged"
    return captions.attached(ax, tree, lead, "heldout_loss")


def _against_learning_rate(ax: Axes, table: pd.DataFrame, palette: dict[str, str]) -> None:
    """Draws a line for every model and length of the warm-up."""
    lengths = sorted(set(table["warmup"]))
    for name, rows in by(table, "model"):
        for length, style in zip(lengths, STYLES, strict=False):
            label = legend(name)
            if len(lengths) > 1:
                label += f", {length:g} steps" if length else ", no warm-up"
            with_length = rows[rows["warmup"] == length]
            curve(ax, with_length, "lr", palette[name], label, ls=style, marker="o", ms=3)
            _mark_diverged(ax, with_length, "lr", palette[name])
    rates = sorted(set(table["lr"]))
    ax.set_xscale("log")
    ax.set_xticks(rates, [f"{rate:g}" for rate in rates])
    ax.minorticks_off()
    ax.set_xlabel("learning rate")


def _against_recipe(ax: Axes, table: pd.DataFrame, palette: dict[str, str]) -> None:
    """Draws the recipes side by side, a point for every model."""
    recipes = list(dict.fromkeys(table["recipe"]))
    table = table.assign(place=table["recipe"].map(recipes.index))
    for name, rows in by(table, "model"):
        curve(ax, rows, "place", palette[name], legend(name), ls="", marker="o", ms=3)
        _mark_diverged(ax, rows, "place", palette[name])
    ax.set_xticks(range(len(recipes)), list(map(legend, recipes)))
    ax.margins(x=0.3)


def _mark_diverged(ax: Axes, rows: pd.DataFrame, x: str, colour: str) -> None:
    """Draws a cross where a seed diverged, at the highest loss of these where none of its seeds is finite."""
    diverged = rows[rows["diverged"] > 0]
    ax.plot(diverged[x], diverged["mean"].fillna(diverged["mean"].max()), "x", color=colour, ms=6)


@styled
def through(run, *quantities: str, ax=None) -> Axes:
    """Draws quantities of `experiments.THROUGH` against the step, a colour a model; linear below step 1, then logarithmic.

    By default the gradient at the bottom relative to the readout.
    """
    ax = axes(ax)
    palette = colours(nodes(run))
    chosen = quantities or ("bottom / readout",)
    table = experiments.through(run, chosen)
    for quantity, strength in zip(chosen, (1.0, 0.5), strict=False):
        for name, rows in by(table[table["quantity"] == quantity], "model"):
            label = legend(name)
            if len(chosen) > 1:
                label += f", {quantity}"
            curve(ax, rows, "step", faded(palette[name], strength), label, marker="o", ms=2)
    over_steps(ax, table["step"])
    has_gains = "norm" in chosen or "fork" in chosen
    if "bottom / readout" in chosen:
        scale(ax, True, 1.0)
    elif has_gains:
        scale(ax, False, 0.0)
    else:
        scale(ax, False, None)
    title = " and ".join(chosen)
    unit = " (nat)" if has_gains or "held-out loss" in chosen else ""
    ax.set_ylabel(f"{title}{unit}")
    legend_above(ax, columns=2)
    return captions.attached(ax, run, f"{title.capitalize()} through training", "stream_gradient")


@styled
def collapse(run, *, width=None) -> Figure:
    """Draws the anatomy of a collapse through training: the gradient at the bottom, the budget, the tokens and the loss."""
    across = across_all(width, "icml")
    whole, ((a, b), (c, d)) = plt.subplots(2, 2, figsize=(across, 0.66 * across), layout="constrained", sharex=True)
    through(run, "bottom / readout", ax=a).set_title(r"$\bf{a}$  gradient at the bottom", loc="left")
    through(run, "norm", "fork", ax=b).set_title(r"$\bf{b}$  where it gains and loses", loc="left")
    through(run, "token cosine", ax=c).set_title(r"$\bf{c}$  tokens at the top", loc="left")
    through(run, "held-out loss", ax=d).set_title(r"$\bf{d}$  loss", loc="left")
    a.set_xlabel("")
    b.set_xlabel("")
    lead = (
        "The anatomy of a collapse. (a) Stream gradient at the bottom relative to the readout; (b) totals of the budget, norms "
        "and forks; (c) token cosine at the top of the stack; (d) loss on held-out text"
    )
    return captions.attached(whole, run, lead, "stream_gradient", "budget", "token_cosine", "heldout_loss")


@styled
def amplification(swept, quantity: str = "output_change", *, ax=None) -> Axes:
    """Draws the mean squared change of the output by one update against the number of blocks; dotted: proportional to it."""
    ax = axes(ax)
    table = experiments.amplification(swept, quantity)
    palette = colours(families(swept, "total_depth"))
    for name, rows in by(table, "model"):
        curve(ax, rows, "total_depth", palette[name], legend(name), marker="o", ms=3)
        line = rows["mean"].iloc[0] * rows["total_depth"] / rows["total_depth"].iloc[0]
        ax.plot(rows["total_depth"], line, ":", color=palette[name], linewidth=0.8)
    over_total_depth(ax, table["total_depth"])
    ax.set_ylabel("mean squared change\nof the output by one update")
    legend_above(ax, columns=2)
    lead = "Mean squared change of the output by one update, against the number of blocks; dotted: in proportion to it"
    return captions.attached(ax, swept, lead, quantity)
