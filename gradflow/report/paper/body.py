r"""`body.tex`, which any class includes, and `appendix.tex`, which compiles by itself: results, laws, figures, statistics, cost.

A paper says once where the bundle lies and includes it, in one column or two:

    \usepackage{amsmath,amssymb,array,booktabs,graphicx,siunitx,tabularx}
    \newcommand{\gradflowpath}{gradflow-compare}
    \input{\gradflowpath/body}

Everything is as wide as the text around it; figures and tables have labels, `fig:gf-…` and `tab:gf-…`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from .. import tables
from ..tables import nonfinite, numbers
from ..text import captions, logs
from . import formulas
from .latex import breakable, latex, quoted

ROWS = 40  # of a table on a page
PACKAGES = "amsmath,amssymb,array,booktabs,graphicx,siunitx,tabularx"
WIDE = ("comparison", "atlas")  # figures across all columns
CELL = r">{\raggedright\arraybackslash}X"
HEAD = rf"""% Included by a paper of any class, in one column or two. In its preamble:
%   \usepackage{{{PACKAGES}}}
%   \newcommand{{\gradflowpath}}{{the folder of this file, seen from the paper's}}
\providecommand{{\gradflowpath}}{{.}}%
\ifdefined\extrafloats\extrafloats{{200}}\fi
\input{{\gradflowpath/numbers}}%"""
APPENDIX = rf"""\documentclass[10pt]{{article}}
\usepackage[utf8]{{inputenc}}
\usepackage[margin=2.2cm]{{geometry}}
\usepackage{{{PACKAGES}}}
\setlength{{\parindent}}{{0pt}}\setlength{{\parskip}}{{4pt}}
\begin{{document}}

\section*{{Reproducibility appendix: gradient flow}}

\input{{body}}

\bibliographystyle{{plain}}
\bibliography{{gradflow}}
\end{{document}}
"""

_RESULTS = (
    "Gradient at the bottom of the stack relative to the readout; log-gains of norms, forks and both over the "
    "whole stack, and of the final norm (nat; net and final norm add up to the logarithm of the first); loss (nat)."
)
_OVER_SEEDS = "Geometric means for positive quantities, with 95% t-intervals over the seeds that are finite."
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
    "means, and no bound leaves the valid range). Lines in figures are these means, and bands these intervals."
)
_BEFORE = "Gradients are recorded before clipping and before the optimizer."


class Material(NamedTuple):
    """What the body is made of: the trees, the run first; tables by name, captions by figure, and works by what is cited."""

    trees: Sequence[Any]
    frames: Mapping[str, pd.DataFrame]
    captions: Mapping[str, str]
    cited: Mapping[str, Sequence[str]]
    command: str

    @property
    def run(self) -> Any:
        """What was trained or measured."""
        return self.trees[0]


def document(material: Material) -> str:
    """Returns the text of `body.tex`."""
    run = material.run
    parts = [HEAD, *_sources(material.cited)]
    if tables.are_logs(run):
        parts += _of_logs(material)
    else:
        parts += _of_results(material)
    said_once = [*_settings(material.trees), captions.BANDS, captions.LINES, captions.ALONE]
    for name, caption in material.captions.items():
        parts.append(figure(name, _without(caption, said_once)))
    parts.append(r"\input{\gradflowpath/hyperparameters}")
    command = quoted(material.command)
    if command:
        parts.append(f"\\paragraph{{Command.}}\n{command}")
    return "\n\n".join(filter(None, parts)) + "\n"


def _of_results(material: Material) -> list[str]:
    """Returns the tables and paragraphs about what gradflow measured."""
    if "results" not in material.frames:
        return [paragraph("Statistics", _STATISTICS)]
    members = tables.nodes(material.run)
    steps = tables.shown_steps(material.run)
    averages, intervals, exponents = _OVER_SEEDS, _INTERVALS, _WITH_INTERVALS
    if nonfinite.alone(members):
        averages, intervals, exponents = _ONE_SEED, _ONE_SEED, ""
    return [
        *results_tables(_at(material.frames["results"], steps), f"{_RESULTS} {averages}"),
        *law_tables(_at(material.frames["laws"], [*steps[:1], *steps[-1:]]), f"{_LAWS}{exponents}. {_SCORES}"),
        paragraph("Statistics", f"{_STATISTICS} {intervals} {_BEFORE}"),
        paragraph("What is not finite", ". ".join(nonfinite.lines(members))),
    ]


def _of_logs(material: Material) -> list[str]:
    """Returns the tables and paragraphs about norms that other tools logged."""
    members = tables.nodes(material.run)
    steps = logs.steps_of(material.run)
    records = []
    for name, node in members.items():
        facts = "; ".join(f"{what}: {text}" for what, text in logs.facts(node).items())
        records.append(paragraph(f"Record of {name}", facts))
    return [
        *records,
        *results_tables(_at(material.frames["results"], steps), logs.RESULTS),
        *law_tables(material.frames["laws"], f"{logs.LAWS} {_SCORES}"),
        paragraph("Statistics", logs.STATISTICS),
        paragraph("What is not finite", nonfinite.gaps(members)),
    ]


def _at(frame: pd.DataFrame, steps: Sequence[int]) -> pd.DataFrame:
    """Returns the rows of those steps, or all of them where there are no steps."""
    if not steps or "step" not in frame:
        return frame
    return frame[frame["step"].isin(steps)]


def _sources(cited: Mapping[str, Sequence[str]]) -> list[str]:
    """Returns the paragraph that cites each wiring, optimizer and tool."""
    sentences = [rf"{latex(name)} \cite{{{','.join(keys)}}}" for name, keys in cited.items() if keys]
    if not sentences:
        return []
    return [rf"\paragraph{{Sources.}} {'; '.join(sentences)}."]


def paragraph(title: str, text: str) -> str:
    """Returns a paragraph with its title; nothing for no text."""
    if not text:
        return ""
    return rf"\paragraph{{{latex(title)}.}} {breakable(formulas.typeset(text.rstrip('.')))}."


def _settings(trees: Iterable[Any]) -> list[str]:
    """Returns the sentences on the conditions that captions may have: of each tree and each model, the longest first."""
    sentences = set()
    for tree in trees:
        for part in (tree, *tables.nodes(tree).values()):
            sentences.add(captions.sentence(captions.setting(part)))
    return sorted(sentences, key=len, reverse=True)


def _without(caption: str, sentences: Iterable[str]) -> str:
    """Returns a caption without what the page says once: the conditions of the measurement, and what lines and bands are."""
    for sentence in sentences:
        caption = caption.replace(sentence, "")
    return " ".join(caption.split())


def figure(name: str, caption: str) -> str:
    r"""Returns a figure, a column wide, or across all columns; never larger than it was drawn for a column of 3.25 inches.

    The macro `\gradflowpath` is where the bundle lies.
    """
    floating, width = "figure", r"\ifdim\linewidth>3.6in 3.6in\else\linewidth\fi"
    if name in WIDE:
        floating, width = "figure*", r"\linewidth"
    return (
        f"\\begin{{{floating}}}[htbp]\n\\centering\\emergencystretch=2em\n"
        f"\\includegraphics[width={width}]{{\\gradflowpath/figures/{name}.pdf}}\n"
        f"\\caption{{{formulas.typeset(caption)}}}\\label{{fig:gf-{name}}}\n\\end{{{floating}}}"
    )


def results_tables(frame: pd.DataFrame, caption: str) -> list[str]:
    """Returns the results as tables of at most `ROWS` rows: a row a number, grouped by model and quantity."""
    head = Head(("quantity", "step", "mean and interval"), (CELL, "r", "l"), frame)
    groups = []
    for model, rows in frame.groupby("model", sort=False):
        lines = [head.of_group(model)]
        last = None
        for row in rows.to_dict("records"):
            quantity = formulas.typeset(row["quantity"])
            if row["quantity"] == last:
                quantity = ""
            last = row["quantity"]
            lines.append(head.row(row, quantity=quantity, number=formulas.interval(row, numbers.shown(last))))
        groups.append(lines)
    return _paged("results", groups, head, caption)


def law_tables(frame: pd.DataFrame, caption: str) -> list[str]:
    """Returns the laws as tables of at most `ROWS` rows: law, misfit, score and verdict, grouped by model."""
    if frame.empty:
        return [paragraph("Laws", "None could be fitted")]
    head = Head(("step", "law", "rms misfit", "score", "verdict"), ("r", CELL, "l", "l", "l"), frame)
    groups = []
    for model, rows in frame.groupby("model", sort=False):
        lines = [head.of_group(model)]
        for row in rows.to_dict("records"):
            cells = {"law": formulas.law(row["sentence"])}
            for number in ("rms_misfit", "score"):
                cells[number] = formulas.number(tables.digits(row[number]))
            lines.append(head.row(row, **cells, verdict=latex(row["verdict"])))
        groups.append(lines)
    return _paged("laws", groups, head, caption)


class Head:
    """The columns of a table: titles and kinds; without the one of steps where the rows have none."""

    def __init__(self, titles: Sequence[str], kinds: Sequence[str], frame: pd.DataFrame):
        self.at = titles.index("step")
        self.has_steps = "step" in frame and bool(frame["step"].notna().any())
        self.titles, self.kinds = list(titles), list(kinds)
        if not self.has_steps:
            del self.titles[self.at], self.kinds[self.at]

    def row(self, row: Mapping, **cells: str) -> str:
        """Returns a row of cells, with its step in its place."""
        written = list(cells.values())
        if self.has_steps:
            written.insert(self.at, str(int(row["step"])))
        return _row(written)

    def of_group(self, model) -> str:
        """Returns the row that names a model."""
        return rf"\multicolumn{{{len(self.titles)}}}{{@{{}}l@{{}}}}{{\textit{{{latex(model)}}}}} \\"


def _row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _paged(label: str, groups: list[list[str]], head: Head, caption: str) -> list[str]:
    """Returns groups of rows as tables, as many groups on each as it has room for; the first alone has the caption in full."""
    pages: list[list[list[str]]] = [[]]
    for group in groups:
        if pages[-1] and sum(map(len, pages[-1])) + len(group) > ROWS:
            pages.append([])
        pages[-1].append(group)
    first, *others = pages
    written = [_table(label, first, head, caption)]
    for i, page in enumerate(others, start=2):
        written.append(_table(f"{label}-{i}", page, head, f"Continued from the first table of {label}."))
    return written


def _table(label: str, groups: list[list[str]], head: Head, caption: str) -> str:
    """Returns one table, as wide as the text around it."""
    body = "\n\\midrule\n".join("\n".join(lines) for lines in groups)
    columns = f"@{{}}{''.join(head.kinds)}@{{}}"
    return (
        f"\\begin{{table}}[htbp]\n\\centering\\scriptsize\\setlength{{\\tabcolsep}}{{3pt}}\\emergencystretch=2em\n"
        f"\\caption{{{formulas.typeset(caption)}}}\\label{{tab:gf-{label}}}\\par\\smallskip\n"
        f"\\begin{{tabularx}}{{\\linewidth}}{{{columns}}}\n\\toprule\n{_row(head.titles)}\n\\midrule\n{body}\n"
        f"\\bottomrule\n\\end{{tabularx}}\n\\end{{table}}"
    )
