"""`verify`: a bundle is checked level by level, and each level says what it found and how long it took."""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from ...progress import Waiting
from ...results.arguments import answering, function, whole
from ...results.files import as_path, printable
from ...results.provenance import provenance
from ...results.repeated import Repeated
from ...results.tree import mapping_of
from ..bundle.contents import Contents
from ..bundle.writing import RESULTS, opened
from . import inputs, listing, rebuilt, recomputed
from .finding import Finding

LEVELS = (
    "files, and their SHA-256",
    "what follows from results.nc",
    "the first steps, computed again",
    "everything, computed again",
)
Recompute = Callable[..., Iterable[Repeated]]


class Level(NamedTuple):
    """One level of a verification: its number, its seconds, what it found wrong, what was not computed again, and notes."""

    number: int
    seconds: float
    findings: list[Finding]
    missed: list[str]
    notes: list[str]

    def __str__(self) -> str:
        verdict = "in order"
        if self.findings:
            verdict = f"{len(self.findings)} not in order"
        if self.missed:
            verdict += f", {len(self.missed)} not computed again"
        lines = [f"level {self.number}, {LEVELS[self.number]}: {verdict} ({self.seconds:.1f} s)"]
        lines += [f"  note: {note}" for note in self.notes]
        lines += [f"  not computed again: {line}" for line in self.missed]
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

    @property
    def missed(self) -> list[str]:
        """What was not computed again, and why: a line each."""
        return [line for level in self.levels for line in level.missed]

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
        hashes are compared at level 0, and levels 2 and 3 read them. By default those that lie where the run found them
    recompute : `gf.recompute`, which levels 2 and 3 need
    report : called with every level as it is done

    What levels 2 and 3 can't compute again is `missed`: nothing was found of it, and nothing of it was checked but its files.

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
    contents = _opened(path)
    done: list[Level] = []
    for number in range(level + 1):
        started = time.perf_counter()
        found: list[Finding] = []
        missed: list[str] = []
        notes: list[str] = []
        with Waiting(f"level {number}, {LEVELS[number]}") as bar:
            if number == 0:
                found += listing.findings(path)
            if number and isinstance(contents, Finding):
                found.append(contents)
            elif isinstance(contents, Contents):
                if number == 0:
                    found += inputs.findings(contents, files)
                    notes += inputs.notes(contents, files)
                else:
                    bar.expect(_recorded_seconds(contents) if number == 3 else 0.0)
                    checked = _checked(number, path, contents, files, recompute)
                    found, missed, notes = checked.findings, checked.missed, checked.notes
        done.append(Level(number, time.perf_counter() - started, found, missed, notes))
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


def _recorded_seconds(contents: Contents) -> float:
    """Returns the seconds that the run took which made these results; parts that say no number, as anybody may write, are 0."""
    seconds = 0.0
    for tree in contents.trees.values():
        match mapping_of(tree, "provenance").get("resources"):
            case {"wall_seconds": int() | float() as taken}:
                seconds += taken
    return seconds


class _Checked(NamedTuple):
    """What one level from 1 on found."""

    findings: list[Finding]
    missed: list[str]
    notes: list[str]


def _checked(
    number: int, folder: Path, contents: Contents, files: Mapping[str, Path], recompute: Recompute | None
) -> _Checked:
    """Returns what one level from 1 on found."""
    exact = recomputed.same_environment(contents.record.provenance, provenance())
    checked = _Checked([], [], [])
    if not exact:
        checked.notes.append("this is another environment, so numbers are compared within tolerances, not to the bit")
    if number == 1 or recompute is None:
        checked.findings.extend(rebuilt.findings(folder, contents, exact=exact))
        return checked
    for repeated in recompute(contents.trees, contents.record, folder, files, part_only=number == 2):
        checked.findings.extend(recomputed.findings(repeated, exact=exact))
        checked.missed.extend(recomputed.missed(repeated))
    return checked
