"""The table itself: rows by name, and `quantities`, which shows them with the readings that yield them."""

import pandas as pd

from ..arguments import known
from . import jacobians, passes, training
from .quantity import Error, Quantity
from .sources import SOURCES, predicting

QUANTITIES: dict[str, Quantity] = {row.name: row for row in (*passes.ROWS, *jacobians.ROWS, *training.ROWS)}
_OF_REPLICAS = Error("SD over replicas / √replicas", r"\mathrm{SD}/\sqrt{R}")


def row(name: str) -> Quantity | None:
    """The row of a quantity, or that of the standard error of one; None for a name that is not in the table."""
    own = QUANTITIES.get(name.removesuffix("_sem"))
    if name in QUANTITIES or own is None:
        return QUANTITIES.get(name)
    return _OF_REPLICAS.of(own, "predict")


def quantities(name: str | None = None) -> pd.DataFrame:
    """The table of quantities: meaning, formula, unit, mean over seeds, how to get each, what that costs, and its figure.

    Parameters
    ----------
    name : of one quantity, by default all; also that of the standard error which a prediction gives, `loss_sem`

    Errors: ValueError for an unknown name, with the nearest.

    >>> quantities().loc["stream_gradient", ["formula", "unit", "reading"]].tolist()
    ['‖∂loss/∂x_l‖', 'norm', 'backward']
    """
    rows = QUANTITIES.values() if name is None else [_named(name)]
    return pd.DataFrame([_told(one) for one in rows]).set_index("name")


def _named(name: str) -> Quantity:
    """The row of that name, or an error with the nearest."""
    predicted = {f"{own.name}_sem": own for own in QUANTITIES.values() if own.predicted}
    known("quantity", name, QUANTITIES, also=predicted)
    return QUANTITIES.get(name) or _OF_REPLICAS.of(predicted[name], "predict")


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
