r"""`numbers.tex`: a macro for every number that summary and tables print, so that a paper cites no digit by hand.

`\gfPostBottomReadoutStepOneZero` is the number, and the same with `Low` and `High` behind it its interval: written with the
digits that the tables have. Names hold letters alone, as LaTeX asks; a digit is its word.
"""

import re
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from ..tables import numbers
from .formulas import number

PREFIX = "gf"
WORDS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
DIGITS = {str(digit): word for digit, word in enumerate(WORDS)}
# Of each table: the columns that name a row, the numbers, and what their macros end with.
NAMED = {
    "results": (("model", "quantity", "step"), {"mean": "", "low": "Low", "high": "High", "n": "Seeds"}),
    "laws": (
        ("model", "law", "step"),
        {"estimate": "", "low": "Low", "high": "High", "rms_misfit": "Misfit", "score": "Score", "n": "Seeds"},
    ),
    "total_depth": (("model", "total_depth"), {"mean": "", "low": "Low", "high": "High", "n": "Seeds"}),
    "total_depth_laws": (
        ("model", "law"),
        {"estimate": "", "low": "Low", "high": "High", "rms_misfit": "Misfit", "score": "Score", "n": "Seeds"},
    ),
    "atlas": (("wiring",), {}),  # every column of numbers, by its name
}
IN_FRONT = {"step": "Step"}
TITLES = {"laws": "Law", "total_depth": "Blocks", "total_depth_laws": "BlocksLaw"}


def document(frames: Mapping[str, pd.DataFrame]) -> str:
    r"""Returns the file: a line `\providecommand{\gf…}{\num{…}}` for every finite number of the tables in `NAMED`."""
    lines = ["% A macro for every number that summary and tables print; \\usepackage{siunitx} sets them."]
    taken: set[str] = set()
    for table, frame in frames.items():
        if table not in NAMED:
            continue
        lines.append(f"% {table}")
        for name, text in _macros(table, frame):
            lines.append(f"\\providecommand{{\\{_free(name, taken)}}}{{{text}}}%")
    return "\n".join(lines) + "\n"


def _macros(table: str, frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yields the name and the text of every macro of a table."""
    labels, columns = NAMED[table]
    if not columns:
        columns = {str(name): _letters(name) for name in frame.select_dtypes("number")}
    for row in frame.to_dict("records"):
        name = PREFIX + _letters(row[labels[0]]) + TITLES.get(table, "")
        for label in labels[1:]:
            if not pd.isna(row.get(label)):
                name += IN_FRONT.get(label, "") + _letters(row[label])
        show = numbers.shown(row.get("quantity"))
        for column, ending in columns.items():
            if column == "n":
                yield name + ending, number(str(int(row[column])))
            elif np.isfinite(row[column]):
                yield name + ending, number(show(row[column]))


def _letters(label) -> str:
    """Returns a label as letters alone, each word with a capital: `bottom / readout` is `BottomReadout`, 10 is `OneZero`.

    >>> _letters("bottom / readout"), _letters(10.0), _letters("µP-2")
    ('BottomReadout', 'OneZero', 'PTwo')
    """
    if isinstance(label, float):
        label = int(label)
    letters = ""
    for word in re.findall(r"[A-Za-z]+|[0-9]", str(label)):
        letters += DIGITS.get(word, word[:1].upper() + word[1:])
    return letters or "Other"


def _free(name: str, taken: set[str]) -> str:
    """Returns the name, with letters behind it where another number has it already."""
    free, count = name, 0
    while free in taken:
        count += 1
        free = name + "Again" * count
    taken.add(free)
    return free
