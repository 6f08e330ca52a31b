"""What figures are drawn on: their style, venue widths and colours, names as matplotlib writes them, and the files they become.

Colours (Okabe and Ito 2008) tell models apart, lightness tells steps apart: the last step is the strongest. A finished Axes
carries its caption as its label.
"""

import csv
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import NoneType
from typing import Any, ParamSpec, TypeVar

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text

from ...results.arguments import answering, known, of_class, open_ended, real, shown
from ...results.files import as_path
from ...results.tree import dimensions

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
PARTS = {"norm": "#CC79A7", "fork": "#009E73", "net": "#333333"}
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
ENDINGS = (".pdf", ".png", ".csv")
_THIN_SPACE = "\u2009"

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Returns `draw` under the style of a paper's figure, whatever the caller's matplotlib is set to.

    An unknown option is refused by its name; where `draw` takes any option, the names are the dimensions of its tree.

    Sets and restores these settings alone: `rc_context` restores all, also what a notebook's backend, chosen when the
    first figure is made, has just set, and later figures would not be shown.
    """
    further = dimensions if open_ended(draw) else None

    @answering(further=further)
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
        if not isinstance(artist, Artist):
            continue
        for ax in _axes_of(artist):
            ax.get_xticklabels(which="both")
            ax.get_yticklabels(which="both")
        for text in artist.findobj(Text):
            text.set_usetex(False)


def _axes_of(artist: Artist) -> list[Axes]:
    """Returns the axes of a figure, or the one that the artist is itself."""
    if isinstance(artist, Figure):
        return artist.axes
    if isinstance(artist, Axes):
        return [artist]
    return []


@styled
def figure(width: str | float = "icml-column", height: float | None = None) -> tuple[Figure, Axes]:
    """Returns an empty figure at a venue's width (`WIDTHS`, or inches) and its Axes; by default 0.72 as high as wide."""
    across = inches(width)
    if height is None:
        high = 0.72 * across
    else:
        high = real("height", height, above=0, most=LARGEST)
    return plt.subplots(figsize=(across, high), layout="constrained")


def inches(width: str | float) -> float:
    """Returns a venue's width, or a number of inches, in inches."""
    if isinstance(width, str):
        return WIDTHS[known("width", width, WIDTHS)]
    return real("width", width, above=0, most=LARGEST)


def axes(ax: Axes | None) -> Axes:
    """Returns `ax`, or the Axes of a new figure where it is None."""
    if not isinstance(ax, Axes | NoneType):
        raise TypeError(f"ax is {shown(ax)}: matplotlib's Axes are needed, plt.subplots()[1]")
    if ax is None:
        return figure()[1]
    return ax


def colours(names) -> dict[str, str]:
    """Returns one colour a model, by its place in the tree."""
    palette = {}
    for i, name in enumerate(names):
        palette[name] = COLOURS[i % len(COLOURS)]
    return palette


def faded(colour: str, strength: float) -> tuple:
    """Returns the colour mixed with white; at strength 1 it is unchanged."""
    red, green, blue = to_rgb(colour)
    return 1 - strength * (1 - red), 1 - strength * (1 - green), 1 - strength * (1 - blue)


def darker(colour) -> tuple:
    """Returns the colour mixed with black, for a line over a band of the same colour."""
    red, green, blue = to_rgb(colour)
    return 0.6 * red, 0.6 * green, 0.6 * blue


def legend(name) -> str:
    r"""Returns a name as matplotlib writes it: in one line, without mathematics, in letters that the font has.

    A name that begins with `_`, which matplotlib hides from a legend, gets a thin space in front.

    >>> legend("costs $1 or $2")
    'costs \\$1 or \\$2'
    """
    font = get_font(findfont(FontProperties()))
    written = ""
    for character in " ".join(str(name).split()):
        if font.get_char_index(ord(character)):
            written += character
        else:
            written += f"U+{ord(character):04X}"
    if written.startswith("_"):
        written = _THIN_SPACE + written
    return written.replace("$", r"\$")


def naming(name: str, step) -> str:
    """Returns what a curve is called in the legend: its model, and its step where there are steps."""
    if step is None:
        return legend(name)
    return f"{legend(name)}, step {step}"


@styled
def save(drawn: Figure | Axes, path: str | Path, table: pd.DataFrame) -> list[Path]:
    """Writes `path` with .pdf, .png and .csv: the picture, and its table; the caption is in all three. Returns the paths.

    One of these endings may be there already; other dots belong to the name.
    """
    of_class("drawn", drawn, Figure | Axes)
    of_class("table", table, pd.DataFrame)
    whole: Any = drawn if isinstance(drawn, Figure) else drawn.figure
    caption = " ".join(str(drawn.get_label()).split())
    path = as_path(path)
    name = path.name
    if path.suffix in ENDINGS:
        name = path.name[: -len(path.suffix)]
    pdf, png, text = [path.with_name(name + ending) for ending in ENDINGS]
    whole.savefig(pdf, metadata={"Subject": caption, "CreationDate": None})
    whole.savefig(png, metadata={"Description": caption})
    rows = table.to_csv(index=False)
    if "#" in rows:  # in quotes it begins no comment
        rows = table.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC)
    text.write_text(f"# {caption}\n{rows}", encoding="utf-8")
    return [pdf, png, text]
