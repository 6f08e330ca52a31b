"""Curves with their bands and markers, laws and theories beside them. Columns of a table as in `tables`."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from .canvas import darker
from .looks import GUIDE, Look, fillings

CROWDED = 14  # markers of one kind on a curve; of more only some are drawn


def by(table: pd.DataFrame, column: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yields `(name, rows)` for every name in a column, in order of appearance."""
    for name, rows in table.groupby(column, sort=False):
        yield str(name), rows


def curves(table: pd.DataFrame) -> Iterator[tuple]:
    """Yields `(model, step, rows, strength of the colour)` for every curve in a table; the last step is the strongest."""
    if "step" not in table:
        for name, rows in by(table, "model"):
            yield name, None, rows, 1.0
        return
    steps = list(dict.fromkeys(table["step"]))
    strengths = np.linspace(1, 0.4, len(steps))[::-1] if len(steps) > 1 else [1.0]
    for name, rows in by(table, "model"):
        for step, strength in zip(steps, strengths, strict=True):
            yield name, step, rows[rows["step"] == step], strength


def check_drawable(table: pd.DataFrame, what: str) -> None:
    """Raises, in one line, where a figure would be empty: no number of its table is finite.

    Errors: ValueError.
    """
    if not is_drawable(table):
        raise ValueError(f"nothing to draw of {what}: none of its {len(table)} numbers is finite")


def is_drawable(table: pd.DataFrame) -> bool:
    """Returns whether a number of a table is finite: of its means, or of all its numbers where it has no means."""
    numbers = table.select_dtypes(float)
    if "mean" in table:
        numbers = table[["mean"]]
    return bool(np.isfinite(numbers.to_numpy(float)).any())


def curve(
    ax: Axes,
    rows: pd.DataFrame,
    x: str,
    look: Look,
    label: str,
    *,
    of: pd.DataFrame | None = None,
    marked=True,
    **style,
) -> None:
    """Draws one line with its band and its markers, which are filled by the kind of sublayer, among those in the table `of`.

    The label says where nothing is finite.
    """
    if not np.isfinite(rows["mean"]).any():
        label = f"{label}: not finite"
    filled, others = _places(rows, fillings(of))
    style = {"linestyle": look.dash, "ms": 3, "mew": 0.7, **style}
    if marked:
        style |= {"marker": look.marker, "markevery": _some(filled)}
    ax.plot(rows[x], rows["mean"], color=look.colour, label=label, gid=look.mark, **style)
    ax.fill_between(rows[x], rows["low"], rows["high"], color=look.colour, alpha=0.15, linewidth=0)
    if not marked:
        return
    for filling, places in others.items():
        of_kind = rows.iloc[_some(places)]
        face: dict[str, Any] = {"fillstyle": filling, "markerfacecoloralt": "white"}
        if filling == "none":
            face = {"mfc": "white"}
        ax.plot(of_kind[x], of_kind["mean"], look.marker, color=look.colour, ms=style["ms"], mew=style["mew"], **face)


def _places(rows: pd.DataFrame, by_kind: dict[str, str]) -> tuple[list[int], dict[str, list[int]]]:
    """Returns the rows with a filled marker, and those with each other filling; without kinds, all of them are filled."""
    if not by_kind:
        return list(range(len(rows))), {}
    filled: list[int] = []
    others: dict[str, list[int]] = {}
    for kind, filling in by_kind.items():
        places = np.flatnonzero(rows["kind"] == kind).tolist()
        if filling == "full":
            filled += places
        else:
            others[filling] = places
    return filled, others


def _some(places: list[int]) -> list[int]:
    """Returns all places, or of many every second, third, … one."""
    return places[:: max(1, -(-len(places) // CROWDED))]


def law(ax: Axes, laws: pd.DataFrame | None, name: str, step, x: str, look: Look) -> str:
    """Draws the law of one model and step as a thin dotted line, and returns `: ` and the law in words.

    Nothing is drawn, and the text is empty, where there is no law.
    """
    if laws is None:
        return ""
    at_step = laws["step"].isna() if step is None else laws["step"] == step
    rows = laws[(laws["model"] == name) & at_step]
    if rows.empty:
        return ""
    guide(ax, rows[x], rows["mean"], look)
    return f": {rows['text'].iloc[0]}"


def guide(ax: Axes, x, y, look: Look, **style) -> None:
    """Draws a thin dotted line in the darker colour of its curve: a law, a theory, a proportion."""
    ax.plot(x, y, GUIDE, **{"color": darker(look.colour), "linewidth": 1.0, **style})


def folded(label: str) -> str:
    """Returns `label`, on two lines where a column of a page is too narrow for one."""
    if len(label) > 48:
        return label.replace(" (or ", "\n(or ")
    return label
