"""The numbers of an atlas (`gf.atlas`): one row a wiring, and the points that its figure is drawn from.

A number is there at initialization and after the training: the geometric mean over seeds for positive quantities, else the
arithmetic one, of the seeds where it is finite, with its 95% interval; NaN where there is none.
"""

import html
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from ... import laws
from ...results.agreement import against_theory
from ...results.statistics import band
from ...results.tree import settings, variable
from . import fits, profiles
from .profiles import digits, interval, signed

WHEN = ("start", "trained")


class Number(NamedTuple):
    """A column: what it is in words, how it is taken from a node [step, seed], how it is written."""

    words: str
    of: Callable[[xr.Dataset], xr.DataArray]
    show: Callable[[float], str] = digits


def _budget(part: str) -> Callable:
    return lambda node: profiles.net_budget(node).sel(part=part, drop=True)


def _median(name: str) -> Callable:
    """The median over sublayers of what the spectrum of the whole sublayer says; NaN where one of them has none."""
    return lambda node: variable(node, name).sel(jacobian="sublayer", drop=True).median("sublayer", skipna=False)


NUMBERS = {
    "net": Number("net budget log(g_0/g_S) (nat)", _budget("net"), signed),
    "norm": Number("its norms (nat)", _budget("norm"), signed),
    "fork": Number("its forks (nat)", _budget("fork"), signed),
    "partial_jacobian": Number(
        "partial Jacobian at the bottom",
        lambda node: variable(node, "partial_jacobian").sel(probe="isotropic", drop=True).isel(depth=0, drop=True),
    ),
    "sigma_max": Number("σ_max of a sublayer, median", _median("largest_singular_value")),
    "sigma_min": Number("σ_min of a sublayer, median", _median("smallest_singular_value")),
    "token_cosine": Number(
        "token cosine at the top",
        lambda node: variable(node, "token_cosine").isel(depth=-1, drop=True),
        lambda value: signed(value, 3).lstrip("+"),
    ),
    "loss": Number("held-out loss (nat)", lambda node: variable(node, "heldout_loss")),
}
AGREEMENT = ("theory_ratio", "theory_sem", "theory_z", "theory_depth", "theory_seeds")


def ends(node) -> dict[str, xr.DataArray]:
    """A node at step 0 and at the last, by the names of `WHEN`."""
    return {"start": node.isel(step=0), "trained": node.isel(step=-1)}


def points(tree: xr.DataTree) -> pd.DataFrame:
    """Every number of every wiring: columns `model`, `number`, `when`, `mean`, `low`, `high`, `n`; the best kept gradient first.

    `theory` is the measured over the predicted mean square of the stream gradient at the worst position, with twice its
    standard error to either side.
    """
    rows: list[dict[str, Any]] = []
    for name, node in _nodes(tree, "training").items():
        for number, column in NUMBERS.items():
            for when, at in ends(column.of(node.to_dataset())).items():
                shown = {str(bound): float(value) for bound, value in band(at).items()}
                rows.append({"model": name, "number": number, "when": when, **shown})
        found = agreement(tree, name)
        ratio, sem = found["theory_ratio"], found["theory_sem"]
        bounds = {
            "mean": ratio,
            "low": ratio - 2 * sem,
            "high": ratio + 2 * sem,
            "n": found["theory_seeds"],
        }
        rows.append({"model": name, "number": "theory", "when": "start", **bounds})
    frame = pd.DataFrame(rows, columns=["model", "number", "when", "mean", "low", "high", "n"])
    last = frame[(frame["number"] == "net") & (frame["when"] == "trained")].set_index("model")["mean"]
    place = {name: i for i, name in enumerate(last.sort_values(ascending=False, na_position="last").index)}
    return frame.sort_values("model", key=lambda names: names.map(place), kind="stable", ignore_index=True)


def _nodes(tree: xr.DataTree, place: str) -> dict[str, xr.DataTree]:
    return dict(tree[place].children) if place in tree.children else {}


def agreement(tree: xr.DataTree, name: str) -> dict[str, float]:
    """Measured over predicted mean square of the stream gradient where it is farthest from 1; NaN without theory or two seeds."""
    nothing = dict.fromkeys(AGREEMENT, float("nan"))
    measured, predicted = (_nodes(tree, place).get(name) for place in ("start", "theory"))
    if measured is None or predicted is None or measured.sizes.get("seed", 1) < 2:
        return nothing
    alone = lambda node: xr.DataTree.from_dict({name: node.to_dataset()})
    found = against_theory(alone(measured), alone(predicted))[name].to_dataset()
    ratio = found["ratio"].values
    off = np.abs(np.log(ratio, where=ratio > 0, out=np.full(ratio.shape, np.nan)))
    if not np.isfinite(off).all():
        return nothing
    worst = found.isel(depth=int(off.argmax()))
    return dict(zip(AGREEMENT, (float(worst[what]) for what in ("ratio", "ratio_sem", "z", "depth", "n")), strict=True))


def law(name: str, node, step: int) -> tuple[str, dict[str, float]]:
    """The law of the stream gradient over depth in words, as `compare` tells it, and its exponent; nothing where none fits."""
    choice = fits.law_choices({name: node}, steps=(step,)).get((name, step))
    nothing = dict.fromkeys(("estimate", "low", "high"), float("nan"))
    if choice is None:
        return "", nothing
    row = fits.law_rows({(name, step): choice}).query("verdict == 'chosen'").iloc[0]
    return laws.to_text(choice), {bound: float(row[bound]) for bound in nothing}


