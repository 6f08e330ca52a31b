"""Levels 2 and 3: numbers that were computed again are compared with those of `results.nc`, quantity by quantity.

In the same environment bits are compared, elsewhere within `results.tolerance`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ...results.repeated import Repeated
from ...results.tolerance import apart
from ..bundle.writing import RESULTS
from .finding import Finding

SAME = ("versions", "gradflow", "processor", "cores", "device", "xla_flags")


def same_environment(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Returns whether numbers have the same bits here: the same versions on the same processor.

    The system and its kernel don't matter, a blind bundle has no commit, and the precision is that of the run in any case.
    """
    return all(recorded.get(name) == here.get(name) for name in SAME)


def findings(repeated: Repeated, *, exact: bool) -> Iterator[Finding]:
    """Yields the first number of each quantity that is too far from the recorded one; nothing of what wasn't computed again."""
    if repeated.again is None:
        return
    for quantity, again in repeated.again.data_vars.items():
        if quantity not in repeated.recorded.data_vars:
            yield Finding(RESULTS, f"{quantity} of {repeated.part} is not in it")
            continue
        found = apart(repeated.recorded[quantity], again, exact=exact)
        if found is not None:
            what = f"{quantity} of {repeated.part} at {found.place} (allowed: {found.allowed})"
            yield Finding(RESULTS, what, repr(found.stands), repr(found.again))


def missed(repeated: Repeated) -> Iterator[str]:
    """Yields a line for what was not computed again, and why: a model, or quantities that no reading of it yields."""
    if repeated.again is None:
        yield f"{repeated.part}: {repeated.why}"
        return
    others = [name for name in repeated.recorded.data_vars if name not in repeated.again.data_vars]
    numbers = [str(name) for name in others if _has_numbers(repeated.recorded[name])]
    if repeated.whole and numbers:
        yield f"{repeated.part}: {', '.join(numbers)}, which none of its readings yields"


def _has_numbers(values) -> bool:
    """Returns whether a quantity is anywhere finite."""
    return values.dtype.kind not in "fc" or bool(np.isfinite(values.values).any())
