"""The check that a record's parts are its whole: the root of the summed squares of all norms against the total that it logs.

    difference = max over steps of |√Σ‖g_p‖² − total| / total

They disagree where the total was logged after clipping and the parts before, where parameters are missing or shared ones count
twice, where ranks hold shards, or where numbers were rounded. Up to `TOLERANCE` is what bfloat16 and short decimals explain.
"""

from collections.abc import Mapping

import numpy as np

from ...results.arguments import shown
from .norms import Norms

TOLERANCE = 0.01
AS_NORM, AS_SUM = "the root of summed squares", "the sum of the norms"


def agreement(norms: Norms, totals: Mapping[str, np.ndarray], steps: np.ndarray, check: bool) -> dict[str, dict]:
    """Returns for every total how far it is from the parts: `{key: {"difference", "at_step", "is", "steps"}}`.

    `is` says what it is compared with: the norm of all, or the sum of the norms, which levanter logged at first, where it agrees
    with that. Steps where one of the two is not finite are left out.

    Errors: ValueError for a difference beyond `TOLERANCE`, unless `check` is False.
    """
    compared = {}
    for key, total in totals.items():
        found = _compared(norms.total, total, steps, AS_NORM)
        as_sum = _compared(norms.sum, total, steps, AS_SUM)
        if found["difference"] > TOLERANCE >= as_sum["difference"]:
            found = as_sum
        if check and found["difference"] > TOLERANCE:
            raise ValueError(_disagreement(key, norms.total, total, steps, found))
        compared[key] = found
    return compared


def _compared(whole: np.ndarray, total: np.ndarray, steps: np.ndarray, what: str) -> dict:
    """Returns the largest relative difference, and the step where it is."""
    is_finite = np.isfinite(whole) & np.isfinite(total)
    if not is_finite.any():
        return {"difference": 0.0, "at_step": None, "is": what, "steps": 0}
    differences = _relative(whole, total)
    differences[~is_finite] = -1.0
    worst = int(differences.argmax())
    return {
        "difference": float(differences[worst]),
        "at_step": int(steps[worst]),
        "is": what,
        "steps": int(is_finite.sum()),
    }


def _relative(whole: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Returns `|whole − total| / total` [S]; 0 where both are 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole == total, 0.0, np.abs(whole - total) / np.abs(total))


def _disagreement(key: str, whole: np.ndarray, total: np.ndarray, steps: np.ndarray, found: dict) -> str:
    """Returns the line about parts that are not the whole, with what the numbers look like."""
    place = int(np.flatnonzero(steps == found["at_step"])[0])
    lead = f"the parts make {whole[place]:.4g} at step {found['at_step']}, and {shown(key)} says {total[place]:.4g}"
    apart = np.isfinite(whole) & np.isfinite(total) & (_relative(whole, total) > TOLERANCE)
    if (total[apart] < whole[apart]).all():
        why = "the total may be from after clipping, or shared parameters count twice: log both before clipping"
        if apart.sum() > 1 and np.ptp(total[apart]) <= TOLERANCE * total[apart].max():
            why = f"the total is from after clipping at {np.median(total[apart]):.3g}: log it before"
    elif (total[apart] > whole[apart]).all():
        why = "parts are missing: log every parameter, and every shard"
    else:
        why = "they are of different gradients: log both at one place"
    return f"{lead}; {why}, or read the parts as they are by check=False"
