"""What is not finite: which seeds of which model, and where first; averages are of the others, and tables count them (`n`)."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from ...results.quantities import PLACES, QUANTITIES

# Finite wherever a model was read, in the order of computation: the way forward, then back from the top.
FORWARD = ("stream_rms", "loss", "heldout_loss")
BACKWARD = ("readout_gradient", "stream_gradient", "parameter_gradient", "outer_gradient")
TOLD = 8  # seeds of a model that have a sentence each


def _not_finite(values: xr.Variable) -> xr.Variable:
    """Returns where a value is not finite.

    Where a value is NaN for every seed, the quantity doesn't exist there (attention has no feed-forward weights).
    """
    bad = values.copy(data=~np.isfinite(values.values))
    if "parameter" not in values.dims and "outer" not in values.dims:
        return bad
    readings = [dim for dim in values.dims if dim in ("recipe", "step", "seed")]
    absent = values.copy(data=np.isnan(values.values)).all(readings)
    return bad & ~absent


def _without(dims, *kept: str) -> list:
    """Returns the dimensions but for those that are kept."""
    return [dim for dim in dims if dim not in kept]


def lost(node) -> xr.DataArray:
    """Returns whether something of a seed was not finite [recipe, step, seed], as far as the node has these dimensions."""
    data = node.to_dataset()
    mask = xr.Variable((), False)
    for name in (*FORWARD, *BACKWARD):
        if name in data:
            bad = _not_finite(data[name].variable)
            mask = mask | bad.any(_without(bad.dims, "recipe", "step", "seed"))
    coordinates = {dim: data[dim] for dim in mask.dims if dim in data.coords}
    return xr.DataArray(mask, coords=coordinates)


def seeds(node) -> list:
    """Returns the seeds of which something was not finite at some time.

    Of a reading without seeds the list is `[None]` where it was not finite.
    """
    mask = lost(node)
    if "seed" not in mask.dims:
        return [None] if mask.any() else []
    if "nonfinite_step" in node.data_vars:  # between records too
        mask = mask | (node["nonfinite_step"].reset_coords(drop=True) >= 0)
    ever = mask.any(_without(mask.dims, "seed"))
    if "seed" in ever.coords:
        return ever["seed"].values[ever.values].tolist()
    return np.flatnonzero(ever).tolist()


def most(node) -> int:
    """Returns the number of seeds that are finite at the step where most of them are."""
    mask = lost(node)
    if "seed" in mask.dims:
        return int((~mask).sum("seed").max())
    if mask.any():
        return 0
    return int(node.sizes.get("seed", 1))


def alone(members: Mapping) -> bool:
    """Returns whether no model has two seeds to average, so that there is no interval anywhere."""
    return all(most(node) < 2 for node in members.values())


def _of_seed(data: xr.Dataset, seed) -> xr.Dataset:
    """Returns one seed's data, by its label where seeds have one; all of it where there are no seeds."""
    if seed is None:
        return data
    if "seed" in data.coords:
        return data.sel(seed=seed)
    return data.isel(seed=seed)


def first(node, seed) -> str:
    """Returns the end of a sentence on where a seed was first not finite: ` from step 3 on, first the stream at …`."""
    of_seed = _of_seed(node.to_dataset(), seed)
    if "nonfinite_step" not in of_seed or "step" not in of_seed.dims:
        return f", {_first_seen(of_seed)}"
    last = of_seed.isel(step=-1)
    if last["nonfinite_step"].ndim or int(last["nonfinite_step"]) < 0:
        return f", {_first_seen(of_seed)}"
    quantity = ""
    if "nonfinite_quantity" in last:
        quantity = f"the {PLACES[int(last['nonfinite_quantity'])]} "
    position = int(last["nonfinite_depth"])
    return f" from step {int(last['nonfinite_step'])} on, first {quantity}at stream position {position}"


def _first_seen(data: xr.Dataset) -> str:
    """Returns where the readings show it first: the lowest position on the way forward, else the highest on the way back."""
    for name in (*FORWARD, *BACKWARD):
        if name not in data:
            continue
        bad = _not_finite_of_one_seed(data[name])
        if bad.any():
            return f"first the {QUANTITIES[name].long_name}{_position(bad, lowest=name in FORWARD)}"
    return "first at a place that is not known"


def _position(bad: xr.DataArray, *, lowest: bool) -> str:
    """Returns ` at stream position 2`, the lowest or the highest one that is not finite; nothing for a number by itself."""
    if "depth" in bad.dims:
        dim, words = "depth", "stream position"
    elif "sublayer" in bad.dims:
        dim, words = "sublayer", "sublayer"
    else:
        return ""
    positions = bad[dim].values[bad.any(_without(bad.dims, dim)).values]
    position = positions.min() if lowest else positions.max()
    return f" at {words} {position}"


def _not_finite_of_one_seed(values: xr.DataArray) -> xr.DataArray:
    """Returns where a value of one seed is not finite.

    A NaN of a weight may mean that there is no such weight, so an infinity alone counts there.
    """
    finite = xr.ufuncs.isfinite(values)
    if "parameter" in values.dims or "outer" in values.dims:
        return ~(finite | values.isnull())
    return ~finite


def short(members: Mapping) -> str:
    """Returns models and seeds for a caption: `post, seed 1; deep, seeds 0, 2`; empty where all is finite."""
    listed = []
    for name, node in members.items():
        bad = seeds(node)
        if bad == [None]:
            listed.append(name)
        elif bad:
            listed.append(f"{name}, {_in_few_words(bad)}")
    return "; ".join(listed)


def _in_few_words(numbers: list) -> str:
    """Returns `seed 1`, `seeds 0, 2`, or the first of many."""
    plural = "s" if len(numbers) > 1 else ""
    text = f"seed{plural} {', '.join(map(str, numbers[:TOLD]))}"
    if len(numbers) > TOLD:
        text += f" and {len(numbers) - TOLD} more"
    return text


def gaps(members: Mapping) -> str:
    """Returns at how many steps a logged model has a layer without a finite number: `post at 30 of 100 steps`."""
    listed = []
    for name, node in members.items():
        if "layer_gradient" not in node:
            continue
        norms = node["layer_gradient"]
        without = ~np.isfinite(norms).all("sublayer")
        if without.any():
            listed.append(f"{name} at {int(without.sum())} of {without.size} steps")
    return "; ".join(listed)


def lines(members: Mapping) -> list[str]:
    """Returns a sentence for every seed that is not finite, and one for every model on what its averages are then of."""
    sentences = []
    for name, node in members.items():
        bad = seeds(node)
        if bad == [None]:
            sentences.append(f"{name}: not finite{first(node, None)}")
            continue
        for seed in bad[:TOLD]:
            sentences.append(f"{name}, seed {seed}: not finite{first(node, seed)}")
        if len(bad) > TOLD:
            sentences.append(f"{name}: {len(bad) - TOLD} more seeds are not finite")
        if bad:
            sentences.append(f"{name}: where it is not finite, means are over {_rest(node.sizes['seed'], len(bad))}")
    return sentences


def _rest(seeds_in_all: int, bad: int) -> str:
    """Returns `the other 2 of 3 seeds`, or `none of its seeds`."""
    if bad == seeds_in_all:
        return "none of its seeds"
    return f"the other {seeds_in_all - bad} of {seeds_in_all} seeds"
