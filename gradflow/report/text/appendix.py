"""A reproducibility appendix as a LaTeX document: setting, results, figures, statistics, environment, command.

It compiles with pdflatex in the folder it is written to (packages: graphicx, booktabs, geometry).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd
import xarray as xr

from ...results.tree import settings
from .. import tables
from ..tables import nonfinite
from . import captions, logs
from .latex import latex, verbatim


def table(frame: pd.DataFrame, caption: str) -> str:
    """Returns a booktabs table of a frame of texts."""
    rows = [r"\toprule", _row(column.replace("_", " ") for column in frame.columns), r"\midrule"]
    for cells in frame.itertuples(index=False):
        rows.append(_row(cells))
    rows.append(r"\bottomrule")
    body = "\n".join(rows)
    columns = "l" * frame.shape[1]
    return (
        f"\\begin{{table}}[ht]\n\\centering\\scriptsize\\setlength{{\\tabcolsep}}{{3pt}}\n\\caption{{{latex(caption)}}}\n"
        f"\\begin{{tabular}}{{{columns}}}\n{body}\n\\end{{tabular}}\n\\end{{table}}"
    )


def _row(cells: Iterable) -> str:
    return " & ".join(map(latex, cells)) + r" \\"


def results_table(ends_of_models: Mapping[str, Mapping[str, xr.Dataset]], steps) -> pd.DataFrame:
    """Returns one row a model and step, as texts: gradient at the bottom relative to the readout, budget, loss.

    `n` seeds are finite.
    """
    rows = []
    for name, ends in ends_of_models.items():
        if not steps:
            rows.append({"model": name, **_results(ends)})
        for step in steps:
            at = {quantity: band.sel(step=step) for quantity, band in ends.items()}
            rows.append({"model": name, "step": step, **_results(at)})
    return pd.DataFrame(rows)


def _results(ends: Mapping[str, xr.Dataset]) -> dict[str, Any]:
    """Returns the cells of one row of the results, from `tables.ends` at one step."""
    cells: dict[str, Any] = {"n": int(ends["bottom"]["n"]), "bottom / readout": tables.interval(ends["bottom"])}
    for part in ends["budget"]["part"].values:
        cells[part] = tables.interval(ends["budget"].sel(part=part), tables.signed)
    cells["final norm"] = tables.interval(ends["leave_gain"], tables.signed)
    cells["loss"] = tables.interval(ends["loss"])
    return cells


def document(
    run, figures: dict[str, str], *, results: pd.DataFrame, laws: pd.DataFrame, steps, configuration: dict
) -> str:
    """Returns the whole document; `figures` is `{file name without its ending: caption}`, looked for in `figures/`.

    `results` are the rows of `results_table` and `laws` those of `fits.law_rows`, of every recorded step; shown are those of
    `steps`, and the laws of the first and the last of them.
    """
    provenance = settings(run).get("provenance", {})
    shown_results, shown_laws = _at_steps(results, steps), _at_steps(laws, [*steps[:1], *steps[-1:]])
    parts_of = _of_logs if tables.are_logs(run) else _of_results
    of_kind = parts_of(run, shown_results, shown_laws)
    parts = [
        _PREAMBLE,
        r"\section*{Reproducibility appendix: gradient flow}",
        _list("Setting", captions.setting(run)),
        *of_kind.results,
    ]
    for name, caption in figures.items():
        parts.append(_figure(name, caption))
    parts += [
        rf"\paragraph{{Statistics.}} {latex(of_kind.statistics)}",
        _quoted_list("What is not finite", of_kind.missing),
        _list("Environment", {**_flat(provenance), **_flat(provenance.get("versions", {}))}),
        _quoted("Command", str(provenance.get("command", ""))),
        _quoted("Configuration", _assignments(configuration)),
        r"\end{document}",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


class _Parts(NamedTuple):
    """What the document says of one kind of results: paragraphs and tables, the statistics, what is not finite."""

    results: list[str]
    statistics: str
    missing: list[str]


def _of_results(run, results: pd.DataFrame, laws: pd.DataFrame) -> _Parts:
    """Returns the parts about what gradflow measured."""
    members = tables.nodes(run)
    one_seed = nonfinite.alone(members)
    shown = [
        _list("Data", settings(run).get("data", {})),
        table(results, f"{_RESULTS} {_ONE_SEED if one_seed else _OVER_SEEDS}"),
        table(_law_texts(laws), f"{_LAWS}{'' if one_seed else _WITH_INTERVALS}. {_SCORES}"),
    ]
    statistics = f"{_STATISTICS} {_ONE_SEED if one_seed else _INTERVALS} {_BEFORE}"
    return _Parts(shown, statistics, nonfinite.lines(members))


def _of_logs(run, results: pd.DataFrame, laws: pd.DataFrame) -> _Parts:
    """Returns the parts about norms that other tools logged."""
    shown = []
    for name, node in tables.nodes(run).items():
        shown.append(_list(f"Record of {name}", logs.facts(node)))
    shown.append(table(results, logs.RESULTS))
    shown.append(table(_law_texts(laws), f"{logs.LAWS} {_SCORES}"))
    missing = nonfinite.gaps(tables.nodes(run))
    return _Parts(shown, logs.STATISTICS, [missing] if missing else [])


_PREAMBLE = r"""\documentclass[10pt]{article}
\usepackage[utf8]{inputenc}
\usepackage[margin=2.2cm]{geometry}
\usepackage{graphicx,booktabs}
\setlength{\parindent}{0pt}\setlength{\parskip}{4pt}
\begin{document}"""

_RESULTS = (
    "Gradient at the bottom of the stack relative to the readout; log-gains of norms, forks and both over the "
    "whole stack, and of the final norm (nat; net and final norm add up to the logarithm of the first column); loss "
    "(nat)."
)
_OVER_SEEDS = "Geometric means for positive quantities, with 95% t-intervals over the n seeds that are finite."
_ONE_SEED = "Of one seed: there are no intervals."
_LAWS = "Laws of the stream gradient over stream positions l, relative to the top of the stack"
_WITH_INTERVALS = ", with 95% intervals of their exponents"
_SCORES = (
    "Score: mean squared misfit of the log of a seed left out (with one seed, AICc). Chosen: the law "
    "of fewest numbers that is not worse than the best; indistinguishable: not worse either; needless: not worse, but "
    "it imitates a simpler law."
)
_STATISTICS = (
    "A seed changes the weights at initialization, and weights and batches in training; "
    "models share both, seed by seed."
)
_INTERVALS = (
    "Intervals are Student-t intervals at 95% over seeds, of the mean of the logarithm for positive quantities (so geometric "
    "means, and no bound leaves the valid range)."
)
_BEFORE = "Gradients are recorded before clipping and before the optimizer."


def _at_steps(rows: pd.DataFrame, steps) -> pd.DataFrame:
    """Returns the rows of those steps, or all of them where there are no steps."""
    if not steps:
        return rows
    return rows[rows["step"].isin(steps)]


def _law_texts(laws: pd.DataFrame) -> pd.DataFrame:
    """Returns the laws' table as texts, without the columns that have an empty cell."""
    if laws.empty:
        return pd.DataFrame({"law": ["none could be fitted"]})
    kept = laws[["model", "step", "n", "sentence", "rms_misfit", "score", "verdict"]]
    kept = kept.assign(rms_misfit=laws["rms_misfit"].map(tables.digits), score=laws["score"].map(tables.digits))
    return kept.rename(columns={"sentence": "law", "rms_misfit": "rms misfit of the log"}).dropna(axis="columns")


