"""What a reproduction says: published statements beside our numbers with their intervals, and a verdict that can fail.

A statement is a `Claim` about one number. It holds, or it does not, where the number's 95% interval says so; otherwise it is
open. The verdict on a figure is that on all of its claims.

    report = gf.reproduce("xiong-last-gradient")
    report.verdict, report.numbers, report.curves, str(report)

Plain data: drawn by `gf.plot.reproduction`, printed and written by `gradflow reproduce`.
"""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

HOLDS, FAILS, OPEN = "holds", "does not hold", "open"
REPRODUCED, NOT, SMALLER, UNDECIDED = (
    "reproduced",
    "not reproduced",
    "same order, at a smaller size",
    "undecided",
)
VERDICTS = (REPRODUCED, NOT, SMALLER, UNDECIDED)
# How a published statement is known.
READ, ABSTRACT, SECONDARY, RECALLED, DERIVED = (
    "read in the paper or the authors' code",
    "read in the paper's abstract",
    "from secondary sources",
    "recalled, not checked",
    "derived from the paper's setting",
)
KNOWN = (READ, ABSTRACT, SECONDARY, RECALLED, DERIVED)
WIDTH = 100  # characters of a line of text


@dataclass(frozen=True)
class Source:
    """The paper, and the place in it: equation, figure or table."""

    authors: str
    year: int
    arxiv: str
    title: str
    place: str

    def __str__(self) -> str:
        return f"{self.authors} {self.year}, arXiv:{self.arxiv}, {self.place}"


@dataclass(frozen=True)
class Interval:
    """A number with its 95% interval over `n` draws; a number that has no scatter has itself at both ends."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Claim:
    """A published statement about the number of that name; `published` is what the paper says, and `known` how we know it."""

    number: str
    published: str
    known: str

    def judged(self, ours: Interval) -> str:
        """Returns `HOLDS`, `FAILS` or `OPEN`."""
        raise NotImplementedError

    def __post_init__(self):
        if self.known not in KNOWN:
            raise ValueError(f"{self.number}: known is {self.known!r}: give one of {', '.join(KNOWN)}")


@dataclass(frozen=True)
class Equals(Claim):
    """The number is `value`, to within its interval and an `allowance` for what the statement leaves out (finite width, depth).

    Open where half of the interval is wider than `resolution`: an interval that holds everything says nothing.
    """

    value: float
    resolution: float
    allowance: float = 0.0

    def judged(self, ours: Interval) -> str:
        """Returns whether the interval, widened by the allowance, holds the value."""
        if not _is_finite(ours):
            return OPEN
        above = self.value > ours.high + self.allowance
        below = self.value < ours.low - self.allowance
        if above or below:
            return FAILS
        if ours.high - ours.low > 2 * self.resolution:
            return OPEN
        return HOLDS


@dataclass(frozen=True)
class Within(Claim):
    """The number is between `least` and `most` with all of its interval; it fails with all of it outside.

    A number that is a bound, as a difference of 0 where more is claimed, is open.
    """

    least: float = -math.inf
    most: float = math.inf

    def judged(self, ours: Interval) -> str:
        """Returns where the interval lies."""
        if not _is_finite(ours):
            return OPEN
        if ours.low > self.least and ours.high < self.most:
            return HOLDS
        if ours.high < self.least or ours.low > self.most:
            return FAILS
        return OPEN


def _is_finite(ours: Interval) -> bool:
    return all(map(math.isfinite, (ours.mean, ours.low, ours.high)))


def verdict(outcomes: Sequence[str], smaller: bool) -> str:
    """Returns the verdict on a figure from those on its claims; `smaller` where its size is not the published one."""
    if FAILS in outcomes:
        return NOT
    if OPEN in outcomes or not outcomes:
        return UNDECIDED
    if smaller:
        return SMALLER
    return REPRODUCED


@dataclass(frozen=True)
class Scales:
    """The axes of a figure: what they show, and which of them are logarithmic."""

    x: str
    y: str
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Reproduction:
    """A published figure or table, made again.

    `numbers` has a row a claim: `number`, `published`, `known`, `mean`, `low`, `high`, `n`, `outcome`. `curves` has a row a point
    of the figure: `curve`, `x`, `mean`, `low`, `high`, `n`. `reduced` says in what our setting is smaller than the published one.
    """

    name: str
    title: str
    source: Source
    published_setting: str
    our_setting: str
    reduced: str
    size: str
    verdict: str
    minutes: float
    scales: Scales
    numbers: pd.DataFrame = field(repr=False)
    curves: pd.DataFrame = field(repr=False)

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.verdict}", f"  {self.title}"]
        facts = {
            "source": str(self.source),
            "published": self.published_setting,
            "ours": self.our_setting,
            "reduced": self.reduced or "nothing",
            "time": f"{self.minutes:.1f} minutes",
        }
        for label, text in facts.items():
            lines.append(_filled(f"{label + ':':<11}{text}", 2, 13))
        for row in self.numbers.to_dict("records"):
            ours = f"{row['number']}: {to_text(row)}; {row['outcome']}"
            lines.append(_filled(ours, 2, 4))
            lines.append(_filled(f"published: {row['published']} ({row['known']})", 4, 6))
        return "\n".join(lines)


def to_text(row) -> str:
    """Returns a number with its interval, `−0.52 [−0.55, −0.49]`, to as many digits as tell them apart; alone without scatter."""
    bounds = [row["mean"], row["low"], row["high"]]
    if bounds[1] == bounds[2]:
        return _digits(bounds[0], 3)
    for digits in (3, 4, 5):
        mean, low, high = (_digits(bound, digits) for bound in bounds)
        if low != mean != high:
            break
    return f"{mean} [{low}, {high}]"


def _digits(value: float, digits: int) -> str:
    return f"{value:.{digits}g}".replace("-", "−")


def _filled(text: str, indent: int, hanging: int) -> str:
    return textwrap.fill(text, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * hanging)
