"""The stacks and batches that several entries share."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import xarray as xr

from ..model.branches.attention import Attention
from ..model.branches.branch import Branch, FeedForward
from ..model.parameters.initializers import FanIn, Scaled
from ..model.stacks.embedding_readout import Embedding
from ..model.stacks.transformer import Transformer, staged
from ..model.wirings.catalogue import placement
from ..model.wirings.placement import Placement
from ..model.wirings.wiring import Wiring
from ..results.tree import variable

EVEN = Scaled(FanIn(), (("query", 0.0), ("key", 0.0)))  # W^Q = W^K = 0: every token attends to all alike


def of_branches(
    wiring: str | Wiring | Placement, branches: Mapping[str, Branch], depth: int, width: int, vocabulary: int = 256
) -> Transformer:
    """Returns a stack of any branches without positions; the stream starts at rms 1."""
    return Transformer(staged(placement(wiring), branches, depth), width, Embedding(vocabulary, None))


def feed_forward(
    wiring: str | Wiring | Placement, depth: int, width: int, activation: str = "relu", gain: float = 1.0
) -> Transformer:
    """Returns a stack of feed-forward sublayers alone, d×d matrices without biases; tokens don't meet."""
    mlp = FeedForward(1, activation, FanIn(gain), bias=False)
    return of_branches(wiring, {"mlp": mlp}, depth, width)


def even_attention() -> Attention:
    """Returns attention of one head to all tokens alike."""
    return Attention(1, causal=False, weights=EVEN)


def different_tokens(tokens: int, examples: int = 1, vocabulary: int = 256) -> dict:
    """Returns a batch in which no token comes twice, so that tokens at the bottom have no overlap at infinite width."""
    count = 2 * examples * tokens
    if count > vocabulary:
        raise ValueError(f"{count} different tokens of a vocabulary of {vocabulary}: take fewer, or a larger one")
    rows = np.random.default_rng(0).permutation(vocabulary)[:count].reshape(2, examples, tokens)
    return {"inputs": jnp.asarray(rows[0], jnp.int32), "targets": jnp.asarray(rows[1], jnp.int32)}


def of_kind(node, quantity: str, kind: str) -> xr.DataArray:
    """Returns a quantity over the sublayers of one kind, by their block."""
    values = variable(node, quantity).isel(sublayer=np.flatnonzero(node["kind"].values == kind))
    blocks = np.arange(1, values.sizes["sublayer"] + 1)
    bare = values.reset_coords(drop=True).drop_vars("sublayer", errors="ignore")
    return bare.rename(sublayer="block").assign_coords(block=blocks)
