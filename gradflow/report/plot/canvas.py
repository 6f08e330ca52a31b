"""What figures are drawn on and with: style, venue widths, colours, curves with bands, and the files they become.

Colours (Okabe and Ito 2008) tell models apart, lightness tells steps apart: the last step is the strongest. Attention
positions are filled circles, feed-forward ones open squares. A finished Axes carries its caption as its label.
"""

import csv
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import NoneType
from typing import Any, ParamSpec, TypeVar

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from ...results.arguments import answering, known, of_class, open_ended, real, shown
from ...results.files import as_path
from ...results.tree import dimensions

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
PARTS = {"norm": "#CC79A7", "fork": "#009E73", "net": "#333333"}
MARKERS = {"attention": ("o", True), "mlp": ("s", False)}
# Width of the text, or of a column, in inches.
WIDTHS = {"neurips": 5.5, "iclr": 5.5, "icml": 6.75, "icml-column": 3.25, "acl": 6.3, "acl-column": 3.03, "jmlr": 6.0}
LARGEST = 100  # inches of a figure
STYLE: dict[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
    "text.usetex": False,  # names and formulas are written for matplotlib's own text
}
ACROSS = 66  # characters of a legend beside each other; a wider one would leave its axis no room
ENDINGS = (".pdf", ".png", ".csv")
_THIN_SPACE = "\u2009"

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """`draw` under the style of a paper's figure, whatever the caller's matplotlib is set to.

    An option that it doesn't take is refused by its name; where it takes any, they are the dimensions of its tree.

    Sets and restores these settings alone: `rc_context` restores all, also what a notebook's backend, chosen when the
    first figure is made, has just set, and later figures would not be shown.
    """

    @answering(further=dimensions if open_ended(draw) else None)
    @wraps(draw)
    def with_style(*args: P.args, **options: P.kwargs) -> R:
        settings: Any = plt.rcParams
        before = {name: settings[name] for name in STYLE}
        settings.update(STYLE)
        try:
            drawn = draw(*args, **options)
            if before["text.usetex"]:
                _without_tex(drawn)
            return drawn
        finally:
            settings.update(before)

    return with_style


def _without_tex(drawn) -> None:
    """Sets the texts of a drawing by matplotlib, also those of ticks, which are made when they are first asked for."""
    artists = drawn if isinstance(drawn, (tuple, list)) else [drawn]
    for artist in artists:
        for ax in _axes_of(artist):
            ax.get_xticklabels(which="both"), ax.get_yticklabels(which="both")
        for text in artist.findobj(Text) if isinstance(artist, Artist) else []:
            text.set_usetex(False)


def _axes_of(artist) -> list[Axes]:
    """The axes of a figure, or the one that it is itself."""
    if isinstance(artist, Figure):
        return artist.axes
    return [artist] if isinstance(artist, Axes) else []


@styled
def figure(width: str | float = "icml-column", height: float | None = None) -> tuple[Figure, Axes]:
    """An empty figure at a venue's width (`WIDTHS`, or inches) and its Axes; 0.72 as high as wide unless told."""
    across = inches(width)
    high = 0.72 * across if height is None else real("height", height, above=0, most=LARGEST)
    return plt.subplots(figsize=(across, high), layout="constrained")


def inches(width: str | float) -> float:
    """A venue's width, or a number of inches, in inches."""
    return (
        WIDTHS[known("width", width, WIDTHS)] if isinstance(width, str) else real("width", width, above=0, most=LARGEST)
    )


def axes(ax: Axes | None) -> Axes:
    """`ax`, or that of a new figure."""
    if not isinstance(ax, Axes | NoneType):
        raise TypeError(f"ax is {shown(ax)}: matplotlib's Axes are needed, plt.subplots()[1]")
    return figure()[1] if ax is None else ax


def colours(names) -> dict[str, str]:
    """One colour a model, by its place in the tree."""
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}


def faded(colour: str, strength: float):
    """The colour mixed with white; 1 leaves it as it is."""
    return tuple(1 - strength * (1 - channel) for channel in to_rgb(colour))


def darker(colour):
    """The colour mixed with black, for a line over a band of the same colour."""
    return tuple(0.6 * channel for channel in to_rgb(colour))


def by(table: pd.DataFrame, column: str):
    """`(name, rows)` for every name in a column, in order of appearance."""
    for name, rows in table.groupby(column, sort=False):
        yield str(name), rows


def curves(table: pd.DataFrame):
    """`(model, step, rows, strength of the colour)` of every curve in a table; the last step is the strongest."""
    steps = list(dict.fromkeys(table["step"])) if "step" in table else [None]
    strength = dict(zip(steps, np.linspace(1, 0.3, len(steps))[::-1] if len(steps) > 1 else [1.0], strict=True))
    for name, rows in by(table, "model"):
        for step in steps:
            yield name, step, rows if step is None else rows[rows["step"] == step], strength[step]


def curve(ax: Axes, rows: pd.DataFrame, x: str, colour, label: str, **style) -> None:
    """One line with its band, and markers by kind of sublayer where the rows have it; a label says where nothing is finite."""
    there = np.isfinite(rows["mean"]).any()
    ax.plot(rows[x], rows["mean"], color=colour, label=label if there else f"{label}: not finite", **style)
    ax.fill_between(rows[x], rows["low"], rows["high"], color=colour, alpha=0.18, linewidth=0)
    if "kind" not in rows:
        return
    for kind, (marker, filled) in MARKERS.items():
        there = rows[rows["kind"] == kind]
        ax.plot(there[x], there["mean"], marker, color=colour, mfc=colour if filled else "white", ms=2.5, mew=0.7)


