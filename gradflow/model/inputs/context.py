"""What an example says beside its tokens: a training step, a condition, which tokens are padding, which text each is of.

    {"tokens": [T], "step": [], "condition": [d], "attention_mask": [T], "segments": [T]}

are then the inputs of an example, in the place of its tokens alone. Layers that read one of these name it in their `asks`.
"""

from collections.abc import Mapping
from typing import Any

TOKENS = "tokens"
CONTEXT = ("step", "condition")


def tokens_of(inputs):
    """Returns the tokens of an example, or of several."""
    return inputs[TOKENS] if isinstance(inputs, Mapping) else inputs


def context_of(inputs) -> dict[str, Any]:
    """Returns what is said beside them."""
    if not isinstance(inputs, Mapping):
        return {}
    return {name: inputs[name] for name in CONTEXT if name in inputs}


def folded(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a batch whose inputs hold what it says beside its tokens; as it is, where it says nothing."""
    said = {name: batch[name] for name in CONTEXT if name in batch}
    rest = {name: value for name, value in batch.items() if name not in said}
    return {**rest, "inputs": {TOKENS: batch["inputs"], **said}} if said else rest


def unfolded(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a batch that says beside its tokens what its inputs hold; as it is, where they are tokens alone."""
    inputs = batch.get("inputs")
    if not isinstance(inputs, Mapping) or TOKENS not in inputs:
        return dict(batch)
    return {**batch, "inputs": inputs[TOKENS], **context_of(inputs)}
