"""The registry of published figures and tables: `reproduce` makes one of them, `reproductions` lists all."""

import time
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import asdict
from pathlib import Path
from typing import Any, overload

import pandas as pd
import xarray as xr

from ..progress import Waiting
from ..results.arguments import answering, known
from ..results.cells import Cells
from ..results.grid import Cell, each
from ..results.reproduction import Interval, Reproduction, verdict
from . import depths, gradients, lanes, partial_jacobians, rates, rows, streams, tokens, updates
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


@overload
def reproduce(
    name: str, *, size: str = "full", executor: Executor | int | None = None, folder: str | Path | None = None
) -> Reproduction: ...


@overload
def reproduce(
    name: tuple[str, ...] | list[str],
    *,
    size: str = "full",
    executor: Executor | int | None = None,
    folder: str | Path | None = None,
) -> dict[str, Reproduction]: ...


@answering()
def reproduce(name, *, size="full", executor=None, folder=None):
    """Returns a published figure or table made again: our numbers with their intervals beside what was published, and a verdict.

    Parameters
    ----------
    name : one of `reproductions()`; or several, of which `{name: Reproduction}` is returned
    size : "full"; "quick", with fewer seeds or blocks; "toy", to try the machinery: its numbers mean nothing
    executor, folder : what makes the figures, a cell each, and where their rows are kept, as `gf.grid` takes them

    A verdict is "reproduced", "not reproduced", "same order, at a smaller size" (all statements hold, and the setting is not
    the published one), or "undecided" (an interval is too wide to tell). Of several, those that fail are left out with a warning.

    Cost: some minutes on two cores, as `reproductions()` says of the size in tests/validation/published.csv.

    Errors: ValueError, with the names there are; what a figure fails with, where none could be made.
    """
    names = name if isinstance(name, tuple | list) else [name]
    if not names:
        raise ValueError("name at least one of gf.reproductions()")
    cells = {}
    for one in names:
        entry = REGISTRY[known("reproduction", one, REGISTRY)]
        options = entry.sizes[known("size", size, SIZES)]
        arguments = {"name": one, "size": size}
        cells[one] = Cell.of(_measured, arguments, {**arguments, "options": options})
    made = each(cells, executor=executor, files=Cells.of(folder), what="reproductions", unit="figure")
    made.warn("reproductions", "in the folder, where one is named, is the traceback of each")
    reports = {}
    for one, tree in made.trees.items():
        reports[one] = reported(REGISTRY[one], size, rows.of_tree(tree), tree.attrs["minutes"])
    return reports if names is name else reports[name]


def _measured(name: str, size: str) -> xr.DataTree:
    """Returns the rows that an entry measures at a size."""
    entry = REGISTRY[name]
    started = time.perf_counter()
    with Waiting(name) as bar:
        if size == entry.timed:
            bar.expect(60 * entry.minutes)
        made = entry.measure(**entry.sizes[size])
    return rows.as_tree(made, (time.perf_counter() - started) / 60)


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
