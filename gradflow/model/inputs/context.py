"""What an example says beside its tokens: a training step, a condition, which tokens are padding, which text each is of.

    {"tokens": [T], "step": [], "condition": [d], "texts": [T], "token_type_ids": [T]}

are then the inputs of an example, in the place of its tokens alone; `texts` has the number of each token's text, −1 is padding.
Layers that read one of these name it in their `asks`. An encoder and decoder reads `source` and `target`, each with its texts,

    {"source": [S], "target": [T], "source_texts": [S], "target_texts": [T]}

and of these a side's own are the tokens of its stream (`own_inputs`).
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..contracts import OfOneSide

TOKENS = "tokens"
CONTEXT = ("step", "condition", "texts", "token_type_ids")
BY_TOKEN = (TOKENS, "texts", "token_type_ids")
SIDES = ("source", "target")
TEXTS_OF = {side: f"{side}_texts" for side in SIDES}
# What a batch may say of padding and of packed texts, in the words of other libraries.
OF_TEXTS = ("attention_mask", "segments")


def tokens_of(inputs):
    """Returns the tokens of an example, or of several."""
    return inputs[TOKENS] if isinstance(inputs, Mapping) else inputs


def context_of(inputs) -> dict[str, Any]:
    """Returns what is said beside them."""
    if not isinstance(inputs, Mapping):
        return {}
    return {name: inputs[name] for name in CONTEXT if name in inputs}


def in_context(inputs) -> dict[str, Any]:
    """Returns what a layer may ask for: the tokens, and what is said beside them."""
    return {TOKENS: tokens_of(inputs), **context_of(inputs)}


def own_inputs(model, inputs):
    """Returns the inputs of an example, or of several, as those of the model's own stream: of a side, what it reads."""
    if not isinstance(model, OfOneSide):
        return inputs
    own = {TOKENS: inputs[model.reads]}
    if TEXTS_OF[model.reads] in inputs:
        own["texts"] = inputs[TEXTS_OF[model.reads]]
    return own


def texts_said(inputs):
    """Returns the numbers of the texts that the tokens of an example are of [T]; None where it says nothing of texts."""
    return context_of(inputs).get("texts")


def real_tokens(inputs):
    """Returns which tokens of an example are not padding [T]; None where it says nothing of texts."""
    texts = texts_said(inputs)
    return None if texts is None else texts >= 0


def by_token(change: Callable, inputs):
    """Returns the inputs of an example with `change` of every array that has an entry, or a row, for each token."""
    if not isinstance(inputs, Mapping) or TOKENS not in inputs:
        return jax.tree.map(change, inputs)
    return {name: change(value) if name in BY_TOKEN else value for name, value in inputs.items()}


