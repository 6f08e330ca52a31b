"""`verify`: a bundle is checked level by level, and each level says what it found and how long it took."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import xarray as xr

from ...results.arguments import answering, function, whole
from ...results.files import as_path, printable, regular
from ...results.provenance import provenance
from ...results.tree import mapping_of
from ..bundle.contents import Contents
from ..bundle.writing import RESULTS, opened
from . import listing, rebuilt, recomputed
from .finding import Finding

LEVELS = (
    "files, and their SHA-256",
    "what follows from results.nc",
    "the first steps, computed again",
    "everything, computed again",
)
Recompute = Callable[..., Iterator[tuple[str, xr.DataTree, xr.DataTree]]]


class Level(NamedTuple):
    """One level of a verification: its number, what it found wrong, its seconds, and what should be known of it."""

    number: int
    findings: list[Finding]
    seconds: float
    notes: list[str]

    def __str__(self) -> str:
        verdict = "in order"
        if self.findings:
            verdict = f"{len(self.findings)} not in order"
        lines = [f"level {self.number}, {LEVELS[self.number]}: {verdict} ({self.seconds:.1f} s)"]
        lines += [f"  note: {note}" for note in self.notes]
        lines += [f"  {finding}" for finding in self.findings]
        return "\n".join(lines)


class Verification(NamedTuple):
    """The levels that were checked, in order."""

    levels: list[Level]

    @property
    def findings(self) -> list[Finding]:
        """Everything that is not in order."""
        return [finding for level in self.levels for finding in level.findings]

    @property
    def in_order(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def __str__(self) -> str:
        return "\n".join(map(str, self.levels))


@answering()
def verify(
    folder: str | Path,
    *,
    level: int = 1,
    stop: bool = False,
    text: str | Path | None = None,
    weights: str | Path | None = None,
    recompute: Recompute | None = None,
    report: Callable[[Level], None] | None = None,
) -> Verification:
    """Returns what a bundle's verification found, for the levels from 0 to `level`.

    Parameters
    ----------
    folder : the bundle
    level : 0 files and hashes; 1 also what follows from `results.nc`; 2 also the first steps of each model, computed again; 3
        also everything
    stop : end with the first level at which something is not in order
    text, weights : the file of text, and the folder of weights, that the run read, where they are no part of the bundle; their
        hashes are compared at level 0, and levels 2 and 3 read them
    recompute : `gf.recompute`, which levels 2 and 3 need
    report : called with every level as it is done

    Errors: OSError where there is no folder; ValueError for levels 2 and 3 without `recompute`.
    """
    level = whole("level", level, least=0, most=len(LEVELS) - 1)
    path = as_path(folder)
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {printable(path)}: name a bundle")
    if level >= 2:
        if recompute is None:
            raise ValueError(f"level {level} computes again: give recompute=gf.recompute")
        function("recompute", recompute)
    given = {"text": text, "weights": weights}
    files = {what: as_path(place) for what, place in given.items() if place is not None}
    contents: Contents | Finding | None = None
    if level or files:
        contents = _opened(path)
    done: list[Level] = []
    for number in range(level + 1):
        started = time.perf_counter()
        found: list[Finding] = []
        notes: list[str] = []
        if number == 0:
            found += listing.findings(path)
        if number == 0 and files and isinstance(contents, Contents):
            found += _given(contents, files)
        if number and isinstance(contents, Finding):
            found.append(contents)
        elif number and isinstance(contents, Contents):
            found, notes = _checked(number, path, contents, files, recompute)
        done.append(Level(number, found, time.perf_counter() - started, notes))
        if report is not None:
            report(done[-1])
        if found and (stop or contents is found[-1]):
            break
    return Verification(done)


def _opened(folder: Path) -> Contents | Finding:
    """Returns the contents of a bundle, or why they can't be read."""
    try:
        return opened(folder)
    except (OSError, ValueError) as error:
        return Finding(RESULTS, str(error))


def _checked(
    number: int, folder: Path, contents: Contents, files: Mapping[str, Path], recompute: Recompute | None
) -> tuple[list[Finding], list[str]]:
    """Returns what one level from 1 on found, and notes."""
    exact = recomputed.same_environment(contents.record.provenance, provenance())
    notes = []
    if not exact:
        notes.append("this is another environment, so numbers are compared within tolerances, not to the bit")
    if number == 1 or recompute is None:
        return list(rebuilt.findings(folder, contents, exact=exact)), notes
    found: list[Finding] = []
    try:
        for part, recorded, again in recompute(contents.trees, contents.record, folder, files, part_only=number == 2):
            found += recomputed.findings(recorded, again, part, exact=exact)
    except (ValueError, OSError, ImportError) as error:
        found.append(Finding(RESULTS, f"it can't be computed again here: {error}"))
    return found, notes


def _given(contents: Contents, files: Mapping[str, Path]) -> list[Finding]:
    """Returns what is wrong with the text and the weights that were given."""
    digests: dict[str, str] = {}
    data = mapping_of(contents.run, "data")
    if "sha256" in data:
        digests["text"] = str(data["sha256"])
    paths = {what: regular(path) for what, path in files.items() if what == "text"}
    found = list(listing.given(digests, paths))
    if "weights" in files:
        found += _weights(contents, files["weights"])
    return found


def _weights(contents: Contents, folder: Path) -> list[Finding]:
    """Returns which files of weights are not those that were read."""
    sums = mapping_of(contents.run, "checkpoint").get("weights_sha256", {})
    if not sums:
        return [Finding(str(folder), "no SHA-256 of weights was recorded")]
    return list(listing.given(sums, {name: regular(folder / name) for name in sums}))
