"""The numbers behind figures of theory beside measurement: agreement and variance over seeds against the width, rates over depth.

Columns as in `tables`.
"""

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from ...results.agreement import against_theory
from ...results.statistics import CONFIDENCE, half_width, moments
from ...results.tree import against_size
from .profiles import signed


def agreement(measured, predicted, quantity: str = "stream_gradient", **where) -> pd.DataFrame:
    """Measured over theory at one place of a quantity (`depth=0`) against the width, with its 95% interval.

    Both are sweeps over the same widths. `mean` is the ratio of `agreement.against_theory`.
    """
    found = against_theory(measured, predicted, quantity)
    where = where or {"depth": 0}
    ratios, errors, counts = (against_size(found, name, "width", **where) for name in ("ratio", "ratio_sem", "n"))
    frames = []
    for name, ratio in ratios.items():
        n = counts[name].values
        reach = half_width(errors[name].values * np.sqrt(n), n)
        bounds = {"mean": ratio.values, "low": ratio.values - reach, "high": ratio.values + reach, "n": n}
        frames.append(pd.DataFrame({"model": name, "width": ratio["width"].values, **bounds}))
    return pd.concat(frames, ignore_index=True)


def variance(measured) -> pd.DataFrame:
    """Variance over seeds of `log(g_0/g_readout)` against the width, its 95% interval (χ²), and the nearest c/width (`law`).

    One seed has no variance (NaN).
    """
    bottom = against_size(measured, "stream_gradient", "width", depth=0)
    readout = against_size(measured, "readout_gradient", "width")
    frames = []
    for name in bottom:
        with np.errstate(divide="ignore", invalid="ignore"):
            gains = xr.ufuncs.log(bottom[name] / readout[name])
        _, spread, n = moments(gains.where(np.isfinite(gains)))
        mean, width = spread.values**2, gains["width"].values
        freedom = np.where(n > 1, n - 1, np.nan)
        tails = {"low": (1 + CONFIDENCE) / 2, "high": (1 - CONFIDENCE) / 2}
        bounds = {end: mean * freedom / stats.chi2.ppf(tail, freedom) for end, tail in tails.items()}
        there = mean > 0
        law = np.exp(np.log(mean[there] * width[there]).mean()) / width if there.any() else np.full(len(width), np.nan)
        frames.append(pd.DataFrame({"model": name, "width": width, "mean": mean, **bounds, "n": n.values, "law": law}))
    return pd.concat(frames, ignore_index=True)


def rates(predicted: xr.DataTree) -> pd.DataFrame:
    """How each model of a predicted sweep over depth attenuates: one row a model, as texts.

    `log(g_0/g_S)` at each number of blocks L, its slope against log L, and the slope of the logarithm of the last
    feed-forward gradient; both from the two largest depths.
    """
    bottom, top = (against_size(predicted, "stream_gradient", "total_depth", depth=end) for end in (0, -1))
    last = against_size(predicted, "parameter_gradient", "total_depth", sublayer=-1, parameter="down")
    rows = []
    for name in bottom:
        gains = xr.ufuncs.log(bottom[name] / top[name])
        blocks = gains["total_depth"].values
        slope = lambda values, at=np.log(blocks): float(np.diff(values)[-1] / np.diff(at)[-1])
        by_depth = {f"L = {n}": signed(float(gain), 2) for n, gain in zip(blocks, gains.values, strict=True)}
        slopes = {
            "per log L": signed(slope(gains.values), 2),
            "last gradient": signed(slope(np.log(last[name].values)), 2),
        }
        rows.append({"model": name, **by_depth, **slopes})
    return pd.DataFrame(rows)
