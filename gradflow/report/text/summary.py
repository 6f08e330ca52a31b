"""The summary a person reads: signed, per step, with intervals; true of the run at hand, whatever the textbook says."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import xarray as xr

from ... import laws
from ...results.statistics import band
from ...results.sweeps import last_output
from ...results.tree import settings, variable
from .. import tables
from ..tables import jacobians, nonfinite
from ..tables.fits import Key
from ..tables.outcome import Outcome, outcome
from ..tables.profiles import digits, interval, signed
from . import captions, layers, precision


def lines(run, sweep=None, *, steps: Sequence[int] | None = None, computed: Outcome | None = None) -> list[str]:
    """Returns the sentences: gradient at the bottom, budget, law at the start, pairs of models, slope over total depth.

    What is not finite has a sentence for every seed; numbers are then of the others. `computed` is the `outcome` of the same
    run and sweep, for callers that have it already.
    """
    members = tables.nodes(run)
    chosen = (tables.shown_steps(run) if steps is None else tables.steps_of(run, steps)) or (None,)
    if computed is None:
        start = tables.steps_of(run)[:1]
        computed = outcome(run, sweep, law_steps=start)
    conditions = captions.setting(run)
    sentences = ["; ".join(f"{name}: {text}" for name, text in conditions.items())]
    for name, ends in computed.ends.items():
        sentences += _gradient(name, ends, chosen)
    sentences += _laws(run, computed.laws)
    for name, node in members.items():
        sentences += _jacobians(name, node, chosen)
        sentences += layers.lines(name, node, chosen)
        sentences += precision.lines(name, node, chosen)
    sentences += _pairs(run, chosen[-1])
    every_model = dict(members)
    if sweep is not None:
        sentences += _slopes(computed, sweep)
        every_model |= tables.nodes(sweep)
    sentences += nonfinite.lines(every_model)
    intervals = "no intervals" if nonfinite.alone(members) else "intervals: 95%"
    sentences.append(f"{intervals}, {captions.short(run)}; geometric means")
    return sentences


def _when(step) -> str:
    """Returns ` at step 3`; nothing where there are no steps."""
    return "" if step is None else f" at step {step}"


def _at(data, step):
    """Returns the data of one step, or all of it where there are no steps."""
    return data if step is None else data.sel(step=step)


def _gradient(name: str, ends: Mapping[str, xr.Dataset], steps) -> list[str]:
    """Returns one model's gradient at the bottom relative to the readout, and its budget, step by step."""
    factors = []
    for step in steps:
        factors.append(f"{interval(_at(ends['bottom'], step))} times{_when(step)}")
    sentences = [f"{name}: the gradient at the bottom is, relative to the readout, {', '.join(factors)}"]
    for step in steps:
        gains = _gains(_at(ends["budget"], step), _at(ends["leave_gain"], step))
        loss = interval(_at(ends["loss"], step))
        sentences.append(f"  budget{_when(step)} (nat): {gains}; loss {loss}")
    return sentences


def _gains(budget, final_norm) -> str:
    """Returns the budget's log-gains and the final norm's, without those that round to zero; net always."""
    gains = []
    for part in budget["part"].values:
        gain = budget.sel(part=part)
        if part == "net" or _visible(gain):
            gains.append(f"{part} {interval(gain, signed)}")
    if _visible(final_norm):
        gains.append(f"final norm {interval(final_norm, signed)}")
    return ", ".join(gains)


def _visible(gain) -> bool:
    """Returns whether a log-gain does not round to zero, as that of an absent norm does."""
    return abs(float(gain["mean"])) >= 0.05


