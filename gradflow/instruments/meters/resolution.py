"""What the numbers of a reading can't say, and how a user is told: gradients that underflowed, values that are not finite.

A meter sums squares: a gradient that is small but not zero reads its floor, an upper bound. Below the smallest normal number
the gradient itself is flushed to zero, and no meter can tell: such a zero is NaN here. It is told from a gradient that is zero
by what stands above it in the stack: no sublayer takes a gradient from what is resolved to what is flushed, fourteen decades.
"""

import warnings
from collections.abc import Mapping

import numpy as np

from ...model.inputs.weights import first_not_finite
from .meter import GAIN

REMEDY = "cast the parameters to float64, or draw them so (precision='float64'), under jax_enable_x64"
# In the order a step computes them: what is not finite in one is not in those after it.
IN_TURN = {"stream_rms": "stream", "loss": "loss", "stream_gradient": "stream gradient"}
IN_TURN |= {"parameter_gradient": "parameter gradient", "outer_gradient": "gradient of a parameter"}


def least_resolved(dtype) -> float:
    """Returns the norm below which a reading is an upper bound.

    The square of a norm is a sum over examples and tokens, each of which may be at its floor, the smallest normal number at the
    meters' gain: a million of them.
    """
    smallest_normal = float(np.finfo(dtype).tiny)
    return 1e3 * smallest_normal**0.5 * 2.0**-GAIN


def resolved(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the readings, with NaN where a gradient was flushed to zero; arrays have any axes before the quantity's own."""
    readings = dict(arrays)
    if "stream_gradient" not in readings:
        return readings
    as_read = np.asarray(readings["stream_gradient"])
    readout = np.asarray(readings["readout_gradient"])
    profile = np.concatenate([as_read, readout[..., None]], -1)
    profile = _without_flushed(profile, axis=-1)
    stream = profile[..., :-1]
    readings["stream_gradient"] = stream
    if "stream_gradient_by_token" in readings:
        by_token = np.asarray(readings["stream_gradient_by_token"])
        readings["stream_gradient_by_token"] = _without_flushed(by_token, axis=-2)
    flushed = np.isnan(stream) & (as_read == 0)
    input_flushed = flushed[..., :-1, None]
    for name in ("budget", "split"):
        if name in readings:
            readings[name] = np.where(input_flushed, np.nan, readings[name])
    unresolved = (stream > 0) & (stream < least_resolved(stream.dtype))
    small = flushed | unresolved
    if "parameter_gradient" in readings:
        below = small[..., :-1, None]
        above = small[..., 1:, None]
        readings["parameter_gradient"] = _without_zeros(readings["parameter_gradient"], below | above)
    if "outer_gradient" in readings:
        at_bottom = small[..., :1]
        readings["outer_gradient"] = _without_zeros(readings["outer_gradient"], at_bottom)
    return readings


def _without_zeros(norms, where: np.ndarray) -> np.ndarray:
    """Returns norms of parameters' gradients, with NaN for a zero where squares may have underflowed."""
    norms = np.asarray(norms)
    return np.where(where & (norms == 0), np.nan, norms)


def _without_flushed(norms: np.ndarray, axis: int) -> np.ndarray:
    """Returns `norms` along depth, with NaN at zeros beneath a norm that is not resolved."""
    along_depth = np.moveaxis(norms, axis, -1)
    down = np.flip(along_depth, -1)
    nonzero = np.where(down > 0, down, np.inf)
    least_above = np.minimum.accumulate(nonzero, axis=-1)
    flushed = (down == 0) & (least_above < least_resolved(norms.dtype))
    masked = np.where(flushed, np.nan, down)
    up = np.flip(masked, -1)
    return np.moveaxis(up, -1, axis)


def warn_of_underflow(name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Warns once where stream gradients are upper bounds, or were flushed, of arrays that `resolved` has seen."""
    if "stream_gradient" not in arrays:
        return
    stream = np.asarray(arrays["stream_gradient"])
    least = least_resolved(stream.dtype)
    unresolved = (stream > 0) & (stream < least)
    if not unresolved.any():
        return
    flushed = " (NaN: smaller than any number)" if np.isnan(stream).any() else ""
    warnings.warn(
        f"{name}: some stream gradients are below {least:.0e}, what squares in {stream.dtype} resolve, and are upper "
        f"bounds{flushed}: {REMEDY}",
        stacklevel=3,
    )


def warn_of_nonfinite(name: str, arrays: Mapping[str, np.ndarray], weights=None) -> None:
    """Warns once, of readings as they came, and names the seeds (axis 0, where there is one) and what was not finite first.

    Of weights that are given it names the first that is not finite, too.
    """
    quantity = _first_nonfinite(arrays)
    if quantity is None:
        return
    bad = _not_finite(np.asarray(arrays[quantity]))
    text = f"{name}: not finite"
    if np.ndim(arrays["loss"]) > 0:
        number = len(bad)
        by_seed = bad.reshape(number, -1)
        seeds = np.flatnonzero(by_seed.any(-1))
        text += f" in seed {', '.join(map(str, seeds))} of {number}"
    text += f": first the {IN_TURN[quantity]}"
    if quantity.startswith("stream"):
        first = np.argwhere(bad)[0]
        text += f" at stream position {first[-1]}"
    weight = None if weights is None else first_not_finite(weights)
    if weight is not None:
        text += f"; of the given weights {weight}"
    warnings.warn(text, stacklevel=3)


def _first_nonfinite(arrays: Mapping[str, np.ndarray]) -> str | None:
    """Returns the first quantity, in the order a step computes them, that is not finite; None where all are."""
    for quantity in IN_TURN:
        if quantity in arrays and _not_finite(np.asarray(arrays[quantity])).any():
            return quantity
    return None


def _not_finite(values: np.ndarray) -> np.ndarray:
    """Returns which values are NaN or infinite; a column that is NaN in all seeds is a parameter that a sublayer has not."""
    not_finite = ~np.isfinite(values)
    if values.ndim < 3:
        return not_finite
    is_absent = np.isnan(values).all(0)
    return not_finite & ~is_absent
