"""Batches: what a model reads, checked once, before anything is compiled.

    {"inputs": [B, T], "targets": [B, T]}                                        a Transformer's
    {"inputs": {"source": [B, S], "target": [B, T]}, "targets": [B, T]}          an EncoderDecoder's

and perhaps beside these, which then go into the inputs of a Transformer (`context`),

    "attention_mask": [B, T]    1 for a token, 0 for padding, left or right: which nobody sees, and which has no target
    "token_type_ids": [B, T]    rows of the table of types, of a model that has one
    "segments": [B, T]          which of the texts that are packed into an example, from 0: a token sees its own alone
    "step": [] or [B]; "condition": [B, d]

An EncoderDecoder takes an "attention_mask" by side, `{"source": [B, S], "target": [B, T]}`; one that is missing hides nothing.

Tokens are whole numbers of the model's vocabulary. A negative target is none: that token is not asked for. The loss of a batch is
the mean over all its targets, so an example counts by how many it has (`shares`).

Axes: B examples, S and T tokens; perhaps seeds in front.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...results.arguments import known, shown
from ..contracts import Data, OfTokens, OfTwoSequences, OfTypes
from ..parameters.keys import root
from .context import CONTEXT, OF_TEXTS, SIDES, folded, texts_of, unfolded

KEYS = ("inputs", "targets")
EXAMPLE = "{'inputs': ids[:, :-1], 'targets': ids[:, 1:]}"
# What other libraries put into a batch, and what stands for it here.
ELSEWHERE = {
    "input_ids": f"call tokens 'inputs', and the token after each 'targets': {EXAMPLE}",
    "labels": "call them 'targets', the token after each input, labels[:, 1:]; a negative number is no target",
    "position_ids": "positions are counted from 0, in each of the `segments` anew: leave them out",
    "decoder_attention_mask": "give an encoder and decoder {'attention_mask': {'source': …, 'target': …}}",
    "decoder_input_ids": "give an encoder and decoder {'inputs': {'source': …, 'target': …}, 'targets': …}",
}


def checked_data(data) -> Data:
    """Returns the data, where batches can be cut from it.

    Errors: TypeError with the remedy.
    """
    if isinstance(data, Data):
        return data
    remedy = f"a batch of tokens is {EXAMPLE}"
    if isinstance(data, str | Path):
        remedy = "the text in a file is gf.data.text(path)"
    raise TypeError(f"the data are a {type(data).__name__}: a gf.data.text(…) or a batch is expected; {remedy}")


def readable(data) -> Data | Mapping:
    """Returns a batch as it is, and data where batches can be cut from it."""
    return data if isinstance(data, Mapping) else checked_data(data)


def checked(batch, models: Mapping[str, Any], leading: int = 0) -> dict:
    """Returns the batch as arrays, tokens as int32, if it fits all of the models; `leading` axes are in front of the examples.

    Errors: ValueError or TypeError, one line with the remedy.
    """
    if not isinstance(batch, Mapping):
        raise TypeError(f"the batch is a {type(batch).__name__}: {{'inputs': [B, T], 'targets': [B, T]}} is expected")
    batch = unfolded(batch)
    _check_keys(batch)
    arrays = {key: _arrays(key, batch[key]) for key in KEYS}
    sizes = {np.shape(leaf)[: leading + 1] for leaf in jax.tree.leaves(arrays)}
    size = next(iter(sizes), ())
    if len(sizes) != 1 or len(size) != leading + 1 or 0 in size:
        where = " of each, behind the seeds" if leading else ""
        raise ValueError(
            f"inputs and targets have {_shapes(arrays['inputs'])} and {_shapes(arrays['targets'])}: the same number of "
            f"examples, one at least, is needed in front{where}"
        )
    of_tokens = {name: model for name, model in models.items() if isinstance(model, OfTokens)}
    if of_tokens:
        _check_tokens(arrays, of_tokens, leading)
        without_target = arrays["targets"] < 0
        arrays = jax.tree.map(lambda a: a.astype(np.int32), arrays)
        # A large negative number has wrapped around.
        arrays["targets"] = np.where(without_target, np.int32(-1), arrays["targets"])
        arrays |= _texts(batch, arrays["inputs"])
        arrays |= _types(batch, arrays["inputs"], of_tokens)
    for name in ("step", "condition"):
        if name in batch and isinstance(arrays["inputs"], Mapping) and of_tokens:
            raise ValueError(f"the batch has {name!r}, which an encoder and decoder does not read: leave it out")
        if name in batch:
            arrays[name] = _said(name, _arrays(name, batch[name]), size)
    whole_batch = folded(arrays)
    if of_tokens:
        _check_asked(whole_batch["targets"])
    return jax.tree.map(jnp.asarray, whole_batch)


def _texts(batch: Mapping, tokens) -> dict:
    """Returns `{"texts": [..., B, T]}` where the batch has padding or packed texts, else nothing."""
    if "texts" in batch:
        return {"texts": jax.tree.map(np.asarray, batch["texts"])}
    said = {name: _arrays(name, batch[name]) for name in OF_TEXTS if batch.get(name) is not None}
    if not said:
        return {}
    if isinstance(tokens, Mapping):
        return _texts_of_sides(said, tokens)
    texts = texts_of(said.get("attention_mask"), said.get("segments"), tokens.shape)
    return {"texts": texts} if texts.any() else {}


def _texts_of_sides(said: Mapping, tokens: Mapping) -> dict:
    """Returns `{"texts": {"source": [..., B, S], "target": [..., B, T]}}` where either has padding, else nothing."""
    if "segments" in said:
        raise ValueError(
            "the batch has 'segments': an encoder and decoder reads one source and one target, take one a row"
        )
    masks = said["attention_mask"]
    if not isinstance(masks, Mapping):
        raise ValueError(
            f"attention_mask has shape {masks.shape}: an encoder and decoder reads one of each, "
            f"{{'source': [B, S], 'target': [B, T]}}"
        )
    for side in masks:
        known("side of an attention_mask", side, SIDES)
    texts = {}
    for side in SIDES:
        try:
            texts[side] = texts_of(masks.get(side), None, tokens[side].shape)
        except ValueError as error:
            raise ValueError(f"{side}: {error}") from None
    return {"texts": texts} if any(own.any() for own in texts.values()) else {}


def _types(batch: Mapping, tokens, models: Mapping) -> dict:
    """Returns `{"token_type_ids": [..., B, T]}` where the batch says types, if every model has as many."""
    if "token_type_ids" not in batch:
        return {}
    types = _arrays("token_type_ids", batch["token_type_ids"])
    if isinstance(tokens, Mapping) or types.shape != tokens.shape or types.dtype.kind not in "iu":
        raise ValueError(f"token_type_ids are {types.dtype} of shape {types.shape}: a whole number a token is expected")
    for name, model in models.items():
        known_types = model.types if isinstance(model, OfTypes) else 0
        if types.min() < 0 or types.max() >= known_types:
            raise ValueError(
                f"token_type_ids has {types.min()} to {types.max()}, and {name} has {known_types} types: leave them out"
            )
    return {"token_type_ids": types.astype(np.int32)}


def _said(name: str, array, examples: tuple[int, ...]):
    """Returns what is said beside the tokens, an entry for every example, if it is of the right shape."""
    if name == "step":
        return np.broadcast_to(array.astype(np.float32), examples)
    if array.shape[:-1] != examples:
        raise ValueError(f"the {name} has shape {array.shape}: [B, width] is expected, with examples {shown(examples)}")
    return array.astype(np.float32)


def the_batch(data, models: Mapping, key) -> dict:
    """Returns the batch that all seeds and models share: the one given, or the first of the data."""
    if isinstance(data, Mapping):
        return checked(data, models)
    return checked(checked_data(data).batch(root(key), 0), models)


def _check_keys(batch: Mapping) -> None:
    for key in batch:
        if key in ELSEWHERE:
            raise ValueError(f"the batch has {key!r}: {ELSEWHERE[key]}")
        known("entry of a batch", key, (*KEYS, *OF_TEXTS, *CONTEXT))
    for key in KEYS:
        if key not in batch:
            raise ValueError(f"the batch has no {key!r}: for the tokens of a text it is {EXAMPLE}")


def _arrays(key: str, tree):
    """Returns arrays of numbers, from those of any library, or from lists."""
    if isinstance(tree, Mapping):
        return {name: _arrays(f"{key}[{name!r}]", leaf) for name, leaf in tree.items()}
    try:
        array = np.asarray(tree)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{key} can't be made an array ({shown(reason)[1:-1]}): one array of numbers is needed, examples of one length"
        ) from None
    if array.dtype.kind in "OUSMm":
        raise ValueError(f"{key} holds {array.dtype} of shape {array.shape}: an array of numbers is needed")
    return array


def _shapes(tree) -> str:
    """Returns the shapes of the arrays in a tree, in few words."""
    if isinstance(tree, Mapping):
        return shown(jax.tree.map(np.shape, tree))
    return f"shape {np.shape(tree)}"


def _check_tokens(batch: dict, models: Mapping[str, OfTokens], leading: int) -> None:
    """Refuses tokens and targets that are not whole numbers, of one shape, in every model's vocabulary."""
    inputs, targets = batch["inputs"], batch["targets"]
    two = [name for name, model in models.items() if isinstance(model, OfTwoSequences)]
    if isinstance(inputs, Mapping) != bool(two) or len(two) not in (0, len(models)):
        raise ValueError(_of_sequences(two, models))
    if two and set(inputs) != set(SIDES):
        raise ValueError(
            f"inputs are {', '.join(map(repr, inputs))}: {{'source': [B, S], 'target': [B, T]}} is expected"
        )
    if isinstance(targets, Mapping):
        raise ValueError(f"targets are {', '.join(map(repr, targets))}: one array [B, T] is expected")
    read: dict[str, np.ndarray] = {"inputs": inputs}
    if two:
        read = {f"inputs[{name!r}]": inputs[name] for name in SIDES}
    for key, array in {**read, "targets": targets}.items():
        if array.dtype.kind not in "iu":
            raise ValueError(f"{key} are {array.dtype}: tokens are whole numbers, {key}.astype('int32')")
        if array.ndim != leading + 2 or array.shape[-1] < 1:
            expected = "[seeds, B, T]" if leading else "[B, T]"
            raise ValueError(
                f"{key} have shape {array.shape}: {expected}, a row of tokens for every example, is expected"
            )
    asked_of = next(reversed(read))
    if targets.shape != read[asked_of].shape:
        raise ValueError(
            f"targets have shape {targets.shape}, {asked_of} {read[asked_of].shape}: every token needs its target, or −1 for none"
        )
    for name, model in models.items():
        _check_range(name, model, read, targets)
    _check_asked(targets)


