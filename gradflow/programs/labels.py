"""What a metered loss read in somebody's own training loop, labelled as a run of `gf.train` is.

    step = gf.metered(loss_fn, params, batch)

    def update(carry, batch):
        _, gradients, reading = step(params, batch)
        ...
        return carry, reading

    carry, history = jax.lax.scan(update, carry, batches)
    run = gf.labelled(history, step)

Axes in front of a quantity's own: steps, and seeds where several runs go side by side.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import xarray as xr

from ..instruments.meters.resolution import resolved, warn_of_underflow
from ..results.arguments import shown
from ..results.provenance import provenance
from ..results.tree import Readings, label
from .metered import Metered, called, written


def label_readings(history, metered: Metered, leading: Mapping[str, Any] | None) -> xr.DataTree:
    """Returns readings as a tree: a node a stream, over `step` and `seed`; one run without an axis of seeds is seed 0.

    history : readings with axes in front, steps before seeds unless `leading` names them in another order; or a list, one a step
    """
    origin = provenance()
    by_node = _by_node(history, metered)
    axes = np.shape(next(iter(by_node.values()))["loss"])
    named = _leading(axes, leading)
    nodes = {}
    for name, reading in by_node.items():
        arrays = {quantity: _seeds_last(array, named) for quantity, array in reading.items()}
        arrays = resolved(arrays)
        warn_of_underflow(name, arrays)
        nodes[name] = Readings(arrays, metered.coordinates[name], written(metered.loss_fn), metered.parameters)
    others = {axis: values for axis, values in named.items() if axis != "seed"}
    in_front = {**others, "seed": named.get("seed", [0])}
    return label(nodes, leading=in_front, provenance=origin, program=called(metered.loss_fn))


def _by_node(history, metered: Metered) -> dict[str, dict]:
    """Returns readings on the host by node, those of a list stacked."""
    entries = history if isinstance(history, list) else [history]
    names = list(metered.coordinates)
    for entry in entries:
        if not isinstance(entry, Mapping) or not set(names if len(names) > 1 else ["loss"]) <= set(entry):
            raise TypeError(
                f"the records are {shown(entry)}: readings are needed, the third of what the metered loss returns, with axes in "
                f"front where they come from jax.lax.scan or jax.vmap, or a list of them, one a step"
            )
    if not entries:
        raise ValueError("no readings: there is no step to label")
    host = jax.device_get(entries)
    stacked = jax.tree.map(lambda *steps: np.stack(steps), *host) if isinstance(history, list) else host[0]
    return dict(stacked) if len(names) > 1 else {names[0]: stacked}


def _leading(axes: tuple[int, ...], given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns the coordinates of the axes in front: those given, or steps and seeds from 0."""
    if given is None:
        given = {name: np.arange(length) for name, length in zip(("step", "seed"), axes, strict=False)}
    lengths = tuple(len(values) for values in given.values())
    if lengths != axes:
        raise ValueError(
            f"the axes in front have shape {axes}, but leading says {shown(dict(zip(given, lengths, strict=True)))}: "
            f"say for example leading={{'step': range(0, 100, 10), 'seed': range(4)}}"
        )
    return dict(given)


def _seeds_last(array, leading: Mapping[str, Any]):
    """Returns an array with its axis of seeds behind the others in front; a new one of length 1 where there is none."""
    last = len(leading)
    if "seed" not in leading:
        return np.expand_dims(array, last)
    return np.moveaxis(array, list(leading).index("seed"), last - 1)
