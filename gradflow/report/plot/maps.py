"""Maps, numbers as colour; and that of a profile through training, recorded step against depth."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh

from .. import tables
from ..text import captions
from . import scales
from .canvas import axes, legend, styled
from .profiles import TICKS


def coloured(ax: Axes, across, up, numbers, limits=None, **style) -> QuadMesh:
    """Draws numbers as colour at their places, or between edges where there is one more of these; returns the map.

    `limits` are the ends of the colour scale, by default those of the numbers.
    """
    low, high = (None, None) if limits is None else limits
    style = {"cmap": "viridis", "rasterized": True, "vmin": low, "vmax": high, **style}
    return ax.pcolormesh(across, up, numbers, **style)


@styled
def heatmap(node, quantity="stream_gradient", *, relative_to="readout", limits=None, ax=None) -> Axes:
    """Draws a profile through training: recorded step against depth, log10 of the mean over seeds as colour.

    `limits` are the ends of the colour scale, in the quantity's own unit (`tables.heat_limits` of several models, for one scale
    in all their figures); by default the smallest and the largest of these numbers. White: not finite, or zero.

    Errors: ValueError, one line, where no number has a logarithm.
    """
    values = tables.heat(node, quantity, relative_to=relative_to)
    model = tables.called(node)
    name = tables.described(quantity).long_name
    if relative_to:
        name += f" / {relative_to}"
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log10(values.values)
    if not np.isfinite(logs).any():
        raise ValueError(f"nothing to draw of {model}: no {name} is finite and above zero")
    ax = axes(ax)
    depth = values[str(values.dims[-1])]
    steps = values["step"].values
    ends = None if limits is None else np.log10(limits)
    mesh = coloured(ax, depth, np.arange(len(steps)), np.ma.masked_invalid(logs), ends)
    ticks = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), TICKS)).round().astype(int))
    ax.set_yticks(ticks, list(map(str, steps[ticks])))
    ax.set_ylabel("training step")
    scales.over(ax, tables.places(values.coords))
    ax.set_title(legend(model), loc="left")
    ax.figure.colorbar(mesh, ax=ax, label=f"log$_{{10}}$ {name}")
    lead = f"{name[:1].upper()}{name[1:]} of {model} through training"
    return captions.attached(ax, node, lead, quantity, lines=captions.LINES)
