"""The table of quantities on the console: in brief, grouped by readings, or one quantity in full."""

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
    """Returns the characters of a line: the console's, within `NARROWEST` and `WIDEST`."""
    columns = shutil.get_terminal_size().columns
    return min(max(columns, NARROWEST), WIDEST)


def in_brief(table: pd.DataFrame) -> str:
    """Returns every reading with its calls, cost and figures, and its quantities: name, unit, meaning, formula."""
    errors = table.index.str.endswith("_sem")
    rows = table[~errors]
    parts = []
    for source in SOURCES.values():
        parts.append(_of_reading(source, rows[rows["reading"] == source.name]))
    return "\n\n".join([*parts, _filled(LAST)])


def _of_reading(source: Source, rows: pd.DataFrame) -> str:
    """Returns the paragraph of one reading."""
    lines = [source.name]
    for call in source.calls:
        lines.append(_filled(call, 2))
    lines.append(_filled(f"cost: {source.cost}", 2))
    if source.of:
        lines.append(_filled(f"reads: {source.of}", 2))
    figures = dict.fromkeys(rows["figure"])
    figures.pop("none", None)
    if figures:
        lines.append(_filled(f"figures: {', '.join(figures)}", 2))
    for name, row in rows.iterrows():
        lines.append(_filled(f"{name} [{row['unit']}]: {row['meaning']}", 4))
        lines.append(_filled(row["formula"], 8))
    return "\n".join(lines)


def in_full(table: pd.DataFrame) -> str:
    """Returns every row with a line for each field; the LaTeX is never broken, so that it can be copied."""
    return "\n\n".join(_in_full(str(name), row) for name, row in table.iterrows())


def _in_full(name: str, row: pd.Series) -> str:
    lines = [name]
    for field, value in row.items():
        labelled = f"{f'{field}:':<{LABEL}}{value}"
        if field == "latex":
            lines.append(f"  {labelled}")
        else:
            lines.append(_filled(labelled, 2, LABEL))
    return "\n".join(lines)


def reproductions() -> str:
    """Returns the published figures that can be made again: name, what it is, source, and minutes."""
    from ..published.registry import reproductions as table

    parts = []
    for name, row in table().iterrows():
        source = f"{row['paper']}, arXiv:{row['arxiv']}, {row['place']}"
        parts.append(
            "\n".join([str(name), _filled(row["title"], 2), _filled(f"{source}; {row['minutes']:g} minutes", 2)])
        )
    return "\n\n".join(parts)


def _filled(text: str, indent: int = 0, hanging: int = 2) -> str:
    """Returns text in lines that fit, indented, those after the first one further."""
    first = " " * indent
    return textwrap.fill(
        text,
        width(),
        initial_indent=first,
        subsequent_indent=first + " " * hanging,
        break_on_hyphens=False,
    )
