"""A reproducibility appendix as a LaTeX document: setting, results, figures, statistics, environment, command.

It compiles with pdflatex in the folder it is written to (packages: graphicx, booktabs, geometry).
"""

import re

import pandas as pd

from ...results.tree import settings
from .. import tables
from ..tables import fits, nonfinite
from . import captions
from .latex import latex, verbatim


def table(frame: pd.DataFrame, caption: str) -> str:
    """A booktabs table of a frame of texts."""
    rows = [" & ".join(map(latex, row)) + r" \\" for row in frame.itertuples(index=False)]
    head = " & ".join(latex(column.replace("_", " ")) for column in frame.columns) + r" \\"
    body = "\n".join([r"\toprule", head, r"\midrule", *rows, r"\bottomrule"])
    width = "l" * frame.shape[1]
    return (
        f"\\begin{{table}}[ht]\n\\centering\\scriptsize\\setlength{{\\tabcolsep}}{{3pt}}\n\\caption{{{latex(caption)}}}\n"
        f"\\begin{{tabular}}{{{width}}}\n{body}\n\\end{{tabular}}\n\\end{{table}}"
    )


def results_table(run, steps) -> pd.DataFrame:
    """One row a model and step: gradient at the bottom relative to the readout, budget, loss, as texts; `n` seeds are finite."""
    rows = []
    for name, node in tables.nodes(run).items():
        ends = tables.ends(node)
        for step in steps or (None,):
            at = {what: band if step is None else band.sel(step=step) for what, band in ends.items()}
            gains = {
                part: tables.interval(at["budget"].sel(part=part), tables.signed)
                for part in at["budget"]["part"].values
            }
            last = {"final norm": tables.interval(at["leave_gain"], tables.signed), "loss": tables.interval(at["loss"])}
            here = {} if step is None else {"step": step}
            here["n"] = int(at["bottom"]["n"])
            rows.append({"model": name, **here, "bottom / readout": tables.interval(at["bottom"]), **gains, **last})
    return pd.DataFrame(rows)


def document(run, figures: dict[str, str], *, steps, configuration: dict) -> str:
    """The whole document; `figures` is `{file name without its ending: caption}`, looked for in `figures/`."""
    origin = settings(run).get("provenance", {})
    blocks = [_figure(name, caption) for name, caption in figures.items()]
    laws = fits.law_rows(fits.law_choices(run, steps=(steps[0], steps[-1]) if steps else None))
    alone = nonfinite.alone(tables.nodes(run))
    plain = "\n".join(f"{k} = {v}" for k, v in configuration.items() if not isinstance(v, dict))
    parts = [
        _PREAMBLE,
        r"\section*{Reproducibility appendix: gradient flow}",
        _list("Setting", captions.setting(run)),
        _list("Data", settings(run).get("data", {})),
        table(results_table(run, steps), f"{_RESULTS} {_ALONE if alone else _OVER_SEEDS}"),
        table(_law_texts(laws), f"{_LAWS}{'.' if alone else ', with 95% intervals of their exponents.'} {_SCORES}"),
        *blocks,
        r"\paragraph{Statistics.} " + latex(f"{_STATISTICS} {_ALONE if alone else _INTERVALS} {_BEFORE}"),
        _quoted_list("What is not finite", nonfinite.lines(tables.nodes(run))),
        _list("Environment", {**_flat(origin), **_flat(origin.get("versions", {}))}),
        _quoted("Command", str(origin.get("command", ""))),
        _quoted("Configuration", plain),
        r"\end{document}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


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
_ALONE = "Of one seed: there are no intervals."
_LAWS = "Laws of the stream gradient over stream positions l, relative to the top of the stack"
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


def _law_texts(laws: pd.DataFrame) -> pd.DataFrame:
    if laws.empty:
        return pd.DataFrame({"law": ["none could be fitted"]})
    texts = {column: laws[column].map(tables.digits) for column in ("rms_misfit", "score")}
    kept = laws.assign(**texts)[["model", "step", "n", "sentence", "rms_misfit", "score", "verdict"]]
    return kept.rename(columns={"sentence": "law", "rms_misfit": "rms misfit of the log"}).dropna(axis="columns")


def _list(title: str, entries: dict) -> str:
    breakable = lambda value: re.sub("([0-9a-f]{16})", r"\1\\allowbreak{}", latex(value))
    items = "; ".join(f"{latex(k)}: {breakable(v)}" for k, v in entries.items())
    return rf"\paragraph{{{latex(title)}.}} {items}." if items else ""


def _flat(entries: dict) -> dict:
    """Entries with scalar values, and commits in words."""
    words = {
        name: value for name, value in entries.items() if not isinstance(value, (dict, list)) and name != "command"
    }
    commits = {name: value for name, value in entries.items() if isinstance(value, dict) and "commit" in value}
    return {**words, **{name.replace("_", " "): _commit(value) for name, value in commits.items()}}


def _commit(value: dict) -> str:
    if not value["commit"]:
        return "no commit"
    return f"commit {value['commit'][:12]}, {'clean' if value['clean'] else 'with uncommitted changes'}"


def _quoted(title: str, text: str) -> str:
    return f"\\paragraph{{{latex(title)}.}}\n{quoted}" if (quoted := verbatim(text)) else ""


def _quoted_list(title: str, sentences: list[str]) -> str:
    return rf"\paragraph{{{latex(title)}.}} {latex('. '.join(sentences))}." if sentences else ""


def _figure(name: str, caption: str) -> str:
    width = r"\textwidth" if name == "comparison" else r"0.6\textwidth"
    return (
        f"\\begin{{figure}}[ht]\n\\centering\n\\includegraphics[width={width}]{{{{figures/{name}}}.pdf}}\n"
        f"\\caption{{{latex(caption)}}}\n\\end{{figure}}"
    )
