"""Attention by head over depth: maps of its entropy, of what rests on the first token, and of its largest logit."""

from collections.abc import Mapping
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...results.arguments import known
from .. import tables
from ..tables import attention as by_head
from ..text import captions
from . import scales
from .canvas import across_all, axes, naming, styled
from .lines import check_drawable, is_drawable
from .maps import coloured
from .profiles import profile

KNOWN = (*by_head.QUANTITIES, by_head.SHARE)
BARS = {
    "attention_entropy": "entropy (nat)",
    "attention_entropy_share": "entropy / largest",
    "attention_first_token": "first token",
    "attention_largest_logit": "largest logit",
}
WIDE = "Each column is an attention sublayer, as wide as its block; heads count from 0"


@styled
def heads(node, quantity="attention_entropy", *, step=None, limits=None, ax=None) -> Axes:
    """Draws a quantity of attention as colour: head against depth, a column from a sublayer with heads to the next one.

    Parameters
    ----------
    node : one model's results, with the reading "attention"
    quantity : "attention_entropy", "attention_entropy_share", "attention_first_token" or "attention_largest_logit"
    step : a recorded one, by default the last
    limits : the ends of the colour scale, the same for several models; by default those of these numbers
    """
    known("quantity by head", quantity, KNOWN)
    table = by_head.heads(node, quantity, step=step)
    name, row = tables.called(node), tables.described(quantity)
    check_drawable(table, f"the {row.long_name} of {name}")
    ax = axes(ax)
    square = table.pivot(index="head", columns="start", values="mean")
    edges = [*square.columns, table["stop"].max()]
    rows = np.arange(len(square.index) + 1) - 0.5
    mesh = coloured(ax, edges, rows, square.to_numpy(), limits)
    scales.over(ax, "stream position")
    ax.set_ylabel("head")
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.set_title(naming(name, step), loc="left")
    ax.figure.colorbar(mesh, ax=ax, label=fill(BARS[quantity], 14))
    lead = f"{row.long_name.capitalize()} of {name}, head by head. {WIDE}"
    return captions.attached(ax, node, lead, quantity, probe=captions.FORWARD, lines=captions.LINES)


@styled
def attention(node, *, step=None, limits: Mapping | None = None, width=None) -> Figure:
    """Draws the stream gradient, and below it entropy, first token and largest logit of attention by head, on one axis of depth.

    `limits` are those of the maps by quantity, the same for several models (`tables.attention.limits`). Without a stream gradient
    the maps are drawn alone.
    """
    name = tables.called(node)
    check_drawable(by_head.all_heads(node, step=step), f"the attention of {name}")
    across = across_all(width, "icml-column")
    drawn = [quantity for quantity in by_head.QUANTITIES if is_drawable(by_head.heads(node, quantity, step=step))]
    whole, panels = over_depth(node, len(drawn), across, step)
    for quantity, ax in zip(drawn, panels, strict=True):
        heads(node, quantity, step=step, limits=(limits or {}).get(quantity), ax=ax)
        under(ax, last=ax is panels[-1])
    whole.axes[0].set_title(naming(name, step), loc="left")
    lead = f"Attention of {name} head by head, on the axis of the stream gradient relative to the readout. {WIDE}"
    return captions.attached(whole, node, lead, *shown(node), *drawn, probe=captions.FORWARD, lines=captions.LINES)


def shown(node) -> tuple[str, ...]:
    """Returns the quantity of the upper panel, where there is one."""
    return ("stream_gradient",) if "stream_gradient" in node else ()


def over_depth(node, maps: int, across: float, step) -> tuple[Figure, list[Axes]]:
    """Returns a figure with the stream gradient above, where it was read, and the Axes of so many maps below, on one axis."""
    with_gradient = bool(shown(node))
    number = maps + with_gradient
    size = (across, 0.27 * across + number * max(0.8, 0.17 * across))
    whole, panels = plt.subplots(number, 1, figsize=size, layout="constrained", sharex=True, squeeze=False)
    places = list(panels[:, 0])
    if not with_gradient:
        return whole, places
    top = places[0]
    steps = tables.steps_of(node)[-1:] if step is None else (step,)
    profile({tables.called(node): node}, relative_to="readout", steps=steps, ax=top)
    top.get_legend().remove()
    top.set_ylabel("stream gradient\n/ readout")
    top.set_xlabel("")
    return whole, places[1:]


def under(ax: Axes, *, last: bool) -> None:
    """Leaves the title to the upper panel, and the name of the axis to the last map."""
    ax.set_title("", loc="left")
    if not last:
        ax.set_xlabel("")
