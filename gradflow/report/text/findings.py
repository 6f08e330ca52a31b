"""Findings: an experiment's result in sentences, with intervals, whether or not it is what the textbook says.

Losses are those on held-out text after the last step, in nat; differences are paired over seeds, intervals 95%. A difference is
the changed recipe or model minus the one it is compared with, as warm-up's is with minus without: what is below 0 is better.
"""

import numpy as np

from ... import laws
from ...results.statistics import band
from ...results.sweeps import against_size
from ..tables import experiments
from ..tables.experiments import difference, diverged, final
from ..tables.fits import fitting
from ..tables.precision import BOUND
from ..tables.profiles import interval, nodes, signed
from . import families
from . import precision as rounding


def _signed_two_places(value: float) -> str:
    return signed(value, 2)


def _two_places(value: float) -> str:
    return f"{value:.2f}"


def _three_places(value: float) -> str:
    return f"{value:.3f}"


def _loss(node, recipe: str) -> str:
    """Returns `2.81 [2.79, 2.84]`, and how many seeds diverged."""
    at = node.to_dataset().sel(recipe=recipe)
    lost = int(diverged(at).sum())
    seeds = at.sizes["seed"]
    if lost == seeds:
        return "diverged"
    kept = final(at).where(~diverged(at), drop=True)
    loss = interval(band(kept), _two_places)
    if lost:
        return f"{loss} ({lost} of {seeds} seeds diverged)"
    return loss


def _verdict(node, without: str, changed: str, change: str, difference_words: str = "with minus without") -> str:
    """Returns what the paired difference between two recipes says of a change: it helps, hurts, saves seeds, or neither."""
    data = node.to_dataset()
    before, after = data.sel(recipe=without), data.sel(recipe=changed)
    lost_before, lost_after = int(diverged(before).sum()), int(diverged(after).sum())
    if lost_before > lost_after:
        return f"{change} saves {lost_before} seeds"
    if lost_after:
        return f"{change} saves none"
    gap = difference(final(after), final(before))
    size = f"{interval(gap, _signed_two_places)} nat ({difference_words})"
    return _by_interval(
        gap,
        unknown=f"{change} changes the loss by {size}; one seed says no more",
        below=f"{change} helps: {size}",
        above=f"{change} hurts: {size}",
        around=f"{change} makes no difference that is seen: {size}",
    )


def _by_interval(gap, *, unknown: str, below: str, above: str, around: str) -> str:
    """Returns the sentence for where the interval of a difference lies, against 0; `unknown` without an interval."""
    low, high = float(gap["low"]), float(gap["high"])
    if np.isnan(low):
        return unknown
    if high < 0:
        return below
    if low > 0:
        return above
    return around


def outcomes(tree) -> list[str]:
    """Returns the final loss of every model under every recipe."""
    sentences = []
    for name, node in nodes(tree).items():
        losses = [f"{recipe} {_loss(node, recipe)}" for recipe in node["recipe"].values]
        sentences.append(f"{name}: {'; '.join(losses)}")
    return sentences


def warmup(tree) -> list[str]:
    """Returns whether warm-up is needed: at each learning rate the final loss with and without it, and the difference."""
    sentences = []
    for name, node in nodes(tree).items():
        for rate, recipes in _by_learning_rate(node).items():
            without = recipes.pop(0.0, None)
            if without is None:
                continue
            for length, having in recipes.items():
                verdict = _verdict(node, without, having, f"{length:g} steps of warm-up")
                losses = f"{_loss(node, without)} without, {_loss(node, having)} with"
                sentences.append(f"{name}, learning rate {rate:g}: {losses}; {verdict}")
    return sentences or outcomes(tree)


def _by_learning_rate(node) -> dict[float, dict[float, str]]:
    """Returns the names of the recipes by their learning rate and then by their steps of warm-up."""
    recipes: dict[float, dict[float, str]] = {}
    for rate, length, name in zip(node["lr"].values, node["warmup"].values, node["recipe"].values, strict=True):
        recipes.setdefault(float(rate), {})[float(length)] = str(name)
    return recipes


def sensitivity(tree) -> list[str]:
    """Returns how much each model's loss depends on the recipe."""
    best = experiments.best(tree)
    sentences = []
    for name, node in nodes(tree).items():
        spread = interval(experiments.sensitivity(node), _signed_two_places)
        at_best = "no recipe is stable"
        if name in best:
            at_best = f"best: {best[name]}, {_loss(node, best[name])}"
        sentences.append(f"{name}: sensitivity to the learning rate {spread} nat; {at_best}")
    return sentences


