"""Softmax attention of queries, keys and values, and which keys a query sees; with a derivative written out.

    y_t = Σ_s p_ts m_ts v_s,    p_ts = e^{s_ts + b_ts} / (Σ_u e^{s_tu + b_tu} + e^a)

over the keys that token t sees, b a bias of the pair where there is one, a the logit of a *sink* where a head has one, m what
dropout leaves where a step drops. The derivative names what it needs from the forward pass once, and takes no sum over T² that
a compiler would take twice.

Axes: T tokens, S of them keys, H heads, K heads of keys, h features a head, g of a value.
"""

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...results.arguments import whole
from ...results.configuration import registered
from ..inputs.context import place_in_text
from ..numerics.precision import wide


@registered
@dataclass(frozen=True)
class Mask:
    """Which keys a query sees: all, or where `causal` itself and those before it; of them those nearer than `window`, if any.

    A window may be a traced number: one that depends on the block (`init.ByBlock`). Of a mask that is not causal it reaches to
    both sides. The `first` tokens of a text are seen beyond it (Xiao et al. 2024, StreamingLLM; they count
    positions within the cache, here they stay those of the text). `texts` are the numbers of the tokens' texts [T], −1 of
    padding: a token sees those of its own text alone. `groups` are numbers of groups of tokens [T], for derivatives: what
    a token reads of another group is held as it is. `beyond` says which keys a query sees of those that stand behind the tokens'
    and are no token's own [T, E].
    """

    causal: bool = True
    window: Any = None
    first: int = 0
    texts: Any = None
    groups: Any = None
    beyond: Any = None

    def of(self, params) -> "Mask":
        """Returns the mask with the texts of an example, and groups, where its parameters say them."""
        said = {name: params[name] for name in ("texts", "groups") if name in params}
        return dataclasses.replace(self, **said)

    def __post_init__(self):
        if isinstance(self.window, int) and self.window < 1:
            raise ValueError(f"window is {self.window}: a token sees at least 1, itself")
        whole("first", self.first, least=0)
        if self.first and self.window is None:
            raise ValueError(f"first is {self.first}: without a window all tokens are seen, leave it out")

    @property
    def reach(self):
        """How far a query sees, itself counted, as a number; None where it sees all."""
        return None if self.window is None else jnp.asarray(self.window, jnp.float32)

    def seen(self, shape: tuple[int, int]):
        """Returns which keys a query sees [T, S]."""
        if self.sees_all:
            return jnp.ones(shape, bool)
        return seen(shape, self.causal, self.first, self.reach, self.texts, self.beyond)

    def first_key(self, shape: tuple[int, int]):
        """Returns which key is the first of its query's text [T, S]; none that stands behind the tokens'."""
        queries, keys = shape
        if self.beyond is not None:
            of_tokens = dataclasses.replace(self, beyond=None).first_key((queries, keys - self.beyond.shape[1]))
            return jnp.concatenate([of_tokens, jnp.zeros_like(self.beyond)], axis=1)
        begins = jnp.broadcast_to(place_in_text(keys, self.texts) == 0, shape)
        return begins if self.texts is None else begins & same(self.texts)

    @property
    def sees_all(self) -> bool:
        """Whether nothing is hidden."""
        return not self.causal and self.window is None and self.texts is None and self.beyond is None


class Scores(NamedTuple):
    """How scores become probabilities, in numbers that are known: those of the mask, the scale and the cap."""

    causal: bool
    first: int
    scale: float
    softcap: float | None


class Hidden(NamedTuple):
    """What is hidden from a query, in arrays that no gradient goes through: the reach of a window, texts, what dropout leaves.

    And the groups of tokens whose keys and values are held for each other, and what is seen of keys behind the tokens'.
    """

    reach: Any
    texts: Any
    kept: Any
    groups: Any
    beyond: Any


