"""Gradient norms that other tools logged, as labelled data: the same figures, reports and files as for gradflow's own results.

    run = gf.logged("metrics.csv")  # of Lightning; or history.jsonl, a table, rows, a dictionary
    gf.plot.profile(run, "layer_gradient", steps=(0, 1000))
    gf.plot.heatmap(run["model"], "layer_gradient", relative_to=None)

`logs.writers` lists the tools whose keys are known, with sources. Not covered: norms other than the 2-norm, histograms
(`wandb.watch`), event files of TensorBoard, and pipelines whose ranks each count their layers from 0.
"""

from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from ..results.arguments import answering, of_class, shown
from ..results.digest import digest
from ..results.provenance import provenance
from ..results.tree import Readings, label
from .logs.cells import NoNumber, cell
from .logs.columns import Columns, Numbers, columns, numbers
from .logs.norms import Norms, likely, no_layers, norms_of
from .logs.paths import parts
from .logs.rows import rows_of
from .logs.totals import TOLERANCE, agreement
from .logs.wholes import wholes
from .logs.writers import LOOP, OTHER_NORM, SIZE, Choice, chosen

QUANTITIES = ("layer_gradient", "parameter_gradient", "outer_gradient")


class Log(NamedTuple):
    """What was read of one record: the norms over `steps` [S], and where they came from."""

    norms: Norms
    steps: np.ndarray
    source: dict[str, Any]


@answering()
def logged(
    record: Any,
    *,
    prefix: str | None = None,
    layers: str | None = None,
    step: str | None = None,
    check: bool = True,
) -> xr.DataTree:
    """Returns the gradient norms in a record of another tool, as labelled data over `step`.

    `layer_gradient` [step, seed, sublayer] is the norm of each layer, `parameter_gradient` [step, seed, sublayer, parameter] that
    of each of its parameters, `outer_gradient` [step, seed, outer] that of each outside the layers. The norm of a whole is the
    root of its parts' summed squares. `sublayer` counts the layers of the record, 1..L from the input. There is one seed.

    Parameters
    ----------
    record : the path of a file of CSV, JSON or JSON lines; a pandas.DataFrame; rows, `{key: value}` each; one such row; or
        `{name: record}` for several models, whose figures then compare them
    prefix : what keys of norms begin with, where the tool is none of `logs.writers`, or where several wrote; "" where all are
    layers : what stands in front of a layer's number, `"decoder.layers"`, where there are several stacks; layers that are
        missing are NaN then
    step : the key of the step, where it is none of `logs.columns.STEPS`
    check : whether parts that are not the total are refused

    A value may be a list over layers. NaN, infinity, and texts that stand for them, stay; where one of several values is missing
    it is NaN. Steps at which no norm was logged are left out, so steps keep their gaps; a DataFrame can't tell these from a NaN:
    drop such rows before. Where a step comes twice the last number counts, as after a return to a checkpoint. `configuration` of
    each node says what was read: the file and its SHA-256, how many columns were used and how many ignored, repeated numbers, and
    each total beside the parts.

    Parts that are not the total are an error and no warning, since every figure would be of something else than it says: of a
    clipped gradient, or of some of the parameters. `check=False` keeps the parts, and the difference is told.

    Cost: that of reading, some microseconds and 300 bytes a number.

    Errors: OSError for a file that can't be read; ValueError for one that holds no rows or no layers, for two models or two runs
    in one, for several stacks, missing layers or shards, for a whole beside its parts, and for a total that the parts are not.

    >>> import gradflow as gf
    >>> run = gf.logged({"grad_norm/layers.0.w": 3.0, "grad_norm/layers.1.w": 1.0, "grad_norm/layers.1.b": 1.0})
    >>> run["model"]["layer_gradient"].values.round(2).tolist()
    [[[3.0, 1.41]]]
    """
    for name, value in (("prefix", prefix), ("layers", layers), ("step", step)):
        of_class(name, value, str | NoneType)
    of_class("check", check, bool)
    records = record if _are_models(record) else {"model": record}
    logs = {}
    for name, one in records.items():
        try:
            logs[name] = _read(one, prefix, layers, step, check)
        except ValueError as error:
            if records is not record:
                raise
            raise ValueError(f"{name}: {error}") from None
    steps = np.unique(np.concatenate([log.steps for log in logs.values()]))
    models = {name: _readings(log, steps) for name, log in logs.items()}
    return label(
        models,
        leading={"step": steps, "seed": [0]},
        provenance=provenance(),
        batches="those of the run",
        logged={name: _to_text(log) for name, log in logs.items()},
    )


def _are_models(record: Any) -> bool:
    """Returns whether it is a mapping from names to records, and not from keys to values."""
    return isinstance(record, Mapping) and bool(record) and all(map(_is_record, record.values()))