def _laws(run, choices: Mapping[Key, xr.Dataset]) -> list[str]:
    """Returns the law of each model's stream gradient over depth at initialization, or of given weights.

    A law that is not identified is left out.
    """
    when = "" if settings(run).get("weights") == "given" else " at initialization"
    recorded = tables.steps_of(run)
    if recorded and recorded[0] != 0:
        return []
    start = 0 if recorded else None
    sentences = []
    for (name, step), choice in choices.items():
        if step != start:
            continue
        law = choice.sel(law=choice.attrs["chosen"])
        if not law["identified"]:
            continue
        misfit = f"rms misfit of the log {digits(law['residual'].item())}"
        sentences.append(f"{name}: stream gradient over positions l{when}: {laws.to_text(choice)}, {misfit}")
    return sentences


def _jacobians(name: str, node, steps) -> list[str]:
    """Returns the leading Lyapunov exponent and the log-volumes over the whole stack, where they were measured."""
    sentences = []
    for step in steps:
        at = _at(node, step)
        if "lyapunov_exponent" in node:
            leading = band(variable(at, "lyapunov_exponent").isel(direction=0, drop=True))
            value = interval(leading, partial(signed, places=3))
            sentences.append(f"{name}: leading Lyapunov exponent{_when(step)} {value} nat per sublayer")
        if "log_volume" in node and "lost_directions" in node:
            volumes = _volumes(at)
            if volumes:
                sentences.append(f"{name}: log-volume of the stack{_when(step)} (nat): {', '.join(volumes)}")
    return sentences


def _volumes(node) -> list[str]:
    """Returns the log-volumes of the stack that don't round to zero, with the factors' names."""
    totals = jacobians.stack_volumes(node)
    volumes = []
    for words, factor in (("skip + branch", "fork"), ("norm on the path", "norm_out"), ("whole", "sublayer")):
        total = band(totals.sel(jacobian=factor))
        if _visible(total):
            volumes.append(f"{words} {interval(total, signed)}")
    return volumes


def _pairs(run, step) -> list[str]:
    """Returns each other model's gradient at the bottom against the first model's, paired over seeds, at the last step."""
    members = tables.nodes(run)
    first, *others = members
    sentences = []
    for other in others:
        lead = f"{other} against {first}{_when(step)}"
        log_ratio = _at(tables.compared(run, other, first), step)
        with np.errstate(over="ignore"):
            mean = float(np.exp(log_ratio["mean"]))
            low = float(np.exp(log_ratio["low"]))
            high = float(np.exp(log_ratio["high"]))
        if not np.isfinite(mean):
            sentences.append(f"{lead}: no seed has a finite gradient in both")
            continue
        ratio = digits(mean)
        if not np.isnan(low):
            ratio += f" [{digits(low)}, {digits(high)}]"
        sentences.append(f"{lead}: {ratio} times{_pairing(log_ratio, members[first])}")
    return sentences


def _pairing(log_ratio, node) -> str:
    """Returns over how many seeds a ratio is paired, where some are left out, and with what correlation."""
    n = int(log_ratio["n"])
    seeds = node.sizes.get("seed", 1)
    of_seeds = "seeds" if n == seeds else f"{n} of {seeds} seeds"
    if n < 2:
        return "" if n == seeds else f", of {of_seeds}"
    correlation = float(log_ratio["correlation"])
    if n > 2 and np.isfinite(correlation):
        return f", paired over {of_seeds}, correlation {digits(correlation)}"
    return f", paired over {of_seeds}"


def _slopes(computed: Outcome, sweep) -> list[str]:
    """Returns the exponent in the number of blocks of the last output's gradient, and the law that was chosen."""
    slopes = computed.total_depth_slopes
    if not slopes:
        return []
    output = last_output(sweep, "parameter_gradient", "total_depth")
    lead = f"{output.removesuffix(' output')} gradient at initialization,"
    exponents = ", ".join(f"{name} {interval(fitted.sel(number='k'))}" for name, fitted in slopes.items())
    sentences = [f"{lead} exponent in the number of blocks: {exponents}"]
    if computed.total_depth_laws:
        chosen = ", ".join(f"{name} {laws.to_text(choice)}" for (name, _), choice in computed.total_depth_laws.items())
        sentences.append(f"{lead} law in the number of blocks L: {chosen}")
    return sentences
