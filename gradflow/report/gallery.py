"""The figures of a report: which ones a run, a sweep and a theory give, each with its name and the table behind it."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from ..results.quantities import TERMS
from ..results.tree import settings
from . import plot, tables
from .tables import jacobians

# Figures of weights that were given: the name of the figure, its quantity, and the entry that is drawn.
SNAPSHOT: list[tuple[str, str, dict]] = [
    ("stream_rms", "stream_rms", {}),
    ("token_cosine", "token_cosine", {}),
    ("branch_to_skip", "branch_to_skip", {}),
]
for _term in TERMS:
    SNAPSHOT.append((f"split_{_term}", "split", {"term": _term}))
SNAPSHOT.append(("partial_jacobian", "partial_jacobian", {"probe": "isotropic"}))


def figures(run, sweep=None, theory=None) -> Iterator[tuple]:
    """Yields `(name, figure, table)` for every figure of a run, and for those of its sweep and its theory."""
    steps = tables.steps_of(run, (0, 10, 100))
    budget_steps = tables.steps_of(run, (0, 25))
    if sweep is not None and steps:
        yield "comparison", plot.comparison(run, sweep), _comparison_table(run, sweep, steps, budget_steps)
    shown: dict[str, Any] = {"relative_to": "readout", "steps": steps}
    yield "stream_gradient", plot.profile(run, **shown), tables.profile(run, "stream_gradient", **shown)
    if theory is not None:
        compared: dict[str, Any] = {"relative_to": "readout", "theory": theory}
        yield "theory", plot.profile(run, **compared), tables.profile(run, "stream_gradient", **compared)
    for name, node in tables.nodes(run).items():
        if "budget" in node:
            table = tables.budget_from_top(node, steps=budget_steps)
            yield f"budget_{name}", plot.budget(node, steps=budget_steps), table
        if steps:
            yield f"heatmap_{name}", plot.heatmap(node), tables.heat(node).to_dataframe().reset_index()
    if settings(run).get("weights") == "given":
        yield from snapshot_figures(run)
    if sweep is not None:
        yield "total_depth", plot.total_depth(sweep), tables.total_depth(sweep)
    for step in steps[::2] or (None,):
        yield from jacobian_figures(run, step)


def log_figures(run, steps: Sequence[int]) -> Iterator[tuple]:
    """Yields `(name, figure, table)` for norms that other tools logged: the profile over layers, and its way through training."""
    shown: dict[str, Any] = {"quantity": "layer_gradient", "steps": steps}
    yield "layer_gradient", plot.profile(run, **shown), tables.profile(run, **shown)
    if len(tables.steps_of(run)) == 1:
        return
    for name, node in tables.nodes(run).items():
        table = tables.heat(node, "layer_gradient", relative_to=None).to_dataframe().reset_index()
        yield f"heatmap_{name}", plot.heatmap(node, "layer_gradient", relative_to=None), table


def snapshot_figures(run) -> Iterator[tuple]:
    """Yields `(name, figure, table)` for weights that were given: signal, split and partial Jacobian.

    A quantity that is zero everywhere has no figure, such as the share of gains that read nothing.
    """
    members = tables.nodes(run).values()
    for name, quantity, entry in SNAPSHOT:
        if not all(quantity in node for node in members):
            continue
        table = tables.profile(run, quantity, **entry)
        if table["mean"].fillna(0).any():
            yield name, plot.profile(run, quantity, **entry), table


def jacobian_figures(run, step=None) -> Iterator[tuple]:
    """Yields `(name, figure, table)` for every Jacobian quantity that was measured, at one recorded step."""
    suffix = "" if step is None else f"_step_{step}"
    members = tables.nodes(run)
    for name, node in members.items():
        if "jacobian_gain" not in node:
            continue
        bands = jacobians.bands(node, step=step)
        yield f"spectrum_bands_{name}{suffix}", plot.spectrum_bands(node, step=step), bands
        factors = jacobians.factors(node, step=step)
        yield f"factors_{name}{suffix}", plot.factors(node, step=step), factors
    if all("lyapunov_exponent" in node for node in members.values()):
        yield f"exponents{suffix}", plot.exponents(run, step=step), jacobians.exponents(run, step=step)
    if all("cotangent_share" in node for node in members.values()):
        yield f"alignment{suffix}", plot.alignment(run, step=step), jacobians.alignment(run, step=step)


def _comparison_table(run, sweep, steps: Sequence[int], budget_steps: Sequence[int]) -> pd.DataFrame:
    """Returns the tables of the four panels one below the other, with the panel's letter in the column `panel`."""
    profile = tables.profile(run, "stream_gradient", relative_to="readout", steps=steps)
    total_depth = tables.total_depth(sweep)
    budget = tables.budget_totals(run, steps=budget_steps)
    training = tables.training(run)
    panels = [
        profile.assign(panel="a"),
        total_depth.assign(panel="b"),
        budget.assign(panel="c"),
        training.assign(panel="d"),
    ]
    return pd.concat(panels, ignore_index=True)