def _is_record(value: Any) -> bool:
    """Returns whether a value is a record, and no number or list of numbers."""
    if isinstance(value, str):
        return not _is_number(value)
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(row, Mapping) for row in value)
    return isinstance(value, Mapping | pd.DataFrame | Path)


def _is_number(text: str) -> bool:
    """Returns whether a text stands for a number, for several, or for none."""
    try:
        cell(text)
    except NoNumber:
        return False
    return True


def _read(record: Any, prefix: str | None, layers: str | None, step: str | None, check: bool) -> Log:
    """Returns what is read of one record."""
    rows = rows_of(record)
    found = numbers(rows.rows, step)
    choice = chosen(found.cells, prefix)
    keys = _keys(found, choice, layers)
    totals = [key for key in choice.totals if parts(key).shard is None]
    table = columns(found, keys, totals)
    norms = norms_of(wholes({key: table.values[key] for key in keys}, choice, _sizes(found)), layers)
    used = {key: table.values[key] for key in keys if choice.paths[key] in norms.used}
    source = {
        "record": rows.name,
        **(rows.source or {"sha256": digest(used)}),
        "written_by": choice.writer.name,
        "stack": norms.stack,
        "first_layer": norms.first,
        "columns": len(used),
        "ignored": len(found.cells) + len(found.without) - len(used) - len(totals),
        "steps": len(table.steps),
        "repeated": table.repeated,
        "totals": agreement(norms, _totals(found, table, totals, choice), table.steps, check),
    }
    return Log(norms, table.steps, source)


def _keys(found: Numbers, choice: Choice, layers: str | None) -> list[str]:
    """Returns the keys of norms; of bare paths those that are likely to be.

    Errors: ValueError where there are none.
    """
    if not choice.paths:
        histograms = [key for key in chosen(found.without, None).paths if LOOP.match(key)]
        if histograms:
            raise ValueError(
                f"{shown(histograms[0])} holds no number, but a histogram, as wandb.watch writes it: log norms, "
                "{f'grad_norm/{name}': p.grad.norm() for name, p in model.named_parameters()}"
            )
        others = [key for key in found.cells if OTHER_NORM.fullmatch(key)]
        if others:
            raise ValueError(f"{shown(others[0])} is no 2-norm, whose squares add up: log grad_norm(self, norm_type=2)")
        raise no_layers(found.cells)
    if not choice.is_bare:
        return list(choice.paths)
    is_list = {}
    for key, path in choice.paths.items():
        is_list[path] = isinstance(found.first(key), np.ndarray) or parts(key).entry is not None
    paths = set(likely(is_list, layers))
    return [key for key, path in choice.paths.items() if path in paths]


def _sizes(found: Numbers) -> dict[str, float]:
    """Returns the sizes of parameters by path, where the record has them."""
    sizes = {}
    for key in found.cells:
        size = found.first(key)
        if key.startswith(SIZE) and not isinstance(size, np.ndarray):
            sizes[key.removeprefix(SIZE)] = size
    return sizes


def _totals(found: Numbers, table: Columns, keys: list[str], choice: Choice) -> dict[str, np.ndarray]:
    """Returns the totals [S] of a record by key."""
    totals = {}
    for key in keys:
        total = table.values[key]
        if choice.writer.is_rms:
            total = total * np.sqrt(_sizes(found).get("all", np.nan))
        totals[key] = total
    return totals


def _readings(log: Log, steps: np.ndarray) -> Readings:
    """Returns the norms of a log over the steps of all logs; NaN where it has no such step."""
    places = np.searchsorted(steps, log.steps)
    arrays = {}
    for name, norms in zip(QUANTITIES, (log.norms.layers, log.norms.inside, log.norms.outside), strict=True):
        array = np.full((len(steps), 1, *norms.shape[1:]), np.nan)
        array[places, 0] = norms
        arrays[name] = array
    depth = log.norms.layers.shape[1]
    positions = np.arange(1, depth + 1)
    coords = {
        "sublayer": positions,
        "kind": ("sublayer", ["layer"] * depth),
        "layer": ("sublayer", positions),
        "relative_depth": ("sublayer", positions / depth),
        "parameter": ("parameter", log.norms.parameters),
        "outer": ("outer", log.norms.outer),
    }
    if not log.norms.outer:
        del arrays["outer_gradient"]
    return Readings(arrays, coords, log.source)


def _to_text(log: Log) -> str:
    """Returns a log in a few words, for captions."""
    source = log.source
    text = f"{source['record']}, {source['columns']} columns as {source['written_by']} writes them"
    for key, total in source["totals"].items():
        if total["steps"]:
            text += f", {key} {'met to' if total['difference'] <= TOLERANCE else 'missed by'} {total['difference']:.1g}"
    return text
