"""Laws: one-line descriptions of a profile, fitted in logs, with intervals.

    power        y = a (1 + l/l₀)^k        what independent branches of equal variance give a pre-norm stack: k = −ζ/2
    exponential  y = a e^{k l}             what a chain of equal gains gives
    monomial     y = a l^k                 against the total depth, which is never 0

A law is fitted to each seed by least squares on log y; an estimate is the mean over seeds with its 95% t-interval.
With a single seed the interval is that of the regression, from residuals over depth, which are not independent: it is
then too narrow, and `of` says so.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy import optimize, stats

from .results.statistics import CONFIDENCE, half_width


@dataclass(frozen=True)
class Law:
    """`log y = curve(l, log a, k, …)`, with the names of its numbers and a start for the fit."""

    name: str
    formula: str
    names: tuple[str, ...]
    curve: Callable
    bounds: tuple[tuple[float, ...], tuple[float, ...]]
    start: tuple[float, ...]


_ANY = np.inf
power = Law(
    "power",
    "a (1 + l/l0)^k",
    ("log_a", "k", "log_l0"),
    lambda l, log_a, k, log_l0: log_a + k * np.log1p(l * np.exp(-log_l0)),
    ((-_ANY, -_ANY, np.log(1e-2)), (_ANY, _ANY, np.log(1e3))),
    (0.0, -0.5, np.log(2.0)),
)
exponential = Law(
    "exponential",
    "a exp(k l)",
    ("log_a", "k"),
    lambda l, log_a, k: log_a + k * l,
    ((-_ANY,) * 2, (_ANY,) * 2),
    (0.0, 0.0),
)
monomial = Law(
    "monomial",
    "a l^k",
    ("log_a", "k"),
    lambda l, log_a, k: log_a + k * np.log(l),
    ((-_ANY,) * 2, (_ANY,) * 2),
    (0.0, 0.0),
)


def fit(profile: xr.DataArray, law: Law, *, over: str = "depth", seeds: str = "seed") -> xr.Dataset:
    """The law's numbers for a profile: `estimate`, `low`, `high` [number], and `residual`, the rms of log y's misfit.

    Parameters
    ----------
    profile : labelled, positive, with the dimension `over` and perhaps `seeds`; no other dimension
    law : `power`, `exponential` or `monomial`

    Errors: ValueError where values are not positive and finite, or fewer than the law's numbers plus one.
    """
    extra = {str(dim) for dim in profile.dims} - {over, seeds}
    if extra:
        raise ValueError(f"choose one entry along {sorted(extra)} before fitting a law over {over!r}")
    rows = np.atleast_2d(profile.transpose(..., over).values)
    l = np.asarray(profile[over].values, float)
    if not (np.isfinite(rows).all() and (rows > 0).all()):
        raise ValueError(f"a law needs positive finite values; {profile.name} has others")
    if law is monomial and not (l > 0).all():
        raise ValueError(f"a l^k has no logarithm at {over} = 0: drop it, or fit the power law, which has an offset")
    if l.size <= len(law.names):
        raise ValueError(f"{law.name} has {len(law.names)} numbers: {l.size} positions are too few to fit it")
    fits = [_fit_one(law, l, np.log(row)) for row in rows]
    numbers = np.array([numbers for numbers, _ in fits])
    if len(rows) > 1:
        half, of = half_width(numbers.std(0, ddof=1), len(rows)), "95% t-interval over seeds"
    else:
        t = stats.t.ppf((1 + CONFIDENCE) / 2, l.size - len(law.names))
        half, of = (
            t * np.sqrt(np.diag(fits[0][1])),
            "95% interval of one regression; depths are not independent",
        )
    centre = numbers.mean(0)
    misfit = np.sqrt(np.mean([(law.curve(l, *n) - np.log(row)) ** 2 for n, row in zip(numbers, rows, strict=True)]))
    values = {"estimate": centre, "low": centre - half, "high": centre + half}
    identified = [not np.isclose(n, bound, atol=1e-3).any() for n in numbers for bound in law.bounds]
    return xr.Dataset(
        {**{name: ("number", value) for name, value in values.items()}, "residual": misfit},
        coords={"number": list(law.names)},
        attrs={
            "law": law.name,
            "formula": law.formula,
            "of": of,
            "quantity": str(profile.name),
            "identified": int(all(identified)),
        },
    )


def _fit_one(law: Law, l, log_y):
    """`(numbers, covariance)` by least squares from the law's start, the level taken from the data."""
    start = (log_y[0] if law is not monomial else log_y.mean(), *law.start[1:])
    return optimize.curve_fit(law.curve, l, log_y, p0=start, bounds=law.bounds, maxfev=20_000)


def curve(fitted: xr.Dataset, law: Law, l) -> np.ndarray:
    """The law at positions `l`, with the estimated numbers."""
    return np.exp(law.curve(np.asarray(l, float), *fitted["estimate"].values))


def sentence(fitted: xr.Dataset) -> str:
    """The law in words with its exponent's interval, for a legend: `(1 + l/1.9)^(−0.51 ± 0.02)`."""
    if not fitted.attrs["identified"]:
        return f"{fitted.attrs['formula']}: not identified, some seed's l0 is at the edge of what was searched"
    number = fitted["estimate"].to_series()
    half = float(fitted["high"].sel(number="k") - fitted["estimate"].sel(number="k"))
    k = f"{number['k']:.2f} ± {half:.2f}".replace("-", "−")
    if fitted.attrs["law"] == "power":
        return f"(1 + l/{np.exp(number['log_l0']):.2g})^({k})"
    return f"e^(({k}) l)" if fitted.attrs["law"] == "exponential" else f"l^({k})"
