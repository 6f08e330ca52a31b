"""Figures of the budget: where the gradient gains and loses, by norms and forks, over depth and over the whole stack."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from .. import tables
from ..text import captions
from . import scales
from .canvas import PARTS, axes, legend, naming, styled
from .legends import legend_above
from .lines import by, check_drawable, curve, curves
from .looks import HATCHES, named, parts


@styled
def budget(node, *, steps=None, ax=None) -> Axes:
    """Draws where the gradient gains and loses: log-gains of norms, forks and both, summed from the top to each depth."""
    table = tables.budget_from_top(node, steps=steps)
    name = tables.called(node)
    check_drawable(table, f"the budget of {name}")
    ax = axes(ax)
    palette = parts()
    for part, rows in by(table, "part"):
        for _, step, at_step, strength in curves(rows):
            curve(ax, at_step, "depth", palette[part].at(strength), naming(part, step), of=table)
    scales.scale(ax, False, 0.0)
    ax.set_ylabel("log-gain from the top (nat)")
    scales.over(ax, "stream position")
    legend_above(ax, columns=len(PARTS), title=legend(name), key=table)
    return captions.attached(ax, node, f"Budget of {name}, summed from the top of the stack down", "budget")


@styled
def budget_totals(tree, *, steps=None, labels=None, ax=None) -> Axes:
    """Draws the budget over the whole stack: norms, forks, and their sum, the end-to-end log-gain; 95% intervals."""
    table = tables.budget_totals(tree, steps=steps)
    check_drawable(table, "the budget over the stack")
    ax = axes(ax)
    texts = named(tables.nodes(tree), labels)
    groups = table[["model"]].assign(step=table.get("step")).drop_duplicates()
    ticks = []
    for name, step in zip(groups["model"], groups["step"], strict=True):
        ticks.append(naming(texts[name], step).replace(", step ", "\n"))
    of_parts = list(by(table, "part"))  # the sum alone, where norms and forks were not read
    for i, (part, rows) in enumerate(of_parts):
        x = np.arange(len(groups)) + (i - (len(of_parts) - 1) / 2) * 0.27
        reach = np.abs(rows[["low", "high"]].to_numpy().T - rows["mean"].to_numpy())
        style: dict[str, Any] = {"error_kw": {"elinewidth": 0.7, "ecolor": "0.2"}, "edgecolor": "white", "linewidth": 0}
        ax.bar(x, rows["mean"], 0.25, color=PARTS[part], label=part, yerr=reach, hatch=HATCHES[part], **style)
    ax.set_xticks(range(len(groups)), ticks)
    if "step" in table:
        ax.set_xlabel("model, training step")
    scales.scale(ax, False, 0.0)
    ax.set_ylabel("total log-gain (nat)")
    legend_above(ax, columns=len(PARTS))
    lead = "Budget over the whole stack: norms, forks (skip plus branch), and both"
    return captions.attached(ax, tree, lead, "budget")
