"""Attention, head by head: how widely a query looks, how much of it rests on the first token, how large the scores become.

    entropy        H_h = mean_t −Σ_s p_ts log p_ts       p the softmax of the scores s, over the keys that query t sees
    its share      mean_t H_ht/log n_t                   n_t keys seen, of the queries that see two at least: 1 is uniform
    first token    mean_t p_t0                           (Gu et al. 2024): a sink, where it is large
    largest logit  max_ts s_ts                           over the keys that are seen, in front of a soft cap

(First token: arXiv 2410.10781, the score α of key 1; largest logit: Kimi Team 2025 (Kimi K2), arXiv 2507.20534, section 2.1,
S_max.) The probabilities are those of the attention that runs: `layers.attention` has one softmax. Read of every branch that
is `Attending`; NaN of others, and of heads that there are not. Where a batch says texts, the first token is that of the
query's own text, and queries of padding are none. What rests on a head's sink is in no entry of p.

Axes: S sublayers; H heads, of the sublayer that has most; T queries t, and keys s: in cross-attention those of the memory, in
compressed attention tokens and, behind them, entries.
"""

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.scipy.special import entr

from ...model.equation.sublayer import bind, recorded, walk
from ...model.inputs.context import own_inputs, texts_said
from ...model.numerics.precision import in_precision_of
from ..meters.visits import at_bottom, its_input, where_finite, with_params

AVERAGED = ("attention_entropy", "attention_entropy_share", "attention_first_token")
LARGEST = "attention_largest_logit"


@runtime_checkable
class Attending(Protocol):
    """A branch of heads, each a softmax over tokens, such as `gf.branches.Attention`."""

    heads: int

    def scored(self, params, x) -> Any:
        """Returns what it reads the values with, a `layers.attention.Scored`."""
        ...


def by_head(model, params, batch) -> dict:
    """Returns `attention_entropy`, `attention_entropy_share`, `attention_first_token` and `attention_largest_logit` [S, H].

    Means over queries and examples, the largest over all of them. Cost: one forward pass of each example in turn, O(T²) a head.
    """
    size = _most_heads(model)

    def of_example(inputs):
        texts = texts_said(own_inputs(model, inputs))

        def visit(x, layers_and_params, _):
            layers, of_sublayer = layers_and_params
            parts = bind(layers, of_sublayer)
            y, inputs = recorded(parts, x, at=its_input)
            heads = _of_heads(layers["branch"], of_sublayer["branch"], inputs["branch"], size, texts)
            return y, where_finite(y, heads)

        used, bottom = at_bottom(model, params, inputs)
        _, reports = walk(model.stack, used["stack"], bottom, visit, bind=with_params)
        return reports

    by_example = jax.lax.map(of_example, batch["inputs"])
    found = {name: by_example[name].mean(0) for name in AVERAGED}
    return {**found, LARGEST: by_example[LARGEST].max(0)}


def _most_heads(model) -> int:
    """Returns how many heads the sublayer has that has most; 1 where none has any."""
    most = 1
    for sub in model.stack.different:
        branch = sub.layers["branch"]
        if isinstance(branch, Attending):
            most = max(most, branch.heads)
    return most


def _of_heads(branch, params, x, size: int, texts) -> dict:
    """Returns what is read of the heads of one example [H]; NaN where there are none."""
    if not isinstance(branch, Attending):
        nothing = jnp.full(size, jnp.nan, x.dtype)
        return dict.fromkeys((*AVERAGED, LARGEST), nothing)
    of_branch = read(branch.scored(in_precision_of(x, params), x), texts)
    beyond = (0, size - branch.heads)
    padded = {}
    for name, values in of_branch.items():
        padded[name] = jnp.pad(values.astype(x.dtype), beyond, constant_values=jnp.nan)
    return padded


def read(scored, texts=None) -> dict:
    """Returns the four quantities [H] of a `Scored`, of tokens that are of these `texts` [T], −1 of padding."""
    p = scored.probabilities  # [H, T, S]
    entropy = entr(p).sum(-1)
    keys = scored.seen.sum(-1, dtype=entropy.dtype)
    largest_possible = jnp.log(jnp.where(keys > 1, keys, jnp.nan))
    share = entropy / largest_possible[None]
    on_first = jnp.sum(jnp.where(scored.first[None], p, 0), axis=-1)
    counted, visible = None, scored.seen[None]
    if texts is not None:
        counted = jnp.broadcast_to(texts >= 0, entropy.shape)
        visible = visible & counted[:1, :, None]
    return {
        "attention_entropy": entropy.mean(-1, where=counted),
        "attention_entropy_share": jnp.nanmean(share, axis=-1, where=counted),
        "attention_first_token": on_first.mean(-1, where=counted),
        LARGEST: jnp.where(visible, scored.scores, -jnp.inf).max((-2, -1)),
    }