def _check_asked(targets) -> None:
    """Refuses an example without a target."""
    without = np.argwhere((np.asarray(targets) < 0).all(-1))
    if len(without):
        raise ValueError(f"example {without[0][-1]} has no target: one at least is needed (negative targets are none)")


def _of_sequences(two: list[str], models: Mapping) -> str:
    if two and len(two) < len(models):
        return f"{two[0]} reads a source and a target, and others one text: measure them apart"
    if two:
        return f"{two[0]} reads {{'source': [B, S], 'target': [B, T]}}: give such inputs, or gf.data.Halves(text)"
    return f"{next(iter(models))} reads one array of tokens [B, T], not {{'source': …, 'target': …}}"


def _check_range(name: str, model: OfTokens, read: Mapping[str, np.ndarray], targets: np.ndarray) -> None:
    """Refuses tokens and targets outside a model's vocabulary, and more tokens than it has positions."""
    for key, array in {**read, "targets": np.maximum(targets, 0)}.items():
        least, most = int(array.min()), int(array.max())
        if least < 0 or most >= model.vocabulary:
            raise ValueError(f"{key} has tokens from {least} to {most}: {name} knows 0 to {model.vocabulary - 1}")
        if model.positions is not None and array.shape[-1] > model.positions:
            raise ValueError(
                f"{array.shape[-1]} tokens, but {name} has {model.positions} positions: context={array.shape[-1]}"
            )


def shares(model, targets):
    """Returns how much the loss of each example [B] counts: `B n_b/Σ n_b`, n_b its targets; 1 where all have as many.

    The mean over examples of `share · loss`, each loss the mean over an example's targets, is the mean over all targets.
    """
    precision = jnp.result_type(float)
    if not isinstance(model, OfTokens):
        return jnp.ones(len(jax.tree.leaves(targets)[0]), precision)
    counts = jnp.sum(targets >= 0, axis=-1).astype(precision)
    return counts / jnp.mean(counts)
