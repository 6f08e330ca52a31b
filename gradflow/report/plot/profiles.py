"""Figures of profiles over depth: a quantity of every model, at recorded steps, with its theory or its law beside it."""

from collections.abc import Iterator
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ...results.quantities import GEOMETRIC, Quantity
from .. import tables
from ..tables import nonfinite
from ..text import captions
from . import scales
from .canvas import axes, legend, naming, styled
from .legends import legend_above
from .lines import by, check_drawable, curve, curves, folded, guide, law
from .looks import GUIDE, looks, named

TICKS = 12  # steps that a heatmap names
NAMED = 6  # steps of a model that the legend of a profile names, where there are more than it has room for
CROWD = 24  # curves; more of them have no markers

LISTED = 6  # entries that a caption names


@styled
def profile(
    tree,
    quantity="stream_gradient",
    *,
    relative_to=None,
    steps=None,
    theory=None,
    laws=None,
    kinds=None,
    x=None,
    labels=None,
    colours=None,
    scale=None,
    table=None,
    ax=None,
    **where,
) -> Axes:
    """Draws a quantity over depth: mean and band over seeds, a colour, line style and marker a model, a shade a step.

    Parameters
    ----------
    tree : results, or `{name: node}`
    relative_to : "readout" or "top", for a gradient; by default values are absolute
    theory : `gf.predict` of the same models, dotted over the average that it predicts: at the start, and root mean squares
    laws : `fits.law_curves`, of the same quantity and reference: dotted, in words in the legend
    kinds : of the sublayers to draw, "mlp"
    x : "layer" or "relative_depth" in place of the position in the stack
    labels, colours : by the name of the model
    scale : "linear", "log" or "symlog"; by default what suits the quantity
    table : `tables.profile` of the same, for callers that have it already
    ax : Axes, which may hold curves: those drawn here get other looks
    where : one entry along a further dimension, `parameter="down"`, or several, `parameter=("query", "down")`

    Errors: ValueError, one line, where no number is finite.
    """
    check_laws(laws, quantity, relative_to)
    chosen: dict[str, Any] = {"relative_to": relative_to, "steps": steps, "theory": theory, "kinds": kinds, "x": x}
    if table is None:
        table = tables.profile(tree, quantity, **chosen, **where)
    described = tables.described(quantity)
    check_drawable(table, described.long_name)
    ax = axes(ax)
    members = tables.nodes(tree)
    texts = named(members, labels)
    several = _several(where)
    place = x or next(name for name in ("depth", "sublayer") if name in table)
    groups = list(_groups(table, texts, several, split=x == "layer" and "sublayer" in table))
    palette = _palette(groups, ax, colours, list(members), several)
    shown_steps = _named_steps(table)
    title, told = _title(list(texts.values()), shown_steps, several)
    key: pd.DataFrame | None = table
    crowded = len(groups) * len(shown_steps) > CROWD
    if crowded:
        key = None
    for group, text, group_rows in groups:
        for name, step, rows, strength in curves(group_rows):
            look = palette[group].at(strength)
            label = naming(text, step)
            if step == told:
                label = legend(text)
            label += law(ax, laws, name, step, place, look)
            if step not in shown_steps:
                label = "_"
            curve(ax, rows, place, look, folded(label), of=table, marked=not crowded)
            if theory is not None:
                guide(ax, rows[place], rows["theory"], look, linewidth=1.6)
    columns = max(2, len(groups))
    if laws is not None:
        columns = 1
    if theory is not None:
        ax.plot([], [], GUIDE, color="0.3", linewidth=1.6, label="theory")
        columns += 1
    scales.scale(ax, described.mean == GEOMETRIC, _unchanged(described, relative_to), scale)
    _name_axis(ax, _ylabel(described, relative_to, where))
    scales.over(ax, _over(table, x))
    legend_above(ax, columns=columns, title=title, key=key)
    lead = _lead(tree, described, relative_to, laws, where)
    probe = captions.LOSS_PROBE
    if "probe" in where:
        probe = f"probe: {_entry(where['probe'])}, on the sphere"
    if theory is None:
        return captions.attached(ax, tree, lead, quantity, probe=probe)
    lines = captions.theory(tree, theory, quantity)
    return captions.attached(ax, tree, lead, quantity, probe=probe, lines=lines, alone=lines)


def _title(models: list[str], steps: list, several: str | None) -> tuple[str | None, Any]:
    """Returns the title of a figure of one model's entries, which names the model, and its step where there is but one."""
    if several is None or len(models) > 1:
        return None, None
    if len(steps) > 1:
        return legend(models[0]), None
    return naming(models[0], steps[0]), steps[0]


def _several(where: dict) -> str | None:
    """Returns the dimension of which several entries are drawn, or None."""
    for dim, at in where.items():
        if isinstance(at, list | tuple):
            return dim
    return None


