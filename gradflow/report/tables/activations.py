"""Massive activations as a table: the tokens and the features whose entries are largest against the median, over depth.

Columns as in `tables`, with `axis`, "token" or "feature", and `index`, which of them, from 0.
"""

import pandas as pd

from .profiles import called, long, variable
from .steps import at_step

AXES = ("token", "feature")
ROWS = 8  # tokens, and features, that are shown


def largest(node, *, step: int | None = None, rows: int = ROWS) -> pd.DataFrame:
    """Returns the `rows` tokens and features that are largest at any position, at a recorded step, by default the last."""
    frames = []
    for axis in AXES:
        values = at_step(variable(node, f"massive_activation_by_{axis}"), step)
        table = long({called(node): values}).rename(columns={axis: "index"})
        by_index = table.groupby("index")["mean"].max()
        shown = sorted(by_index.nlargest(rows).index)
        frames.append(table[table["index"].isin(shown)].assign(axis=axis))
    return pd.concat(frames, ignore_index=True)


def limits(table: pd.DataFrame) -> tuple[float, float]:
    """Returns the ends of a logarithmic scale of ratios: from 1, the median itself, to the largest, a decade above at least."""
    return 1.0, float(max(10.0, table["mean"].max()))
