"""Statistics over seeds: bands, and the paired comparison of two wirings.

Gradient norms are spread over decades, so a band of a positive quantity is a Student-t interval of the mean of its
logarithm, given back as geometric mean and bounds: no bar can leave the valid range.
"""

import warnings
from collections.abc import Callable

import numpy as np
import xarray as xr
from scipy import stats

from .quantities import GEOMETRIC, QUANTITIES

CONFIDENCE = 0.95


def half_width(spread, n):
    """`t_{n−1, 0.975} · spread/√n`: half of the 95% interval of a mean of n values; NaN for a single one."""
    n = np.asarray(n, float)
    return stats.t.ppf((1 + CONFIDENCE) / 2, np.where(n > 1, n - 1, np.nan)) * spread / np.sqrt(np.maximum(n, 1))


def standard_deviation(spread, n):
    """The spread itself: for `band(values, half=standard_deviation)`."""
    return spread


def moments(values: xr.DataArray, dim: str = "seed") -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Mean and standard deviation over `dim` of the values that are there, not NaN, and how many these are.

    Of none the mean is NaN, and of fewer than two the standard deviation is.
    """
    n = values.notnull().sum(dim) if dim in values.dims else values.notnull().astype(int)
    if dim not in values.dims:
        return values, xr.full_like(values, np.nan, float), n
    with warnings.catch_warnings():  # of nothing there is no mean: it is NaN, as is said above
        warnings.simplefilter("ignore", RuntimeWarning)
        spread = values.std(dim, ddof=1, skipna=True)
        return values.mean(dim, skipna=True), spread.where(n > 1), n


def band(values: xr.DataArray, dim: str = "seed", *, half: Callable = half_width) -> xr.Dataset:
    """Mean over `dim` with its 95% t-interval, without the dimension: `mean`, `low`, `high`, and `n`, how many it is of.

    `half` makes half of the band from the standard deviation and the number of values: `half_width` (the interval) or
    `standard_deviation`.

    The table of quantities says which mean; one of the user's own gets the geometric where none is negative. Around a geometric
    mean the interval is in logs.
    Values that are not finite are left out, and `n` says so; where none is left the mean is NaN. A zero makes a geometric
    mean 0. A single seed has no interval (NaN).
    """
    quantity = QUANTITIES.get(str(values.name))
    finite = values.where(np.isfinite(values))
    logs = not (finite < 0).any() if quantity is None else quantity.mean == GEOMETRIC
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, spread, n = moments(xr.ufuncs.log(finite) if logs else finite, dim)
        reach = half(spread, n)
        shown = {"mean": mean, "low": mean - reach, "high": mean + reach}
        bounds = {name: np.exp(v) if logs else v for name, v in shown.items()}
        return xr.Dataset({**bounds, "n": n}, attrs=values.attrs)


def paired_log_ratio(a: xr.DataArray, b: xr.DataArray, dim: str = "seed") -> xr.Dataset:
    """`paired_difference` of the logs, `log(a/b)`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = (xr.ufuncs.log(values.where(np.isfinite(values))) for values in (a, b))
        return paired_difference(first, second, dim)


def paired_difference(a: xr.DataArray, b: xr.DataArray, dim: str = "seed") -> xr.Dataset:
    """`a − b` over paired seeds: `mean`, `low`, `high` (95% t-interval), the `correlation` achieved, and `n`, of how many pairs.

    The seeds of both must be the same. A pair of which one is NaN or infinite is left out, and `n` says so.
    """
    a, b = xr.align(a, b, join="exact")
    there = a.notnull() & b.notnull() & (a < np.inf) & (b < np.inf)
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        mean, spread, n = moments((a - b).where(there), dim)
        half = half_width(spread, n)
        correlation = xr.corr(a.where(there), b.where(there), dim).where(np.isfinite(mean))
    return xr.Dataset({"mean": mean, "low": mean - half, "high": mean + half, "correlation": correlation, "n": n})
