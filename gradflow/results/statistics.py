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
    """Returns `t_{n−1, 0.975} · spread/√n`: half of the 95% interval of a mean of n values; NaN for a single one."""
    n = np.asarray(n, float)
    freedom = np.where(n > 1, n - 1, np.nan)
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, freedom)
    return quantile * spread / np.sqrt(np.maximum(n, 1))


def standard_deviation(spread, n):
    """Returns the spread itself: for `band(values, half=standard_deviation)`."""
    return spread


def moments(values: xr.DataArray, dim: str = "seed") -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Returns mean and standard deviation over `dim` of the values that are not NaN, and how many these are.

    Of none the mean is NaN, and of fewer than two the standard deviation is.
    """
    present = values.notnull()
    if dim not in values.dims:
        return values, xr.full_like(values, np.nan, float), present.astype(int)
    n = present.sum(dim)
    with warnings.catch_warnings():  # the mean of no value is NaN
        warnings.simplefilter("ignore", RuntimeWarning)
        spread = values.std(dim, ddof=1, skipna=True)
        return values.mean(dim, skipna=True), spread.where(n > 1), n


def band(values: xr.DataArray, dim: str = "seed", *, half: Callable = half_width) -> xr.Dataset:
    """Returns the mean over `dim` with its 95% t-interval: `mean`, `low`, `high`, and `n`, the number of values.

    `half` makes half of the band from the standard deviation and the number of values: `half_width` (the interval) or
    `standard_deviation`.

    The table of quantities says which mean; a quantity that is not in it gets the geometric where no value is negative. Around
    a geometric mean the interval is in logs. Values that are not finite are left out, and `n` counts the others; where there
    are none the mean is NaN. A zero makes a geometric mean 0. A single seed has no interval (NaN).
    """
    quantity = QUANTITIES.get(str(values.name))
    finite = values.where(np.isfinite(values))
    in_logs = not (finite < 0).any() if quantity is None else quantity.mean == GEOMETRIC
    with np.errstate(divide="ignore", invalid="ignore"):
        if in_logs:
            finite = xr.ufuncs.log(finite)
        mean, spread, n = moments(finite, dim)
        reach = half(spread, n)
        bounds = {"mean": mean, "low": mean - reach, "high": mean + reach}
        if in_logs:
            bounds = {name: np.exp(bound) for name, bound in bounds.items()}
    return xr.Dataset({**bounds, "n": n}, attrs=values.attrs)


def paired_log_ratio(a: xr.DataArray, b: xr.DataArray, dim: str = "seed") -> xr.Dataset:
    """Returns the `paired_difference` of the logs, `log(a/b)`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log_a = xr.ufuncs.log(a.where(np.isfinite(a)))
        log_b = xr.ufuncs.log(b.where(np.isfinite(b)))
        return paired_difference(log_a, log_b, dim)


def paired_difference(a: xr.DataArray, b: xr.DataArray, dim: str = "seed") -> xr.Dataset:
    """Returns `a − b` over paired seeds: `mean`, `low`, `high` (95% t-interval), the `correlation`, and `n`, the number of pairs.

    The seeds of both must be the same. A pair of which one is NaN or infinite is left out, and `n` says so.
    """
    a, b = xr.align(a, b, join="exact")
    finite = a.notnull() & b.notnull() & (a < np.inf) & (b < np.inf)
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        mean, spread, n = moments((a - b).where(finite), dim)
        reach = half_width(spread, n)
        correlation = xr.corr(a.where(finite), b.where(finite), dim).where(np.isfinite(mean))
    bounds = {"mean": mean, "low": mean - reach, "high": mean + reach}
    return xr.Dataset({**bounds, "correlation": correlation, "n": n})
