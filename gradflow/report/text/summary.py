"""The summary a person reads: signed, per step, with intervals; true of the run at hand, whatever the textbook says."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from ... import laws
from ...results.statistics import band
from ...results.tree import settings, variable
from .. import tables
from ..tables import fits, jacobians, nonfinite
from ..tables.profiles import interval, signed
from . import captions


def lines(run, sweep=None, *, steps: Sequence[int] = (0, 10, 100)) -> list[str]:
    """The sentences: gradient at the bottom and budget per model and step, the law at the start, pairs, the slope over depth.

    What is not finite is told seed by seed; numbers are then of the others.
    """
    chosen = tables.steps_of(run, steps) or (None,)
    told = [f"{'; '.join(f'{what}: {words}' for what, words in captions.setting(run).items())}"]
    told += [sentence for name, node in tables.nodes(run).items() for sentence in _model(name, node, chosen)]
    told += _laws(run)
    told += [sentence for name, node in tables.nodes(run).items() for sentence in _jacobians(name, node, chosen)]
    told += _pair(run, chosen[-1])
    if sweep is not None:
        told += _slopes(sweep)
    members = {**tables.nodes(run), **({} if sweep is None else tables.nodes(sweep))}
    how = "no intervals" if nonfinite.alone(tables.nodes(run)) else "intervals: 95%"
    return [*told, *nonfinite.lines(members), f"{how}, {captions.short(run)}; geometric means"]


def _model(name: str, node, steps) -> list[str]:
    """What one model's gradient does between the readout and the bottom."""
    ratio, net, final, loss = tables.ends(node).values()
    when = lambda step: "" if step is None else f" at step {step}"
    at = lambda data, step: data if step is None else data.sel(step=step)
    factors = ", ".join(f"{interval(at(ratio, step))} times{when(step)}" for step in steps)
    told = [f"{name}: the gradient at the bottom is, relative to the readout, {factors}"]
    for step in steps:
        gains = {**{part: at(net, step).sel(part=part) for part in net["part"].values}, "final norm": at(final, step)}
        parts = [f"{part} {interval(gain, signed)}" for part, gain in gains.items() if part == "net" or _visible(gain)]
        told.append(f"  budget{when(step)} (nat): {', '.join(parts)}; loss {interval(at(loss, step))}")
    return told


def _visible(gain) -> bool:
    """Whether a log-gain is there at all: an absent norm is not worth its words."""
    return abs(float(gain["mean"])) >= 0.05


def _laws(run) -> list[str]:
    """The law of each model's stream gradient over depth at initialization, or of given weights, where it is identified."""
    when = "" if settings(run).get("weights") == "given" else " at initialization"
    recorded = tables.steps_of(run)
    choices = fits.law_choices(run, steps=recorded[:1]) if not recorded or recorded[0] == 0 else {}
    told = []
    for (name, _), choice in choices.items():
        law = choice.sel(law=choice.attrs["chosen"])
        if law["identified"]:
            misfit = f"rms misfit of the log {tables.digits(law['residual'].item())}"
            told.append(f"{name}: stream gradient over positions l{when}: {laws.to_text(choice)}, {misfit}")
    return told


def _jacobians(name: str, node, steps) -> list[str]:
    """The leading Lyapunov exponent and the log-volumes over the whole stack, where they were read."""
    told = []
    for step in steps:
        at = node if step is None else node.sel(step=step)
        when = "" if step is None else f" at step {step}"
        if "lyapunov_exponent" in node:
            leading = band(variable(at, "lyapunov_exponent").isel(direction=0, drop=True))
            shown = interval(leading, partial(signed, places=3))
            told.append(f"{name}: leading Lyapunov exponent{when} {shown} nat per sublayer")
        if "log_volume" in node and "lost_directions" in node:
            totals = jacobians.stack_volumes(at)
            parts = {"skip + branch": "fork", "norm on the path": "norm_out", "whole": "sublayer"}
            sums = {words: band(totals.sel(jacobian=factor)) for words, factor in parts.items()}
            volumes = ", ".join(
                f"{words} {interval(total, signed)}" for words, total in sums.items() if _visible(total)
            )
            told += [f"{name}: log-volume of the stack{when} (nat): {volumes}"] if volumes else []
    return told


def _pair(run, step) -> list[str]:
    """The first model's gradient at the bottom against each other's, paired over seeds, at the last step."""
    first, *others = tables.nodes(run)
    told = []
    for other in others:
        ratio = tables.compared(run, other, first)
        ratio = ratio if step is None else ratio.sel(step=step)
        with np.errstate(over="ignore"):
            mean, low, high = (float(np.exp(ratio[bound])) for bound in ("mean", "low", "high"))
        lead = f"{other} against {first}{'' if step is None else f' at step {step}'}"
        if not np.isfinite(mean):
            told.append(f"{lead}: no seed has a finite gradient in both")
            continue
        spread = "" if np.isnan(low) else f" [{tables.digits(low)}, {tables.digits(high)}]"
        told.append(f"{lead}: {tables.digits(mean)}{spread} times{_paired(ratio, tables.nodes(run)[first])}")
    return told


def _paired(ratio, node) -> str:
    """How a ratio is paired: over how many seeds, where some are left out, and with what correlation."""
    n, seeds = int(ratio["n"]), node.sizes.get("seed", 1)
    over = "seeds" if n == seeds else f"{n} of {seeds} seeds"
    correlation = float(ratio["correlation"])
    if n < 2:
        return "" if n == seeds else f", of {over}"
    shown = f", correlation {tables.digits(correlation)}" if n > 2 and np.isfinite(correlation) else ""
    return f", paired over {over}{shown}"


def _slopes(sweep) -> list[str]:
    """The last feed-forward gradient's exponent in the number of blocks, and the law that was chosen."""
    slopes = fits.total_depth_slopes(sweep)
    if not slopes:
        return []
    lead = "last feed-forward gradient at initialization,"
    shown = ", ".join(f"{name} {interval(fitted.sel(number='k'))}" for name, fitted in slopes.items())
    chosen = ", ".join(f"{name} {laws.to_text(choice)}" for (name, _), choice in fits.total_depth_laws(sweep).items())
    return [
        f"{lead} exponent in the number of blocks: {shown}",
        *([f"{lead} law in the number of blocks L: {chosen}"] if chosen else []),
    ]
