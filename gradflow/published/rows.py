"""Rows: numbers and points of curves with their intervals over seeds, as one table.

A row is `number` or `curve` (the other is empty), `x`, `mean`, `low`, `high`, `n`. Axes: seeds first.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from ..laws.fitting import fit
from ..laws.law import Law
from ..results.statistics import band, half_width

COLUMNS = ("number", "curve", "x", "mean", "low", "high", "n")
Row = dict


def number(name: str, values) -> Row:
    """Returns a number from one value a seed: the arithmetic mean and its 95% t-interval."""
    values = np.asarray(values, float)
    half = np.nan
    if values.size > 1:
        half = float(half_width(values.std(ddof=1), values.size))
    mean = float(values.mean())
    return _row(name, "", np.nan, mean, mean - half, mean + half, values.size)


def exact(name: str, value: float) -> Row:
    """Returns a number that has no scatter."""
    return _row(name, "", np.nan, float(value), float(value), float(value), 1)


def between(name: str, mean: float, low: float, high: float, n: int) -> Row:
    """Returns a number whose interval was found in another way."""
    return _row(name, "", np.nan, mean, low, high, n)


def exponent(name: str, profile: xr.DataArray, law: Law, *, over: str, letter: str = "k") -> Row:
    """Returns a number of a law that is fitted to a profile of every seed, with its interval over seeds."""
    fitted = fit(profile, law, over=over).sel(number=letter)
    mean, low, high = (float(fitted[bound]) for bound in ("estimate", "low", "high"))
    return _row(name, "", np.nan, mean, low, high, profile.sizes["seed"])


def curve(name: str, profile: xr.DataArray, over: str) -> list[Row]:
    """Returns a point for each position of a profile: the mean that its quantity has over seeds, with the interval."""
    bounds = band(profile)
    rows = []
    for i, x in enumerate(profile[over].values):
        at = bounds.isel({over: i})
        mean, low, high, n = (float(at[bound]) for bound in ("mean", "low", "high", "n"))
        rows.append(_row("", name, float(x), mean, low, high, int(n)))
    return rows


def points(name: str, x: Sequence[float], values: Sequence[float]) -> list[Row]:
    """Returns points that have no scatter, as those of a theory."""
    rows = []
    for at, value in zip(x, values, strict=True):
        rows.append(_row("", name, float(at), float(value), float(value), float(value), 1))
    return rows


def table(rows: Iterable[Row]) -> pd.DataFrame:
    """Returns the rows as a table."""
    return pd.DataFrame(list(rows), columns=list(COLUMNS))


def as_tree(table: pd.DataFrame, minutes: float) -> xr.DataTree:
    """Returns the table as a tree, which a file can hold, with the minutes that it took."""
    rows = xr.Dataset.from_dataframe(table.rename_axis("row"))
    return xr.DataTree(rows.assign_attrs(minutes=minutes))


def of_tree(tree: xr.DataTree) -> pd.DataFrame:
    """Returns the table that `as_tree` made a tree of."""
    rows = tree.to_dataset().to_dataframe().rename_axis(None)
    return rows[list(COLUMNS)]


def _row(name: str, of_curve: str, x: float, mean: float, low: float, high: float, n: int) -> Row:
    return dict(zip(COLUMNS, (name, of_curve, x, mean, low, high, n), strict=True))
