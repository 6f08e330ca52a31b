"""Statistics over seeds: bands, and the paired comparison of two wirings.

Gradient norms are spread over decades, so a band of a positive quantity is a Student-t interval of the mean of its
logarithm, given back as geometric mean and bounds: no bar can leave the valid range.
"""

from collections.abc import Callable

import numpy as np
import xarray as xr
from scipy import stats

from .quantities import QUANTITIES

CONFIDENCE = 0.95


def half_width(spread, n: int):
    """`t_{n−1, 0.975} · spread/√n`: half of the 95% interval of a mean, NaN for a single value."""
    return stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * spread / np.sqrt(n) if n > 1 else spread * np.nan


def standard_deviation(spread, n: int):
    """The spread itself: for `band(values, half=standard_deviation)`."""
    return spread


def band(values: xr.DataArray, dim: str = "seed", *, half: Callable = half_width) -> xr.Dataset:
    """Mean over `dim` with its 95% t-interval: `mean`, `low`, `high`, without the dimension.

    `half` makes half of the band from the standard deviation and the number of values: `half_width` (the interval) or
    `standard_deviation`.

    Positive quantities (see the table) get the geometric mean and an interval in logs, others the arithmetic mean.
    Zero and values that are not finite stay as they are: such a mean is 0 or NaN. A single seed has no interval (NaN).
    """
    quantity = QUANTITIES.get(str(values.name))
    logs = quantity is None or quantity.positive
    with np.errstate(divide="ignore", invalid="ignore"):
        y: xr.DataArray = xr.ufuncs.log(values) if logs else values
        n = values.sizes.get(dim, 1)
        mean = y.mean(dim, skipna=False) if dim in values.dims else y
        spread = y.std(dim, ddof=1, skipna=False) if n > 1 else mean * np.nan
        reach = half(spread, n)
        shown = {"mean": mean, "low": mean - reach, "high": mean + reach}
        return xr.Dataset({name: np.exp(v) if logs else v for name, v in shown.items()}, attrs=values.attrs)


def paired_log_ratio(a: xr.DataArray, b: xr.DataArray, dim: str = "seed") -> xr.Dataset:
    """`paired_difference` of the logs, `log(a/b)`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return paired_difference(xr.ufuncs.log(a), xr.ufuncs.log(b), dim)


def paired_difference(a: xr.DataArray, b: xr.DataArray, dim: str = "seed") -> xr.Dataset:
    """`a − b` over paired seeds: `mean`, `low`, `high` (95% t-interval) and the `correlation` achieved.

    The seeds of both must be the same; nothing is dropped silently.
    """
    a, b = xr.align(a, b, join="exact")
    with np.errstate(divide="ignore", invalid="ignore"):
        difference, n = a - b, a.sizes[dim]
        mean = difference.mean(dim, skipna=False)
        spread = difference.std(dim, ddof=1, skipna=False) if n > 1 else mean * np.nan
        half = half_width(spread, n)
        correlation = xr.corr(a, b, dim).where(np.isfinite(mean))
    return xr.Dataset({"mean": mean, "low": mean - half, "high": mean + half, "correlation": correlation})