def attend(
    q,
    k,
    v,
    mask: Mask = Mask(),
    scale: float | None = None,
    softcap: float | None = None,
    *,
    sink=None,
    bias=None,
    kept=None,
):
    """Returns `softmax(s) v` per head, `s = scale q kᵀ`, heads in groups of one key and value; the softmax in float32 or better.

    `scale` is 1/√h by default; scores are `c tanh(s/c)` where there is a `softcap` c (Gemma Team 2024, Gemma 2). `sink` [H] are
    logits that stand beside the scores and have no value (OpenAI 2025, gpt-oss). `bias` [H, T, S] is added to the scores, behind
    their cap. `kept` [H, T, S] multiplies the probabilities: what dropout leaves of them. Our own lines, since the fused one of
    `jax.nn` takes its softmax in float32 always, which breaks float64 identities.
    Shapes: q [T, H, h]; k [S, K, h] and v [S, K, g] with K dividing H; the value [T, H g]. Cost: O(T S H (h + g)).
    """
    beside = _beside(sink, bias, k)
    return _attended(q, k, v, beside, _hidden(mask, kept, k), _how(q, mask, scale, softcap))


class Scored(NamedTuple):
    """What `attend` weighs the values with: the softmax, the scores in front of mask and cap, which keys a query sees.

    And which is the first key of the query's text, seen or not.
    """

    probabilities: Any  # [H, T, S]
    scores: Any  # [H, T, S]
    seen: Any  # [T, S]
    first: Any  # [T, S]


def scored(
    q, k, mask: Mask = Mask(), scale: float | None = None, softcap: float | None = None, *, sink=None, bias=None
) -> Scored:
    """Returns the probabilities of `attend`, by the functions that it calls, and what they are made of."""
    how = _how(q, mask, scale, softcap)
    scores = _scores(q, k, how.scale)
    probabilities, _ = _attention(scores, _beside(sink, bias, k), _hidden(mask, None, k), how)
    pairs = scores.shape[-2:]
    by_head = (q.shape[1], *pairs)
    return Scored(probabilities.reshape(by_head), scores.reshape(by_head), mask.seen(pairs), mask.first_key(pairs))


def _how(q, mask: Mask, scale: float | None, softcap: float | None) -> Scores:
    """Returns how scores become probabilities; their scale is 1/√h by default."""
    return Scores(mask.causal, mask.first, q.shape[-1] ** -0.5 if scale is None else scale, softcap)


def _hidden(mask: Mask, kept, k) -> Hidden:
    """Returns what is hidden, of heads in groups of one key."""
    if kept is not None:
        kept = kept.reshape(k.shape[1], -1, *kept.shape[-2:])
    return Hidden(mask.reach, mask.texts, kept, mask.groups, mask.beyond)


class Beside(NamedTuple):
    """What stands beside the scores, of heads in groups of one key: logits of sinks [K, H/K, 1, 1], biases [K, H/K, T, S]."""

    sink: Any
    bias: Any


def _beside(sink, bias, k) -> Beside:
    """Returns both of heads in groups, None where there is none."""
    groups = k.shape[1]
    return Beside(
        None if sink is None else sink.reshape(groups, -1)[..., None, None],
        None if bias is None else bias.reshape(groups, -1, *bias.shape[-2:]),
    )


@partial(jax.custom_jvp, nondiff_argnums=(5,))
def _attended(q, k, v, beside: Beside, hidden: Hidden, how: Scores):
    p, _ = _attention(_scores(q, k, how.scale), beside, hidden, how)
    return _mixed(_left(p, hidden), v)


@_attended.defjvp
def _(how, primals, tangents):
    """`dy = (m ⊙ p ⊙ ds) v − (Σ p ⊙ ds + p_a da) y + m ⊙ p dv`, p the softmax of the scores s, p_a what the sink takes.

    A change of the biases is one of the scores. With groups dk and dv are those of a token's own group.
    """
    (q, k, v, beside, hidden), (dq, dk, dv, dbeside, _) = primals, tangents
    scores = _scores(q, k, how.scale)
    p, of_sink = _attention(scores, beside, hidden, how)
    left = _left(p, hidden)
    y = _mixed(left, v)
    ds = _scores(dq, k, how.scale) + _of_own_group(_scores(q, dk, how.scale), hidden)
    if how.softcap is not None:
        ds = ds * (1 - jnp.tanh(scores / how.softcap) ** 2)
    if beside.bias is not None:
        ds = ds + dbeside.bias
    pds = p * ds
    total = pds.sum(-1)
    if beside.sink is not None:
        total = total + (of_sink * dbeside.sink)[..., 0]
    by_head = total.transpose(2, 0, 1).reshape(len(q), -1, 1)  # [T, H, 1]
    centre = (by_head * jnp.ones((1, q.shape[1], v.shape[-1]), total.dtype)).reshape(y.shape).astype(y.dtype)
    return y, _mixed(_left(pds, hidden), v) + _mixed(_of_own_group(left, hidden), dv) - centre * y


