"""How many programs each test file may compile: the rows of compiled.csv, which `pytest --compiled FILE` writes anew.

Each row is a file that was run whole and by itself: after others it finds small programs that they had, and compiles fewer.
Counts that are checked are of Python 3.11 with the jaxlib of `COUNTED_WITH`. Without a row are new files. Seconds are of
computing, where something else was running on the machine that counted.
"""

import csv
from pathlib import Path
from typing import NamedTuple

import pytest

TABLE = Path(__file__).parent / "compiled.csv"
COUNTED_WITH = "0.10.2"  # the jaxlib of the counts in the table, on Python 3.11: each version has its own


class Row(NamedTuple):
    """A test file, run whole: which of its tests (`all`, or `default`), programs, seconds of compiling them, and in all."""

    file: str
    selection: str
    programs: int
    compiling: float
    seconds: float


def rows(selection: str, table: Path = TABLE) -> dict[str, Row]:
    """Rows of that selection by file; of several the one with most programs, since a file may find work done by another."""
    found: dict[str, Row] = {}
    with open(table, encoding="utf-8", newline="") as lines:
        for file, chosen, programs, compiling, seconds in csv.reader(lines):
            row = Row(file, chosen, int(programs), float(compiling), float(seconds))
            if chosen == selection and (file not in found or found[file].programs < row.programs):
                found[file] = row
    return found


def add(table: str | Path, row: Row) -> None:
    """Adds a row to a table."""
    with open(table, "a", encoding="utf-8") as lines:
        lines.write("{},{},{},{:.1f},{:.1f}\n".format(*row))


def check(row: Row) -> None:
    """Fails where a file compiled a tenth more programs than its row in the table; files without a row are free."""
    known = rows(row.selection).get(row.file)
    if known and row.programs > 1.1 * known.programs + 5:
        pytest.fail(
            f"{row.file} compiled {row.programs} programs, where tests/compiled.csv has {known.programs}: share what its tests "
            "measure, put their own formulas in NumPy or under one jit, or renew the row with --compiled",
            pytrace=False,
        )
