"""Attention by head, as a table: one row a sublayer and head, with its band over seeds, and where it lies in the stream.

Columns as in `tables`, with `quantity`, and `start` and `stop`: the stream position below the sublayer, and below the next
one that has heads, or the top.
"""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pandas as pd

from .profiles import called, long, nodes, variable
from .steps import at_step

QUANTITIES = ("attention_entropy", "attention_first_token", "attention_largest_logit")  # that one figure shows
SHARE = "attention_entropy_share"


def heads(node, quantity: str, *, step: int | None = None) -> pd.DataFrame:
    """Returns a quantity by head at a recorded step, by default the last; heads that there are not have no row."""
    table = long({called(node): at_step(variable(node, quantity), step)})
    table = table[table["mean"].notna()].assign(quantity=quantity)
    places = sorted(set(table["sublayer"].tolist()))
    stops = dict.fromkeys(places[-1:], node.sizes["sublayer"])
    for place, following in pairwise(places):
        stops[place] = following - 1
    return table.assign(start=table["sublayer"] - 1, stop=table["sublayer"].map(stops))


def all_heads(node, *, step: int | None = None, quantities: Iterable[str] = QUANTITIES) -> pd.DataFrame:
    """Returns the tables of several quantities one below the other."""
    return pd.concat([heads(node, quantity, step=step) for quantity in quantities], ignore_index=True)


def limits(tree, *, step: int | None = None) -> dict[str, tuple[float, float]]:
    """Returns the ends of one scale for all models, by quantity; of shares and entropies from 0 on."""
    found: dict[str, tuple[float, float]] = {}
    for quantity in (*QUANTITIES, SHARE):
        means = []
        for node in nodes(tree).values():
            if quantity in node:
                means.append(heads(node, quantity, step=step)["mean"].to_numpy())
        together = np.concatenate([*means, []])
        if together.size:
            least = 0.0
            if quantity == "attention_largest_logit":
                least = together.min()
            found[quantity] = (float(least), float(together.max()))
    return found
