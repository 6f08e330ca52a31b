"""The registry of published figures and tables: `reproduce` makes one of them, `reproductions` lists all."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from ..progress import Waiting
from ..results.arguments import answering, known
from ..results.reproduction import Interval, Reproduction, verdict
from . import depths, gradients, lanes, partial_jacobians, rates, streams, tokens, updates
from .entry import SIZES, Entry

ENTRIES: tuple[Entry, ...] = (
    gradients.LAST_GRADIENT,
    gradients.WARM_UP,
    updates.ADMIN,
    updates.DEEPNET,
    streams.DEEPSCALE,
    partial_jacobians.EXPONENTS,
    tokens.RANK_COLLAPSE,
    gradients.MIX_LN,
    streams.LAYERNORM_SCALING,
    streams.PERI_LN,
    lanes.GAINS,
    depths.COMPLETEP,
    rates.KEEL,
    tokens.THRESHOLD,
)
REGISTRY: Mapping[str, Entry] = {entry.name: entry for entry in ENTRIES}


@answering()
def reproduce(name: str, *, size: str = "full") -> Reproduction:
    """Returns a published figure or table made again: our numbers with their intervals beside what was published, and a verdict.

    Parameters
    ----------
    name : one of `reproductions()`
    size : "full"; "quick", with fewer seeds or blocks; "toy", to try the machinery: its numbers mean nothing

    A verdict is "reproduced", "not reproduced", "same order, at a smaller size" (all statements hold, and the setting is not
    the published one), or "undecided" (an interval is too wide to tell).

    Cost: some minutes on two cores, as `reproductions()` says of the size in tests/validation/published.csv.

    Errors: ValueError, with the names there are.
    """
    entry = REGISTRY[known("reproduction", name, REGISTRY)]
    options = entry.sizes[known("size", size, SIZES)]
    started = time.perf_counter()
    with Waiting(name) as bar:
        if size == entry.timed:
            bar.expect(60 * entry.minutes)
        made = entry.measure(**options)
    return reported(entry, size, made, (time.perf_counter() - started) / 60)


def reported(entry: Entry, size: str, made: pd.DataFrame, minutes: float) -> Reproduction:
    """Returns the report on the rows that an entry measured at a size."""
    found = made[made["number"] != ""].set_index("number")
    judged = []
    for claim in entry.claims:
        row: Any = found.loc[claim.number]
        ours = Interval(float(row["mean"]), float(row["low"]), float(row["high"]), int(row["n"]))
        said = {"number": claim.number, "published": claim.published, "known": claim.known}
        judged.append({**said, **asdict(ours), "outcome": claim.judged(ours)})
    numbers = pd.DataFrame(judged)
    curves = made[made["curve"] != ""].drop(columns="number").reset_index(drop=True)
    reduced = [entry.reduced] if entry.reduced else []
    if size != "full":
        reduced.append(f"{size} size")
    return Reproduction(
        name=entry.name,
        title=entry.title,
        source=entry.source,
        published_setting=entry.published_setting,
        our_setting=entry.our_setting.format(**entry.sizes[size]),
        reduced="; ".join(reduced),
        size=size,
        verdict=verdict(list(numbers["outcome"]), smaller=bool(reduced)),
        minutes=minutes,
        scales=entry.scales,
        numbers=numbers,
        curves=curves,
    )


def reproductions() -> pd.DataFrame:
    """Returns the table of all entries: title, paper, the place in it, what our setting is reduced to, and minutes.

    >>> reproductions().loc["xiong-last-gradient", "arxiv"]
    '2002.04745'
    """
    listed = []
    for entry in ENTRIES:
        listed.append(
            {
                "name": entry.name,
                "title": entry.title,
                "paper": f"{entry.source.authors} {entry.source.year}",
                "arxiv": entry.source.arxiv,
                "place": entry.source.place,
                "reduced": entry.reduced,
                "minutes": entry.minutes,
            }
        )
    return pd.DataFrame(listed).set_index("name")
