"""Entries: keys that stand for the tokens of a window, so that attention reaches far at the price of one key a window.

    e = Σ_j softmax_j(z_j + b_j) ⊙ c_j

feature by feature over the tokens j of a window, or of several: its own and those before it, in each of which a token has
other c and z (DeepSeek-AI 2026 (DeepSeek-V4), eqs. 9 to 12 with two windows, 20 to 23 with one, as in transformers). Of many
entries an index chooses those that a token reads, by the scores

    I_te = Σ_j w_tj ReLU(⟨q_tj, k_e⟩)                                                            (eqs. 13 to 17)

The choice is piecewise constant: no gradient goes through it, and what makes q, k and w has none. DeepSeek trains that by a
loss of its own, which is not here.

Axes: T tokens, E entries of h features; W windows an entry, m tokens a window.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..inputs.context import positions_in
from ..layers.functional import largest
from ..numerics.precision import in_float32


class Windows(NamedTuple):
    """Windows of `size` tokens, counted from the first token of each text; a rest that does not fill one is in none.

    `ends` is the last token of each [E], `places` where that stands in its text [E], `seen` which tokens see it: those of its
    text that are not before it [T, E]. There are ⌊T/size⌋ rows; of those without a window the end is T, which none sees.
    """

    size: int
    ends: Any
    places: Any
    seen: Any

    @property
    def starts(self):
        """The first token of each window [E]."""
        return self.ends - (self.size - 1)


def windows(tokens: int, size: int, texts=None) -> Windows:
    """Returns the windows of an example of so many tokens, whose texts' numbers are `texts` [T] where it has several."""
    place = jnp.arange(tokens) if texts is None else positions_in(texts)
    (ends,) = jnp.nonzero((place + 1) % size == 0, size=tokens // size, fill_value=tokens)
    seen = ends[None] <= jnp.arange(tokens)[:, None]
    if texts is not None:
        seen = seen & (texts[:, None] == jnp.take(texts, ends, mode="clip")[None])
    return Windows(size, ends, jnp.take(place, ends, mode="fill", fill_value=tokens), seen)


def pooled(values, scores, bias, windows: Windows):
    """Returns the entries [E, h] of c and z [T, W, h] and b [m, W, h], the softmax in float32 or better."""
    tokens, series, _ = values.shape
    in_window = jnp.arange(windows.size)[::-1]
    windows_back = jnp.arange(series)[::-1]
    back = windows.size * windows_back[:, None] + in_window[None]  # from the end [W, m]
    member = jnp.clip(windows.ends[:, None, None] - back[None], 0, tokens - 1)  # [E, W, m]
    of_series = jnp.arange(series)[None, :, None]
    in_text = back[None] <= windows.places[:, None, None]
    logits = in_float32(scores[member, of_series] + bias.swapaxes(0, 1)[None])
    weights = jax.nn.softmax(jnp.where(in_text[..., None], logits, -jnp.inf), axis=(1, 2))
    return jnp.einsum("ewmh,ewmh->eh", weights.astype(values.dtype), values[member, of_series])


def index_scores(queries, keys, weights):
    """Returns I [T, E] of q [T, J, h], k [E, h] and w [T, J], scaled by 1/√h and 1/√J, in float32 or better."""
    queries, keys, weights = in_float32(queries), in_float32(keys), in_float32(weights)
    _, heads, features = queries.shape
    met = jax.nn.relu(jnp.einsum("tjh,eh->tje", queries, keys))
    return jnp.einsum("tje,tj->te", met, weights) * (features * heads) ** -0.5


def chosen(scores, seen, active: int):
    """Returns which entries a token reads [T, E]: of those that it sees the `active` of the largest scores."""
    visible = jnp.where(seen, jax.lax.stop_gradient(scores), -jnp.inf)
    return seen & (largest(visible, min(active, scores.shape[-1])) > 0)
