"""Legends and titles: above the axes, where no curve is, in as many columns as the figure has room for."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation, blended_transform_factory

from .looks import fillings

GREY = "0.3"
MOST = 6  # columns
COVER = "_cover of the legend"


def legend_above(ax: Axes, columns: int, title: str | None = None, key: pd.DataFrame | None = None) -> None:
    """Draws a legend above the axes: all in one row where that fits, else in `columns`, or in fewer.

    Above it comes the `title`. Of a table with several kinds of sublayers, the `key`, the legend tells what filled and open
    markers are.
    """
    without_legend(ax)  # of an earlier call
    _, labels = ax.get_legend_handles_labels()
    kinds = _kinds(key)
    if kinds:
        columns += 1
    for kind, filling in kinds.items():
        if kind not in labels:
            ax.add_line(marker("o", filling, label=kind))
    handles, labels = ax.get_legend_handles_labels()
    if labels:
        legend = _draw(ax, handles, labels, columns)
        _make_room(legend)
        _keep_titles_above(legend)
    if title is not None:
        ax.set_title(title, loc="left")


def _kinds(table: pd.DataFrame | None) -> dict[str, str]:
    """Returns the kinds whose markers need a key, where there are several."""
    found = fillings(table)
    return found if len(found) > 1 else {}


def marker(shape: str, filling: Any, label: str) -> Line2D:
    """Returns the entry of a legend that is a marker alone."""
    face: dict[str, Any] = {"fillstyle": filling, "markerfacecoloralt": "white"}
    return Line2D([], [], color=GREY, marker=shape, linestyle="", ms=3.5, label=label, **face)


def _draw(ax: Axes, handles: list, labels: list[str], columns: int) -> Legend:
    """Draws and returns the legend: the largest number of columns first, until it is no wider than there is room."""
    room = _room(ax)
    tried = dict.fromkeys((min(len(labels), MOST), *range(min(columns, len(labels)), 0, -1)))
    for number in tried:
        legend = ax.legend(
            handles,
            labels,
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            borderaxespad=0.2,
            borderpad=0.1,
            labelspacing=0.25,
            ncols=number,
            handlelength=2.6,
            handletextpad=0.5,
            columnspacing=1.0,
        )
        width = legend.get_window_extent().width
        if width <= room:
            break
    if width > 0.75 * room:  # it ends where the axes end, and begins above the labels of the ticks
        legend.set_loc("lower right")
        legend.set_bbox_to_anchor((1.0, 1.0), ax.transAxes)
    return legend


def _room(ax: Axes) -> float:
    """Returns the width of the part of the figure that these axes lie in, in dots."""
    whole = ax.figure.bbox.width
    place = ax.get_subplotspec()
    if place is None:
        return 0.97 * whole
    columns = place.get_topmost_subplotspec().get_gridspec().ncols
    spanned = place.get_topmost_subplotspec().colspan
    return 0.97 * whole * len(spanned) / columns


def _make_room(legend: Legend) -> None:
    """Makes the figure higher where the legend, of very many models, would leave its axes little of its height."""
    ax, whole = legend.axes, legend.figure
    place = ax.get_subplotspec()
    if place is None or not isinstance(whole, Figure):
        return
    rows = place.get_topmost_subplotspec().get_gridspec().nrows
    missing = legend.get_window_extent().height - 0.35 * whole.bbox.height / rows
    if missing > 0:
        whole.set_figheight(whole.get_figheight() + rows * missing / whole.dpi)


def without_legend(ax: Axes) -> None:
    """Takes the legend away, that of another panel being enough, and the room above the axes that it took."""
    legend = ax.get_legend()
    if legend is not None:
        legend.remove()
    for inside in tuple(ax.child_axes):
        if inside.get_label() == COVER:
            inside.remove()


def _keep_titles_above(legend: Legend) -> None:
    """Makes titles of the legend's axes, set now or later, stand above it.

    Matplotlib lifts a title above the axes that lie in these ones: so empty ones are laid over the legend, as high as it is.
    """
    ax, height = legend.axes, legend.get_window_extent().height / legend.figure.dpi
    inches_above = legend.figure.dpi_scale_trans + ScaledTranslation(0, 1, ax.transAxes)  # type: ignore[arg-type]
    place = blended_transform_factory(ax.transAxes, inches_above)
    ax.inset_axes((0, 0, 1, height), transform=place, label=COVER).set_axis_off()
