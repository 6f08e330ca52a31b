"""Layer removal: how much the loss grows without each sublayer, and without each block."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from .. import tables
from ..tables import removal as removals
from ..text import captions
from . import scales
from .canvas import across_all, legend, styled
from .legends import legend_above, titled
from .lines import by, check_drawable, curve
from .looks import looks, named
from .training import NARROW

HIDDEN = "_"  # a label that matplotlib leaves out of the legend
OF_EXAMPLES = "Bands: one standard error over examples, of one seed."


@styled
def removal(tree, *, step=None, scale=None, labels=None, colours=None, width=None) -> Figure:
    """Draws the loss without each sublayer and without each block, minus the whole loss, over the blocks: side by side, or below.

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
    shape, height = ((2, 1), 1.2) if across < NARROW else ((1, 2), 0.42)
    size = (across, height * across)
    whole, panels = plt.subplots(*shape, figsize=size, layout="constrained", sharex=True)
    a, b = panels.flat
    members = tables.nodes(tree)
    palette, texts = looks(members, None, colours), named(members, labels)
    is_block = table["removed"] == removals.BLOCK
    of_blocks = table[is_block]
    of_sublayers = table[~is_block].assign(kind=table["removed"])
    for name, of_model in by(of_sublayers, "model"):
        label = legend(texts[name])
        for _, rows in by(of_model, "kind"):
            curve(a, rows, "layer", palette[name], label, of=of_sublayers)
            label = HIDDEN
    for name, rows in by(of_blocks, "model"):
        curve(b, rows, "layer", palette[name], legend(texts[name]))
    for ax, rows in ((a, of_sublayers), (b, of_blocks)):
        scales.signed(ax, removals.middle(rows), rows["mean"].abs().max(), scale)
        scales.over(ax, "block")
        ax.set_ylabel("growth of the loss (nat)")
    if across < NARROW:
        a.set_xlabel("")
    legend_above(a, columns=2, key=of_sublayers)
    titled(a, r"$\bf{a}$  without one sublayer")
    titled(b, r"$\bf{b}$  without one block")
    lead = f"Growth of the loss without one sublayer (a), and without one block (b){_at(step)}"
    sentences = {"probe": "the forward pass alone"}
    if removals.of_examples(tree):
        sentences["alone"] = OF_EXAMPLES
    return captions.attached(whole, tree, lead, "sublayer_removal", "block_removal", **sentences)


def _at(step) -> str:
    """Returns `, step 3`; nothing where there are no steps."""
    return "" if step is None else f", step {step}"
