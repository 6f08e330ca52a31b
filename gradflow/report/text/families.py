"""One sentence on each family of an atlas: the strongest rule that all of its wirings obey, or how many go which way.

Rules are tried in turn: all go one way; a norm on the path decides. Where neither holds the sentence counts. Nothing is said that
the numbers at hand don't: the same family has another sentence at another size.
"""

from collections.abc import Iterator

import pandas as pd

from ..tables import atlas
from ..tables.profiles import signed
from ..tables.steps import steps_of
from ..tables.ways import ALIKE, DECAYS, OPEN, WAYS, ways

NAMED = 3  # wirings that are listed by name; of more there is the number


def of_tree(tree, points: pd.DataFrame | None = None) -> dict[str, str]:
    """Returns `{family: sentence}` of `gf.atlas`; nothing of wirings without a family.

    `points` is `atlas.points(tree)`, for callers that have it already.
    """
    every = atlas.points(tree) if points is None else points
    steps = steps_of(tree["training"])[-1]
    rows = ways(every)
    found = {}
    for family in filter(None, dict.fromkeys(rows["family"])):
        of_family = rows[rows["family"] == family]
        start, trained = of_family[of_family["when"] == "start"], of_family[of_family["when"] == "trained"]
        noun = "wiring" if len(trained) == 1 else "wirings"
        after = f"toward the input the gradient, after {steps} steps, {rule(trained)}"
        before = f"at the start it {rule(start)}{_as_pre(start)}"
        found[str(family)] = f"{family} ({len(trained)} {noun}): {after}; {before}"
    return found


def rule(rows: pd.DataFrame) -> str:
    """Returns what holds of all rows of `ways`, of one time: one way, a norm that decides, or the counts."""
    there = set(rows["way"])
    if len(there) == 1 and there != {OPEN}:
        (way,) = there
        return f"{way} in {_all(len(rows))} ({_extent(rows)})"
    on_path = rows["on_path"]
    decays = rows["way"] == DECAYS
    decided = rows["way"] != OPEN
    if decided.all() and on_path.any() and (decays == on_path).all():
        return (
            f"decays where a norm is on the path ({len(rows[on_path])}: {_extent(rows[on_path])}) and nowhere else "
            f"({len(rows[~on_path])}: {_extent(rows[~on_path])})"
        )
    return ", ".join(_counts(rows))


def _all(number: int) -> str:
    return "it" if number == 1 else f"all {number}"


def _counts(rows: pd.DataFrame) -> Iterator[str]:
    """Yields `decays in 2 (post, keel)` for each way that some row goes."""
    for way in WAYS:
        names = rows[rows["way"] == way]["model"].tolist()
        if len(names) > NAMED:
            yield f"{way} in {len(names)}"
        elif names:
            yield f"{way} in {len(names)} ({', '.join(names)})"


def _extent(rows: pd.DataFrame) -> str:
    """Returns the least and the largest net log-gain."""
    least, largest = signed(rows["mean"].min()), signed(rows["mean"].max())
    if least == largest:
        return f"{least} nat"
    return f"{least} to {largest} nat"


def _as_pre(rows: pd.DataFrame) -> str:
    """Returns how many of the rows are pre-norm to within what counts as the same; nothing of none."""
    alike = int(rows["as_pre"].sum())
    if not alike:
        return ""
    return f"; within {ALIKE:g} nat of pre-norm: {alike} of {len(rows)}"
