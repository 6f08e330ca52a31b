"""The fit of one law to a profile, with its interval over seeds, and its text.

Axes: l are the positions, `logs` [seed, position] the logarithms of the profile.
"""

import warnings

import numpy as np
import xarray as xr
from scipy import optimize

from ..results.arguments import of_class
from ..results.statistics import half_width
from .law import Law, monomial, power

NOTHING = 5e-4  # a power that moves nothing: from position 1 to 1000 by less than half a percent
LETTERS = {"total_depth": "L"}  # every other position is l
ROUNDING = 1e-6  # of a log: the error of float32 for an exact law


def fit(profile: xr.DataArray, law: Law, *, over: str = "depth", seeds: str = "seed") -> xr.Dataset:
    """Returns the law's numbers for a profile: `estimate`, `low`, `high` [number], and `residual`, the rms of log y's misfit.

    With a single seed `low` and `high` are NaN. The attribute `identified` is 0 where a number is at the edge of what was
    searched for some seed; and, for the power law, where the interval of k holds 0 (l₀ is then arbitrary; with a single seed:
    where k is 0) or l₀ is beyond the last position (the profile then ends before the power begins).

    Parameters
    ----------
    profile : labelled, positive, with the dimension `over` and perhaps `seeds`; no other dimension
    law : `constant`, `power`, `exponential`, `stretched`, `monomial`, or a `Law` of the user

    Errors: ValueError where values are not positive and finite, or fewer than the law's numbers plus one; NoFit, a ValueError,
    where the search comes to no end.
    """
    of_class("the profile", profile, xr.DataArray)
    of_class("the law", law, Law)
    l, logs = logarithms(profile, over, seeds)
    if law is monomial and not (l > 0).all():
        raise ValueError(f"a l^k has no logarithm at {over} = 0: drop it, or fit the power law, which has an offset")
    if l.size <= len(law.names):
        raise ValueError(f"{law.name} has {len(law.names)} numbers: {l.size} positions are too few to fit it")
    numbers_of_seeds = []
    curves = []
    for row in logs:
        of_seed = fit_one(law, l, row)
        numbers_of_seeds.append(of_seed)
        curves.append(law.curve(l, *of_seed))
    numbers = np.array(numbers_of_seeds)
    half = np.full(len(law.names), np.nan)
    of = "one seed: no interval"
    if len(logs) > 1:
        half = half_width(numbers.std(0, ddof=1), len(logs))
        of = "95% t-interval over seeds"
    estimate = numbers.mean(0)
    misfit = np.sqrt(np.mean((np.array(curves) - logs) ** 2))
    variables = {
        "estimate": ("number", estimate),
        "low": ("number", estimate - half),
        "high": ("number", estimate + half),
        "residual": misfit,
    }
    attributes = {
        "law": law.name,
        "formula": law.formula,
        "words": law.words,
        "of": of,
        "seeds": len(logs),
        "over": over,
        "quantity": str(profile.name),
    }
    fitted = xr.Dataset(variables, coords={"number": list(law.names)}, attrs=attributes)
    identified = not _at_a_bound(numbers, law) and _has_an_offset(fitted, l)
    return fitted.assign_attrs(identified=int(identified))


def _at_a_bound(numbers: np.ndarray, law: Law) -> bool:
    """Returns whether a number of some seed [seed, number] is at the edge of the range that was searched."""
    low, high = law.bounds
    return bool(np.isclose(numbers, low, atol=1e-3).any() or np.isclose(numbers, high, atol=1e-3).any())


def logarithms(profile: xr.DataArray, over: str, seeds: str):
    """Returns `(l, log y [seed, position])` of a profile that is positive and finite."""
    extra = {str(dim) for dim in profile.dims} - {over, seeds}
    if extra:
        raise ValueError(f"choose one entry along {sorted(extra)} before fitting a law over {over!r}")
    rows = np.atleast_2d(profile.transpose(..., over).values)
    if not (np.isfinite(rows).all() and (rows > 0).all()):
        raise ValueError(f"a law needs positive finite values; {profile.name} has others")
    return np.asarray(profile[over].values, float), np.log(np.asarray(rows, float))


