"""What figures are drawn on: their style, venue widths and colours, and names as matplotlib writes them.

Colours (Okabe and Ito 2008) tell models apart, lightness tells steps apart: the last step is the strongest. A finished Axes
carries its caption as its label.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from types import NoneType
from typing import Any, ParamSpec, TypeVar

import matplotlib.pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text

from ...results.arguments import answering, known, open_ended, real, shown
from ...results.tree import dimensions
from .setting import FURTHER, WIDTH

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
PARTS = {"norm": "#CC79A7", "fork": "#009E73", "net": "#333333"}
# Width of the text, or of a column, in inches.
WIDTHS = {"neurips": 5.5, "iclr": 5.5, "icml": 6.75, "icml-column": 3.25, "acl": 6.3, "acl-column": 3.03, "jmlr": 6.0}
COLUMN = "icml-column"
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
_THIN_SPACE = "\u2009"

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Returns `draw` under the style of a paper's figure, but for what the caller's matplotlib is set to.

    A bundle is drawn under the style alone, and that of its record: its pictures don't hang on who writes it.

    An unknown option is refused by its name; where `draw` takes any option, the names are the dimensions of its tree.

    Sets and restores these settings alone: `rc_context` restores all, also what a notebook's backend, chosen when the
    first figure is made, has just set, and later figures would not be shown.
    """
    further = dimensions if open_ended(draw) else None

    @answering(further=further)
    @wraps(draw)
    def with_style(*args: P.args, **options: P.kwargs) -> R:
        settings: Any = plt.rcParams
        style = _style(settings)
        before = {name: settings[name] for name in style}
        settings.update(style)
        try:
            drawn = draw(*args, **options)
            if before["text.usetex"]:
                _without_tex(drawn)
            return drawn
        finally:
            settings.update(before)

    return with_style


def _style(settings) -> dict[str, Any]:
    """Returns the settings to draw with: ours, but for what the caller has set; in a bundle its record's."""
    further = FURTHER.get()
    if further is not None:
        return {**STYLE, **further}
    style = {}
    defaults: Any = plt.rcParamsDefault
    for name, value in STYLE.items():
        if name == "text.usetex" or settings[name] == defaults[name]:
            style[name] = value
    return style


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


def checked_width(width: str | float | None) -> str | float | None:
    """Returns a venue's name, or a number of inches; None for None.

    Errors: ValueError for anything else.
    """
    if width is None:
        return None
    if isinstance(width, str) and width not in WIDTHS:
        with suppress(ValueError):
            width = float(width)
    inches(width)
    return width


@styled
def figure(width: str | float | None = None, height: float | None = None) -> tuple[Figure, Axes]:
    """Returns an empty figure at a venue's width (`WIDTHS`, or inches) and its Axes; by default 0.72 as high as wide."""
    across = across_all(width, COLUMN)
    if height is None:
        high = 0.72 * across
    else:
        high = real("height", height, above=0, most=LARGEST)
    return plt.subplots(figsize=(across, high), layout="constrained")


def across_all(width: str | float | None, default: str) -> float:
    """Returns the inches of a width, by default those asked for by `drawn_at`, or of the default."""
    if width is None:
        width = WIDTH.get()
    return inches(default if width is None else width)


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
