"""Cells of a record: a number, the numbers of all layers in a list, nothing, or what is no number.

Writers of JSON that have no word for NaN write it as a text: `"NaN"`, `"Infinity"`, `"-Infinity"`, as Weights & Biases does
(wandb/wandb, wandb/util.py, `make_safe_for_json`). These are numbers here. Nothing was logged where a cell is None or empty.
"""

import json
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

Cell = float | np.ndarray


class NoNumber(ValueError):
    """What a cell holds is no number: a histogram, a text, a truth value."""


def cell(value: Any) -> Cell | None:
    """Returns a number as a float, a list of numbers as an array [L], and None where nothing was logged.

    Errors: NoNumber for anything else.
    """
    if type(value) is float:  # nearly all are
        return value
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, str):
        return _of_text(value.strip())
    if isinstance(value, list | tuple):
        return _of_layers(value)
    if isinstance(value, bool | np.bool_):
        raise NoNumber
    try:
        return float(value) if isinstance(value, Real) else _of_array(value)
    except OverflowError:  # of a whole number
        raise NoNumber from None


def _of_text(text: str) -> Cell | None:
    """Returns the number that a text stands for, or the numbers of a list in JSON."""
    if not text:
        return None
    try:
        if text.startswith("["):
            return _of_layers(json.loads(text))
        return float(text)
    except (ValueError, RecursionError):
        raise NoNumber from None


def _of_layers(values: list | tuple) -> np.ndarray:
    """Returns a list of numbers as an array [L]; a layer without a number is NaN."""
    numbers = []
    for value in values:
        number = cell(value)
        if isinstance(number, np.ndarray):
            raise NoNumber
        numbers.append(np.nan if number is None else number)
    if not numbers:
        raise NoNumber
    return np.array(numbers)


def _of_array(value: Any) -> Cell:
    """Returns the number in an array without dimensions, or those of an array [L], of any library."""
    if not hasattr(value, "__array__"):
        raise NoNumber
    try:
        array = np.asarray(value, float)
    except (TypeError, ValueError, RuntimeError):  # a tensor that is traced by its library's gradients
        raise NoNumber from None
    if array.ndim == 0:
        return float(array)
    if array.ndim > 1 or not array.size:
        raise NoNumber
    return array
