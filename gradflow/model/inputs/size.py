"""What a job takes in memory, estimated from shapes before anything is drawn or written, and what this machine has.

    check(models, data, seeds=4)                          measuring
    check(models, data, seeds=4, copies=6, records=8)     training with Adam, recorded at eight steps

An estimate is good to a factor of two or three: for the backward pass what came out of each matrix is kept, and of one sublayer
the T² weights of its heads. On a mesh it is that of a device, and the devices of a CPU share its memory. What needs more than
there is would end in the compiler, or be killed by the system without a word.
"""

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import jax
from jax.sharding import AbstractMesh, Mesh

from ..contracts import Drawable, Model
from ..numerics.devices import EXAMPLE, MODEL, SEED, sharing, ways
from ..numerics.precision import is_array
from .weights import shapes

SMALLER = "take fewer blocks, features, seeds, examples or tokens"
GRAMS, DRAWN = 32, 5  # Gram matrices at a time, and for each head
MEASURED = 2  # copies of the weights: these and their gradients
AROUND = 4  # arrays of attention's weights, of one sublayer at a time
KEY = 64  # bytes of a seed's key, and of what it is made from
RATE = 64  # bytes of a learning rate on its way
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
    steps: int = 0,
    given: Mapping[str, Any] = MappingProxyType({}),
    mesh: Mesh | None = None,
) -> None:
    """Refuses models that would not fit into memory.

    Parameters
    ----------
    copies : arrays of the size of the weights, these among them
    records : steps at which readings are kept
    at_once : seeds that pass together, by default all
    steps : learning rates, one each
    given : weights by model, with a leading seed axis, where they are there already
    mesh : devices among which all is divided

    Errors: ValueError, one line with the estimate.
    """
    examples, tokens = extent(data)
    for name, model in models.items():
        if name in given:
            weights = jax.eval_shape(_first_seed, given[name])
        elif isinstance(model, Drawable):
            weights = shapes(model)
        else:
            continue
        needed = of_a_device(model, weights, examples, tokens, seeds=seeds, copies=copies, at_once=at_once, mesh=mesh)
        on_this_machine = {what: sharing(mesh) * count for what, count in needed.items()}
        refuse(name, SMALLER, **on_this_machine, records=seeds * records * recorded(model, weights) + RATE * steps)


def _first_seed(weights):
    return jax.tree.map(lambda leaf: leaf[0], weights)


def check_rows(models: Mapping[str, Model], data, draws: int, replicas: int) -> None:
    """Refuses models whose theory would not fit: Gram matrices of all tokens of a batch, some for each of the drawn heads.

    Errors: ValueError, one line with the estimate.
    """
    examples, tokens = extent(data)
    rows = (examples * tokens) ** 2
    for name, model in models.items():
        sublayers = model.stack.size
        refuse(
            name,
            "take fewer examples, tokens, draws, replicas or blocks",
            grams=4 * rows * (GRAMS + 2 * sublayers),
            heads=4 * rows * DRAWN * draws,
            records=8 * COLUMNS * sublayers * (replicas + 8) + KEY * replicas,
        )


def refuse(what: str, remedy: str, **needed: float) -> None:
    """Refuses what needs more bytes than there are."""
    total, limit = sum(needed.values()), memory()
    if total > limit:
        parts = []
        for name, count in needed.items():
            if count > total / 100:
                parts.append(f"{name} {readable(count)}")
        listed = ", ".join(parts)
        raise ValueError(
            f"{what} needs about {readable(total)} of memory ({listed}), of {readable(limit)} here: {remedy}"
        )


def extent(data) -> tuple[int, int]:
    """Returns the examples of a batch, of all seeds if one a seed, and tokens of an example; 1 where it doesn't say."""
    if isinstance(data, Mapping):
        lengths = []
        for leaf in jax.tree.leaves(list(data.values())):
            if is_array(leaf):
                of_tokens = leaf.dtype.kind in "iu"
                lengths.append(leaf.shape if of_tokens else leaf.shape[:-1])  # without features
        *examples, tokens = max(lengths, key=math.prod, default=()) or (1,)
        return math.prod(examples), tokens
    told = data.description()
    return int(told.get("batch", 1)), int(told.get("context", 1))


