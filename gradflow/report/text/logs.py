"""What is said of norms that other tools logged: the summary, the tables of results, and what the appendix says of them.

There is no stream gradient, no budget and no loss in such a record: a profile is one of layers, and its ends are the first layer,
nearest the input, and the last.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ...results.tree import settings
from .. import tables
from ..tables import fits, nonfinite
from ..tables.profiles import digits
from . import captions

QUANTITY = "layer_gradient"
NOT_FINITE = "not finite"
FIRST, LAST, RATIO = "first layer", "last layer", "first / last"
STATISTICS = "Norms are as another tool logged them, before clipping or after; each is of one run."
RESULTS = "Gradient of the parameters of the first layer, of the last layer, and the first over the last."
LAWS = "Laws of the layer gradient over layers l, 1 nearest the input. Of one run: there are no intervals."


def steps_of(run) -> tuple[int, ...]:
    """Returns the steps that a report shows: the first, the middle and the last at which every model is finite, and the last."""
    recorded = np.array(tables.steps_of(run))
    finite = np.ones(len(recorded), bool)
    for node in tables.nodes(run).values():
        finite &= np.isfinite(node[QUANTITY].isel(seed=0)).any("sublayer").values
    common = recorded[finite] if finite.any() else recorded
    return tuple(map(int, dict.fromkeys((common[0], common[len(common) // 2], common[-1], recorded[-1]))))


def results_table(run, steps: Sequence[int]) -> pd.DataFrame:
    """Returns the norms of the first and the last layer, and their ratio, at full precision; columns as in `tables.numbers`."""
    rows = []
    for name, node in tables.nodes(run).items():
        for step in steps:
            norms = node[QUANTITY].sel(step=step).isel(seed=0).values
            first, last = float(norms[0]), float(norms[-1])
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = float(np.divide(first, last))
            for quantity, value in {FIRST: first, LAST: last, RATIO: ratio}.items():
                finite = int(np.isfinite(value))
                row: dict[str, Any] = {"model": name, "step": step, "quantity": quantity, "mean": value}
                rows.append({**row, "low": np.nan, "high": np.nan, "n": finite})
    frame = pd.DataFrame(rows)
    frame["mean"] = frame["mean"].where(np.isfinite(frame["mean"]))
    return frame


def _number(value: float) -> str:
    """Returns a number with its digits, or that it is none."""
    return digits(value) if np.isfinite(value) else NOT_FINITE


def law_rows(run, steps: Sequence[int]) -> pd.DataFrame:
    """Returns the laws of every model's layers at these steps, as `fits.law_rows`."""
    return fits.law_rows(fits.law_choices(run, QUANTITY, relative_to=None, steps=steps))


def lines(run) -> list[str]:
    """Returns the sentences of the summary: where the norms are from, the first layer against the last, what is missing."""
    steps = steps_of(run)
    conditions = captions.setting(run)
    sentences = ["; ".join(f"{name}: {text}" for name, text in conditions.items())]
    table = results_table(run, steps)
    for name, rows in table[table["quantity"] == RATIO].groupby("model", sort=False):
        ratios = []
        for ratio, step in zip(rows["mean"], rows["step"], strict=True):
            times = " times" if np.isfinite(ratio) else ""
            ratios.append(f"{_number(ratio)}{times} at step {step}")
        sentences.append(f"{name}: the gradient of the first layer is, relative to the last, {', '.join(ratios)}")
    for name, node in tables.nodes(run).items():
        told = "; ".join(f"{what}: {text}" for what, text in facts(node).items())
        sentences.append(f"{name}: {told}")
    missing = nonfinite.gaps(tables.nodes(run))
    if missing:
        sentences.append(f"not finite, or not logged: {missing}")
    sentences.append("no intervals, 1 run of each model")
    return sentences


def facts(node) -> dict[str, str]:
    """Returns what is known of a model's record, `{name: text}`: where it is from, what was read, totals beside the parts."""
    source = settings(node)["configuration"]
    told = {
        "record": source["record"],
        "SHA-256": source["sha256"],
        "keys": f"{source['columns']} columns as {source['written_by']} writes them, {source['ignored']} ignored",
        "layers": f"{source['stack']}, counted from {source['first_layer']}",
        "steps": f"{source['steps']}, {source['repeated']} numbers replaced by later ones of the same step",
    }
    for key, total in source["totals"].items():
        told[f"total {key}"] = f"within {total['difference']:.2g} of {total['is']} at {total['steps']} steps"
    return told
