"""The table of quantities as the console shows it: in brief by the readings that yield them, or one in full."""

import shutil
import textwrap

import pandas as pd

from ..results.quantities import SOURCES, Source

NARROWEST, WIDEST = 40, 100  # characters of a line
LABEL = 15  # characters of a field's name and what follows it
LAST = (
    "NAME_sem is the standard error of NAME, where one is read; `gradflow quantities NAME` has all that is said of one."
)


def width() -> int:
    """Characters of a line: the console's, within reason."""
    return min(max(shutil.get_terminal_size().columns, NARROWEST), WIDEST)


def in_brief(table: pd.DataFrame) -> str:
    """Every reading with its calls, cost and figures, and below it what it yields: name, unit, meaning, formula."""
    own = table[[not name.endswith("_sem") for name in table.index]]
    parts = [_of_reading(source, own[own["reading"] == source.name]) for source in SOURCES.values()]
    return "\n\n".join([*parts, _filled(LAST)])


def _of_reading(source: Source, rows: pd.DataFrame) -> str:
    """The paragraph of one reading."""
    figures = [figure for figure in dict.fromkeys(rows["figure"]) if figure != "none"]
    lines = [source.name, *(_filled(call, 2) for call in source.calls), _filled(f"cost: {source.cost}", 2)]
    if source.of:
        lines.append(_filled(f"reads: {source.of}", 2))
    if figures:
        lines.append(_filled(f"figures: {', '.join(figures)}", 2))
    for name, row in rows.iterrows():
        lines.append(_filled(f"{name} [{row['unit']}]: {row['meaning']}", 4))
        lines.append(_filled(row["formula"], 8))
    return "\n".join(lines)


def in_full(table: pd.DataFrame) -> str:
    """Every row with a line for each field; that of LaTeX is never broken, so that it can be copied."""
    return "\n\n".join("\n".join([str(name), *_fields(row)]) for name, row in table.iterrows())


def _fields(row: pd.Series) -> list[str]:
    lines = []
    for field, value in row.items():
        labelled = f"{f'{field}:':<{LABEL}}{value}"
        lines.append(f"  {labelled}" if field == "latex" else _filled(labelled, 2, LABEL))
    return lines


def _filled(text: str, indent: int = 0, hanging: int = 2) -> str:
    """Text in lines that fit, indented, those after the first one further."""
    first = " " * indent
    return textwrap.fill(
        text,
        width(),
        initial_indent=first,
        subsequent_indent=first + " " * hanging,
        break_on_hyphens=False,
    )
