"""A short causal convolution over tokens, each feature by itself: what recurrent branches put in front of their state.

    y_t = Σ_j w_{K−1−j} ⊙ x_{t−jδ},    j = 0 … K − 1                       δ the dilation

Tokens in front of a text are zeros: what is said of a text does not depend on what is packed or padded in front of it.

Axes: x is [T, c], c features; the kernel w [K, 1, c].
"""

import jax.numpy as jnp

from ..parameters.initializers import normal


def kernel(key, size: int, features: int):
    """Returns a kernel [K, 1, c] that keeps mean squares, drawn from N(0, 1/K)."""
    return normal(key, size, 1, features) * size**-0.5


def convolved(x, weights, place, dilation: int = 1):
    """Returns `y` [T, c]; `place` [T] is where each token lies within its text. Cost: O(T K c)."""
    last = len(weights) - 1
    y = jnp.zeros_like(x)
    for j in range(len(weights)):
        y = y + weights[last - j] * earlier(x, j * dilation, place)
    return y


def earlier(x, steps: int, place):
    """Returns what stood so many tokens in front of each token [T, …]; 0 where its text had not begun."""
    begun = (place >= steps).reshape(-1, *(1,) * (x.ndim - 1))
    return jnp.where(begun, jnp.roll(x, steps, axis=0), 0)
