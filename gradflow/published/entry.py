"""An entry: one published figure or table, what it says, and how it is measured here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..results.reproduction import Claim, Scales, Source

SIZES = ("full", "quick", "toy")


@dataclass(frozen=True)
class Entry:
    """A published figure or table.

    published_setting, our_setting : in words; `our_setting` is a format of the options of the size
    reduced : in what the full size is smaller than the published one; empty where the statement is about any size
    claims : what was published, each about a number that `measure` returns
    measure : returns the rows of `published.rows`, of the options of a size
    sizes : the options of "full", "quick" (a minute or two) and "toy" (to try the machinery; its numbers mean nothing)
    minutes : what the size in tests/validation/published.csv took, on two cores that had other work to do; `timed` is that size
    """

    name: str
    title: str
    source: Source
    published_setting: str
    our_setting: str
    reduced: str
    claims: tuple[Claim, ...]
    measure: Callable[..., pd.DataFrame]
    scales: Scales
    sizes: Mapping[str, Mapping[str, Any]]
    minutes: float
    timed: str = "full"
