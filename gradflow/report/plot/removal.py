"""Layer removal: how much the loss grows without one sublayer of each kind, and without one block."""

from string import ascii_lowercase

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from .. import tables
from ..tables import removal as removals
from ..text import captions
from . import scales
from .canvas import across_all, legend, styled
from .legends import legend_above
from .lines import by, check_drawable, curve
from .looks import looks, named
from .training import NARROW

OF_EXAMPLES = "Bands: one standard error over examples, of one seed."


@styled
def removal(tree, *, step=None, scale=None, labels=None, colours=None, width=None) -> Figure:
    """Draws the loss without one layer, minus the whole loss, over the blocks: a panel a kind of sublayer, and one of blocks.

    Parameters
    ----------
    tree : results, or `{name: node}`, with the reading "layer_removal"
    step : a recorded one, by default the last
    scale : "linear", "log" or "symlog"; by default linear, or, where growths are far apart, linear up to their median alone
    labels, colours : by the name of the model
    """
    table = removals.removal(tree, step=step)
    check_drawable(table, "the loss without a layer")
    across = across_all(width, "icml-column")
    removed = list(by(table, "removed"))
    narrow = across < NARROW
    shape, size = ((1, len(removed)), (across, 0.36 * across))
    if narrow:
        shape, size = ((len(removed), 1), (across, (0.15 + 0.48 * len(removed)) * across))
    whole, panels = plt.subplots(*shape, figsize=size, layout="constrained", sharex=True, sharey=True, squeeze=False)
    members = tables.nodes(tree)
    palette, texts = looks(members, None, colours), named(members, labels)
    places = list(panels.flat)
    for ax, (_, rows) in zip(places, removed, strict=True):
        for name, of_model in by(rows, "model"):
            curve(ax, of_model, "layer", palette[name], legend(texts[name]))
        scales.over(ax, "block")
    for ax in places:
        scales.signed(ax, removals.middle(table), table["mean"].abs().max(), scale)
        ax.label_outer()
        if narrow or ax is places[0]:
            ax.set_ylabel("loss growth (nat)")
    legend_above(places[0], columns=2)
    for ax, letter, (what, _) in zip(places, ascii_lowercase, removed, strict=False):
        ax.set_title(rf"$\bf{{{letter}}}$  without one {legend(what)}", loc="left")
    lead = f"Growth of the loss without one {', one '.join(what for what, _ in removed)}, over the blocks"
    if step is not None:
        lead += f", step {step}"
    sentences = {"probe": captions.FORWARD}
    if removals.of_examples(tree):
        sentences["alone"] = OF_EXAMPLES
    return captions.attached(whole, tree, lead, "sublayer_removal", "block_removal", **sentences)
