"""Layer removal as a table: how much the loss grows without each sublayer, and without each block.

Columns as in `tables`, with `layer`, and `removed`: the kind of the sublayer, or "block". Of a single seed, which has no
interval, `low` and `high` are one standard error over examples away.
"""

import numpy as np
import pandas as pd

from .profiles import long, nodes, variable
from .steps import at_step

BLOCK = "block"


def removal(tree, *, step: int | None = None) -> pd.DataFrame:
    """Returns the growth of the loss without each layer of every model, at a recorded step, by default the last."""
    frames = []
    for name, node in nodes(tree).items():
        of_sublayers = _with_errors(node, "sublayer_removal", step)
        kinds, layers = node["kind"].values, node["layer"].values
        places = of_sublayers["sublayer"].to_numpy() - 1
        frames.append(of_sublayers.assign(model=name, removed=kinds[places], layer=layers[places]))
        of_blocks = _with_errors(node, "block_removal", step)
        frames.append(of_blocks.assign(model=name, removed=BLOCK, layer=of_blocks["block"]))
    table = pd.concat(frames, ignore_index=True)
    return table[["model", "removed", "layer", "sublayer", "mean", "low", "high", "n"]]


def _with_errors(node, quantity: str, step: int | None) -> pd.DataFrame:
    """Returns one quantity of one model, of a single seed within a standard error over examples."""
    table = long({"": at_step(variable(node, quantity), step)})
    error = at_step(variable(node, f"{quantity}_sem"), step)
    if error.sizes["seed"] > 1:
        return table
    of_examples = error.isel(seed=0).to_numpy()
    return table.assign(low=table["mean"] - of_examples, high=table["mean"] + of_examples)


def of_examples(tree) -> bool:
    """Returns whether bounds are standard errors over examples, since no model has a second seed."""
    return all(node.sizes.get("seed", 1) < 2 for node in nodes(tree).values())


def middle(table: pd.DataFrame) -> float:
    """Returns the power of ten above the median size of the growths: where a scale that is linear near zero may end.

    1 where no layer matters, as at the start of a ReZero stack.
    """
    sizes = table["mean"].abs()
    there = sizes[sizes > 0]
    if there.empty:
        return 1.0
    return float(10.0 ** np.ceil(np.log10(there.median())))
