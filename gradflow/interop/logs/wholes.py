"""Norms of whole parameters, from columns that may be those of shards, of one entry of a list, or an rms.

The norm of a whole is the root of its parts' summed squares. Squares of float32 neither overflow nor underflow in float64, and no
tool logs more than that.
"""

from collections.abc import Mapping

import numpy as np

from ...results.arguments import shown
from .paths import parts
from .writers import SIZE, Choice

Columns = dict[str, np.ndarray]
ONE_OF_TWO = "keep one of them, or name those that are meant by what they begin with, prefix='…'"


def root_of_squares(values: np.ndarray) -> np.ndarray:
    """Returns `√Σ v²` over the last axis; NaN where a value is NaN. To the bit the same in any order."""
    if values.shape[-1] == 1:
        return np.abs(values[..., 0])
    with np.errstate(over="ignore"):
        return np.sqrt(np.sort(np.square(values), axis=-1).sum(axis=-1))


def wholes(columns: Mapping[str, np.ndarray], choice: Choice, sizes: Mapping[str, float]) -> Columns:
    """Returns norms by path: [S], or [S, L] of a list, or of keys that end in `[0]`, `[1]`, …; `sizes` are those of parameters.

    Errors: ValueError where a shard, an entry or a size is missing, and where a whole stands beside its parts.
    """
    norms = _listed(_joined(columns, choice))
    if not choice.writer.is_rms:
        return norms
    for path in norms:
        if path not in sizes:
            raise ValueError(
                f"the record has the rms of {shown(path)}, which is no norm, and not its size: add {shown(SIZE + path)} to "
                "a row, as nanodo logs it at step 0"
            )
    return {path: rms * np.sqrt(sizes[path]) for path, rms in norms.items()}


def _joined(columns: Mapping[str, np.ndarray], choice: Choice) -> dict[tuple[str, int | None], np.ndarray]:
    """Returns norms by path and entry in brackets, the shards of each put together."""
    shards: dict[tuple[str, int | None], dict[int | None, np.ndarray]] = {}
    for key, values in columns.items():
        if (values < 0).any():
            raise ValueError(f"{shown(key)} has negative numbers: a norm is needed, not its logarithm")
        _, shard, entry = parts(key)
        path = choice.paths[key]
        of_path = shards.setdefault((path, entry), {})
        if shard in of_path:
            raise ValueError(f"two columns of the record are of {shown(path)}: {ONE_OF_TWO}")
        of_path[shard] = values
    joined = {}
    for (path, entry), of_path in shards.items():
        _check_shards(path, of_path)
        joined[path, entry] = root_of_squares(np.stack(list(of_path.values()), axis=-1))
    return joined


def _check_shards(path: str, shards: Mapping[int | None, np.ndarray]) -> None:
    """Raises unless there is the whole alone, or every shard from 0 on, of one shape."""
    numbers = sorted(shard for shard in shards if shard is not None)
    if numbers and len(numbers) < len(shards):
        raise ValueError(f"{shown(path)} is there as a whole and in shards: {ONE_OF_TWO}")
    if numbers != list(range(len(numbers))):
        raise ValueError(
            f"{shown(path)} has the shards {_few(numbers)}: every one from 0 on is needed; ranks that hold different "
            "layers are no shards, so there name layers by their number in the whole model"
        )
    shapes = {norms.shape for norms in shards.values()}
    if len(shapes) > 1:
        raise ValueError(f"{shown(path)} has shards with different numbers of layers: give every shard all layers")


def _listed(joined: Mapping[tuple[str, int | None], np.ndarray]) -> Columns:
    """Returns norms by path, those with an entry in brackets as one list each."""
    listed: Columns = {}
    by_entry: dict[str, dict[int, np.ndarray]] = {}
    for (path, entry), values in joined.items():
        if entry is None:
            listed[path] = values
        else:
            by_entry.setdefault(path, {})[entry] = values
    for path, entries in by_entry.items():
        numbers = sorted(entries)
        if path in listed or entries[numbers[0]].ndim > 1:
            raise ValueError(f"{shown(path)} is there with an entry and without: {ONE_OF_TWO}")
        if numbers != list(range(len(numbers))):
            raise ValueError(f"{shown(path)} has the entries {_few(numbers)}: every one from 0 on is needed")
        listed[path] = np.stack([entries[number] for number in numbers], axis=-1)
    return listed


def _few(numbers: list[int]) -> str:
    """Returns the first numbers, for a line of text."""
    listed = ", ".join(map(str, numbers[:6]))
    return listed if len(numbers) <= 6 else f"{listed}, …"
