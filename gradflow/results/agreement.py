"""Theory beside measurement: ratio and z-score of what was measured to what was predicted, at every place of a quantity.

Theory predicts the mean over seeds of the square of a norm or an rms, so that is what it is compared with; of other
quantities it predicts the mean. The geometric mean is a different number: 6% smaller at 12 blocks, 87% at 48.

Both must be of the same models and of the same batch: another batch alone moves a profile by half.
"""

import numpy as np
import xarray as xr

from .configuration import differences
from .quantities import QUANTITIES
from .statistics import half_width, moments
from .tree import check_tree, settings, variable

SHARED = "shared by seeds"  # `batches` of a measurement whose seeds all see the batch that a prediction reads


def squared(name: str) -> bool:
    """Returns whether theory predicts the mean square of the quantity: norms and rms."""
    if name not in QUANTITIES:
        return False
    return QUANTITIES[name].units == "norm" or name.endswith("_rms")


def expectation(values: xr.DataArray, dim: str = "seed") -> xr.Dataset:
    """Returns the average over seeds that theory predicts, with its 95% interval: `mean`, `low`, `high`, and the number `n`.

    The arithmetic mean and its t-interval; for norms and rms the root mean square, the interval of the mean square m being
    `m exp(± t SE/m)`, which stays positive. Values that are not finite are left out; a single seed has no interval (NaN).
    """
    finite = values.where(np.isfinite(values))
    if not squared(str(values.name)):
        mean, spread, n = moments(finite, dim)
        reach = half_width(spread, n)
        return xr.Dataset({"mean": mean, "low": mean - reach, "high": mean + reach, "n": n}, attrs=values.attrs)
    mean, spread, n = moments(finite**2, dim)
    factor = np.exp(half_width(spread, n) / mean.where(mean > 0))
    bounds = {"mean": np.sqrt(mean), "low": np.sqrt(mean / factor), "high": np.sqrt(mean * factor)}
    return xr.Dataset({**bounds, "n": n}, attrs=values.attrs)


def against_theory(measured: xr.DataTree, predicted: xr.DataTree, quantity: str = "stream_gradient") -> xr.DataTree:
    """Returns `ratio`, `ratio_sem`, `z` and `n` at every place of a quantity, a node a model; both trees have the same nodes.

    For a norm or an rms, `ratio = mean over seeds of v² / v_theory²`, for any other quantity `mean of v / v_theory`; the
    standard error has the scatter of the n seeds that are finite there and the Monte Carlo error of the theory;
    `z = (ratio − 1)/ratio_sem`.

    Of a training run, step 0 is compared. A node's attribute `compared` says how the two differ: `unlike`.

    Errors: ValueError where the trees have different nodes, are of other models, data or batches, where there is one seed,
    or where step 0 was not recorded.
    """
    check_tree("measured", measured)
    check_tree("predicted", predicted)
    paths = [node.path for node in measured.leaves]
    predicted_paths = [node.path for node in predicted.leaves]
    if paths != predicted_paths:
        measured_names, predicted_names = ", ".join(paths), ", ".join(predicted_paths)
        raise ValueError(f"measured are {measured_names}, predicted {predicted_names}: predict the same models")
    nodes = {path: _compared(measured[path], predicted[path], quantity) for path in paths}
    return xr.DataTree.from_dict(nodes)


def _compared(measured, predicted, quantity: str) -> xr.Dataset:
    """Returns the node of one model."""
    values = at_start(variable(measured, quantity))
    theory = variable(predicted, quantity)
    difference = unlike(measured, predicted)
    if values.sizes.get("seed", 1) < 2:
        raise ValueError("one seed has no standard error: measure at least 2")
    error = variable(predicted, f"{quantity}_sem") / abs(theory)
    values = values.where(np.isfinite(values))
    formula = "mean / predicted"
    if squared(quantity):
        formula = "mean square over seeds / predicted"
        values = values**2
        theory = theory**2
        error = 2 * error
    values, theory = xr.align(values, theory, join="exact", exclude=["seed"])
    mean, spread, n = moments(values)
    scatter = spread / np.sqrt(n) / abs(theory)
    ratio = mean / theory
    sem = np.hypot(scatter, error)
    node = xr.Dataset({"ratio": ratio, "ratio_sem": sem, "z": (ratio - 1) / sem, "n": n})
    long_name = measured[quantity].attrs.get("long_name", quantity)
    node["ratio"].attrs = {"long_name": f"{long_name}, measured / theory", "units": "1", "formula": formula}
    node.attrs = {**measured.attrs, "quantity": quantity, "seeds": values.sizes["seed"]}
    if difference:
        node.attrs["compared"] = difference
    return node


