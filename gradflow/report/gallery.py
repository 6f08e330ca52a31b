"""The figures of a report: which ones a run, a sweep and a theory give, each with its name and the table behind it.

All of a training's figures are of the same steps (`tables.shown_steps`), and its heat maps on one colour scale. Every quantity
that was read has a figure; what has nothing finite to draw has none.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..results.quantities import QUANTITIES
from . import plot, tables
from .plot.lines import is_drawable
from .tables import activations, attention, growth, jacobians, precision, removal

ENTRIES = 16  # curves of one panel: a quantity with more entries, such as tokens, has no figure here
COMPARED = ("budget", "token_cosine")  # what the figure of the comparison shows beside what every reading has
IN_OTHERS = ("stream_gradient", "layer_gradient")  # which have figures of their own


class Candidate(NamedTuple):
    """A figure that could be drawn: its name, the function that draws it, and the table behind it."""

    name: str
    draw: Callable[[], Any]
    table: pd.DataFrame


def figures(run, sweep=None, theory=None) -> Iterator[tuple]:
    """Yields `(name, figure, table)` for every figure of a run, and for those of its sweep and its theory."""
    yield from _drawn(_of_run(run, sweep, theory))


def log_figures(run, steps: Sequence[int]) -> Iterator[tuple]:
    """Yields `(name, figure, table)` for norms that other tools logged: the profile over layers, and its way through training."""
    yield from _drawn(_of_logs(run, steps))


def _drawn(candidates: Iterator[Candidate]) -> Iterator[tuple]:
    """Yields those that have a number to draw, drawn."""
    for name, draw, table in candidates:
        if is_drawable(table):
            yield name, draw(), table


def _of_run(run, sweep, theory) -> Iterator[Candidate]:
    steps = tables.shown_steps(run)
    if sweep is not None and steps and _have_all(run, COMPARED):
        draw = partial(plot.comparison, run, sweep, steps=steps)
        yield Candidate("comparison", draw, _comparison_table(run, sweep, steps))
    yield _profile("stream_gradient", run, "stream_gradient", relative_to="readout", steps=steps)
    if theory is not None:
        yield _profile("theory", run, "stream_gradient", relative_to="readout", theory=theory)
    for name, node in tables.nodes(run).items():
        if "budget" in node:
            table = tables.budget_from_top(node, steps=steps)
            yield Candidate(f"budget_{name}", partial(plot.budget, node, steps=steps), table)
    if steps:
        yield from _heatmaps(run, "stream_gradient", "readout")
        yield from _through_training(run)
    if sweep is not None:
        yield Candidate("total_depth", partial(plot.total_depth, sweep), tables.total_depth(sweep))
    yield from _quantities(run, steps)
    yield from _similarities(run, steps)
    yield from _layers(run, steps)
    for step in steps or (None,):
        yield from _jacobians(run, step)


def _have_all(run, quantities: Sequence[str]) -> bool:
    """Returns whether all models have these quantities."""
    return all(set(quantities) <= set(node) for node in tables.nodes(run).values())


def _of_logs(run, steps: Sequence[int]) -> Iterator[Candidate]:
    yield _profile("layer_gradient", run, "layer_gradient", steps=steps)
    if len(tables.steps_of(run)) > 1:
        yield from _heatmaps(run, "layer_gradient", None)


def _profile(name: str, tree, quantity: str, **shown) -> Candidate:
    table = tables.profile(tree, quantity, **shown)
    return Candidate(name, partial(plot.profile, tree, quantity, **shown, table=table), table)


def _heatmaps(run, quantity: str, relative_to: str | None) -> Iterator[Candidate]:
    """Yields the heat map of every model, on the colour scale of them all."""
    limits = tables.heat_limits(run, quantity, relative_to=relative_to)
    for name, node in tables.nodes(run).items():
        table = tables.heat(node, quantity, relative_to=relative_to).to_dataframe().reset_index()
        has_logarithm = table[quantity].where(table[quantity] > 0)
        draw = partial(plot.heatmap, node, quantity, relative_to=relative_to, limits=limits)
        if is_drawable(has_logarithm.to_frame("mean")):
            yield Candidate(f"heatmap_{name}", draw, table)


def _through_training(run) -> Iterator[Candidate]:
    """Yields what there is one number of a model and step: losses, the token cosine at the top, the change of the output."""
    for quantity, table in tables.training(run).groupby("quantity", sort=False):
        yield Candidate(f"training_{quantity}", partial(plot.training, run, str(quantity)), table)


def _quantities(run, steps: Sequence[int]) -> Iterator[Candidate]:
    """Yields a profile of every quantity that all models have: side by side, or of several entries one figure a model.

    Of a training several entries are drawn at the last of the steps that has numbers: no update follows the very last step.
    What is zero everywhere is left out, such as the share of gains
    that read nothing.
    """
    members = tables.nodes(run)
    for quantity in _profiled(run):
        there = _with_numbers(members, quantity, steps)
        further = [dim for dim in QUANTITIES[quantity].dims if dim not in ("depth", "sublayer")]
        if not further:
            candidate = _profile(quantity, run, quantity, steps=there)
            if candidate.table["mean"].fillna(0).any():
                yield candidate
            continue
        for name, node in members.items():
            entries = _entries(node, quantity, further[0])
            if len(further) == 1 and 0 < len(entries) <= ENTRIES:
                shown: dict[str, Any] = {"steps": there[-1:], further[0]: entries}
                yield _profile(f"{quantity}_{name}", {name: node}, quantity, **shown)


def _similarities(run, steps: Sequence[int]) -> Iterator[Candidate]:
    """Yields how the stream grows, and how alike it is at any two positions, of all models on one colour scale."""
    members = tables.nodes(run)
    if _have_all(run, ("stream_rms",)):
        ends = tuple(dict.fromkeys((*steps[:1], *steps[-1:])))
        table = growth.variance(run, steps=ends)
        yield Candidate("variance_growth", partial(plot.variance_growth, run, steps=ends), table)
    found = {name: tables.similarity(node) for name, node in members.items() if "stream_angle" in node}
    if not found:
        return
    limits = (0.0, max(table["mean"].max() for table in found.values()))
    for name, table in found.items():
        step = steps[-1] if steps else None
        draw = partial(plot.similarity, members[name], step=step, limits=limits)
        yield Candidate(f"similarity_{name}", draw, table)


def _layers(run, steps: Sequence[int]) -> Iterator[Candidate]:
    """Yields attention by head, massive activations, layers removed, and errors of rounding; maps on one scale.

    At the last step that has them; of rounding at all that are shown.
    """
    members = tables.nodes(run)
    by_head = _having(members, "attention_entropy")
    if by_head:
        step = _last(by_head, "attention_entropy", steps)
        scale = attention.limits(by_head, step=step)
        for name, node in by_head.items():
            draw = partial(plot.attention, node, step=step, limits=scale)
            yield Candidate(f"attention_{name}", draw, attention.all_heads(node, step=step))
    found = _having(members, "massive_activation_by_token")
    step = _last(found, "massive_activation_by_token", steps)
    largest = {name: activations.largest(node, step=step) for name, node in found.items()}
    for name, table in largest.items():
        ends = activations.limits(pd.concat(largest.values()))
        yield Candidate(f"massive_{name}", partial(plot.massive, found[name], step=step, limits=ends), table)
    found = _having(members, "sublayer_removal")
    if found:
        step = _last(found, "sublayer_removal", steps)
        yield Candidate("removal", partial(plot.removal, found, step=step), removal.removal(found, step=step))
    found = _having(members, "rounding_error")
    if found:
        draw = partial(plot.precision, found, steps=steps or None)
        yield Candidate("precision", draw, precision.errors(found, steps=steps or None))


def _having(members, quantity: str) -> dict[str, Any]:
    """Returns the models that have a finite number of a quantity."""
    return {name: node for name, node in members.items() if quantity in node and np.isfinite(node[quantity]).any()}


def _last(members, quantity: str, steps: Sequence[int]) -> int | None:
    """Returns the last of the steps at which a number of some model is finite; None where there are no steps."""
    return next(iter(reversed(_with_numbers(members, quantity, steps))), None)


def _profiled(run) -> Iterator[str]:
    """Yields the quantities that all models have, and that are drawn over depth."""
    for quantity, row in QUANTITIES.items():
        if row.figure == "profile" and quantity not in IN_OTHERS and _have_all(run, (quantity,)):
            yield quantity


def _with_numbers(members, quantity: str, steps: Sequence[int]) -> Sequence[int]:
    """Returns those of the steps at which a number of some model is finite."""
    there = []
    for step in steps:
        if any(np.isfinite(node[quantity].sel(step=step)).any() for node in members.values()):
            there.append(step)
    return there


def _entries(node, quantity: str, dim: str) -> tuple:
    """Returns the entries of a quantity along a dimension that are somewhere neither zero nor NaN."""
    values = node[quantity]
    there = (values.notnull() & (values != 0)).any([other for other in values.dims if other != dim])
    return tuple(values[dim].values[there.values].tolist())


def _jacobians(run, step=None) -> Iterator[Candidate]:
    """Yields every Jacobian quantity that was measured, at one recorded step."""
    suffix = "" if step is None else f"_step_{step}"
    members = tables.nodes(run)
    for name, node in members.items():
        if "jacobian_gain" not in node:
            continue
        bands = jacobians.bands(node, step=step)
        yield Candidate(f"spectrum_bands_{name}{suffix}", partial(plot.spectrum_bands, node, step=step), bands)
        factors = jacobians.factors(node, step=step)
        yield Candidate(f"factors_{name}{suffix}", partial(plot.factors, node, step=step), factors)
    if _have_all(run, ("lyapunov_exponent",)):
        table = jacobians.exponents(run, step=step)
        yield Candidate(f"exponents{suffix}", partial(plot.exponents, run, step=step), table)
    if _have_all(run, ("cotangent_share",)):
        table = jacobians.alignment(run, step=step)
        yield Candidate(f"alignment{suffix}", partial(plot.alignment, run, step=step), table)


def _comparison_table(run, sweep, steps: Sequence[int]) -> pd.DataFrame:
    """Returns the tables of the four panels one below the other, with the panel's letter in the column `panel`."""
    profile = tables.profile(run, "stream_gradient", relative_to="readout", steps=steps)
    total_depth = tables.total_depth(sweep)
    budget = tables.budget_totals(run, steps=steps)
    training = tables.training(run, ("token_cosine", "loss"))
    panels = [
        profile.assign(panel="a"),
        total_depth.assign(panel="b"),
        budget.assign(panel="c"),
        training.assign(panel="d"),
    ]
    return pd.concat(panels, ignore_index=True)
