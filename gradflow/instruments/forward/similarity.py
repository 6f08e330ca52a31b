"""Similarity of layers: the cosine, and the angular distance, between the streams at any two positions, token by token.

    cos(l, m) = mean_t ⟨x_l,t, x_m,t⟩/(‖x_l,t‖‖x_m,t‖)        d(l, m) = mean_t arccos(cos_t)/π

The angular distance between the input and the output of a block says how little the block does to the direction of the stream
(Gromov et al. 2024, section 3; there of the last token, here of all). 0: the same direction; ½: orthogonal; 1: opposite.

Axes: S + 1 positions l and m, T tokens, d features; the lanes of a stream of several are features of one vector.
"""

import jax
import jax.numpy as jnp

from ...model.equation.sublayer import walk
from ...model.inputs.context import own_inputs, real_tokens
from ..meters.visits import at_bottom, reporting_inputs


def between_positions(model, params, batch) -> dict:
    """Returns `stream_cosine` and `stream_angle` [S+1, S+1], means over tokens and examples; the angle in half turns.

    Of an example's tokens those that are no padding.

    A zero vector is orthogonal to everything. Cost: one forward pass of each example in turn, O(S² T d), and memory of the
    streams of one example at all positions.
    """

    def of_example(inputs):
        return _cosine_and_angle(_streams(model, params, inputs), real_tokens(own_inputs(model, inputs)))

    cosines, angles = jax.lax.map(of_example, batch["inputs"])
    return {"stream_cosine": cosines.mean(0), "stream_angle": angles.mean(0)}


def _streams(model, params, inputs):
    """Returns the streams of one example at all positions [S+1, T, d]."""
    used, bottom = at_bottom(model, params, inputs)
    top, below = walk(model.stack, used["stack"], bottom, reporting_inputs)
    streams = jnp.concatenate([below, top[None]])
    by_token = jnp.moveaxis(streams, -2, 1)
    return by_token.reshape(*by_token.shape[:2], -1)


def _cosine_and_angle(streams, real=None):
    """Returns the mean cosine and angle over tokens between all positions, over `real` ones [T] where these are said.

    The angle is 2 atan2(‖u − v‖, ‖u + v‖) of the unit vectors: of equal ones exactly 0, where arccos loses half of the digits.
    """
    length = jnp.linalg.norm(streams, axis=-1, keepdims=True)
    unit = streams / jnp.where(length > 0, length, 1)

    def with_all(u):
        cosine = (u[None] * unit).sum(-1)
        apart = jnp.linalg.norm(u[None] - unit, axis=-1)
        together = jnp.linalg.norm(u[None] + unit, axis=-1)
        angle = 2 * jnp.arctan2(apart, together) / jnp.pi
        counted = None if real is None else jnp.broadcast_to(real, cosine.shape)
        return cosine.mean(-1, where=counted), angle.mean(-1, where=counted)

    return jax.lax.map(with_all, unit)
