"""Findings: an experiment's result in sentences, with intervals, whether or not it is what the textbook says.

Losses are those on held-out text after the last step, in nat; differences are paired over seeds, intervals 95%. A difference is
the changed recipe or model minus the one it is compared with, as warm-up's is with minus without: what is below 0 is better.
"""

import numpy as np

from ... import laws
from ...results.statistics import band
from ...results.tree import against_size
from ..tables import experiments
from ..tables.experiments import difference, diverged, final
from ..tables.fits import fitting
from ..tables.profiles import interval, nodes, signed


def _two(value: float) -> str:
    return signed(value, 2)


def _loss(node, recipe: str) -> str:
    """`2.81 [2.79, 2.84]`, and how many seeds diverged."""
    at = node.to_dataset().sel(recipe=recipe)
    lost, seeds = int(diverged(at).sum()), at.sizes["seed"]
    if lost == seeds:
        return "diverged"
    kept = final(at).where(~diverged(at), drop=True)
    shown = interval(band(kept), lambda value: f"{value:.2f}")
    return shown if not lost else f"{shown} ({lost} of {seeds} seeds diverged)"


def _verdict(gap, lost: int, lost_with: int, what: str) -> str:
    """What a paired difference, with minus without, says of something."""
    if lost or lost_with:
        return f"{what} saves {lost} seeds" if lost > lost_with else f"{what} saves none"
    low, high = float(gap["low"]), float(gap["high"])
    told = f"{interval(gap, _two)} nat (with minus without)"
    if np.isnan(low):
        return f"{what} changes the loss by {told}; one seed says no more"
    effect = "makes no difference that is seen"
    if high < 0:
        effect = "helps"
    if low > 0:
        effect = "hurts"
    return f"{what} {effect}: {told}"


def outcomes(tree) -> list[str]:
    """The final loss of every model under every recipe."""
    return [
        f"{name}: " + "; ".join(f"{recipe} {_loss(node, recipe)}" for recipe in node["recipe"].values)
        for name, node in nodes(tree).items()
    ]


def warmup(tree) -> list[str]:
    """Whether warm-up is needed: at each learning rate, the final loss with it against that without, and with minus without."""
    told = []
    for name, node in nodes(tree).items():
        rates, lengths = node["lr"].values, node["warmup"].values
        for rate in dict.fromkeys(rates.tolist()):
            group = {
                float(n): str(r) for n, r, lr in zip(lengths, node["recipe"].values, rates, strict=True) if lr == rate
            }
            for length in [n for n in group if n and 0.0 in group]:
                without, having = (node.to_dataset().sel(recipe=group[n]) for n in (0.0, length))
                verdict = _verdict(
                    difference(final(having), final(without)),
                    int(diverged(without).sum()),
                    int(diverged(having).sum()),
                    f"{length:g} steps of warm-up",
                )
                losses = f"{_loss(node, group[0.0])} without, {_loss(node, group[length])} with"
                told.append(f"{name}, learning rate {rate:g}: {losses}; {verdict}")
    return told or outcomes(tree)


def sensitivity(tree) -> list[str]:
    """How much of the loss hangs on the recipe, by model."""
    chosen = experiments.best(tree)
    told = []
    for name, node in nodes(tree).items():
        at_best = f"; best: {chosen[name]}, {_loss(node, chosen[name])}" if name in chosen else "; no recipe is stable"
        spread = interval(experiments.sensitivity(node), _two)
        told.append(f"{name}: sensitivity to the learning rate {spread} nat{at_best}")
    return told


def adam(tree) -> list[str]:
    """The first recipe against each other one, by model; differences are the other's loss minus the first's."""
    told = []
    for name, node in nodes(tree).items():
        first, *others = node["recipe"].values
        at = {recipe: node.to_dataset().sel(recipe=recipe) for recipe in (first, *others)}
        for other in others:
            gap = difference(final(at[other]), final(at[first]))
            verdict = _verdict(gap, int(diverged(at[first]).sum()), int(diverged(at[other]).sum()), str(other))
            verdict = verdict.replace("with minus without", f"{other} minus {first}")
            told.append(f"{name}: {first} {_loss(node, first)}, {other} {_loss(node, other)}; {verdict}")
    return told


def quality(tree) -> list[str]:
    """Each model at its own best recipe, and every other against the first; the best is chosen by the same held-out text."""
    chosen, members = experiments.best(tree), nodes(tree)
    told = [f"{name} at its best ({recipe}): {_loss(members[name], recipe)}" for name, recipe in chosen.items()]
    told += [f"{name}: no recipe is stable" for name in members if name not in chosen]
    first, *others = chosen or [""]
    for other in others:
        a, b = (final(members[name].to_dataset().sel(recipe=chosen[name])) for name in (other, first))
        gap = difference(a, b)
        low, high = float(gap["low"]), float(gap["high"])
        shown = f"{interval(gap, _two)} nat"
        if np.isnan(low):
            told.append(f"{other} differs from {first} by {shown}; one seed says no more")
            continue
        words = "as good, as far as is seen, as"
        if high < 0:
            words = "better than"
        if low > 0:
            words = "worse than"
        told.append(f"{other} is {words} {first}: {shown}")
    return told


def before_and_after(run) -> list[str]:
    """The gradient of the first feed-forward output over that of the last, at initialization and after warm-up."""
    told = []
    for name, ratio in experiments.ends_of_sublayers(run).items():
        steps = ratio["step"].values
        shown = ", ".join(f"{interval(ratio.sel(step=step))} at step {step}" for step in (steps[0], steps[-1]))
        told.append(f"{name}: gradient of the first feed-forward output over that of the last: {shown}")
    return told


def collapse(run) -> list[str]:
    """Where the gradient at the bottom is smallest in training, and what made it so."""
    told = []
    table = experiments.through(run)
    for name in nodes(run):
        rows = table[table["model"] == name]
        ratio = rows[rows["quantity"] == "bottom / readout"].set_index("step")
        if not np.isfinite(ratio["mean"]).any():
            told.append(f"{name}: bottom over readout is not finite at any step")
            continue
        step = int(np.asarray(ratio.index)[np.nanargmin(ratio["mean"].to_numpy())])
        at = rows[rows["step"] == step].set_index("quantity")
        start = interval(ratio.iloc[0])
        parts = ", ".join(f"{part} {interval(at.loc[part], signed)}" for part in ("norm", "fork") if part in at.index)
        places = {
            what: lambda value, n=places: f"{value:.{n}f}"
            for what, places in (("token cosine", 3), ("held-out loss", 2))
        }
        others = ", ".join(f"{what} {interval(at.loc[what], show)}" for what, show in places.items())
        least = interval(at.loc["bottom / readout"])
        told.append(
            f"{name}: bottom over readout {start} at the start, least at step {step}: {least}; "
            f"budget there (nat): {parts}; {others}"
        )
    return told


def amplification(swept, quantity: str = "output_change") -> list[str]:
    """The exponent of the squared change of the output in the number of blocks (Liu et al. 2020: 1 for post, log for pre)."""
    told = []
    for name, values in against_size(swept, quantity, "total_depth").items():
        squares, blocks = (values**2).rename(quantity), values["total_depth"].values
        first, last = (f"{interval(band(squares).isel(total_depth=i))} at {blocks[i]} blocks" for i in (0, -1))
        line = f"{name}: mean squared change of the output {first}, {last}"
        usable = fitting(squares, "total_depth")
        if usable is not None:
            fitted = laws.fit(usable, laws.monomial, over="total_depth").sel(number="k")
            line += f"; it grows as their number to the {interval(fitted, _two)}"
        told.append(line)
    return told