def law(ax: Axes, laws: pd.DataFrame | None, name: str, step, x: str, colour) -> str:
    """`: ` and the law of one model and step in words, drawn as a thin dashed line; nothing where there is none."""
    if laws is None:
        return ""
    rows = laws[(laws["model"] == name) & (laws["step"].isna() if step is None else laws["step"] == step)]
    if rows.empty:
        return ""
    ax.plot(rows[x], rows["mean"], "--", color=colour, linewidth=0.7)
    return f": {rows['told'].iloc[0]}"


def folded(label: str) -> str:
    """`label`, on two lines where a column of a page is too narrow for one."""
    return label.replace(" (or ", "\n(or ") if len(label) > 48 else label


def legend(name) -> str:
    r"""A name as matplotlib writes it: no mathematics in it, not hidden for its first `_`, in one line, in letters the font has.

    >>> legend("costs $1 or $2")
    'costs \\$1 or \\$2'
    """
    font = get_font(findfont(FontProperties()))
    shown = "".join(c if font.get_char_index(ord(c)) else f"U+{ord(c):04X}" for c in " ".join(str(name).split()))
    visible = _THIN_SPACE + shown if shown.startswith("_") else shown
    return visible.replace("$", r"\$")


def naming(name: str, step) -> str:
    """What a curve is called in the legend."""
    return legend(name) if step is None else f"{legend(name)}, step {step}"


def scale(ax: Axes, positive: bool, reference: float | None) -> None:
    """Log axis for what is positive; a thin line at the value that means "unchanged", where there is one."""
    if positive:
        ax.set_yscale("log")
    if reference is not None:
        ax.axhline(reference, color="0.6", linewidth=0.6, zorder=0)


def over(ax: Axes, what: str) -> None:
    """Names the axis over depth, on which only whole numbers are places."""
    ax.set_xlabel(f"{what} (input → output)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def over_steps(ax: Axes, steps: pd.Series) -> None:
    """Makes the horizontal axis one of training steps: linear below step 1, then logarithmic."""
    ticks = [step for step in (0, 1, 10, 100, 1000, 10_000, 100_000) if step <= steps.max()]
    ax.set_xscale("symlog", linthresh=1)
    ax.set_xticks(ticks, [str(step) for step in ticks])
    ax.set_xlabel("training step")


def over_total_depth(ax: Axes, depths: pd.Series) -> None:
    """Makes both axes logarithmic, and the horizontal one of numbers of blocks, a tick at each."""
    ticks = sorted(set(depths))
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(ticks, [str(depth) for depth in ticks], minor=False)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("number of blocks")


def legend_above(ax: Axes, columns: int) -> None:
    """A legend at the top, in room made for it: no curve lies under it, also where axes share a scale.

    Axes that nothing could be drawn on say so.
    """
    labels = ax.get_legend_handles_labels()[1]
    if not labels:
        ax.text(0.5, 0.5, "not finite", transform=ax.transAxes, ha="center")
        return
    ax.set_autoscaley_on(True)
    ax.autoscale_view(scalex=False)
    low, high = ax.get_ylim()
    longest = max(len(line) for label in labels for line in label.split("\n"))
    columns = max(1, min(columns, ACROSS // max(longest, 1)))
    rows = -(-sum(1 + label.count("\n") for label in labels) // columns)
    share = 0.13 * rows + 0.03
    log = ax.get_yscale() == "log"
    ax.set_ylim(low, high * (high / low) ** share if log else high + share * (high - low))
    if log and high < 100 * low:
        plain_ticks(ax.yaxis)
    tight = {"handlelength": 1.2, "handletextpad": 0.5, "columnspacing": 0.8}  # fits a journal's column
    wide = {"handlelength": 2.0, "columnspacing": 1.2}
    ax.legend(loc="upper center", ncols=columns, **(wide if columns < 3 else tight))


def plain_ticks(axis: Axis) -> None:
    """Ticks at 1, 2 and 5 times powers of ten, or closer ones, written out: for a log axis of two decades or less."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 3 * low else MaxNLocator(4, steps=(1, 2, 5, 10)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


@styled
def save(drawn: Figure | Axes, path: str | Path, table: pd.DataFrame) -> list[Path]:
    """`path` with .pdf, .png and .csv: the picture, and the table it was drawn from; the caption is in all three.

    One of these endings may be there already; other dots belong to the name.
    """
    of_class("drawn", drawn, Figure | Axes)
    of_class("table", table, pd.DataFrame)
    whole: Any = drawn if isinstance(drawn, Figure) else drawn.figure
    path, caption = as_path(path), " ".join(str(drawn.get_label()).split())
    name = path.name[: -len(path.suffix)] if path.suffix in ENDINGS else path.name
    files = [path.with_name(name + ending) for ending in ENDINGS]
    whole.savefig(files[0], metadata={"Subject": caption, "CreationDate": None})
    whole.savefig(files[1], metadata={"Description": caption})
    rows = table.to_csv(index=False)
    if "#" in rows:  # in quotes it begins no comment
        rows = table.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC)
    files[2].write_text(f"# {caption}\n{rows}", encoding="utf-8")
    return files
