"""Rounding as tables: how far every reading is off in a shorter precision, where it first passes a bound, and what is lost.

Columns as in `tables`, with `precision`, and `rounded`, what is off, or `lost`, where numbers get too small. A forward pass goes
up from position 0, a backward one down from the top: `first` is the first position on that way.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .profiles import long, nodes, variable
from .steps import at_steps

BOUND = 0.01
FORWARD = ("stream", "stream_rms", "token_cosine", "skip_rms", "branch_rms")


def errors(tree, *, steps: Sequence[int] | None = None) -> pd.DataFrame:
    """Returns the relative error of every reading at every position, by model, step and precision."""
    return _of(tree, "rounding_error", steps)


def lost(tree, *, steps: Sequence[int] | None = None) -> pd.DataFrame:
    """Returns the share of numbers that are lost, by model, step, precision and place."""
    return _of(tree, "lost_share", steps)


def _of(tree, quantity: str, steps) -> pd.DataFrame:
    found = {}
    for name, node in nodes(tree).items():
        if "step" in variable(node, quantity).dims:
            found[name] = at_steps(variable(node, quantity), steps)
        else:
            found[name] = variable(node, quantity)
    return long(found)


def passes(tree, bound: float = BOUND, *, steps: Sequence[int] | None = None) -> pd.DataFrame:
    """Returns one row a model, step, precision and reading: the largest error, its position, and the `first` one past `bound`.

    `first` is NaN where none passes.
    """
    table = errors(tree, steps=steps)
    keys = [column for column in ("model", "step", "precision", "rounded") if column in table]
    rows = []
    for key, of_reading in table.groupby(keys, sort=False):
        sizes = of_reading.set_index("depth")["mean"].dropna()
        rows.append(dict(zip(keys, key, strict=True)) | _summed_up(sizes, bound, up=key[-1] in FORWARD))
    return pd.DataFrame(rows)


def _summed_up(sizes: pd.Series, bound: float, *, up: bool) -> dict:
    """Returns the largest of the errors of one reading, its position, and the first one on the way past the bound."""
    if sizes.empty:
        return {"largest": np.nan, "at": np.nan, "first": np.nan}
    past = sizes.index[sizes > bound]
    on_the_way = past if up else past[::-1]
    first = float(on_the_way[0]) if len(on_the_way) else np.nan
    return {"largest": sizes.max(), "at": float(sizes.index[int(sizes.argmax())]), "first": first}