def _assignments(configuration: dict) -> str:
    """Returns a line `name = value` for every entry that is no mapping."""
    lines = []
    for name, value in configuration.items():
        if not isinstance(value, dict):
            lines.append(f"{name} = {value}")
    return "\n".join(lines)


def _list(title: str, entries: dict) -> str:
    """Returns a paragraph of `name: value`; nothing where there are no entries."""
    if not entries:
        return ""
    items = [f"{latex(name)}: {_breakable(latex(value))}" for name, value in entries.items()]
    return rf"\paragraph{{{latex(title)}.}} {'; '.join(items)}."


def _breakable(text: str) -> str:
    """Returns the text with places in a hash where its line may be broken."""
    return re.sub("([0-9a-f]{16})", r"\1\\allowbreak{}", text)


def _flat(entries: dict) -> dict:
    """Returns the entries that are numbers or texts, and then the commits as text."""
    plain, commits = {}, {}
    for name, value in entries.items():
        if isinstance(value, dict) and "commit" in value:
            commits[name.replace("_", " ")] = _commit(value)
        elif not isinstance(value, dict | list) and name != "command":
            plain[name] = value
    return {**plain, **commits}


def _commit(value: dict) -> str:
    if not value["commit"]:
        return "no commit"
    state = "clean" if value["clean"] else "with uncommitted changes"
    return f"commit {value['commit'][:12]}, {state}"


def _quoted(title: str, text: str) -> str:
    """Returns a paragraph that quotes a text to the letter; nothing for an empty one."""
    quotation = verbatim(text)
    if not quotation:
        return ""
    return f"\\paragraph{{{latex(title)}.}}\n{quotation}"


def _quoted_list(title: str, sentences: list[str]) -> str:
    """Returns a paragraph of sentences; nothing where there are none."""
    if not sentences:
        return ""
    return rf"\paragraph{{{latex(title)}.}} {latex('. '.join(sentences))}."


def _figure(name: str, caption: str) -> str:
    width = r"\textwidth" if name == "comparison" else r"0.6\textwidth"
    return (
        f"\\begin{{figure}}[ht]\n\\centering\n\\includegraphics[width={width}]{{{{figures/{name}}}.pdf}}\n"
        f"\\caption{{{latex(caption)}}}\n\\end{{figure}}"
    )
