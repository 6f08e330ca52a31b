"""The numbers behind figures of theory beside measurement: agreement and variance over seeds against the width, rates over depth.

Columns as in `tables`.
"""

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from ...results.agreement import against_theory
from ...results.statistics import CONFIDENCE, half_width, moments
from ...results.sweeps import against_size
from .profiles import signed


def agreement(measured, predicted, quantity: str = "stream_gradient", **where) -> pd.DataFrame:
    """Returns measured over theory at one place of a quantity (`depth=0`) against the width, with its 95% interval.

    Both are sweeps over the same widths. `mean` is the ratio of `agreement.against_theory`.
    """
    where = where or {"depth": 0}
    compared = against_theory(measured, predicted, quantity)
    ratios = against_size(compared, "ratio", "width", **where)
    errors = against_size(compared, "ratio_sem", "width", **where)
    counts = against_size(compared, "n", "width", **where)
    frames = []
    for name, ratio in ratios.items():
        n = counts[name].values
        reach = half_width(errors[name].values * np.sqrt(n), n)
        frame = pd.DataFrame({"model": name, "width": ratio["width"].values, "mean": ratio.values})
        frames.append(frame.assign(low=ratio.values - reach, high=ratio.values + reach, n=n))
    return pd.concat(frames, ignore_index=True)


def variance(measured) -> pd.DataFrame:
    """Returns the variance over seeds of `log(g_0/g_readout)` against the width, its 95% interval (χ²), and the nearest c/width.

    That law is the column `law`. One seed has no variance (NaN).
    """
    bottom = against_size(measured, "stream_gradient", "width", depth=0)
    readout = against_size(measured, "readout_gradient", "width")
    frames = []
    for name in bottom:
        with np.errstate(divide="ignore", invalid="ignore"):
            gains = xr.ufuncs.log(bottom[name] / readout[name])
        _, spread, n = moments(gains.where(np.isfinite(gains)))
        mean = spread.values**2
        width = gains["width"].values
        freedom = np.where(n > 1, n - 1, np.nan)
        low = mean * freedom / stats.chi2.ppf((1 + CONFIDENCE) / 2, freedom)
        high = mean * freedom / stats.chi2.ppf((1 - CONFIDENCE) / 2, freedom)
        frame = pd.DataFrame({"model": name, "width": width, "mean": mean, "low": low, "high": high})
        frames.append(frame.assign(n=n.values, law=_nearest_inverse(mean, width)))
    return pd.concat(frames, ignore_index=True)


def _nearest_inverse(values: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Returns c/width with the least squared misfit of the logarithm to the positive values; NaN where there are none."""
    positive = values > 0
    if not positive.any():
        return np.full(len(width), np.nan)
    return np.exp(np.log(values[positive] * width[positive]).mean()) / width


def rates(predicted: xr.DataTree) -> pd.DataFrame:
    """Returns how each model of a predicted sweep over depth attenuates: one row a model, as texts.

    `log(g_0/g_S)` at each number of blocks L, its slope against log L, and the slope of the logarithm of the last
    feed-forward gradient; both from the two largest depths.
    """
    bottom = against_size(predicted, "stream_gradient", "total_depth", depth=0)
    top = against_size(predicted, "stream_gradient", "total_depth", depth=-1)
    last = against_size(predicted, "parameter_gradient", "total_depth", sublayer=-1, parameter="down")
    rows = []
    for name in bottom:
        gains = xr.ufuncs.log(bottom[name] / top[name])
        blocks = gains["total_depth"].values
        row = {"model": name}
        for n, gain in zip(blocks, gains.values, strict=True):
            row[f"L = {n}"] = signed(float(gain), 2)
        row["per log L"] = signed(_last_slope(gains.values, np.log(blocks)), 2)
        row["last gradient"] = signed(_last_slope(np.log(last[name].values), np.log(blocks)), 2)
        rows.append(row)
    return pd.DataFrame(rows)


def _last_slope(y: np.ndarray, x: np.ndarray) -> float:
    """Returns the slope between the last two points."""
    return float(np.diff(y)[-1] / np.diff(x)[-1])