def held(shapes, parts: int = 1) -> int:
    """Returns the bytes of arrays of these shapes and types, or of one of the parts that their last axes are divided into."""
    total = 0
    for leaf in jax.tree.leaves(shapes):
        divided = parts if leaf.shape and leaf.shape[-1] % parts == 0 else 1
        total += math.prod(leaf.shape) * leaf.dtype.itemsize // divided
    return total


def activations(model, shapes, examples: int, tokens: int) -> int:
    """Returns the bytes that a backward pass of one set of weights keeps."""
    outputs = sum(map(_outputs, jax.tree.leaves(shapes)))
    return _precise(shapes) * examples * tokens * (outputs + AROUND * _heads(model) * tokens)


def rematerialized(model, shapes, examples: int, tokens: int) -> int:
    """Returns the same where blocks are computed again: a stream a block, all of one block, and of what is outside the stack."""
    blocks, features = 0, 0
    for segment in shapes["stack"]:
        outputs = sum(map(_outputs, jax.tree.leaves(segment)))
        repeats = jax.tree.leaves(segment)[0].shape[0]
        blocks += repeats
        features = max(features, outputs // repeats)
    outside = {name: leaves for name, leaves in shapes.items() if name != "stack"}
    kept = (blocks + 1) * model.width + features + sum(map(_outputs, jax.tree.leaves(outside)))
    return _precise(shapes) * examples * tokens * (kept + AROUND * _heads(model) * tokens)


def _outputs(leaf) -> int:
    """Returns how many features come out of a matrix, or of several along the axes before it; of a vector its entries."""
    inputs = math.prod(leaf.shape[-2:-1])  # 1 of a vector
    return math.prod(leaf.shape) // max(1, inputs)


def _precise(shapes) -> int:
    """Returns the bytes of a number."""
    return 8 if any(leaf.dtype.itemsize > 4 for leaf in jax.tree.leaves(shapes)) else 4


def _heads(model) -> int:
    """Returns the largest number of heads of a sublayer."""
    branches = [sub.branch for sub in model.stack.different]
    return max((branch.heads for branch in branches if isinstance(branch, OfHeads)), default=0)


def of_a_device(
    model,
    shapes,
    examples: int,
    tokens: int,
    *,
    seeds: int,
    copies: int = MEASURED,
    at_once: int | None = None,
    mesh: Mesh | AbstractMesh | None = None,
    kept: Callable[..., int] = activations,
) -> dict[str, float]:
    """Returns the bytes that weights, and what is kept of a backward pass (`activations`, `rematerialized`), take on a device.

    All is divided by seeds; weights along the mesh's axis `model`; what is kept by examples, and along `model` too, since a
    product with a divided matrix has divided features.
    """
    seeds_here = math.ceil(seeds / ways(mesh, SEED))
    passing = math.ceil((at_once or seeds) / ways(mesh, SEED))
    parts = ways(mesh, MODEL)
    of_pass = kept(model, shapes, examples, tokens) / ways(mesh, EXAMPLE) / parts
    return {"weights": seeds_here * copies * held(shapes, parts), "activations": passing * of_pass}


def recorded(model, shapes) -> int:
    """Returns the bytes of the readings of one set of weights at one step."""
    return 8 * model.stack.size * (COLUMNS + len(jax.tree.leaves(shapes)))


def readable(count: float) -> str:
    """Returns a number of bytes, in words."""
    power = min(int(math.log10(max(count, 1))) // 3, 6)
    unit = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")[power]
    return f"{count / 1000**power:.3g} {unit}"


def memory() -> int:
    """Returns the bytes there are for arrays: an accelerator's, or the least of the machine's, container's and process's."""
    stats = jax.local_devices()[0].memory_stats()  # None on a CPU
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"]
    return int(min(_physical(), *map(_limit, LIMITS), _own()))


def _physical() -> float:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not everywhere
        return math.inf


def _limit(path: str) -> float:
    """Returns the bytes that a control group allows."""
    try:
        return float(Path(path).read_text())
    except (ValueError, OSError):  # "max", or none
        return math.inf


def _own() -> float:
    """Returns the bytes that `ulimit -v` allows."""
    try:
        import resource
    except ImportError:  # not everywhere
        return math.inf
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return math.inf if soft == resource.RLIM_INFINITY else soft
