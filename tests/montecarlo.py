"""Means over draws, in units of their standard error. The first axis is the draws."""

import numpy as np

UNLIKELY = 4  # standard errors; a test has a dozen chances at most


def error(samples):
    """Standard error of the mean over the first axis."""
    return np.std(samples, axis=0, ddof=1) / len(samples) ** 0.5


def assert_mean(samples, expected, *, resolution: float, allowance: float = 0.0):
    """The mean over the first axis is `expected`, to within its error; `resolution` is the error that would be too large."""
    samples = np.asarray(samples)
    off, sem = abs(samples.mean(0) - expected), error(samples)
    assert (sem < resolution * np.abs(expected)).all(), f"too few draws: {sem}"
    assert (off < UNLIKELY * sem + allowance).all(), f"off by {off / sem} standard errors"
