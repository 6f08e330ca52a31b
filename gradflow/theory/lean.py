"""The lean of the cotangent along the stream: the one way in which a backward pass knows the forward pass.

At infinite width the expected loss is a function of the Gram matrix Σ of the tokens at any position, and its gradient with
respect to the stream has the mean, over all weights further up,

    E g_t = (2/d) Σ_s D_ts x_s,        D = ∂(expected loss)/∂Σ

Of the energy E⟨g_t, g_s⟩ this is `(4/d) D Σ D`: one part in d of the rest, but alike on tokens that are alike, so that attention
amplifies it as often as there are tokens; and where no norm keeps the stream small it grows with the stream.

Δ, pulled down as if cotangent and weights knew nothing of each other, has of it what linear maps with no weights of their own
(skip, gains, norms) carry, `apart`. What the sublayer's weights add is `(4/d)(D Σ D − D_apart Σ D_apart)`, which `lean` puts in.
A norm takes the radius of every token out of D, not out of what is carried: the same difference, at the fork, is negative there.
"""

from functools import partial

import jax
import jax.numpy as jnp

from .gram import Gram


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def lean(sigma: Gram, k: Gram, width: int) -> tuple[Gram, Gram, Gram]:
    """`(Σ, K, 0)`. The zeros are to be carried by linear maps, and added to Σ where the next lean is.

    Backward, of `(D, Δ, D_apart)`: `(D, Δ + (4/d)(D Σ D − D_apart Σ D_apart))`.
    """
    return sigma, k, jnp.zeros_like(sigma)


def _forward(sigma, k, width):
    return lean(sigma, k, width), sigma


def _backward(width, sigma, cotangents):
    whole, delta, apart = cotangents
    energy = lambda d: (d + d.T) @ sigma @ (d + d.T) / width
    return whole, delta + energy(whole) - energy(apart)


lean.defvjp(_forward, _backward)