def _groups(
    table: pd.DataFrame, texts: dict[str, str], several: str | None, split: bool
) -> Iterator[tuple[tuple, str, pd.DataFrame]]:
    """Yields `(group, text, rows)` of all that has a look of its own: a model, its entry, and (where `split`) a kind of it."""
    for name, rows in by(table, "model"):
        parts: list[tuple[tuple, pd.DataFrame]] = [((name,), rows)]
        if several is not None:
            parts = [((name, entry), of_entry) for entry, of_entry in by(rows, several)]
        for group, of_group in parts:
            words = [texts[name], *group[1:]]
            if several is not None and len(texts) == 1:
                words = list(group[1:])
            if not split or of_group["kind"].nunique() == 1:
                yield group, ", ".join(words), of_group
                continue
            for kind, of_kind in by(of_group, "kind"):
                yield (*group, kind), ", ".join([*words, kind]), of_kind


def _palette(groups: list, ax: Axes, colours, members: list[str], several: str | None) -> dict[tuple, Any]:
    """Returns the look of every group; the caller's colours are those of models, or of the entries of a single model."""
    keys = [group for group, _, _ in groups]
    of_entries = several is not None and len(members) == 1
    owners = [key[1] if of_entries else key[0] for key in keys]
    own = looks(owners, colours=colours)
    found = looks(keys, ax)
    for key, owner in zip(keys, owners, strict=True):
        if owner in (colours or {}):
            found[key] = found[key].coloured(own[owner].colour)
    return found


def _over(table: pd.DataFrame, x: str | None) -> str:
    """Returns what the axis is over."""
    if x is None:
        return tables.places(table)
    return x.replace("_", " ")


def _named_steps(table: pd.DataFrame) -> list:
    """Returns the steps that a legend names: all, or of many the first, the last and some between."""
    steps = list(dict.fromkeys(table["step"])) if "step" in table else [None]
    if len(steps) <= TICKS:
        return steps
    return [steps[i] for i in np.linspace(0, len(steps) - 1, NAMED).round().astype(int)]


def _unchanged(quantity: Quantity, relative_to) -> float | None:
    """Returns the value that means "unchanged": 0 where the mean is arithmetic, 1 for a ratio; None for an absolute norm."""
    if quantity.mean != GEOMETRIC:
        return 0.0
    if relative_to or quantity.units != "norm":
        return 1.0
    return None


def _name_axis(ax: Axes, text: str) -> None:
    """Names the vertical axis; where something else is drawn there already, both."""
    before = ax.get_ylabel()
    ax.set_ylabel(text if before in ("", text) else f"{before};\n{text}")


def _entry(at) -> str:
    """Returns the entries that are drawn, in words; of many their number, since the legend names them."""
    if not isinstance(at, list | tuple):
        return str(at)
    if len(at) > LISTED:
        return f"{len(at)} entries"
    return ", ".join(map(str, at))


def _ylabel(quantity: Quantity, relative_to, where: dict) -> str:
    """Returns the label of the axis: the quantity, the entry of it that is drawn, and its reference or unit, where it has one."""
    unit = "" if quantity.units == "1" else f" ({quantity.units})"
    if relative_to:
        unit = f" / {relative_to}"
    single = [legend(at) for at in where.values() if not isinstance(at, list | tuple)]
    if not single:
        return fill(f"{quantity.long_name}{unit}", 26)
    entry = ", ".join(single)
    return f"{fill(quantity.long_name, 26)},\n{entry.replace('_', ' ')}{unit}"


def _lead(tree, quantity: Quantity, relative_to, laws, where: dict) -> str:
    """Returns the first sentence of a profile's caption."""
    entries = [legend(_entry(at)) for at in where.values()]
    lead = ", ".join([quantity.long_name.capitalize(), *entries]) + " over depth"
    if relative_to:
        lead += f", relative to the {relative_to}"
    if laws is not None:
        lead += dotted(tree, "l the position")
    return lead


def dotted(tree, letter: str) -> str:
    """Returns the part of a caption that says which law is dotted."""
    if nonfinite.alone(tables.nodes(tree)):
        return f"; dotted: the law chosen, {letter}"
    return f"; dotted: the law chosen, {letter}, with the 95% interval of its exponent"


def check_laws(laws, quantity: str, relative_to) -> None:
    """Raises where the laws are those of another quantity or reference than the figure's."""
    if laws is None or laws.empty:
        return
    fitted_quantity, fitted_reference = laws.iloc[0][["quantity", "relative_to"]]
    reference = relative_to or "nothing"
    if (fitted_quantity, fitted_reference) != (quantity, reference):
        raise ValueError(
            f"these laws are of {fitted_quantity} relative to {fitted_reference}, the figure of {quantity} to {reference}"
        )