def at_start(values: xr.DataArray) -> xr.DataArray:
    """Returns the quantity at training step 0, which theory predicts; without steps, `values` unchanged."""
    if "step" not in values.dims:
        return values
    if 0 not in values["step"].values:
        raise ValueError("theory is of initialization, and step 0 was not recorded: add it to `record`")
    return values.sel(step=0, drop=True)


def unlike(measured, predicted) -> str:
    """Returns one line on how two nodes of a model differ, where they may be compared all the same; empty without difference.

    Batches are the same by their SHA-256 where both have one, else by the text they were cut from and the key.

    Errors: ValueError where they are of different models, of other data, or of another batch.
    """
    of_measured = settings(measured)
    of_predicted = settings(predicted)
    model_measured = of_measured.get("configuration")
    model_predicted = of_predicted.get("configuration")
    if model_measured is not None and model_predicted is not None:
        difference = differences(model_predicted, model_measured, most=2)
        if difference:
            raise ValueError(
                f"the model that was predicted is not the one measured: {difference}; predict the same models"
            )
    notes = []
    if of_measured.get("weights") == "given":
        notes.append("measured are given weights, theory is of fresh ones")
    batches = _batch_difference(of_measured, of_predicted)
    if batches:
        notes.append(batches)
    return "; ".join(notes)


def _batch_difference(measured: dict, predicted: dict) -> str:
    """Returns how two batches differ, or that it is not known; empty where they are the same. See `unlike`."""
    hashes = measured.get("batch_sha256"), predicted.get("batch_sha256")
    if None not in hashes:
        if hashes[0] != hashes[1]:
            raise ValueError(f"measured and predicted are of different batches {_sources(measured, predicted)}")
        return ""
    texts = _data_with("sha256", measured), _data_with("sha256", predicted)
    shapes = _data_with("shapes", measured), _data_with("shapes", predicted)
    for of_measured, of_predicted in (texts, shapes):
        if of_measured is not None and of_predicted is not None and of_measured != of_predicted:
            raise ValueError(f"measured and predicted are of different data {_sources(measured, predicted)}")
    if measured.get("batches", SHARED) != SHARED:
        return f"measured are batches {measured['batches']}, theory is of one batch"
    keys = str(measured.get("key")), str(predicted.get("key"))
    if None in texts or "None" in keys:
        return "it is not recorded whether both are of the same batch"
    if keys[0] == keys[1]:
        return ""
    if all(key.lstrip("-").isdigit() for key in keys):
        raise ValueError(f"measured and predicted are of different batches {_sources(measured, predicted)}")
    return "their keys are written differently, so whether both are of the same batch is not known"


def _data_with(name: str, recorded: dict) -> dict | None:
    """Returns what was recorded of the data where it has that entry: "sha256" of a text, "shapes" of a batch; else None."""
    data = recorded.get("data")
    if isinstance(data, dict) and name in data:
        return data
    return None


def _sources(measured: dict, predicted: dict) -> str:
    """Returns data and key of both, and the remedy: the end of an error line."""
    return f"(measured: {_source(measured)}; predicted: {_source(predicted)}): give both the same data and key"


def _source(recorded: dict) -> str:
    data: dict = recorded.get("data") or {}
    parts = [str(data.get("name", "data"))]
    for name in ("context", "batch"):
        if name in data:
            parts.append(f"{name} {data[name]}")
    parts.append(f"key {recorded.get('key')}")
    return ", ".join(" ".join(part.split()) for part in parts)
