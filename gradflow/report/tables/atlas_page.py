"""The table of an atlas for reading: each number with its interval in one cell, as Markdown and as a page that sorts."""

import html
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from .atlas import NUMBERS, WHEN
from .profiles import interval


def texts(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns `atlas.table` as texts: a number with its interval in one cell, at initialization and after the training."""
    empty = [""] * len(frame)
    rows = frame.to_dict("records")
    columns: dict[str, list[str]] = {"wiring": list(frame["wiring"]), "family": list(frame.get("family", empty))}
    if "equation" in frame:
        columns["equation"] = list(frame["equation"])
    for when in WHEN:
        columns[_heading("law of the gradient", when)] = list(frame.get(f"law_{when}", empty))
    for name, number in NUMBERS.items():
        for when in WHEN:
            columns[_heading(number.heading, when)] = [_cell(row, f"{name}_{when}", number.show) for row in rows]
    columns["measured / theory"] = [_agreement(row) for row in rows]
    columns["citation"] = list(frame.get("source", empty))
    return pd.DataFrame(columns)


def _heading(words: str, when: str) -> str:
    if when == "start":
        return f"{words}, at the start"
    return f"{words}, trained"


def _cell(row: Mapping, column: str, show: Callable[[float], str]) -> str:
    """Returns a number with its interval; nothing where there is none."""
    mean = row.get(column, np.nan)
    if not np.isfinite(mean):
        return ""
    bounds = {"mean": mean, "low": row.get(f"{column}_low", np.nan), "high": row.get(f"{column}_high", np.nan)}
    return interval(bounds, show)


def _agreement(row: Mapping) -> str:
    """Returns the ratio of measurement to theory with its standard error and place, or why there is none."""
    if np.isfinite(row.get("theory_ratio", np.nan)):
        return f"{row['theory_ratio']:.2f} ± {row['theory_sem']:.2f} at position {row['theory_depth']:.0f}"
    if row.get("failed"):
        return row["failed"]
    if row.get("no_theory"):
        return f"no theory: {row['no_theory']}"
    return ""


def markdown(frame: pd.DataFrame) -> str:
    """Returns `texts` as a Markdown table."""
    shown = texts(frame)
    lines = [_line(shown.columns), _line(["---"] * len(shown.columns))]
    for cells in shown.itertuples(index=False):
        lines.append(_line(cells))
    return "\n".join([*lines, ""])


def _line(cells: Iterable) -> str:
    return f"| {' | '.join(map(_in_markdown, cells))} |"


def _in_markdown(cell) -> str:
    """Returns a cell's text in one line, with the characters escaped that would end the cell."""
    return re.sub(r"([\\\\|`<])", r"\\\1", " ".join(str(cell).split()))


def page(frame: pd.DataFrame, caption: str) -> str:
    """Returns `texts` as one self-contained HTML page: a click on a column's head sorts by it, a second one reverses it."""
    shown = texts(frame)
    numbers = _sorting_numbers(frame)
    heads = [f"<th>{html.escape(str(name))}</th>" for name in shown.columns]
    body = []
    for i, cells in enumerate(shown.itertuples(index=False)):
        row = ""
        for name, cell in zip(shown.columns, cells, strict=True):
            value = numbers[name][i] if name in numbers else np.nan
            mark = f' data-n="{value:.9g}"' if np.isfinite(value) else ""
            row += f"<td{mark}>{html.escape(str(cell))}</td>"
        body.append(f"<tr>{row}</tr>")
    return _PAGE.format(caption=html.escape(caption), heads="".join(heads), body="\n".join(body))


def _sorting_numbers(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """Returns the numbers that a column is sorted by, by its head in `texts`."""
    numbers = {}
    for name, number in NUMBERS.items():
        for when in WHEN:
            if f"{name}_{when}" in frame:
                numbers[_heading(number.heading, when)] = list(frame[f"{name}_{when}"])
    if "theory_ratio" in frame:
        numbers["measured / theory"] = list(frame["theory_ratio"])
    return numbers


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>gradflow atlas</title>
<style>
body {{ font: 13px sans-serif; margin: 1em }}
p {{ max-width: 60em; color: #444 }}
table {{ border-collapse: collapse }}
th {{ cursor: pointer; text-align: left; vertical-align: bottom; position: sticky; top: 0; background: #fff }}
th, td {{ padding: 3px 9px; border-bottom: 1px solid #ddd }}
td {{ white-space: nowrap; max-width: 34em; overflow: hidden; text-overflow: ellipsis }}
td:first-child {{ font-weight: bold; position: sticky; left: 0; background: #fff }}
th[data-up="1"]::after {{ content: " \\25B2" }}
th[data-up="0"]::after {{ content: " \\25BC" }}
</style></head><body>
<h1>Atlas of wirings</h1>
<p>{caption}</p>
<p>A click on a head sorts by its column; what is missing stands last.</p>
<table><thead><tr>{heads}</tr></thead>
<tbody>
{body}
</tbody></table>
<script>
document.querySelectorAll("th").forEach((head, i, heads) => head.onclick = () => {{
  const up = head.dataset.up !== "1", body = document.querySelector("tbody");
  heads.forEach(other => delete other.dataset.up);
  head.dataset.up = up ? "1" : "0";
  const cell = row => row.cells[i], none = c => c.textContent === "" || (numeric && !("n" in c.dataset));
  const numeric = [...body.rows].some(row => "n" in cell(row).dataset);
  const order = (a, b) => numeric ? a.dataset.n - b.dataset.n : a.textContent.localeCompare(b.textContent);
  const compare = (a, b) => none(a) - none(b) || (none(a) ? 0 : (up ? 1 : -1) * order(a, b));
  [...body.rows].sort((a, b) => compare(cell(a), cell(b))).forEach(row => body.append(row));
}});
</script></body></html>
"""
