"""What is not finite: which seeds of which model, and where first; averages are of the others, and tables count them (`n`)."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from ...results.quantities import PLACES, QUANTITIES

# What is finite wherever a model was read, in the order it is computed: the way forward, then back from the top.
FORWARD = ("stream_rms", "loss", "heldout_loss")
BACKWARD = ("readout_gradient", "stream_gradient", "parameter_gradient", "outer_gradient")
TOLD = 8  # seeds of a model that are told one by one


def _bad(values: xr.Variable) -> xr.Variable:
    """Where a value is not finite; what no seed has, as attention has no feed-forward weights, is not there to be so."""
    bad = values.copy(data=~np.isfinite(values.values))
    if "parameter" not in values.dims and "outer" not in values.dims:
        return bad
    nowhere = values.copy(data=np.isnan(values.values)).all(_only(values, "recipe", "step", "seed"))
    return bad & ~nowhere


def _only(values, *wanted: str) -> list:
    return [dim for dim in values.dims if dim in wanted]


def _over(values, *kept: str) -> list:
    return [dim for dim in values.dims if dim not in kept]


def lost(node) -> xr.DataArray:
    """Whether something of a seed was not finite [recipe, step, seed], as far as the node has these."""
    data, found = node.to_dataset(), xr.Variable((), False)
    for name in (*FORWARD, *BACKWARD):
        if name in data:
            bad = _bad(data[name].variable)
            found = found | bad.any(_over(bad, "recipe", "step", "seed"))
    return xr.DataArray(found, coords={dim: data[dim] for dim in found.dims if dim in data.coords})


def seeds(node) -> list:
    """The seeds of which something was not finite at some time; without seeds, None where the reading was not."""
    mask = lost(node)
    if "seed" not in mask.dims:
        return [None] if mask.any() else []
    if "nonfinite_step" in node.data_vars:  # between records too
        mask = mask | (node["nonfinite_step"].reset_coords(drop=True) >= 0)
    ever = mask.any(_over(mask, "seed"))
    return ever["seed"].values[ever.values].tolist() if "seed" in ever.coords else np.flatnonzero(ever).tolist()


def most(node) -> int:
    """Of how many seeds an average of the node is, where it is of the most: at its best step."""
    mask = lost(node)
    if "seed" not in mask.dims:
        return int(node.sizes.get("seed", 1)) if not mask.any() else 0
    return int((~mask).sum("seed").max())


def alone(members: Mapping) -> bool:
    """Whether no model has two seeds to average, so that there is no interval anywhere."""
    return all(most(node) < 2 for node in members.values())


def _of_seed(data: xr.Dataset, seed) -> xr.Dataset:
    """One seed's data, by its label where seeds have one; all, where there are no seeds."""
    if seed is None:
        return data
    return data.sel(seed=seed) if "seed" in data.coords else data.isel(seed=seed)


def first(node, seed) -> str:
    """The end of a sentence on where a seed was first not finite: ` from step 3 on, first the stream at stream position 2`."""
    of_seed = _of_seed(node.to_dataset(), seed)
    if "nonfinite_step" in of_seed and "step" in of_seed.dims:
        last = of_seed.isel(step=-1)
        if last["nonfinite_step"].ndim == 0 and int(last["nonfinite_step"]) >= 0:
            what = f"the {PLACES[int(last['nonfinite_quantity'])]} " if "nonfinite_quantity" in last else ""
            place = f"at stream position {int(last['nonfinite_depth'])}"
            return f" from step {int(last['nonfinite_step'])} on, first {what}{place}"
    return f", {_first_seen(of_seed)}"


def _first_seen(data: xr.Dataset) -> str:
    """The same from what was read: the lowest position on the way forward, else the highest on the way back."""
    for name in (*FORWARD, *BACKWARD):
        if name not in data or not (bad := _bad_alone(data[name])).any():
            continue
        words = f"first the {QUANTITIES[name].long_name}"
        place = next((dim for dim in ("depth", "sublayer") if dim in bad.dims), None)
        if place is None:
            return words
        positions = bad[place].values[bad.any(_over(bad, place)).values]
        position = positions.min() if name in FORWARD else positions.max()
        return f"{words} at {'stream position' if place == 'depth' else 'sublayer'} {position}"
    return "first at a place that is not known"


def _bad_alone(values: xr.DataArray) -> xr.DataArray:
    """Where a value of one seed is not finite; of weights NaN may mean that there are none, so there an infinity alone counts."""
    finite = xr.ufuncs.isfinite(values)
    return ~(finite | values.isnull()) if {"parameter", "outer"} & set(values.dims) else ~finite


def short(members: Mapping) -> str:
    """Models and seeds in few words, for a caption: `post, seed 1; deep, seeds 0, 2`; empty where all is finite."""
    told = []
    for name, node in members.items():
        found = seeds(node)
        if found:
            told.append(name if found == [None] else f"{name}, {_in_few_words(found)}")
    return "; ".join(told)


def _in_few_words(numbers: list) -> str:
    """`seed 1`, `seeds 0, 2`, or the first of many."""
    plural = "s" if len(numbers) > 1 else ""
    more = f" and {len(numbers) - TOLD} more" if len(numbers) > TOLD else ""
    return f"seed{plural} {', '.join(map(str, numbers[:TOLD]))}{more}"


def lines(members: Mapping) -> list[str]:
    """A sentence a seed that is not finite, and one a model on what its averages are then of."""
    told = []
    for name, node in members.items():
        found = seeds(node)
        for seed in found[:TOLD]:
            told.append(f"{name}{'' if seed is None else f', seed {seed}'}: not finite{first(node, seed)}")
        if len(found) > TOLD:
            told.append(f"{name}: {len(found) - TOLD} more seeds are not finite")
        if found and found != [None]:
            left = node.sizes["seed"] - len(found)
            rest = f"the other {left} of {node.sizes['seed']} seeds" if left else "none of its seeds"
            told.append(f"{name}: where it is not finite, means are over {rest}")
    return told
