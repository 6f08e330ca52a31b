"""Pieces of a program as parts of equation (1), and what is seen of them: do they couple tokens, are they a norm.

Axes: x is [tokens, features] or [lanes, tokens, features], of one example.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...model.equation.sublayer import recorded
from ...model.layers.functional import standardized
from ...model.layers.layer import ALL, Layer
from ...model.layers.norms import LayerNorm, RMSNorm
from ..trace.pieces import Piece
from .layout import Layout


@dataclass(frozen=True)
class Held(Layer):
    """Pieces of a program one after the other, as a part of equation (1); its parameters are their contexts, as they are."""

    pieces: tuple[Piece, ...] = field(repr=False)
    below: Layout
    above: Layout
    couples: str = ALL

    def init(self, key, width: int):
        """Returns no parameters: they are taken from a forward pass."""
        return ()

    def __call__(self, params, x):
        """Returns the last piece's output, of the first one's input `x`."""
        y = self.below.in_program(x, self.pieces[0].below)
        for piece, context in zip(self.pieces, params, strict=True):
            y = piece(context, y)
        return self.above.of_example(y).astype(x.dtype)

    def bound(self, params):
        """Returns the part with its contexts in their own precision."""
        return partial(self, params)


@dataclass(frozen=True)
class HeldNorm(Held):
    """A norm on the trunk, known as one by what it does: `γ x̂ + β`, x̂ the standardized token, centred or not."""

    centred: bool = True

    def null_directions(self, params, x):
        """Returns the directions that it removes from its input, as `LayerNorm` or `RMSNorm` do."""
        if self.centred:
            return LayerNorm().null_directions(None, x)
        return RMSNorm().null_directions(None, x)

    def output_normals(self, params, y, inherited):
        """Returns the directions that its output can't move along, `1/γ` (if centred) and `(y − β)/γ²`."""
        gain, shift = affine(partial(self, params), y, self.centred)
        normals = [(y - shift) / gain**2]
        if self.centred:
            normals.append(1 / gain)
        return jnp.stack(normals, axis=-1)


LARGE = 2.0**20  # beside which no norm's eps counts


def affine(norm: Callable, like, centred: bool):
    """Returns γ and β of a norm for arrays shaped like `like`, from what it makes of `±p`, with no entry of p near the mean."""
    signs = jnp.where(jnp.arange(like.shape[-1]) % 2 == 0, LARGE, -LARGE)
    p = jnp.broadcast_to(signs.astype(like.dtype), like.shape)
    above, below = norm(p), norm(-p)
    gain = (above - below) / (2 * standardized(p, 0.0, centred))
    return gain, (above + below) / 2


# ---- what a part does -----------------------------------------------------------------------------------------


class Traits(NamedTuple):
    """Whether a part couples tokens, and the input at which that was seen."""

    couples_tokens: Any
    input: Any


def traits(x, parts, _):
    """Visit: the forward pass; reports which parts couple tokens, and whether `norm_out` is a LayerNorm, and an RMSNorm."""
    y, seen = recorded(parts, x, at=_couples)
    coupling = {name: trait.couples_tokens for name, trait in seen.items()}
    return y, (coupling, norms(parts["norm_out"], seen["norm_out"].input))


def _couples(part: Callable, u) -> tuple[Any, Traits]:
    """Returns a part's output at `u`, and whether it couples tokens there."""
    y, push = jax.linearize(part, u)
    return y, Traits(couples_tokens(push, u), u)


def couples_tokens(push: Callable, like):
    """Returns whether a tangent of some tokens moves another; where none does, there are zeros, exactly.

    Any two tokens differ in a binary digit of their numbers: a push for either value of each.
    """
    if like.ndim < 2 or like.shape[-2] == 1:
        return jnp.array(False)
    tokens = jnp.arange(like.shape[-2])
    digits = jnp.arange((like.shape[-2] - 1).bit_length())
    ones = (tokens >> digits[:, None]) % 2 == 1
    chosen = jnp.concatenate([ones, ~ones])
    tangent = jax.random.normal(jax.random.key(0), like.shape, like.dtype)

    def moves_others(chosen):
        pushed = push(jnp.where(chosen[:, None], tangent, 0.0))
        return jnp.any(jnp.where(chosen[:, None], 0.0, pushed) != 0)

    return jax.vmap(moves_others)(chosen).any()


def norms(part: Callable, u) -> tuple[Any, Any]:
    """Returns whether a part is `γ x̂ + β`, x̂ the standardized token, centred and not.

    It is if of `u`, made so large that eps does not count, it makes what its γ and β say.
    """
    made = part(LARGE * u)
    tolerance = jnp.finfo(u.dtype).eps ** 0.5
    found = []
    for centred in (True, False):
        gain, shift = affine(part, u, centred)
        expected = gain * standardized(u, 0.0, centred) + shift
        found.append(jnp.abs(made - expected).max() <= tolerance * jnp.abs(expected).max())
    is_layer_norm, is_rms_norm = found
    return is_layer_norm, is_rms_norm