def adam(tree) -> list[str]:
    """Returns the first recipe against each other one, by model; differences are the other's loss minus the first's."""
    sentences = []
    for name, node in nodes(tree).items():
        first, *others = map(str, node["recipe"].values)
        for other in others:
            verdict = _verdict(node, first, other, other, f"{other} minus {first}")
            losses = f"{first} {_loss(node, first)}, {other} {_loss(node, other)}"
            sentences.append(f"{name}: {losses}; {verdict}")
    return sentences


def quality(tree) -> list[str]:
    """Returns each model at its own best recipe, and every other model against the first.

    The best recipe is chosen by the same held-out text.
    """
    best, members = experiments.best(tree), nodes(tree)
    sentences, losses = [], {}
    for name, recipe in best.items():
        losses[name] = final(members[name].to_dataset().sel(recipe=recipe))
        sentences.append(f"{name} at its best ({recipe}): {_loss(members[name], recipe)}")
    for name in members:
        if name not in best:
            sentences.append(f"{name}: no recipe is stable")
    first, *others = losses or [""]
    for other in others:
        gap = difference(losses[other], losses[first])
        sentences.append(_compared(other, first, gap))
    return sentences


def _compared(other: str, first: str, gap) -> str:
    """Returns the sentence on the paired difference of two models' losses."""
    size = f"{interval(gap, _signed_two_places)} nat"
    return _by_interval(
        gap,
        unknown=f"{other} differs from {first} by {size}; one seed says no more",
        below=f"{other} is better than {first}: {size}",
        above=f"{other} is worse than {first}: {size}",
        around=f"{other} is as good, as far as is seen, as {first}: {size}",
    )


def before_and_after(run) -> list[str]:
    """Returns the gradient of the first feed-forward output over that of the last, at initialization and after warm-up."""
    sentences = []
    for name, ratio in experiments.ends_of_sublayers(run).items():
        first, last = ratio["step"].values[[0, -1]]
        before = f"{interval(ratio.sel(step=first))} at step {first}"
        after = f"{interval(ratio.sel(step=last))} at step {last}"
        lead = f"{name}: gradient of the first feed-forward output over that of the last"
        sentences.append(f"{lead}: {before}, {after}")
    return sentences


def precision(tree, bound: float = BOUND) -> list[str]:
    """Returns how far each model is off in each precision, where every reading first passes `bound`, and what is lost."""
    return rounding.of_tree(nodes(tree), bound)


def atlas(tree) -> list[str]:
    """Returns of every family of wirings which way the gradient goes, before and after the training, and what decides it."""
    return list(families.of_tree(tree).values())


def collapse(run) -> list[str]:
    """Returns where the gradient at the bottom is smallest in training, and the budget, tokens and loss there."""
    table = experiments.through(run)
    sentences = []
    for name in nodes(run):
        rows = table[table["model"] == name]
        ratio = rows[rows["quantity"] == "bottom / readout"].set_index("step")
        if not np.isfinite(ratio["mean"]).any():
            sentences.append(f"{name}: bottom over readout is not finite at any step")
            continue
        step = int(np.asarray(ratio.index)[np.nanargmin(ratio["mean"].to_numpy())])
        at = rows[rows["step"] == step].set_index("quantity")
        gains = []
        for part in ("norm", "fork"):
            if part in at.index:
                gains.append(f"{part} {interval(at.loc[part], signed)}")
        cosine = f"token cosine {interval(at.loc['token cosine'], _three_places)}"
        loss = f"held-out loss {interval(at.loc['held-out loss'], _two_places)}"
        start, least = interval(ratio.iloc[0]), interval(at.loc["bottom / readout"])
        sentences.append(
            f"{name}: bottom over readout {start} at the start, least at step {step}: {least}; "
            f"budget there (nat): {', '.join(gains)}; {cosine}, {loss}"
        )
    return sentences


def amplification(swept, quantity: str = "output_change") -> list[str]:
    """Returns the exponent of the output's squared change in the number of blocks.

    Liu et al. 2020: 1 for post-norm, a logarithm for pre-norm.
    """
    sentences = []
    for name, values in against_size(swept, quantity, "total_depth").items():
        squares = (values**2).rename(quantity)
        blocks = values["total_depth"].values
        means = band(squares)
        first = f"{interval(means.isel(total_depth=0))} at {blocks[0]} blocks"
        last = f"{interval(means.isel(total_depth=-1))} at {blocks[-1]} blocks"
        sentence = f"{name}: mean squared change of the output {first}, {last}"
        usable = fitting(squares, "total_depth")
        if usable is not None:
            fitted = laws.fit(usable, laws.monomial, over="total_depth").sel(number="k")
            sentence += f"; it grows as their number to the {interval(fitted, _signed_two_places)}"
        sentences.append(sentence)
    return sentences
