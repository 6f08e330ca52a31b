"""Figures of the literature on depth: how alike layers are, how the stream's variance grows, the two-axis coordinate check."""

from itertools import product
from textwrap import fill

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...results.arguments import known
from .. import tables
from ..tables import coordinates, growth
from ..text import captions
from . import scales
from .canvas import across_all, axes, legend, naming, styled
from .legends import legend_above
from .lines import by, check_drawable, curve, curves, guide
from .looks import looks, named
from .maps import coloured
from .profiles import dotted
from .training import NARROW

SIMILARITIES = ("stream_angle", "stream_cosine")


@styled
def similarity(node, quantity="stream_angle", *, step=None, limits=None, ax=None) -> Axes:
    """Draws the angular distance (or "stream_cosine") between the streams at any two positions, as colour.

    Parameters
    ----------
    node : one model's results, with the reading "similarity"
    step : a recorded one, by default the last
    limits : the ends of the colour scale, the same for several models; by default those of these numbers
    """
    known("similarity", quantity, SIMILARITIES)
    table = tables.similarity(node, quantity, step=step)
    name, row = tables.called(node), tables.described(quantity)
    check_drawable(table, f"the {row.long_name} of {name}")
    ax = axes(ax)
    square = table.pivot(index="depth", columns="other_depth", values="mean")
    mesh = coloured(ax, square.columns, square.index, square.to_numpy(), limits)
    scales.over(ax, "stream position")
    ax.set_ylabel("stream position")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_title(naming(name, step), loc="left")
    unit = "" if row.units == "1" else f" ({row.units})"
    ax.figure.colorbar(mesh, ax=ax, label=fill(f"{row.long_name}{unit}", 28))
    lead = f"{row.long_name.capitalize()} of {name}"
    return captions.attached(ax, node, lead, quantity, probe=captions.FORWARD, lines=captions.LINES)


@styled
def variance_growth(tree, *, steps=None, labels=None, colours=None, ax=None) -> Axes:
    """Draws the mean square of the stream against the sublayers below it, both logarithmic; dotted: the power law, in words."""
    table = growth.variance(tree, steps=steps)
    check_drawable(table, "the mean square of the stream")
    ax = axes(ax)
    members = tables.nodes(tree)
    palette, texts = looks(members, ax, colours), named(members, labels)
    for name, step, rows, strength in curves(table):
        look = palette[name].at(strength)
        words = rows["text"].iloc[0]
        label = naming(texts[name], step)
        curve(ax, rows, "depth", look, f"{label}: {words}" if words else label, of=table)
        if words:
            guide(ax, rows["depth"], rows["law"], look)
    ax.set_xscale("log")
    ax.set_xlabel("stream position (input → output)")
    scales.scale(ax, True, None)
    ax.set_ylabel("mean square of the stream")
    legend_above(ax, columns=1, key=table)
    lead = f"Mean square of the stream against its position from 1 on{dotted(tree, 'l the position')}"
    return captions.attached(ax, tree, lead, "stream_rms", probe=captions.FORWARD)


@styled
def coordinate_check(checked, *, width=None) -> Figure:
    """Draws stream, gradient and update of `gf.experiments.coordinate_check` against width (left) and depth (right).

    A curve for every size of the other axis, with the exponent of each in the legend; flat: the size does not matter. One model.
    """
    table = coordinates.sizes(checked)
    check_drawable(table, "the coordinate check")
    models = dict.fromkeys(table["model"])
    if len(models) > 1:
        raise ValueError(f"there are {len(models)} models, {', '.join(models)}: draw one of them, checked['…']")
    exponents = coordinates.exponents(checked)
    across = across_all(width, "icml")
    quantities = list(dict.fromkeys(table["quantity"]))
    places = list(product(quantities, coordinates.AXES))
    rows, height = (len(places), 2.9) if across < NARROW else (len(quantities), 1.1)
    shape = (rows, len(places) // rows)
    whole, panels = plt.subplots(*shape, figsize=(across, height * across), layout="constrained")
    for ax, (quantity, axis) in zip(panels.flat, places, strict=True):
        of_axis = exponents[(exponents["quantity"] == quantity) & (exponents["axis"] == axis)]
        _against(ax, table[table["quantity"] == quantity], axis, of_axis)
        ax.set_ylabel(fill(coordinates.QUANTITIES[quantity], 20))
    words = "; ".join(coordinates.QUANTITIES.values())
    lead = (
        f"Coordinate check of {legend(next(iter(models)))}: {words}, at the last recorded step, against the width at every depth "
        f"and against the depth at every width; in the legends the exponents fitted, {captions.intervals(checked)}"
    )
    return captions.attached(whole, checked, lead, "stream_rms", "parameter_gradient", "stream_change")


def _against(ax: Axes, table: pd.DataFrame, axis: str, exponents: pd.DataFrame) -> None:
    """Draws one quantity against one size, a curve for every other size."""
    other = coordinates.other(axis)
    palette = looks(map(str, sorted(set(table[other]))))
    for size, rows in by(table.sort_values([other, axis]), other):
        label = f"{coordinates.AXES[other]} {size}"
        fitted = exponents[exponents[other] == int(size)]
        if len(fitted):
            label += f": {tables.interval(fitted.iloc[0])}"
        curve(ax, rows, axis, palette[size], label)
    scales.over_sizes(ax, table[axis], coordinates.AXES[axis])
    scales.scale(ax, True, None)
    legend_above(ax, columns=1)
