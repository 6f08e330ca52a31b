"""Figures of experiments: outcomes of recipes, the anatomy of a collapse, amplification against depth."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...results.sweeps import families
from ..tables import experiments
from ..tables.profiles import nodes
from ..text import captions
from .canvas import across_all, axes, legend, styled
from .legends import legend_above
from .lines import by, check_drawable, curve, guide
from .looks import DASHES, Look, looks, named
from .scales import over_sizes, over_steps, over_total_depth, readable_ticks
from .scales import scale as set_scale
from .training import NARROW


@styled
def outcomes(tree, *, labels=None, colours=None, ax=None) -> Axes:
    """Draws held-out loss after training against the learning rate: a marker a model, a line style a length of the warm-up.

    Where recipes do not differ in their learning rate, they stand side by side by name. A cross: a seed diverged.
    """
    table = experiments.outcomes(tree)
    check_drawable(table, "the held-out loss")
    ax = axes(ax)
    palette, texts = looks(nodes(tree), ax, colours), named(nodes(tree), labels)
    if table["lr"].nunique() > 1:
        _against_learning_rate(ax, table, palette, texts)
    else:
        _against_recipe(ax, table, palette, texts)
    readable_ticks(ax)
    ax.set_ylabel("held-out loss after training (nat)")
    legend_above(ax, columns=2)
    lead = "Loss on held-out text after training, by recipe; crosses: at least one seed diverged"
    return captions.attached(ax, tree, lead, "heldout_loss")


def _against_learning_rate(
    ax: Axes, table: pd.DataFrame, palette: Mapping[str, Look], texts: Mapping[str, str]
) -> None:
    """Draws a line for every model and length of the warm-up."""
    lengths = sorted(set(table["warmup"]))
    for name, rows in by(table, "model"):
        for length, style in zip(lengths, DASHES, strict=False):
            label = legend(texts[name])
            if len(lengths) > 1:
                label += f", {length:g} steps" if length else ", no warm-up"
            with_length = rows[rows["warmup"] == length]
            curve(ax, with_length, "lr", palette[name], label, linestyle=style)
            _mark_diverged(ax, with_length, "lr", palette[name])
    over_sizes(ax, table["lr"], "learning rate")


def _against_recipe(ax: Axes, table: pd.DataFrame, palette: Mapping[str, Look], texts: Mapping[str, str]) -> None:
    """Draws the recipes side by side, a point for every model."""
    recipes = list(dict.fromkeys(table["recipe"]))
    table = table.assign(place=table["recipe"].map(recipes.index))
    for name, rows in by(table, "model"):
        curve(ax, rows, "place", palette[name], legend(texts[name]), linestyle="")
        _mark_diverged(ax, rows, "place", palette[name])
    ax.set_xticks(range(len(recipes)), list(map(legend, recipes)))
    ax.margins(x=0.3)


def _mark_diverged(ax: Axes, rows: pd.DataFrame, x: str, look: Look) -> None:
    """Draws a cross where a seed diverged, at the highest loss of these where none of its seeds is finite."""
    diverged = rows[rows["diverged"] > 0]
    ax.plot(diverged[x], diverged["mean"].fillna(diverged["mean"].max()), "x", color=look.colour, ms=6)


@styled
def through(run, *quantities: str, labels=None, colours=None, scale=None, ax=None) -> Axes:
    """Draws quantities of `experiments.THROUGH` against the step; linear below step 1, then logarithmic.

    By default the gradient at the bottom relative to the readout. Of two quantities the second is paler.
    """
    chosen = quantities or ("bottom / readout",)
    table = experiments.through(run, chosen)
    check_drawable(table, " and ".join(chosen))
    ax = axes(ax)
    keys = [(name, quantity) for name in nodes(run) for quantity in chosen]
    palette, own, texts = looks(keys, ax), looks(nodes(run), colours=colours), named(nodes(run), labels)
    for quantity, strength in zip(chosen, (1.0, 0.5), strict=False):
        for name, rows in by(table[table["quantity"] == quantity], "model"):
            label = legend(texts[name])
            if len(chosen) > 1:
                label += f", {quantity}"
            look = palette[name, quantity].coloured(own[name].colour)
            curve(ax, rows, "step", look.at(strength), label)
    over_steps(ax, table["step"])
    has_gains = "norm" in chosen or "fork" in chosen
    if "bottom / readout" in chosen:
        set_scale(ax, True, 1.0, scale)
    elif has_gains:
        set_scale(ax, False, 0.0, scale)
    else:
        set_scale(ax, False, None, scale)
    title = " and ".join(chosen)
    unit = " (nat)" if has_gains or "held-out loss" in chosen else ""
    ax.set_ylabel(f"{title}{unit}")
    legend_above(ax, columns=2)
    return captions.attached(ax, run, f"{title.capitalize()} through training", "stream_gradient")


@styled
def collapse(run, *, width=None) -> Figure:
    """Draws the anatomy of a collapse through training: the gradient at the bottom, the budget, the tokens and the loss.

    At a column's width the panels stand one below the other.
    """
    across = across_all(width, "icml")
    columns, height = (1, 2.2) if across < NARROW else (2, 0.72)
    size = (across, height * across)
    whole, panels = plt.subplots(4 // columns, columns, figsize=size, layout="constrained", sharex=True)
    a, b, c, d = panels.flat
    through(run, "bottom / readout", ax=a).set_title(r"$\bf{a}$  gradient at the bottom", loc="left")
    through(run, "norm", "fork", ax=b).set_title(r"$\bf{b}$  where it gains and loses", loc="left")
    through(run, "token cosine", ax=c).set_title(r"$\bf{c}$  tokens at the top", loc="left")
    through(run, "held-out loss", ax=d).set_title(r"$\bf{d}$  loss", loc="left")
    for ax in panels.flat[: 4 - columns]:
        ax.set_xlabel("")
    lead = (
        "The anatomy of a collapse. (a) Stream gradient at the bottom relative to the readout; (b) totals of the budget, norms "
        "and forks; (c) token cosine at the top of the stack; (d) loss on held-out text"
    )
    return captions.attached(whole, run, lead, "stream_gradient", "budget", "token_cosine", "heldout_loss")


@styled
def amplification(swept, quantity: str = "output_change", *, labels=None, colours=None, ax=None) -> Axes:
    """Draws the mean squared change of the output by one update against the number of blocks; dotted: proportional to it."""
    table = experiments.amplification(swept, quantity)
    check_drawable(table, "the change of the output")
    ax = axes(ax)
    members = families(swept, "total_depth")
    palette, texts = looks(members, ax, colours), named(members, labels)
    for name, rows in by(table, "model"):
        curve(ax, rows, "total_depth", palette[name], legend(texts[name]))
        guide(ax, rows["total_depth"], rows["proportional"], palette[name])
    over_total_depth(ax, table["total_depth"])
    ax.set_ylabel("mean squared change\nof the output by one update")
    legend_above(ax, columns=2)
    lead = "Mean squared change of the output by one update, against the number of blocks; dotted: in proportion to it"
    return captions.attached(ax, swept, lead, quantity)
