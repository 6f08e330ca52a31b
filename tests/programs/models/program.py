"""A program to look for a residual stream in: the loss as a researcher wrote it, and what is known of it.

A line of a model's source that makes a position of the stream ends in the comment `# stream`: x_0 as it enters the first
sublayer, and the stream after every sublayer. The equation that makes it is the last one traced on that line, or in what
the line calls. Axes: `batch token feature` for text, `batch row column feature` for images.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

VOCABULARY, LENGTH, BATCH = 32, 8, 2


@dataclass(frozen=True)
class Program:
    """A loss and its logits, functions of `(params, batch)`, with what a search should find.

    `wiring` is a name of gradflow's catalogue of wirings, the one that all of its sublayers are, or None where there is no
    trunk to find. `layers` counts positions of the stream after x_0. `source` has the functions and classes whose marked
    lines make the stream. `module` is what a user of Linen, NNX or Equinox holds, `variables` what Linen keeps beside it.
    `causal` is None where the inputs are no text.
    """

    name: str
    loss: Callable[[Any, dict], jax.Array]
    logits: Callable[[Any, dict], jax.Array]
    params: Any
    batch: dict
    wiring: str | None
    layers: int
    source: tuple
    module: Any = None
    variables: Any = None
    causal: bool | None = True


class Line(NamedTuple):
    """A line of a file, counted from 1."""

    file: str
    number: int


def marked_lines(*source, mark: str = "stream") -> list[Line]:
    """Returns the lines of these modules, classes or functions that have the comment `# stream`, or another mark."""
    found = []
    for code in source:
        lines, first = inspect.getsourcelines(code)
        file = inspect.getsourcefile(code)
        for number, line in enumerate(lines, start=max(first, 1)):
            _, *comments = line.split("#")
            if mark in (comment.strip() for comment in comments):
                found.append(Line(file, number))
    return found


def drawn(shapes, seed: int = 0):
    """Returns parameters of these shapes, as after some training: gains near 1, biases near 0, weights 0.2 of a normal draw.

    A leaf is a shape, or an array's description. NumPy draws, so that nothing is compiled.
    """
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        shape = leaf if isinstance(leaf, tuple) else leaf.shape
        middle, spread = {"gain": (1.0, 0.1), "bias": (0.0, 0.1), "weight": (0.0, 0.2)}[role(path)]
        return jnp.asarray(middle + spread * rng.standard_normal(shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes, is_leaf=is_shape)


def fresh(params):
    """Returns the parameters as at the start of training: every gain is 1, every bias 0."""
    values = {"gain": jnp.ones_like, "bias": jnp.zeros_like, "weight": lambda leaf: leaf}
    return jax.tree_util.tree_map_with_path(lambda path, leaf: values[role(path)](leaf), params)


def role(path) -> str:
    """Returns what a parameter is, from its name: `gain`, `bias` or `weight`; Equinox's norms have their gain as `weight`."""
    names = re.findall(r"\w+", jax.tree_util.keystr(path).lower())
    if len(names) > 1 and names[-1] == "value":  # an NNX variable's own field
        names = names[:-1]
    of_norm = any("norm" in name for name in names)
    if names[-1].endswith(("scale", "gain")) or (of_norm and names[-1] == "weight"):
        return "gain"
    return "bias" if names[-1].endswith(("bias", "offset")) else "weight"


def is_shape(leaf) -> bool:
    """Whether it is a tuple of numbers, as a shape is."""
    return isinstance(leaf, tuple) and all(isinstance(size, int) for size in leaf)


def text(vocabulary: int = VOCABULARY, length: int = LENGTH, seed: int = 0) -> dict:
    """Returns a batch of random tokens, and the token after each."""
    tokens = np.random.default_rng(seed).integers(0, vocabulary, (BATCH, length + 1))
    tokens = jnp.asarray(tokens, jnp.int32)
    return {"inputs": tokens[:, :-1], "targets": tokens[:, 1:]}


def images(size: int = 8, channels: int = 3, classes: int = 10, seed: int = 0) -> dict:
    """Returns a batch of random images, and a class for each."""
    rng = np.random.default_rng(seed)
    inputs = jnp.asarray(rng.standard_normal((BATCH, size, size, channels)), jnp.float32)
    return {"inputs": inputs, "targets": jnp.asarray(rng.integers(0, classes, BATCH), jnp.int32)}


def cross_entropy(logits, targets, mask=None):
    """Returns the mean of −log p(target), over what the mask has where there is one."""
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    losses = -jnp.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0]
    return losses.mean() if mask is None else (losses * mask).sum() / mask.sum()


def classifier(name, logits, params, batch, *, wiring, layers, source, **known) -> Program:
    """Returns the program of these logits whose loss is the cross-entropy with the batch's targets, under its mask if any."""
    loss = lambda params, batch: cross_entropy(logits(params, batch), batch["targets"], batch.get("mask"))
    return Program(name, loss, logits, params, batch, wiring, layers, source, **known)
