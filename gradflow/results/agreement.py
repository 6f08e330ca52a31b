"""Theory beside measurement: ratio and z-score of what was measured to what was predicted, at every place of a quantity.

Theory predicts the mean over seeds of the square of a norm or an rms, so that is what it is compared with; of other
quantities it predicts the mean. The geometric mean is a different number: 6% smaller at 12 blocks, 87% at 48.

Both are to be of the same models and of the same batch: another batch alone moves a profile by half.
"""

import numpy as np
import xarray as xr

from .configuration import differences
from .quantities import QUANTITIES
from .statistics import half_width, moments
from .tree import check_tree, settings, variable

SHARED = "shared by seeds"  # what a measurement says where all its seeds see the batch that a prediction reads


def squared(name: str) -> bool:
    """Whether theory predicts the mean square of the quantity: norms and rms."""
    return name in QUANTITIES and (QUANTITIES[name].units == "norm" or name.endswith("_rms"))


def expectation(values: xr.DataArray, dim: str = "seed") -> xr.Dataset:
    """The average over seeds that theory predicts, with its 95% interval: `mean`, `low`, `high`, and `n`, how many it is of.

    The arithmetic mean and its t-interval; for norms and rms the root mean square, the interval of the mean square m being
    `m exp(± t SE/m)`, which stays positive. Values that are not finite are left out; a single seed has no interval (NaN).
    """
    root = squared(str(values.name))
    finite = values.where(np.isfinite(values))
    mean, spread, n = moments(finite**2 if root else finite, dim)
    reach = half_width(spread, n)
    if root:
        factor = np.exp(reach / mean.where(mean > 0))
        bounds = {"low": mean / factor, "high": mean * factor}
    else:
        bounds = {"low": mean - reach, "high": mean + reach}
    shown = {"mean": mean, **bounds}
    return xr.Dataset({**{name: np.sqrt(v) if root else v for name, v in shown.items()}, "n": n}, attrs=values.attrs)


def against_theory(measured: xr.DataTree, predicted: xr.DataTree, quantity: str = "stream_gradient") -> xr.DataTree:
    """`ratio`, `ratio_sem`, `z` and `n` at every place of a quantity, a node a model; both trees have the same nodes.

    For a norm or an rms, `ratio = mean over seeds of v² / v_theory²`, for any other quantity `mean of v / v_theory`; the
    standard error has the scatter of the n seeds that are finite there and the Monte Carlo error of the theory;
    `z = (ratio − 1)/ratio_sem`.

    Of a training run, step 0 is compared. A node's attribute `compared` says in what the two are not the same: `unlike`.

    Errors: ValueError where the trees have different nodes, are of other models, data or batches, where there is one seed,
    or where step 0 was not recorded.
    """
    check_tree("measured", measured)
    check_tree("predicted", predicted)
    paths = [node.path for node in measured.leaves]
    other = [node.path for node in predicted.leaves]
    if paths != other:
        raise ValueError(f"measured are {', '.join(paths)}, predicted {', '.join(other)}: predict the same models")
    nodes = {path: _compared(measured[path], predicted[path], quantity) for path in paths}
    return xr.DataTree.from_dict(nodes)


def _compared(measured, predicted, quantity: str) -> xr.Dataset:
    """One model's."""
    values, theory = at_start(variable(measured, quantity)), variable(predicted, quantity)
    differ = unlike(measured, predicted)
    if values.sizes.get("seed", 1) < 2:
        raise ValueError("one seed has no standard error: measure at least 2")
    error = variable(predicted, f"{quantity}_sem") / abs(theory)
    values = values.where(np.isfinite(values))
    if squared(quantity):
        values, theory, error = values**2, theory**2, 2 * error
    values, theory = xr.align(values, theory, join="exact", exclude=["seed"])
    mean, spread, n = moments(values)
    scatter = spread / np.sqrt(n) / abs(theory)
    ratio, sem = mean / theory, np.hypot(scatter, error)
    words = {"long_name": f"{measured[quantity].attrs.get('long_name', quantity)}, measured / theory", "units": "1"}
    found = xr.Dataset({"ratio": ratio, "ratio_sem": sem, "z": (ratio - 1) / sem, "n": n})
    found["ratio"].attrs = {
        **words,
        "formula": "mean square over seeds / predicted" if squared(quantity) else "mean / predicted",
    }
    told = {"compared": differ} if differ else {}
    return found.assign_attrs({**measured.attrs, "quantity": quantity, "seeds": values.sizes["seed"], **told})


def at_start(values: xr.DataArray) -> xr.DataArray:
    """The quantity at training step 0, which is what theory speaks of; without steps, as it is."""
    if "step" not in values.dims:
        return values
    if 0 not in values["step"].values:
        raise ValueError("theory is of initialization, and step 0 was not recorded: add it to `record`")
    return values.sel(step=0, drop=True)


def unlike(measured, predicted) -> str:
    """One line on what two nodes of a model were not read alike in, where they may be compared all the same; empty where nothing.

    Batches are the same by their SHA-256 where both have one, else by the text they were cut from and the key.

    Errors: ValueError where they are of different models, of other data, or of another batch.
    """
    seen, told = settings(measured), settings(predicted)
    models = [own.get("configuration") for own in (told, seen)]
    differ = "" if None in models else differences(models[0], models[1], most=2)
    if differ:
        raise ValueError(f"the model that was predicted is not the one measured: {differ}; predict the same models")
    notes = ["measured are given weights, theory is of fresh ones"] if seen.get("weights") == "given" else []
    return "; ".join([*notes, *_other_batch(seen, told)])


def _other_batch(seen: dict, told: dict) -> list[str]:
    """What is known to differ between two batches, or not known; see `unlike`."""
    hashes = [own.get("batch_sha256") for own in (seen, told)]
    if None not in hashes:
        if hashes[0] != hashes[1]:
            raise ValueError(f"measured and predicted are of different batches ({_sources(seen, told)}): {_REMEDY}")
        return []
    texts, shapes = ([_of_data(own, what) for own in (seen, told)] for what in ("sha256", "shapes"))
    if any(None not in both and both[0] != both[1] for both in (texts, shapes)):
        raise ValueError(f"measured and predicted are of different data ({_sources(seen, told)}): {_REMEDY}")
    if seen.get("batches", SHARED) != SHARED:
        return [f"measured are batches {seen['batches']}, theory is of one batch"]
    keys = [str(own.get("key")) for own in (seen, told)]
    if None in texts or "None" in keys:
        return ["it is not recorded whether both are of the same batch"]
    if keys[0] == keys[1]:
        return []
    if all(key.lstrip("-").isdigit() for key in keys):
        raise ValueError(f"measured and predicted are of different batches ({_sources(seen, told)}): {_REMEDY}")
    return ["their keys are written differently, so whether both are of the same batch is not known"]


_REMEDY = "give both the same data and key"


def _of_data(own: dict, what: str):
    """All that is told of the data where `what` is: of a text "sha256", of a batch of one's own "shapes"; else None."""
    data = own.get("data")
    return data if isinstance(data, dict) and what in data else None


def _sources(seen: dict, told: dict) -> str:
    """Data and key of both, as far as they differ."""
    shown = []
    for which, own in (("measured", seen), ("predicted", told)):
        data: dict = own.get("data") or {}
        shape = ", ".join(f"{word} {data[word]}" for word in ("context", "batch") if word in data)
        parts = [str(data.get("name", "data")), shape, f"key {own.get('key')}"]
        shown.append(f"{which}: {', '.join(' '.join(part.split()) for part in parts if part)}")
    return "; ".join(shown)