def table(tree: xr.DataTree, found: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row a wiring, numbers as numbers: `net_start`, `net_start_low`, `net_start_high`, `net_trained`, … and words.

    `found` are its `points`, where they are there.

    `law_start` is the law in words and `law_start_k` its exponent; `no_theory` says why there is none, `failed` what stopped
    a wiring. The best kept gradient stands first.
    """
    nodes, rows = _nodes(tree, "training"), []
    found = points(tree) if found is None else found
    for name, of_model in found.groupby("model", sort=False):
        node, steps = nodes[str(name)], np.asarray(nodes[str(name)]["step"])
        row = {"wiring": name, **{what: node.attrs.get(what, "") for what in ("equation", "source")}}
        for when, step in zip(WHEN, (steps[0], steps[-1]), strict=True):
            words, k = law(str(name), node, int(step))
            row |= {f"law_{when}": words, f"law_{when}_k": k["estimate"]}
            row |= {f"law_{when}_k_{bound}": k[bound] for bound in ("low", "high")}
        for point in of_model[of_model["number"] != "theory"].itertuples():
            column = f"{point.number}_{point.when}"
            row |= {
                column: point.mean,
                f"{column}_low": point.low,
                f"{column}_high": point.high,
                f"{column}_n": point.n,
            }
        row |= {**agreement(tree, str(name)), "no_theory": node.attrs.get("no_theory", ""), "failed": ""}
        rows.append(row)
    stopped = [{"wiring": name, "failed": why} for name, why in settings(tree).get("failed", {}).items()]
    frame = pd.DataFrame([*rows, *stopped])
    kinds = frame.columns.intersection(["equation", "source", "law_start", "law_trained", "no_theory", "failed"])
    return frame.fillna(dict.fromkeys(kinds, ""))


# ---- for people ---------------------------------------------------------------------------------------------


def texts(frame: pd.DataFrame) -> pd.DataFrame:
    """`table` in words, for a page: a number with its interval in one cell, at initialization and after the training."""
    columns: dict[str, list[str]] = {name: list(frame[name]) for name in ("wiring", "equation") if name in frame}
    for when in WHEN:
        columns[_head("law of the gradient", when)] = list(frame.get(f"law_{when}", [""] * len(frame)))
    for name, number in NUMBERS.items():
        for when in WHEN:
            cells = [_cell(row, f"{name}_{when}", number.show) for _, row in frame.iterrows()]
            columns[_head(number.words, when)] = cells
    columns["measured / theory"] = [_against(row) for _, row in frame.iterrows()]
    columns["citation"] = list(frame.get("source", [""] * len(frame)))
    return pd.DataFrame(columns)


def _head(words: str, when: str) -> str:
    return f"{words}, {'at the start' if when == 'start' else 'trained'}"


def _cell(row: Any, column: str, show: Callable[[float], str]) -> str:
    """A number with its interval; nothing where there is none."""
    bounds = dict(
        zip(("mean", "low", "high"), (row.get(column + end, np.nan) for end in ("", "_low", "_high")), strict=True)
    )
    return interval(bounds, show) if np.isfinite(bounds["mean"]) else ""


def _against(row: Any) -> str:
    """The ratio with its standard error and where, or why there is none."""
    if not np.isfinite(row.get("theory_ratio", np.nan)):
        return row.get("failed") or (f"no theory: {row['no_theory']}" if row.get("no_theory") else "")
    return f"{row['theory_ratio']:.2f} ± {row['theory_sem']:.2f} at position {row['theory_depth']:.0f}"


def markdown(frame: pd.DataFrame) -> str:
    """`texts` as a Markdown table."""
    shown = texts(frame)
    line = lambda cells: f"| {' | '.join(map(_in_markdown, cells))} |"
    return "\n".join([line(shown.columns), line("---" for _ in shown), *map(line, shown.itertuples(index=False)), ""])


def _in_markdown(cell) -> str:
    """A cell's text in one line, where nothing ends the cell."""
    return re.sub(r"([\\\\|`<])", r"\\\1", " ".join(str(cell).split()))


def page(frame: pd.DataFrame, caption: str) -> str:
    """`texts` as one HTML page that holds all it needs: a click on a column's head sorts by it, a second turns it round."""
    shown, numbers = texts(frame), _sorting(frame)
    heads = "".join(f"<th>{html.escape(str(name))}</th>" for name in shown.columns)
    body = []
    for i, cells in enumerate(shown.itertuples(index=False)):
        values = [numbers[name][i] if name in numbers else "" for name in shown.columns]
        marked = [f' data-n="{value:.9g}"' if value != "" and np.isfinite(value) else "" for value in values]
        row = (f"<td{mark}>{html.escape(str(cell))}</td>" for mark, cell in zip(marked, cells, strict=True))
        body.append(f"<tr>{''.join(row)}</tr>")
    return _PAGE.format(caption=html.escape(caption), heads=heads, body="\n".join(body))


def _sorting(frame: pd.DataFrame) -> dict[str, list[float]]:
    """By head of `texts`: the numbers that a column is sorted by."""
    ordered = {
        _head(number.words, when): list(frame[f"{name}_{when}"])
        for name, number in NUMBERS.items()
        for when in WHEN
        if f"{name}_{when}" in frame
    }
    return ordered | ({"measured / theory": list(frame["theory_ratio"])} if "theory_ratio" in frame else {})


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
