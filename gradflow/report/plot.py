"""Figures, drawn from labelled data: each function takes a tree (or node) and perhaps `ax`, and returns the Axes.

Depth runs left to right, from the input to the output; a quantity that spans decades has a log axis with a line at 1.
Attention positions are filled circles, feed-forward ones open squares. Colours (Okabe and Ito 2008) tell models apart,
lightness tells steps apart: the last step is the strongest.

Nothing is computed here: numbers come from `tables`, and `save` writes them beside the picture.
"""

from functools import wraps
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from ..results.quantities import QUANTITIES
from . import captions, tables

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
PARTS = {"norm": "#CC79A7", "fork": "#009E73", "net": "#333333"}
MARKERS = {"attention": ("o", True), "mlp": ("s", False)}
# Width of the text, or of a column, in inches.
WIDTHS = {"neurips": 5.5, "iclr": 5.5, "icml": 6.75, "icml-column": 3.25, "acl": 6.3, "acl-column": 3.03, "jmlr": 6.0}
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
}


def styled(draw):
    """`draw` under the style of a paper's figure, whatever the caller's matplotlib is set to."""

    @wraps(draw)
    def with_style(*args, **options):
        with plt.rc_context(STYLE):  # type: ignore[arg-type]
            return draw(*args, **options)

    return with_style


@styled
def figure(width: str | float = "icml-column", height: float | None = None) -> tuple[Figure, Axes]:
    """An empty figure at a venue's width (`WIDTHS`, or inches) and its Axes; 0.72 as high as wide unless told."""
    inches = WIDTHS[width] if isinstance(width, str) else width
    return plt.subplots(figsize=(inches, height or 0.72 * inches), layout="constrained")


def _axes(ax: Axes | None) -> Axes:
    return figure()[1] if ax is None else ax


def colours(names) -> dict[str, str]:
    """One colour a model, by its place in the tree."""
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}


def faded(colour: str, strength: float):
    """The colour mixed with white; 1 leaves it as it is."""
    return tuple(1 - strength * (1 - channel) for channel in to_rgb(colour))


def _curves(table: pd.DataFrame):
    """`(model, step, rows, strength of the colour)` of every curve in a table; the last step is the strongest."""
    steps = list(dict.fromkeys(table["step"])) if "step" in table else [None]
    strength = dict(zip(steps, np.linspace(1, 0.3, len(steps))[::-1] if len(steps) > 1 else [1.0], strict=True))
    for name, rows in table.groupby("model", sort=False):
        for step in steps:
            yield name, step, rows if step is None else rows[rows["step"] == step], strength[step]


def _curve(ax: Axes, rows: pd.DataFrame, x: str, colour, label: str, **style) -> None:
    """One line with its band, and markers by kind of sublayer where the rows have it."""
    ax.plot(rows[x], rows["mean"], color=colour, label=label, **style)
    ax.fill_between(rows[x], rows["low"], rows["high"], color=colour, alpha=0.18, linewidth=0)
    if "kind" not in rows:
        return
    for kind, (marker, filled) in MARKERS.items():
        there = rows[rows["kind"] == kind]
        ax.plot(there[x], there["mean"], marker, color=colour, mfc=colour if filled else "white", ms=2.5, mew=0.7)


def _label(name: str, step) -> str:
    return name if step is None else f"{name}, step {step}"


def _scale(ax: Axes, positive: bool, reference: float | None) -> None:
    """Log axis for what is positive; a thin line at the value that means "unchanged", where there is one."""
    if positive:
        ax.set_yscale("log")
    if reference is not None:
        ax.axhline(reference, color="0.6", linewidth=0.6, zorder=0)


