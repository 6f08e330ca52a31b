"""The table itself: rows by name, and `quantities`, which shows them with the readings that yield them."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import pandas as pd

from ..arguments import known, shown
from . import jacobians, passes, training
from .quantity import Error, Quantity
from .sources import SOURCES, predicting

T = TypeVar("T")
QUANTITIES: dict[str, Quantity] = {row.name: row for row in (*passes.ROWS, *jacobians.ROWS, *training.ROWS)}
_OF_REPLICAS = Error("SD over replicas / √replicas", r"\mathrm{SD}/\sqrt{R}")


def row(name: str) -> Quantity | None:
    """The row of a quantity, or that of the standard error of one; None for a name that is not in the table."""
    own = QUANTITIES.get(name.removesuffix("_sem"))
    if name in QUANTITIES or own is None:
        return QUANTITIES.get(name)
    return _OF_REPLICAS.of(own, "predict")


def listed(quantities) -> list:
    """What is asked for, one by one: a single name is one.

    Errors: ValueError for what is neither a name nor several things.
    """
    if isinstance(quantities, str):
        return [quantities]
    if not isinstance(quantities, Iterable):
        raise ValueError(f"quantities is {shown(quantities)}: names are needed, ('backward', …)")
    return list(quantities)


def by_what_they_yield(functions: Mapping[str, T]) -> dict[str, T]:
    """Functions by the names of their readings, and by those of the quantities that these yield."""
    yielding = {name: functions[row.reading] for name, row in QUANTITIES.items() if row.reading in functions}
    return yielding | dict(functions)


def quantities(name: str | None = None) -> pd.DataFrame:
    """The table of quantities: meaning, formula, unit, mean over seeds, how to get each, what that costs, and its figure.

    Parameters
    ----------
    name : of one quantity, by default all; also that of the standard error which a prediction gives, `loss_sem`, or of a
        reading, for all that it yields

    Errors: ValueError for an unknown name, with the nearest.

    >>> quantities().loc["stream_gradient", ["formula", "unit", "reading"]].tolist()
    ['‖∂loss/∂x_l‖', 'norm', 'backward']
    """
    rows = list(QUANTITIES.values()) if name is None else _named(name)
    return pd.DataFrame([_told(one) for one in rows]).set_index("name")


def _named(name: str) -> list[Quantity]:
    """The row of that name, or those of the reading, or an error with the nearest."""
    predicted = {f"{own.name}_sem": own for own in QUANTITIES.values() if own.predicted}
    known("quantity", name, QUANTITIES, also=[*predicted, *SOURCES])
    if name in QUANTITIES:
        return [QUANTITIES[name]]
    if name in predicted:
        return [_OF_REPLICAS.of(predicted[name], "predict")]
    return [own for own in QUANTITIES.values() if own.reading == name]


def _told(one: Quantity) -> dict[str, str]:
    """A row in words."""
    source = SOURCES[one.reading]
    calls = (*source.calls, predicting(one.reading)) if one.predicted else source.calls
    return {
        "name": one.name,
        "meaning": one.long_name,
        "formula": one.formula,
        "latex": one.latex,
        "unit": one.units,
        "mean": one.mean,
        "reading": one.reading,
        "how to get it": " or ".join(calls),
        "cost": source.cost,
        "figure": "none" if one.figure is None else f"gf.plot.{one.figure}",
    }
