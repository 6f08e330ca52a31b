"""Massive activations over depth: the tokens and the features whose entries are largest, beside the gradient."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from .. import tables
from ..tables import activations
from ..text import captions
from . import scales
from .attention import over_depth, shown, under
from .canvas import across_all, naming, styled
from .lines import by, check_drawable
from .maps import coloured


@styled
def massive(node, *, step=None, rows=activations.ROWS, limits=None, width=None) -> Figure:
    """Draws the stream gradient, and below it the largest entries over the median, by token and by feature, on one axis of depth.

    Parameters
    ----------
    node : one model's results, with the reading "activations"
    step : a recorded one, by default the last
    rows : how many tokens, and how many features: those that are largest at any position
    limits : the ends of the logarithmic colour scale, the same for several models; by default those of these numbers
    """
    table = activations.largest(node, step=step, rows=rows)
    name = tables.called(node)
    check_drawable(table, f"the activations of {name}")
    across = across_all(width, "icml-column")
    whole, panels = over_depth(node, len(activations.AXES), across, step)
    norm = LogNorm(*(limits or activations.limits(table)))
    for ax, (axis, entries) in zip(panels, by(table, "axis"), strict=True):
        mesh = _map(ax, entries, norm)
        ax.set_ylabel(axis)
        under(ax, last=ax is panels[-1])
    whole.axes[0].set_title(naming(name, step), loc="left")
    bar = whole.colorbar(mesh, ax=panels, label="largest entry / median")
    scales.plain_bar(bar.ax)
    lead = (
        f"Massive activations of {name}, on the axis of the stream gradient relative to the readout: of the tokens and of the "
        f"features (from 0) that are largest at any position the {rows} first"
    )
    quantities = ("massive_activation_by_token", "massive_activation_by_feature")
    return captions.attached(whole, node, lead, *shown(node), *quantities, probe=captions.FORWARD, lines=captions.LINES)


def _map(ax: Axes, entries, norm: LogNorm):
    """Returns the map of one axis: a row an entry, which its number names."""
    square = entries.pivot(index="index", columns="depth", values="mean")
    places = np.arange(len(square.index))
    mesh = coloured(ax, square.columns, places, square.to_numpy(), norm=norm)
    ax.set_yticks(places, list(map(str, square.index)))
    ax.tick_params(axis="y", labelsize="x-small", length=0)
    scales.over(ax, "stream position")
    return mesh