def real_first(example: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an example `{"inputs", …}` with its real tokens in front, in their order, and its padding behind.

    For what has no axis of tokens: positions are those within texts, so that nothing else changes. Of a source and a target each.
    """
    if _of_padded_sides(example["inputs"]):
        return _sides_real_first(example)
    real = real_tokens(example["inputs"])
    if real is None:
        return dict(example)
    order = jnp.argsort(~real)
    return {name: by_token(lambda array: array[order], said) for name, said in example.items()}


def _of_padded_sides(inputs) -> bool:
    """Returns whether the inputs are a source and a target that say which of their tokens are padding."""
    return isinstance(inputs, Mapping) and not inputs.keys().isdisjoint(TEXTS_OF.values())


def _sides_real_first(example: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an example whose source and target have their real tokens in front; targets are in the order of the target."""
    inputs = dict(example["inputs"])
    order = {side: jnp.argsort(inputs[texts] < 0) for side, texts in TEXTS_OF.items()}
    for side, texts in TEXTS_OF.items():
        for name in (side, texts):
            inputs[name] = inputs[name][order[side]]
    of_target = {name: said[order["target"]] for name, said in example.items() if name != "inputs"}
    return {**of_target, "inputs": inputs}


def positions_of(inputs):
    """Returns the positions of the tokens of one example within their texts [T], from 0; None where no texts are said.

    Those of padding are counted by themselves.
    """
    texts = texts_said(inputs)
    return None if texts is None else positions_in(texts)


def place_in_text(tokens: int, texts):
    """Returns the position of each of so many tokens within its text [T], from 0; of all within one, where `texts` is None."""
    return jnp.arange(tokens) if texts is None else positions_in(texts)


def positions_in(texts):
    """Returns the positions of tokens within their texts, whose numbers are `texts` [T], from 0."""
    place = jnp.arange(len(texts))
    is_first = jnp.concatenate([jnp.ones(1, bool), texts[1:] != texts[:-1]])
    first = jax.lax.cummax(jnp.where(is_first, place, 0))
    return place - first


def of_embedding(inputs) -> dict[str, Any]:
    """Returns what an embedding is told of one example beside its tokens: positions, types; nothing where they are alone."""
    said = {"positions": positions_of(inputs), "types": context_of(inputs).get("token_type_ids")}
    return {name: value for name, value in said.items() if value is not None}


def folded(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a batch whose inputs hold what it says beside its tokens; as it is, where it says nothing.

    Padding has no target.
    """
    said: dict[str, Any] = {name: batch[name] for name in CONTEXT if name in batch}
    rest: dict[str, Any] = {name: batch[name] for name in ("inputs", "targets")}
    if not said:
        return rest
    if isinstance(batch["inputs"], Mapping):
        texts = said["texts"]
        of_sides = {name: texts[side] for side, name in TEXTS_OF.items()}
        without = np.asarray(texts["target"]) < 0
        targets = np.where(without, np.int32(-1), np.asarray(batch["targets"]))
        return {"inputs": {**batch["inputs"], **of_sides}, "targets": targets}
    if "texts" in said:
        rest["targets"] = np.where(np.asarray(said["texts"]) < 0, np.int32(-1), np.asarray(batch["targets"]))
    return {**rest, "inputs": {TOKENS: batch["inputs"], **said}}


def unfolded(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a batch that says beside its tokens what its inputs hold; as it is, where they are tokens alone."""
    inputs: Any = batch.get("inputs")
    if _of_padded_sides(inputs):
        texts = {side: inputs[name] for side, name in TEXTS_OF.items()}
        return {**batch, "inputs": {side: inputs[side] for side in SIDES}, "texts": texts}
    if not isinstance(inputs, Mapping) or TOKENS not in inputs:
        return dict(batch)
    return {**batch, "inputs": inputs[TOKENS], **context_of(inputs)}


def texts_of(attention_mask, segments, tokens: tuple[int, ...]) -> np.ndarray:
    """Returns the number of the text that each token is of [..., T], −1 for padding, from a mask and segments, or one of them.

    Errors: ValueError for another shape, for an example without a token that is not padding, for a text in pieces.
    """
    for name, array in (("attention_mask", attention_mask), ("segments", segments)):
        if array is not None and array.shape != tokens:
            raise ValueError(f"{name} has shape {array.shape}: that of the inputs, {tokens}, is expected")
    texts = np.zeros(tokens, np.int32)
    if segments is not None:
        texts = segments.astype(np.int32)
        if texts.min() < 0:
            raise ValueError(f"segments has {texts.min()}: texts are counted from 0; say padding by attention_mask")
    if attention_mask is not None:
        if not np.isin(attention_mask, (0, 1)).all():
            raise ValueError("attention_mask has more than 0 and 1: 1 is a token, 0 is padding")
        texts = np.where(attention_mask == 0, np.int32(-1), texts)
    _check_texts(texts)
    return texts


def _check_texts(texts: np.ndarray) -> None:
    """Refuses an example that is padding alone, and a text whose tokens do not lie side by side."""
    for place in np.ndindex(texts.shape[:-1]):
        row = texts[place]
        if (row < 0).all():
            raise ValueError(f"example {place[-1]} is padding alone (attention_mask 0): leave it out")
        starts = row[np.flatnonzero(np.diff(row, prepend=row[0] - 1))]
        real = starts[starts >= 0]
        if len(set(real.tolist())) < len(real):
            raise ValueError(f"example {place[-1]} has a text in pieces: the tokens of a text lie side by side")
