"""How what is drawn is told apart, in colour, in grey and with any colour blindness: a colour, a line style and a marker each.

    model               colour, line style, shape of the marker
    step                lightness: the last one is the strongest
    kind of sublayer    the marker's filling: attention is filled, the feed-forward part open

Dotted thin lines are no model's: they are laws, theories and guides.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import is_color_like

from ...results.arguments import known, shown
from .canvas import COLOURS, PARTS, faded

DASHES: tuple[Any, ...] = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (9, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "<", ">")
FILLINGS = {"attention": "full", "mlp": "none"}
FURTHER_FILLINGS = ("bottom", "left", "top", "right")
GUIDE = ":"
HATCHES = {"norm": "////", "fork": "....", "net": ""}
DRAWN = "gradflow-curve"  # the mark of a curve on Axes that are drawn on again


@dataclass(frozen=True)
class Look:
    """A colour, a line style, and the shape of a marker."""

    colour: Any
    dash: Any
    marker: str

    @property
    def mark(self) -> str:
        """What a curve with this look is known by, whatever its shade."""
        return f"{DRAWN} {self.marker} {self.dash}"

    def at(self, strength: float) -> "Look":
        """Returns the look in a lighter colour; at strength 1 it is unchanged."""
        return self.coloured(faded(self.colour, strength))

    def coloured(self, colour: Any) -> "Look":
        """Returns the look in another colour."""
        return replace(self, colour=colour)


def numbered(i: int) -> Look:
    """Returns the look of the i-th of several curves; no two of the first 35 share colour and line style."""
    return Look(COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)])


def looks(names: Iterable[Any], ax: Axes | None = None, colours: Mapping[str, Any] | None = None) -> dict[Any, Look]:
    """Returns a look for every name, by its place; on Axes that hold curves already, the looks that follow theirs.

    `colours` are the caller's own, by name.
    """
    names = list(dict.fromkeys(names))
    first = 0 if ax is None else _looks_on(ax)
    own = _checked(names, colours)
    found = {}
    for i, name in enumerate(names):
        look = numbered(first + i)
        found[name] = look.coloured(own.get(name, look.colour))
    return found


def parts() -> dict[str, Look]:
    """Returns the looks of the parts of a budget."""
    found = {}
    for i, (name, colour) in enumerate(PARTS.items()):
        found[name] = Look(colour, DASHES[-i % 3], MARKERS[i])
    return found


def fillings(table: pd.DataFrame | None) -> dict[str, str]:
    """Returns how the marker of each kind of sublayer in a table is filled, in matplotlib's words; the embedding has no marker.

    Nothing where there are no kinds.
    """
    found: dict[str, str] = {}
    if table is None or "kind" not in table:
        return found
    further = iter(FURTHER_FILLINGS * 8)
    for kind in dict.fromkeys(table["kind"]):
        if kind in FILLINGS:
            found[kind] = FILLINGS[kind]
        elif kind != "embedding":
            found[kind] = next(further)
    if len(found) == 1:
        return dict.fromkeys(found, "full")
    return found


def _looks_on(ax: Axes) -> int:
    """Returns how many different looks the curves on these Axes have."""
    marks = {str(line.get_gid()) for line in ax.get_lines()}
    return len([mark for mark in marks if mark.startswith(DRAWN)])


def _checked(names: list[str], colours: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns the caller's colours by name.

    Errors: ValueError for a name that is not drawn, and for what is no colour of matplotlib.
    """
    if colours is None:
        return {}
    if not isinstance(colours, Mapping):
        raise TypeError(f"colours is {shown(colours)}: a dict from models to colours is needed")
    for name, colour in colours.items():
        known("model among those drawn, whose colour is given:", name, names)
        if not is_color_like(colour):
            raise ValueError(f"the colour of {name} is {shown(colour)}: one of matplotlib is needed, 'tab:blue'")
    return dict(colours)


def named(names: Iterable[str], labels: Mapping[str, str] | None) -> dict[str, str]:
    """Returns what each model is called in the legend: by the caller's `labels`, else by its own name.

    Errors: ValueError for the label of a model that is not drawn.
    """
    if labels is not None and not isinstance(labels, Mapping):
        raise TypeError(f"labels is {shown(labels)}: a dict from models to texts is needed")
    names = list(names)
    own = dict(labels or {})
    for name in own:
        known("model among those drawn, whose label is given:", name, names)
    return {name: str(own.get(name, name)) for name in names}
