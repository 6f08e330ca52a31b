"""How far a number may lie from the one that was recorded, when it is computed again in another environment.

In the same environment it has the same bits. Elsewhere rounding differs, and training multiplies the difference step by step:
numbers are close early, and late their intervals over seeds meet. `TOLERANCES` says how close, and `apart` where they are not.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr

from .quantities import row
from .statistics import band

LATE = 2  # the last step whose numbers are compared one by one; later ones by their intervals
MEETING = 0.95  # the share of a quantity's places whose intervals meet
ALONE = 0.5  # relative, of one seed, which has no interval


class Tolerance(NamedTuple):
    """`|again − recorded| ≤ relative · |recorded| + absolute · (the largest of that quantity at that step)`.

    Of log-gains the largest counts as 1 nat at least.
    """

    relative: float
    absolute: float

    def __str__(self) -> str:
        if self == EXACT:
            return "the same bits"
        return f"{self.relative:g} of the number + {self.absolute:g} of the largest"


EXACT = Tolerance(0.0, 0.0)
START = Tolerance(1e-3, 1e-4)  # at step 0, or without training
EARLY = Tolerance(2e-2, 2e-3)  # after one or two updates
# Estimates, and numbers that hang on the smallest singular value, are further from exact.
ESTIMATED = Tolerance(5e-2, 5e-3)


def tolerance(quantity: str, step: int | None = None) -> Tolerance | None:
    """Returns the tolerance of a quantity after that many updates; None where its intervals are compared.

    >>> tolerance("stream_gradient", 0), tolerance("stream_gradient", 100)
    (Tolerance(relative=0.001, absolute=0.0001), None)
    """
    known = row(quantity)
    if step is not None and step > LATE:
        return None
    if quantity.endswith("_sem") or (known is not None and known.reading in ("spectrum", "lyapunov", "alignment")):
        return ESTIMATED
    if step:
        return EARLY
    return START


class Apart(NamedTuple):
    """A number that is not the recorded one: its place, as it stands and as it was computed again, and what was allowed."""

    place: str
    stands: float
    again: float
    allowed: str


def apart(stands: xr.DataArray, again: xr.DataArray, *, exact: bool) -> Apart | None:
    """Returns the first number of a quantity that is too far from the recorded one; None where none is.

    `again` has the recorded steps and seeds, or some of them. With `exact` every bit counts.
    """
    if "step" not in again.dims:
        return _apart(stands, again, None, exact)
    for step in again["step"].values:
        found = _apart(stands.sel(step=step), again.sel(step=step), int(step), exact)
        if found is not None:
            return found
    return None


def _apart(stands: xr.DataArray, again: xr.DataArray, step: int | None, exact: bool) -> Apart | None:
    """Returns the same of one step."""
    if "seed" in again.dims:
        stands = stands.sel(seed=again["seed"])
    if stands.sizes != again.sizes:
        return Apart(f"its shape{_at(step)}", float(stands.size), float(again.size), "the same")
    allowed: Tolerance | None = EXACT
    if not exact:
        allowed = tolerance(str(stands.name), step)
    if allowed is None:
        return _intervals_apart(stands, again, step)
    recorded = np.asarray(stands.values, np.float64)
    computed = np.asarray(again.values, np.float64)
    finite = np.isfinite(recorded)
    largest = np.abs(recorded[finite]).max(initial=_unit(str(stands.name)))
    with np.errstate(invalid="ignore"):
        room = allowed.relative * np.abs(recorded) + allowed.absolute * largest
        near = np.abs(computed - recorded) <= room
    same = (computed == recorded) | (np.isnan(computed) & np.isnan(recorded))
    return _first(stands, again, near | same, step, str(allowed))


def _unit(quantity: str) -> float:
    """Returns the least that the largest number counts as: 1 nat of a log-gain, which may be 0 everywhere; else 0."""
    known = row(quantity)
    return float(known is not None and known.units == "nat")


def _intervals_apart(stands: xr.DataArray, again: xr.DataArray, step: int | None) -> Apart | None:
    """Returns the first place where the intervals over seeds of both do not meet, if too many don't."""
    if again.dtype.kind not in "f":
        return None
    if again.sizes.get("seed", 1) < 2:
        recorded, computed = stands.values, again.values
        with np.errstate(invalid="ignore"):
            near = np.abs(computed - recorded) <= ALONE * np.abs(recorded) + 0.05 * np.nanmax(
                np.abs(recorded), initial=0
            )
        near |= ~np.isfinite(recorded)
        share = f"{ALONE:g} of the number, at {MEETING:.0%} of the places"
        if near.mean() >= MEETING:
            return None
        return _first(stands, again, near, step, share)
    one, other = band(stands), band(again)
    meet = (one["low"] <= other["high"]) & (other["low"] <= one["high"])
    meet |= one["low"].isnull() | other["low"].isnull() | np.isclose(one["mean"], other["mean"], rtol=1e-2)
    if float(meet.mean()) >= MEETING:
        return None
    share = f"intervals over seeds that meet, at {MEETING:.0%} of the places"
    return _first(one["mean"], other["mean"], np.asarray(meet.values), step, share)


def _first(stands: xr.DataArray, again: xr.DataArray, near, step: int | None, allowed: str) -> Apart | None:
    """Returns the first number that is not near, with the labels of its place."""
    near = np.asarray(near)
    if near.all():
        return None
    index = np.unravel_index(int(np.argmin(near)), near.shape)
    labels = []
    for dim, at in zip(stands.dims, index, strict=True):
        if dim in stands.coords:
            at = stands[dim].values[at]
        labels.append(f"{dim} {at}")
    place = ", ".join(labels) or "the number"
    return Apart(place + _at(step), float(stands.values[index]), float(again.values[index]), allowed)


def _at(step: int | None) -> str:
    return "" if step is None else f", step {step}"
