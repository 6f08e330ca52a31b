"""Levels 2 and 3: numbers that were computed again are compared with those of `results.nc`, quantity by quantity.

In the same environment bits are compared, elsewhere within `results.tolerance`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import xarray as xr

from ...results.tolerance import apart
from ...results.tree import nodes
from ..bundle.writing import RESULTS
from .finding import Finding

SAME = ("versions", "gradflow", "processor", "cores", "device", "xla_flags", "x64", "matmul_precision")


def same_environment(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Returns whether numbers have the same bits here: the same versions on the same processor.

    The system and its kernel don't matter, and a blind bundle has no commit.
    """
    return all(recorded.get(name) == here.get(name) for name in SAME)


def findings(recorded: xr.DataTree, again: xr.DataTree, part: str, *, exact: bool) -> Iterator[Finding]:
    """Yields the first number of each quantity that is too far from the recorded one.

    recorded, again : results of the same models; the second may have fewer steps and seeds
    part : how the recorded tree is called in the file
    """
    there = nodes(recorded)
    for name, node in nodes(again).items():
        if name not in there:
            yield Finding(RESULTS, f"{part}/{name} is not in it")
            continue
        stands = there[name].to_dataset()
        computed = node.to_dataset()
        for quantity in map(str, computed.data_vars):
            if quantity not in stands:
                yield Finding(RESULTS, f"{quantity} of {part}/{name} is not in it")
                continue
            found = apart(stands[quantity], computed[quantity], exact=exact)
            if found is not None:
                what = f"{quantity} of {part}/{name} at {found.place} (allowed: {found.allowed})"
                yield Finding(RESULTS, what, repr(found.stands), repr(found.again))
