"""The largest of what forward passes show by layer: its band, and the place in the stack that has it."""

from itertools import product

import numpy as np
import xarray as xr

from ...results.quantities import ARRAYS, ROUNDINGS
from ...results.statistics import band
from .profiles import variable

# What a table calls the largest, or the mean, of a quantity over all of its places.
ENTROPY = "entropy of attention, mean over heads"
LARGEST = {
    "attention_first_token": "attention on the first token, largest of all heads",
    "attention_largest_logit": "logit of attention, largest of all heads",
    "massive_activation": "entry of the stream / median, largest of all positions",
    "sublayer_removal": "loss without a sublayer, largest growth",
    "block_removal": "loss without a block, largest growth",
}


def bands(node) -> dict[str, xr.Dataset]:
    """Returns the band of each of these that was read, by step where there are steps, under the words of a table."""
    found = {}
    if "attention_entropy" in node:
        values = variable(node, "attention_entropy")
        if values.notnull().any():
            found[ENTROPY] = band(values.mean(["sublayer", "head"]).rename("attention_entropy"))
    for quantity, words in LARGEST.items():
        if quantity in node and variable(node, quantity).notnull().any():
            found[words] = largest(variable(node, quantity))
    if "rounding_error" in node:
        for precision, array in product(ROUNDINGS, ARRAYS):
            errors = variable(node, "rounding_error").sel(precision=precision, rounded=array, drop=True)
            found[f"error of the {array} in {precision}, largest of all positions"] = largest(errors)
    return found


def largest(values: xr.DataArray) -> xr.Dataset:
    """Returns the band at the place whose mean over seeds is largest, with the labels of that place as coordinates."""
    of_places = band(values)
    dims = [dim for dim in of_places["mean"].dims if dim != "step"]
    stacked = of_places.stack(place=dims).reset_index("place")
    ranked = stacked["mean"].where(np.isfinite(stacked["mean"]), -np.inf)
    return stacked.isel(place=ranked.argmax("place"))
