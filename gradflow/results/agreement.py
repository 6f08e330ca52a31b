"""Theory beside measurement: ratio and z-score of what was measured to what was predicted, at every place of a quantity.

Theory predicts the mean over seeds of the square of a norm or an rms, so that is what it is compared with; of other
quantities it predicts the mean. The geometric mean is a different number: 6% smaller at 12 blocks, 87% at 48.
"""

import numpy as np
import xarray as xr

from .quantities import QUANTITIES
from .statistics import half_width
from .tree import variable


def squared(name: str) -> bool:
    """Whether theory predicts the mean square of the quantity: norms and rms."""
    return QUANTITIES[name].units == "norm" or name.endswith("_rms")


def expectation(values: xr.DataArray, dim: str = "seed") -> xr.Dataset:
    """The average over seeds that theory predicts, with its 95% interval: `mean`, `low`, `high`.

    The arithmetic mean and its t-interval; for norms and rms the root mean square, the interval of the mean square m being
    `m exp(± t SE/m)`, which stays positive.
    """
    n, root = values.sizes.get(dim, 1), squared(str(values.name))
    moment = values**2 if root else values
    mean = moment.mean(dim, skipna=False) if dim in values.dims else moment
    reach = half_width(moment.std(dim, ddof=1, skipna=False), n) if n > 1 else mean * np.nan
    factor = np.exp(reach / mean)
    bounds = {"low": mean / factor, "high": mean * factor} if root else {"low": mean - reach, "high": mean + reach}
    shown = {"mean": mean, **bounds}
    return xr.Dataset({name: np.sqrt(v) if root else v for name, v in shown.items()}, attrs=values.attrs)


def against_theory(measured: xr.DataTree, predicted: xr.DataTree, quantity: str = "stream_gradient") -> xr.DataTree:
    """`ratio`, `ratio_sem` and `z` at every place of a quantity, a node a model; both trees have the same nodes.

    For a norm or an rms, `ratio = mean over seeds of v² / v_theory²`, for any other quantity `mean of v / v_theory`; the
    standard error has the scatter of the seeds and the Monte Carlo error of the theory; `z = (ratio − 1)/ratio_sem`.

    Of a training run, step 0 is compared.

    Errors: ValueError where the trees have different nodes, where there is one seed, or where step 0 was not recorded.
    """
    paths = [node.path for node in measured.leaves]
    other = [node.path for node in predicted.leaves]
    if paths != other:
        raise ValueError(f"measured are {', '.join(paths)}, predicted {', '.join(other)}: predict the same models")
    nodes = {path: _compared(measured[path], predicted[path], quantity) for path in paths}
    return xr.DataTree.from_dict(nodes)


def _compared(measured, predicted, quantity: str) -> xr.Dataset:
    """One model's."""
    values, theory = at_start(variable(measured, quantity)), variable(predicted, quantity)
    if values.sizes.get("seed", 1) < 2:
        raise ValueError("one seed has no standard error: measure at least 2")
    error = predicted[f"{quantity}_sem"] / abs(theory)
    if squared(quantity):
        values, theory, error = values**2, theory**2, 2 * error
    values, theory = xr.align(values, theory, join="exact", exclude=["seed"])
    n = values.sizes["seed"]
    scatter = values.std("seed", ddof=1) / np.sqrt(n) / abs(theory)
    ratio, sem = values.mean("seed") / theory, np.hypot(scatter, error)
    words = {"long_name": f"{QUANTITIES[quantity].long_name}, measured / theory", "units": "1"}
    found = xr.Dataset({"ratio": ratio, "ratio_sem": sem, "z": (ratio - 1) / sem})
    found["ratio"].attrs = {
        **words,
        "formula": "mean square over seeds / predicted" if squared(quantity) else "mean / predicted",
    }
    return found.assign_attrs({**measured.attrs, "quantity": quantity, "seeds": n})


def at_start(values: xr.DataArray) -> xr.DataArray:
    """The quantity at training step 0, which is what theory speaks of; without steps, as it is."""
    if "step" not in values.dims:
        return values
    if 0 not in values["step"].values:
        raise ValueError("theory is of initialization, and step 0 was not recorded: add it to `record`")
    return values.sel(step=0, drop=True)