class NoFit(ValueError):
    """The search for a law's numbers did not converge."""


def fit_one(law: Law, l, log_y) -> np.ndarray:
    """Returns the numbers, by least squares from the law's start, the level taken from the data."""
    level = log_y[0] if law is power else log_y.mean()
    start = (level, *law.start[1:])
    with warnings.catch_warnings():  # the covariance, which may not exist, is not used
        warnings.simplefilter("ignore", optimize.OptimizeWarning)
        try:
            numbers, _ = optimize.curve_fit(law.curve, l, log_y, p0=start, bounds=law.bounds, maxfev=20_000)
        except RuntimeError:
            raise NoFit(f"the fit of the law {law.formula} came to no end: try another law") from None
    return numbers


def bends(fitted: xr.Dataset) -> bool:
    """Returns whether the interval of k excludes 0 by more than rounding; of a single seed, whether k itself does."""
    if "k" not in fitted["number"]:
        return False
    k = fitted.sel(number="k")
    if fitted.attrs["seeds"] == 1:
        return abs(float(k["estimate"])) > ROUNDING
    return float(k["low"]) > ROUNDING or float(k["high"]) < -ROUNDING


def _has_an_offset(fitted: xr.Dataset, l) -> bool:
    """Returns whether l₀ can be read from the profile, where the law has one."""
    if "log_l0" not in fitted["number"]:
        return True
    log_l0 = float(fitted["estimate"].sel(number="log_l0"))
    return bends(fitted) and log_l0 < np.log(l.max())


def curve(fitted: xr.Dataset, law: Law, l) -> np.ndarray:
    """Returns the law at positions `l` with the estimated numbers.

    These are means over seeds, so the curve is not quite the mean of the seeds' curves.
    """
    numbers = fitted["estimate"].sel(number=list(law.names)).values
    return np.exp(law.curve(np.asarray(l, float), *numbers))


def sentence(fitted: xr.Dataset) -> str:
    """Returns the law as text with its exponent's interval, for a legend: `(1 + l/1.9)^(−0.51 ± 0.02)`.

    A power that is 0 to within `NOTHING` with all of its interval is written `l^0`.
    """
    if not fitted.attrs["identified"]:
        return f"{fitted.attrs['formula']}: not identified"
    estimate = fitted["estimate"].to_series()
    high = fitted["high"].to_series()
    letters = {"x": LETTERS.get(fitted.attrs["over"], "l")}
    words = fitted.attrs["words"]
    if "k" in estimate:
        half = high["k"] - estimate["k"]
        letters["k"] = _with_half(estimate["k"], half)
        if abs(estimate["k"]) + np.nan_to_num(half, posinf=0.0) < NOTHING:
            words = words.replace("^({k})", "^0")
    if "log_l0" in estimate:
        letters["l0"] = f"{np.exp(estimate['log_l0']):.2g}"
    return words.format(**letters)


def _with_half(value: float, half: float) -> str:
    """Returns `−0.51 ± 0.02`: the half to its first digit (to two where that is a 1), the value to three digits at most.

    `−0.512` where there is no half.
    """
    most = max(_places(value, 3), 2)
    if not np.isfinite(half):
        return f"{value:.{most}f}".replace("-", "−")
    places = most
    if half:
        digits = 2 if f"{half:.0e}".startswith("1") else 1
        places = int(np.clip(_places(half, digits), 0, most))
    return f"{value:.{places}f} ± {half:.{places}f}".replace("-", "−")


def _places(number: float, digits: int) -> int:
    """Returns the decimals that show a number to that many significant digits; 2 for zero."""
    if not number:
        return 2
    return digits - 1 - int(np.floor(np.log10(abs(number))))
