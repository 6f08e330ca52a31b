"""The table itself: rows by name, and `quantities`, which shows them with the readings that yield them."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import pandas as pd

from ..arguments import known, shown
from . import forward, jacobians, passes, training
from .quantity import Error, Quantity
from .sources import SOURCES, predicting

T = TypeVar("T")
QUANTITIES: dict[str, Quantity] = {
    row.name: row for row in (*passes.ROWS, *forward.ROWS, *jacobians.ROWS, *training.ROWS)
}
_OF_REPLICAS = Error("SD over replicas / √replicas", r"\mathrm{SD}/\sqrt{R}")


def row(name: str) -> Quantity | None:
    """Returns the row of a quantity, or of the standard error of one; None for a name that is not in the table."""
    if name in QUANTITIES:
        return QUANTITIES[name]
    quantity = QUANTITIES.get(name.removesuffix("_sem"))
    if quantity is None:
        return None
    return _OF_REPLICAS.of(quantity, "predict")


def listed(quantities) -> list:
    """Returns the names as a list; a single name is a list of one.

    Errors: ValueError for a value that is neither a name nor several things.
    """
    if isinstance(quantities, str):
        return [quantities]
    if not isinstance(quantities, Iterable):
        raise ValueError(f"quantities is {shown(quantities)}: names are needed, ('backward', …)")
    return list(quantities)


def by_what_they_yield(functions: Mapping[str, T]) -> dict[str, T]:
    """Returns functions by the names of their readings, and by the names of the quantities that these yield."""
    yielding = {}
    for name, quantity in QUANTITIES.items():
        if quantity.reading in functions:
            yielding[name] = functions[quantity.reading]
    return {**yielding, **functions}


def quantities(name: str | None = None) -> pd.DataFrame:
    """Returns the table of quantities: meaning, formula, unit, mean over seeds, how to get each, the cost, and its figure.

    Parameters
    ----------
    name : of one quantity, by default all; also that of the standard error which a prediction gives, `loss_sem`, or of a
        reading, for all its quantities

    Errors: ValueError for an unknown name, with the nearest.

    >>> quantities().loc["stream_gradient", ["formula", "unit", "reading"]].tolist()
    ['‖∂loss/∂x_l‖', 'norm', 'backward']
    """
    rows = list(QUANTITIES.values()) if name is None else _named(name)
    return pd.DataFrame(list(map(_cells, rows))).set_index("name")


def _named(name: str) -> list[Quantity]:
    """Returns the row of that name, or those of the reading; an error with the nearest names where there is neither."""
    predicted = {f"{quantity.name}_sem": quantity for quantity in QUANTITIES.values() if quantity.predicted}
    known("quantity", name, QUANTITIES, also=[*predicted, *SOURCES])
    if name in QUANTITIES:
        return [QUANTITIES[name]]
    if name in predicted:
        return [_OF_REPLICAS.of(predicted[name], "predict")]
    return [quantity for quantity in QUANTITIES.values() if quantity.reading == name]


def _cells(quantity: Quantity) -> dict[str, str]:
    """Returns a row as texts, by the names of the table's columns."""
    source = SOURCES[quantity.reading]
    calls = list(source.calls)
    if quantity.predicted:
        calls.append(predicting(quantity.reading))
    figure = "none" if quantity.figure is None else f"gf.plot.{quantity.figure}"
    return {
        "name": quantity.name,
        "meaning": quantity.long_name,
        "formula": quantity.formula,
        "latex": quantity.latex,
        "unit": quantity.units,
        "mean": quantity.mean,
        "reading": quantity.reading,
        "how to get it": " or ".join(calls),
        "cost": source.cost,
        "figure": figure,
    }
