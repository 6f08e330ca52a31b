"""The numbers of a coordinate check: the size of stream, gradient and update against width and depth, and their exponents.

Columns as in `tables`, with `width`, `total_depth`, and `quantity`: the key of `QUANTITIES`.
"""

import pandas as pd
import xarray as xr

from ... import laws
from ...results.sweeps import against_size, output_parameter
from .fits import fitting
from .profiles import long

QUANTITIES = {
    "stream_rms": "stream rms, top",
    "parameter_gradient": "gradient, last output",
    "stream_change": "change of the stream by one update, top",
}
AXES = {"width": "width", "total_depth": "blocks"}
_ENTRIES: dict[str, dict] = {
    "stream_rms": {"depth": -1},
    "parameter_gradient": {"sublayer": -1, "parameter": output_parameter},
    "stream_change": {"depth": -1},
}


def other(axis: str) -> str:
    """Returns the other axis of the check."""
    return next(name for name in AXES if name != axis)


def sizes(checked: xr.DataTree) -> pd.DataFrame:
    """Returns the size of every quantity at every width and depth, at the last recorded step."""
    frames = []
    for quantity in QUANTITIES:
        for family, values in _against(checked, quantity, "width").items():
            model, depth = _split(family, "depth")
            table = long({model: values}).assign(total_depth=depth, quantity=quantity)
            frames.append(table)
    return pd.concat(frames, ignore_index=True)


def exponents(checked: xr.DataTree) -> pd.DataFrame:
    """Returns the power k of each size, `a width^k` at every depth and `a L^k` at every width, with its interval over seeds.

    Columns `model`, `quantity`, `axis`, the size of the other axis, `estimate`, `low`, `high`; needs three sizes of the axis.
    """
    rows = []
    for quantity in QUANTITIES:
        for axis, words in (("width", "depth"), ("total_depth", "width")):
            for family, values in _against(checked, quantity, axis).items():
                usable = fitting(values, axis)
                if usable is None:
                    continue
                model, fixed = _split(family, words)
                k = laws.fit(usable, laws.monomial, over=axis).sel(number="k")
                row = {"model": model, "quantity": quantity, "axis": axis, other(axis): fixed}
                rows.append(row | {name: float(k[name]) for name in ("estimate", "low", "high")})
    columns = ["model", "quantity", "axis", *AXES, "estimate", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def _against(checked, quantity: str, axis: str) -> dict[str, xr.DataArray]:
    """Returns one entry of a quantity against one axis, by model and size of the other axis."""
    found = {}
    for family, values in against_size(checked, quantity, axis, **_ENTRIES[quantity]).items():
        if "step" in values.dims:
            values = values.isel(step=-1, drop=True)
        found[family] = values.rename(quantity)
    return found


def _split(family: str, size: str) -> tuple[str, int]:
    """Returns the model and the number in `pre/depth_3`; the name of the size may stand before or behind the model's."""
    parts = family.split("/")
    number = next(part for part in parts if part.startswith(f"{size}_"))
    parts.remove(number)
    return "/".join(parts) or "model", int(number.removeprefix(f"{size}_"))
