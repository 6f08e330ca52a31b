"""The outcome of a run: the numbers that its summary, its appendix and its tables have in common, computed once.

The laws are by far the longest to compute.
"""

from collections.abc import Sequence
from typing import NamedTuple

import xarray as xr

from ...results.tree import nodes
from . import fits
from .budget import ends


class Outcome(NamedTuple):
    """Bands at the ends of every model's stack, and laws: over depth, and of a sweep in the number of blocks."""

    ends: dict[str, dict[str, xr.Dataset]]
    laws: dict[fits.Key, xr.Dataset]
    total_depth_laws: dict[fits.Key, xr.Dataset]
    total_depth_slopes: dict[str, xr.Dataset]


def outcome(run, sweep=None, *, law_steps: Sequence[int] | None = None) -> Outcome:
    """Returns the outcome of a run and its sweep; laws over depth are those of `law_steps`, by default of every recorded step."""
    at_ends = {name: ends(node) for name, node in nodes(run).items()}
    laws = fits.law_choices(run, steps=law_steps)
    if sweep is None:
        return Outcome(at_ends, laws, {}, {})
    return Outcome(at_ends, laws, fits.total_depth_laws(sweep), fits.total_depth_slopes(sweep))
