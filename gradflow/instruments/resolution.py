"""What the numbers of a reading can't say, and how a user is told: gradients that underflowed, values that are not finite.

A meter sums squares: a gradient that is small but not zero reads its floor, an upper bound. Below the smallest normal number
the gradient itself is flushed to zero, and no meter can tell: such a zero is NaN here. It is told from a gradient that is zero
by what stands above it in the stack: no sublayer takes a gradient from what is resolved to what is flushed, fourteen decades.
"""

import warnings
from collections.abc import Mapping

import numpy as np

from ..model.inputs.weights import first_not_finite
from .meter import GAIN

REMEDY = "cast the parameters to float64, or draw them so (precision='float64'), under jax_enable_x64"
# In the order a step computes them: what is not finite in one is not in those after it.
IN_TURN = {"stream_rms": "stream", "loss": "loss", "stream_gradient": "stream gradient"}
IN_TURN |= {"parameter_gradient": "parameter gradient", "outer_gradient": "gradient of a parameter"}


def least_resolved(dtype) -> float:
    """The norm below which a reading is an upper bound.

    The square of a norm is a sum over examples and tokens, each of which may be at its floor, the smallest normal number at the
    meters' gain: a million of them.
    """
    return 1e3 * float(np.finfo(dtype).tiny) ** 0.5 * 2.0**-GAIN


def resolved(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The readings, with NaN where a gradient was flushed to zero; arrays have any axes in front of those of the quantity."""
    found = dict(arrays)
    if "stream_gradient" not in found:
        return found
    above = np.asarray(found["readout_gradient"])[..., None]
    stream = _without_flushed(np.concatenate([found["stream_gradient"], above], -1), axis=-1)[..., :-1]
    found["stream_gradient"] = stream
    if "stream_gradient_by_token" in found:
        found["stream_gradient_by_token"] = _without_flushed(np.asarray(found["stream_gradient_by_token"]), axis=-2)
    lost = np.isnan(stream) & (np.asarray(arrays["stream_gradient"]) == 0)
    beneath = lost[..., :-1, None]  # sublayers whose input has no gradient that is known
    for name in ("budget", "split"):
        if name in found:
            found[name] = np.where(beneath, np.nan, found[name])
    small = lost | ((stream > 0) & (stream < least_resolved(stream.dtype)))
    at_ends = small[..., :-1, None] | small[..., 1:, None]  # of parameters whose squares may have underflowed too
    for name, unresolved in (("parameter_gradient", at_ends), ("outer_gradient", small[..., :1])):
        if name in found:
            norms = np.asarray(found[name])
            found[name] = np.where(unresolved & (norms == 0), np.nan, norms)
    return found


def _without_flushed(norms: np.ndarray, axis: int) -> np.ndarray:
    """`norms` along depth, NaN at zeros beneath a norm that is not resolved."""
    down = np.flip(np.moveaxis(norms, axis, -1), -1)
    least_above = np.minimum.accumulate(np.where(down > 0, down, np.inf), axis=-1)
    flushed = (down == 0) & (least_above < least_resolved(norms.dtype))
    return np.moveaxis(np.flip(np.where(flushed, np.nan, down), -1), -1, axis)


def warn_of_underflow(name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """One warning where stream gradients are upper bounds, or were flushed, of arrays that `resolved` has seen."""
    if "stream_gradient" not in arrays:
        return
    stream = np.asarray(arrays["stream_gradient"])
    least = least_resolved(stream.dtype)
    if not ((stream > 0) & (stream < least)).any():
        return
    flushed = " (NaN: smaller than any number)" if np.isnan(stream).any() else ""
    warnings.warn(
        f"{name}: some stream gradients are below {least:.0e}, what squares in {stream.dtype} resolve, and are upper "
        f"bounds{flushed}: {REMEDY}",
        stacklevel=3,
    )


def warn_of_nonfinite(name: str, arrays: Mapping[str, np.ndarray], weights=None) -> None:
    """One warning that names the seeds (axis 0, where there is one) and what was not finite first, of readings as they came.

    Of weights that are given it names the first that is not finite, too.
    """
    for quantity, words in IN_TURN.items():
        if quantity not in arrays:
            continue
        values = np.asarray(arrays[quantity])
        bad = _not_finite(values)
        if not bad.any():
            continue
        by_seed = np.ndim(arrays["loss"]) > 0
        seeds = np.flatnonzero(bad.reshape(len(bad), -1).any(-1)).tolist() if by_seed else []
        which = f" in seed {', '.join(map(str, seeds))} of {len(bad)}" if seeds else ""
        place = f" at stream position {np.argwhere(bad)[0][-1]}" if quantity.startswith("stream") else ""
        culprit = None if weights is None else first_not_finite(weights)
        given = f"; of the given weights {culprit}" if culprit else ""
        warnings.warn(f"{name}: not finite{which}: first the {words}{place}{given}", stacklevel=3)
        return


def _not_finite(values: np.ndarray) -> np.ndarray:
    """Which values are NaN or infinite; a column that is NaN in all seeds is a parameter that a sublayer has not."""
    if values.ndim < 3:
        return ~np.isfinite(values)
    return ~np.isfinite(values) & ~np.isnan(values).all(0)
