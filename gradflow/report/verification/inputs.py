"""The text and the weights that a run read and that are no part of its bundle: their SHA-256, compared where they are at hand.

Those that are given have to be the recorded ones. Those that lie where the run found them are looked at too; what can't be
compared is a note.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ...results.files import printable, regular
from ...results.folder import digest_of
from ..bundle.contents import Contents
from .finding import Finding

OPTIONS = {"text": "--text FILE", "weights": "--weights FOLDER"}


class Read(NamedTuple):
    """What a run read: how it is called, its place in the run's configuration, and the SHA-256 of its files by their names."""

    what: str
    before: str
    sums: Mapping[str, str]

    def files(self, place: Path) -> dict[str, Path]:
        """Returns its files by their names: those of a folder, or the one that is the text."""
        if self.what == "text":
            return {name: regular(place) for name in self.sums}
        return {name: regular(place / name) for name in self.sums}

    def differing(self, place: Path) -> Iterator[Finding]:
        """Yields each file that is not the recorded one."""
        for name, path in self.files(place).items():
            digest = digest_of(path)
            if digest != self.sums[name]:
                yield Finding(printable(path), f"the SHA-256 of the {name}", digest, self.sums[name])


def read_by(contents: Contents) -> Iterator[Read]:
    """Yields what a run read that is no part of its bundle."""
    configuration, data = contents.record.configuration, contents.data
    if configuration.get("tokens"):  # of whose file no SHA-256 is recorded: that of the tokens is compared at level 2
        yield Read("text", str(configuration["tokens"]), {})
    elif "sha256" in data and not contents.has_its_text:
        yield Read("text", str(configuration.get("text") or ""), {"text": str(data["sha256"])})
    if contents.weights_sha256:
        yield Read("weights", str(configuration.get("folder") or ""), contents.weights_sha256)


def findings(contents: Contents, given: Mapping[str, Path]) -> Iterator[Finding]:
    """Yields what is wrong with the text and the weights that are given.

    Errors: OSError where one of them can't be read.
    """
    read = {one.what: one for one in read_by(contents)}
    for what, place in given.items():
        if what in read:
            yield from read[what].differing(place)
        elif what == "text" and contents.has_its_text:
            own = Read("text", "", {"text": str(contents.data.get("sha256"))})
            yield from own.differing(place)
        else:
            yield Finding(printable(place), f"no SHA-256 of the {what} was recorded")


def notes(contents: Contents, given: Mapping[str, Path]) -> Iterator[str]:
    """Yields a line for each of them that is not given: whether it is where the run found it, and the same."""
    for read in read_by(contents):
        if read.what in given or not read.sums:
            continue
        place, option = printable(read.before), OPTIONS[read.what]
        if not read.before or not Path(read.before).exists():
            yield f"the {read.what} that it read is no part of the bundle: {option} compares its SHA-256"
        elif _is_same(read):
            yield f"the {read.what} that it read is in {place}, with the recorded SHA-256"
        else:
            yield f"{place} is not the {read.what} that it read any more: {option} names the one that is"


def _is_same(read: Read) -> bool:
    """Returns whether what lies in the recorded place is what was read."""
    try:
        return not list(read.differing(Path(read.before)))
    except OSError:
        return False