def _scores(q, k, scale: float):
    """Returns `scale q kᵀ` [K, H/K, T, S]."""
    tokens, size = len(q), q.shape[-1]
    grouped = q.reshape(tokens, k.shape[1], -1, size) * scale
    return jnp.einsum("tkgh,skh->kgts", grouped, k, preferred_element_type=wide(q.dtype))


def _attention(scores, beside: Beside, hidden: Hidden, how: Scores) -> tuple:
    """Returns the softmax of the scores, capped and masked, and what of it the sink takes [K, H/K, T, 1], where there is one."""
    if how.softcap is not None:
        scores = how.softcap * jnp.tanh(scores / how.softcap)
    if beside.bias is not None:
        scores = scores + beside.bias
    if how.causal or hidden.reach is not None or hidden.beyond is not None:
        visible = seen(scores.shape[-2:], how.causal, how.first, hidden.reach, hidden.texts, hidden.beyond)
        scores = jnp.where(visible, scores, -jnp.inf)
    elif hidden.texts is not None:
        scores = jnp.where(same(hidden.texts), scores, -jnp.inf)
    return softmax_beside(scores, beside.sink)


def softmax_beside(scores, sink) -> tuple:
    """Returns the softmax over the last axis, and the share [..., 1] of a logit beside the scores; None where there is none."""
    if sink is None:
        return jax.nn.softmax(scores, axis=-1), None
    aside = jnp.broadcast_to(jnp.asarray(sink, scores.dtype), (*scores.shape[:-1], 1))
    whole = jax.nn.softmax(jnp.concatenate([scores, aside], axis=-1), axis=-1)
    return whole[..., :-1], whole[..., -1:]


def seen(shape: tuple[int, int], causal: bool = True, first: int = 0, reach=None, texts=None, beyond=None):
    """Returns which keys a query sees [T, S]: itself and those before it, where `causal`, and those of its own text.

    Of them those nearer than `reach`, and the `first` ones of the text; and behind them what `beyond` says.
    """
    if beyond is not None:
        of_tokens = (shape[0], shape[1] - beyond.shape[1])
        return jnp.concatenate([seen(of_tokens, causal, first, reach, texts), beyond], axis=1)
    visible = jnp.tril(jnp.ones(shape, bool)) if causal else jnp.ones(shape, bool)
    if reach is not None:
        behind = jnp.arange(shape[0])[:, None] - jnp.arange(shape[1])[None]
        near = jnp.abs(behind).astype(jnp.result_type(reach)) < reach
        if first:
            near = near | (place_in_text(shape[1], texts) < first)[None]
        visible = visible & near
    if texts is not None:
        visible = visible & same(texts)
    return visible


def same(numbers):
    """Returns which tokens have one number [T, T], that of a text or a group; those of padding are of one: no row is empty."""
    return numbers[:, None] == numbers[None]


def _left(p, hidden: Hidden):
    """Returns what dropout leaves of the probabilities, all of them where nothing is dropped."""
    return p if hidden.kept is None else p * hidden.kept.astype(p.dtype)


def _of_own_group(pairs, hidden: Hidden):
    """Returns what a token has of the tokens of its group, all of it where there are no groups."""
    return pairs if hidden.groups is None else jnp.where(same(hidden.groups), pairs, 0)


def _mixed(p, v):
    """Returns `p v` [T, H g], in the dtype of `v`."""
    return jnp.einsum("kgts,skh->tkgh", p.astype(v.dtype), v).reshape(p.shape[-2], -1)
