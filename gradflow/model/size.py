"""What a job takes in memory, estimated from shapes before anything is drawn or written, and what this machine has.

    check(models, data, seeds=4)                          measuring
    check(models, data, seeds=4, copies=6, records=8)     training with Adam, recorded at eight steps

An estimate is good to a factor of two or three: for the backward pass what came out of each matrix is kept, and of one sublayer
the T² weights of its heads. What needs more than there is would end in the compiler, or be killed by the system without a word.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

MEASURED = 2  # copies of the weights: these and their gradients
AROUND = 4  # arrays of attention's weights, of one sublayer at a time
COLUMNS = 32  # numbers a sublayer and record, beside one for each of its parameters
LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


@runtime_checkable
class OfHeads(Protocol):
    """A branch that mixes tokens, with a weight for every pair of them and every head."""

    heads: int


def check(
    models: Mapping[str, Any],
    data,
    *,
    seeds: int,
    copies: int = MEASURED,
    records: int = 1,
    at_once: int | None = None,
    given: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """An error where one of the models would not fit.

    Parameters
    ----------
    copies : arrays of the size of the weights, these among them
    records : steps at which readings are kept
    at_once : seeds that pass together, by default all
    given : weights by model, with a leading seed axis, where they are there already

    Errors: ValueError, one line with the estimate.
    """
    examples, tokens = extent(data)
    for name, model in models.items():
        one = lambda name=name: jax.tree.map(lambda a: a[0], given[name])
        shapes = jax.eval_shape(one) if name in given else jax.eval_shape(model.init, jax.random.key(0))
        refuse(
            name,
            "fewer blocks, features, seeds, examples or tokens",
            weights=seeds * copies * held(shapes),
            activations=(at_once or seeds) * activations(model, shapes, examples, tokens),
            records=seeds * records * recorded(model, shapes),
        )


def refuse(what: str, remedy: str, **needed: float) -> None:
    """An error where these bytes are more than there are."""
    total, limit = sum(needed.values()), memory()
    if total > limit:
        parts = ", ".join(f"{name} {readable(count)}" for name, count in needed.items() if count > total / 100)
        raise ValueError(f"{what} needs about {readable(total)} of memory ({parts}), of {readable(limit)} here: {remedy}")


def extent(data) -> tuple[int, int]:
    """Examples of a batch, and tokens of an example, of a text or a batch; 1 where it does not say."""
    if isinstance(data, Mapping):
        shapes = [np.shape(leaf) for leaf in jax.tree.leaves(data)]
        longest = max(shapes, key=math.prod, default=())
        return (*longest, 1, 1)[0], (*longest, 1, 1)[1]
    told = data.description()
    return int(told.get("batch", 1)), int(told.get("context", 1))


def held(shapes) -> int:
    """Bytes of arrays of these shapes and types."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def activations(model, shapes, examples: int, tokens: int) -> int:
    """Bytes that a backward pass of one set of weights keeps."""
    leaves = jax.tree.leaves(shapes)
    precise = 8 if any(leaf.dtype.itemsize > 4 for leaf in leaves) else 4
    out = sum(math.prod(leaf.shape) // max(1, *leaf.shape[-2:-1]) for leaf in leaves)
    branches = [sub.branch for segment in model.segments for sub in segment.block]
    heads = max((branch.heads for branch in branches if isinstance(branch, OfHeads)), default=0)
    return precise * examples * tokens * (out + AROUND * heads * tokens)


def recorded(model, shapes) -> int:
    """Bytes of the readings of one set of weights at one step."""
    sublayers = sum(segment.repeats * len(segment.block) for segment in model.segments)
    return 8 * sublayers * (COLUMNS + len(jax.tree.leaves(shapes)))


def readable(count: float) -> str:
    """A number of bytes, in words."""
    power = min(int(math.log10(max(count, 1))) // 3, 6)
    unit = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")[power]
    return f"{count / 1000**power:.3g} {unit}"


def memory() -> int:
    """Bytes that there are for arrays: the accelerator's, or the least of the machine's, its container's and the process's own."""
    stats = jax.devices()[0].memory_stats()  # None on a CPU
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"]
    return int(min(_physical(), *map(_limit, LIMITS), _own()))


def _physical() -> float:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not everywhere
        return math.inf


def _limit(path: str) -> float:
    """What a control group allows."""
    try:
        return float(Path(path).read_text())
    except (ValueError, OSError):  # "max", or none
        return math.inf


def _own() -> float:
    """What `ulimit -v` allows."""
    try:
        import resource
    except ImportError:  # not everywhere
        return math.inf
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return math.inf if soft == resource.RLIM_INFINITY else soft
