"""A reproducibility appendix as a LaTeX document: setting, results, figures, statistics, environment, command.

It compiles with pdflatex in the folder it is written to (packages: graphicx, booktabs, geometry).
"""

import re
import textwrap

import pandas as pd

from ..results.tree import settings
from . import captions, tables

# What captions and formulas use, in LaTeX; everything else is ASCII or Latin-1.
_SYMBOLS = {
    "‖": r"$\|$",
    "∂": r"$\partial$",
    "√": r"$\surd$",
    "Σ": r"$\Sigma$",
    "⟨": r"$\langle$",
    "⟩": r"$\rangle$",
    "σ": r"$\sigma$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "λ": r"$\lambda$",
    "→": r"$\to$",
    "≠": r"$\neq$",
    "−": r"$-$",
    "·": r"$\cdot$",
    "±": r"$\pm$",
    "²": r"$^2$",
    "ᵀ": r"$^{\mathsf T}$",
    "⊙": r"$\odot$",
    "…": r"\dots{}",
    "×": r"$\times$",
    "µ": r"$\mu$",
    "’": "'",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
}
_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_SPECIAL |= {character: "\\" + character for character in "&%$#_{}"}
_TABLE = str.maketrans(_SPECIAL | _SYMBOLS)


def escaped(text) -> str:
    """`text` for LaTeX: special characters escaped, symbols as mathematics, what is left beyond ASCII as `?`."""
    return str(text).translate(_TABLE).encode("ascii", "replace").decode()


def table(frame: pd.DataFrame, caption: str) -> str:
    """A booktabs table of a frame of texts."""
    rows = [" & ".join(map(escaped, row)) + r" \\" for row in frame.itertuples(index=False)]
    head = " & ".join(escaped(column.replace("_", " ")) for column in frame.columns) + r" \\"
    body = "\n".join([r"\toprule", head, r"\midrule", *rows, r"\bottomrule"])
    width = "l" * frame.shape[1]
    return (
        f"\\begin{{table}}[ht]\n\\centering\\scriptsize\\setlength{{\\tabcolsep}}{{3pt}}\n\\caption{{{escaped(caption)}}}\n"
        f"\\begin{{tabular}}{{{width}}}\n{body}\n\\end{{tabular}}\n\\end{{table}}"
    )


def results_table(run, steps) -> pd.DataFrame:
    """One row a model and step: gradient at the bottom relative to the readout, budget, loss, as texts."""
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
            rows.append({"model": name, **here, "bottom / readout": tables.interval(at["bottom"]), **gains, **last})
    return pd.DataFrame(rows)


def document(run, figures: dict[str, str], *, steps, configuration: dict) -> str:
    """The whole document; `figures` is `{file name without ending: caption}`, looked for in `figures/`."""
    origin = settings(run).get("provenance", {})
    blocks = [_figure(name, caption) for name, caption in figures.items()]
    laws = tables.law_rows(tables.law_choices(run, steps=(steps[0], steps[-1]) if steps else None))
    shown = results_table(run, steps)
    parts = [
        _PREAMBLE,
        r"\section*{Reproducibility appendix: gradient flow}",
        _list("Setting", captions.setting(run)),
        _list("Data", settings(run).get("data", {})),
        table(
            shown,
            "Gradient at the bottom of the stack relative to the readout; log-gains of norms, forks and both over the "
            "whole stack, and of the final norm (nat; net and final norm add up to the logarithm of the first column); loss "
            "(nat). Geometric means for positive quantities, with 95% t-intervals over seeds.",
        ),
        table(
            _law_texts(laws),
            "Laws of the stream gradient over stream positions l, relative to the top of the stack, with 95% intervals of "
            "their exponents. Score: mean squared misfit of the log of a seed left out (with one seed, AICc). Chosen: the law "
            "of fewest numbers that is not worse than the best; indistinguishable: not worse either; needless: not worse, but "
            "it imitates a simpler law.",
        ),
        *blocks,
        r"\paragraph{Statistics.} " + escaped(_STATISTICS),
        _list("Environment", {**_flat(origin), **_flat(origin.get("versions", {}))}),
        _verbatim("Command", origin.get("command", "")),
        _verbatim(
            "Configuration", "\n".join(f"{k} = {v}" for k, v in configuration.items() if not isinstance(v, dict))
        ),
        r"\end{document}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


_PREAMBLE = r"""\documentclass[10pt]{article}
\usepackage[margin=2.2cm]{geometry}
\usepackage{graphicx,booktabs}
\setlength{\parindent}{0pt}\setlength{\parskip}{4pt}
\begin{document}"""

_STATISTICS = (
    "A seed changes the weights at initialization, and weights and batches in training; models share both, seed by seed. "
    "Intervals are Student-t intervals at 95% over seeds, of the mean of the logarithm for positive quantities (so geometric "
    "means, and no bound leaves the valid range). Gradients are recorded before clipping and before the optimizer."
)


def _law_texts(laws: pd.DataFrame) -> pd.DataFrame:
    if laws.empty:
        return pd.DataFrame({"law": ["none could be fitted"]})
    texts = {column: laws[column].map(tables.digits) for column in ("rms_misfit", "score")}
    kept = laws.assign(**texts)[["model", "step", "sentence", "rms_misfit", "score", "verdict"]]
    return kept.rename(columns={"sentence": "law", "rms_misfit": "rms misfit of the log"}).dropna(axis="columns")


def _list(title: str, entries: dict) -> str:
    breakable = lambda value: re.sub("([0-9a-f]{16})", r"\1\\allowbreak{}", escaped(value))
    items = "; ".join(f"{escaped(k)}: {breakable(v)}" for k, v in entries.items())
    return rf"\paragraph{{{escaped(title)}.}} {items}." if items else ""


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


def _verbatim(title: str, text: str) -> str:
    lines = [line for row in text.splitlines() for line in textwrap.wrap(row, 88) or [""]]
    plain = "\n".join(lines).encode("ascii", "replace").decode()
    return f"\\paragraph{{{title}.}}\n\\begin{{verbatim}}\n{plain}\n\\end{{verbatim}}" if plain else ""


def _figure(name: str, caption: str) -> str:
    width = r"\textwidth" if name == "comparison" else r"0.6\textwidth"
    return (
        f"\\begin{{figure}}[ht]\n\\centering\n\\includegraphics[width={width}]{{figures/{name}.pdf}}\n"
        f"\\caption{{{escaped(caption)}}}\n\\end{{figure}}"
    )
