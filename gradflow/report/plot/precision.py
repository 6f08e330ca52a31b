"""Rounding over depth: how far the stream and its gradient are off in bfloat16 and in float32, against float64."""

from string import ascii_lowercase

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from ...results.arguments import real
from ...results.quantities import ARRAYS
from .. import tables
from ..tables import precision as rounding
from ..text import captions
from . import scales
from .canvas import across_all, legend, naming, styled
from .lines import by, check_drawable, curve, curves
from .looks import looks, named

PROBE = "both passes of the same batch by the same weights, in each precision"


@styled
def precision(tree, *, bound=rounding.BOUND, steps=None, labels=None, colours=None, width=None) -> Figure:
    """Draws the relative error of the stream and of its gradient over depth: a row a precision, a curve a model and step.

    Parameters
    ----------
    tree : results, or `{name: node}`, with the reading "rounding"
    bound : an error at which a thin line is drawn, where the panel reaches it
    steps : recorded ones, by default all; the last is the strongest
    labels, colours : by the name of the model
    """
    real("bound", bound, above=0)
    table = rounding.errors(tree, steps=steps)
    table = table[table["rounded"].isin(ARRAYS)]
    check_drawable(table, "the errors of rounding")
    across = across_all(width, "icml-column")
    shape, size = (table["precision"].nunique(), len(ARRAYS)), (across, 0.85 * across)
    whole, panels = plt.subplots(*shape, figsize=size, layout="constrained", sharex=True, sharey="row", squeeze=False)
    members = tables.nodes(tree)
    palette, texts = looks(members, None, colours), named(members, labels)
    letters = iter(ascii_lowercase)
    for row, (name, of_precision) in zip(panels, by(table, "precision"), strict=True):
        for ax, (what, rows) in zip(row, by(of_precision, "rounded"), strict=True):
            for model, step, points, strength in curves(rows):
                curve(ax, points, "depth", palette[model].at(strength), naming(texts[model], step))
            scales.over(ax, "stream position")
            ax.set_title(rf"$\bf{{{next(letters)}}}$  {what}, {legend(name)}", loc="left")
    for ax in panels.flat:
        scales.scale(ax, True, bound)
        ax.label_outer()
    for row in panels:
        row[0].set_ylabel("relative error")
    _once(whole, panels)
    lead = f"Error of rounding of the stream and of its gradient; thin line: {bound:g}"
    return captions.attached(whole, tree, lead, "rounding_error", probe=PROBE)


def _once(whole: Figure, panels) -> None:
    """Names the axis of depth below all panels, and the curves above them."""
    corner = panels[-1, 0]
    whole.supxlabel(corner.get_xlabel(), fontsize=corner.xaxis.label.get_size())
    for ax in panels.flat:
        ax.set_xlabel("")
    whole.legend(*corner.get_legend_handles_labels(), loc="outside upper center", ncols=2)