def _legend_above(ax: Axes, columns: int) -> None:
    """A legend at the top, in room made for it: no curve lies under it."""
    low, high = ax.get_ylim()
    rows = -(-len(ax.get_legend_handles_labels()[1]) // columns)
    share = 0.09 * rows + 0.02
    log = ax.get_yscale() == "log"
    ax.set_ylim(low, high * (high / low) ** share if log else high + share * (high - low))
    ax.legend(loc="upper center", ncols=columns, handlelength=1.4, columnspacing=1.2)


@styled
def profile(tree, quantity="stream_gradient", *, relative_to=None, steps=None, ax=None, **where) -> Axes:
    """A quantity over depth: mean and band over seeds, one colour a model, one shade a step.

    `where` chooses one entry along a further dimension (`parameter="down"`). For a gradient pass `relative_to="readout"`
    (or "top"); by default values are absolute.
    """
    ax, table = _axes(ax), tables.profile(tree, quantity, relative_to=relative_to, steps=steps, **where)
    what, palette = QUANTITIES[quantity], colours(tables.nodes(tree))
    position = "depth" if "depth" in table else "sublayer"
    for name, step, rows, strength in _curves(table):
        _curve(ax, rows, position, faded(palette[name], strength), _label(name, step))
    _scale(ax, what.positive, (1.0 if relative_to or what.units != "norm" else None) if what.positive else 0.0)
    entry = "".join(f", {value}" for value in where.values())
    ax.set_ylabel(f"{what.long_name}{entry}" + (f" / {relative_to}" if relative_to else f" ({what.units})"))
    ax.set_xlabel(f"{'stream position' if position == 'depth' else 'sublayer'} (input → output)")
    _legend_above(ax, columns=max(1, table["model"].nunique()))
    return ax


@styled
def budget(node, *, steps=None, ax=None) -> Axes:
    """Where the gradient gains and loses: log-gains of norms, forks and both, summed from the top down to each depth."""
    ax, table = _axes(ax), tables.budget_from_top(node, steps=steps)
    for part, rows in table.groupby("part", sort=False):
        for _, step, at_step, strength in _curves(rows):
            _curve(ax, at_step, "depth", faded(PARTS[part], strength), _label(part, step))
    _scale(ax, False, 0.0)
    ax.set_ylabel("log-gain from the top (nat)")
    ax.set_xlabel("stream position (input → output)")
    ax.set_title(node.name or "", loc="left")
    _legend_above(ax, columns=len(PARTS))
    return ax


@styled
def budget_totals(tree, *, steps=None, ax=None) -> Axes:
    """Totals of the budget over the whole stack: norms, forks, and their sum, the end-to-end log-gain; 95% intervals."""
    ax, table = _axes(ax), tables.budget_totals(tree, steps=steps)
    groups = list(
        dict.fromkeys(zip(table["model"], table["step"] if "step" in table else [None] * len(table), strict=True))
    )
    for i, part in enumerate(PARTS):
        rows = table[table["part"] == part]
        x = np.arange(len(groups)) + (i - 1) * 0.27
        bars = np.abs(rows[["low", "high"]].to_numpy().T - rows["mean"].to_numpy())
        ax.bar(
            x,
            rows["mean"],
            0.25,
            color=PARTS[part],
            label=part,
            yerr=bars,
            error_kw={"elinewidth": 0.7, "ecolor": "0.2"},
        )
    ax.set_xticks(range(len(groups)), [name if step is None else f"{name}\nstep {step}" for name, step in groups])
    _scale(ax, False, 0.0)
    ax.set_ylabel("total log-gain (nat)")
    _legend_above(ax, columns=len(PARTS))
    return ax


@styled
def heatmap(node, quantity="stream_gradient", *, relative_to="readout", ax=None) -> Axes:
    """A profile through training: recorded step against depth, log10 of the mean over seeds as colour."""
    ax, values = _axes(ax), tables.heat(node, quantity, relative_to=relative_to)
    position, steps = str(values.dims[-1]), values["step"].values
    with np.errstate(divide="ignore"):
        mesh = ax.pcolormesh(
            values[position], np.arange(len(steps)), np.log10(values.values), cmap="viridis", shading="nearest"
        )
    ax.set_yticks(range(len(steps)), [str(step) for step in steps])
    ax.set_ylabel("training step")
    ax.set_xlabel("stream position (input → output)")
    ax.set_title(node.name or "", loc="left")
    name = QUANTITIES[quantity].long_name + (f" / {relative_to}" if relative_to else "")
    ax.figure.colorbar(mesh, ax=ax, label=f"log$_{{10}}$ {name}")
    return ax


@styled
def spectrum(node, *, sublayer: int, seed: int = 0, ax=None) -> Axes:
    """Singular values of one sublayer and of its factors, largest first; exact zeros (rank deficit) fall off the axis."""
    ax, table = _axes(ax), tables.spectrum(node, sublayer=sublayer, seed=seed)
    for colour, (factor, rows) in zip(COLOURS, table.groupby("jacobian", sort=False), strict=False):
        shown = rows[rows["singular_value"] > 1e-4 * rows["singular_value"].max()]
        ax.plot(shown["relative_index"], shown["singular_value"], color=colour, label=factor.replace("_", " "))
    _scale(ax, True, 1.0)
    ax.set_xlabel("relative index, largest first")
    ax.set_ylabel("singular value")
    ax.set_title(f"{node.name or ''}, sublayer {sublayer}", loc="left")
    ax.legend(ncols=2, loc="lower left")
    return ax


@styled
def total_depth(sweep, quantity="parameter_gradient", *, sublayer=-1, ax=None, **where) -> Axes:
    """One entry of a profile against the number of blocks, with the fitted slope; by default the last feed-forward output."""
    ax, where = _axes(ax), where or {"parameter": "down"}
    table = tables.total_depth(sweep, quantity, sublayer=sublayer, **where)
    slopes, palette = tables.total_depth_slopes(sweep, quantity, sublayer=sublayer, **where), colours(sweep.children)
    for name, _, rows, _ in _curves(table):
        slope = f", slope {tables.interval(slopes[name].sel(number='k'))}" if name in slopes else ""
        _curve(ax, rows, "total_depth", palette[name], f"{name}{slope}", marker="o", ms=3)
    ax.set_xscale("log")
    ax.set_yscale("log")
    depths = sorted(set(table["total_depth"]))
    ax.set_xticks(depths, [str(depth) for depth in depths], minor=False)
    ax.minorticks_off()
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set_xlabel("number of blocks")
    entry = (
        "last feed-forward output" if where == {"parameter": "down"} else f"last {', '.join(map(str, where.values()))}"
    )
    ax.set_ylabel(f"{QUANTITIES[quantity].long_name},\n{entry}")
    _legend_above(ax, columns=1)
    return ax


@styled
def training(run, quantity: str, *, ax=None) -> Axes:
    """Loss or token cosine (at the top of the stack) against the step; the axis is linear below 1, then logarithmic."""
    ax, table = _axes(ax), tables.training(run)
    palette = colours(tables.nodes(run))
    for name, rows in table[table["quantity"] == quantity].groupby("model", sort=False):
        _curve(ax, rows, "step", palette[name], str(name), marker="o", ms=2)
    ticks = [step for step in (0, 1, 10, 100, 1000, 10_000, 100_000) if step <= table["step"].max()]
    ax.set_xscale("symlog", linthresh=1)
    ax.set_xticks(ticks, [str(step) for step in ticks])
    ax.set_xlabel("training step")
    ax.set_ylabel(f"{QUANTITIES[quantity].long_name}{' (nat)' if quantity == 'loss' else ', top'}")
    return ax


@styled
def comparison(run, sweep, *, profile_steps=(0, 10, 100), budget_steps=(0, 25), width="icml") -> Figure:
    """Wirings side by side on one page: profile through training, gradient against total depth, budget, tokens and loss."""
    inches = WIDTHS[width] if isinstance(width, str) else width
    whole = plt.figure(figsize=(inches, 0.78 * inches), layout="constrained")
    grid = whole.add_gridspec(2, 2)
    halves = grid[1, 1].subgridspec(2, 1)
    places = (grid[0, 0], grid[0, 1], grid[1, 0], halves[0], halves[1])
    a, b, c, d, e = (whole.add_subplot(place) for place in places)
    profile(run, relative_to="readout", steps=tables.steps_of(run, profile_steps), ax=a)
    total_depth(sweep, ax=b)
    budget_totals(run, steps=tables.steps_of(run, budget_steps), ax=c)
    training(run, "token_cosine", ax=d)
    training(run, "loss", ax=e)
    d.tick_params(labelbottom=False)
    d.set_xlabel("")
    titles = (
        "gradient through the stack",
        "at initialization, against depth",
        "where it gains and loses",
        "tokens and loss",
    )
    for ax, letter, title in zip((a, b, c, d), "abcd", titles, strict=True):
        ax.set_title(f"$\\bf{{{letter}}}$  {title}", loc="left")
    whole.suptitle(f"probe: the loss's gradient; {captions.short(run)}; bands: 95% over seeds", fontsize=7, color="0.3")
    return whole


@styled
def save(drawn: Figure | Axes, path: str | Path, table: pd.DataFrame, caption: str) -> list[Path]:
    """`path` with .pdf, .png and .csv: the picture, and the table it was drawn from with the caption as its first line."""
    whole: Any = drawn if isinstance(drawn, Figure) else drawn.figure
    path = Path(path)
    files = [path.with_suffix(suffix) for suffix in (".pdf", ".png", ".csv")]
    whole.savefig(files[0], metadata={"Subject": caption, "CreationDate": None})
    whole.savefig(files[1], metadata={"Description": caption})
    files[2].write_text(f"# {caption}\n{table.to_csv(index=False)}", encoding="utf-8")
    return files
