"""What forward passes showed of a model's layers, in sentences: attention by head, massive activations, layers removed."""

from functools import partial

from ...results.statistics import band
from ...results.tree import variable
from .. import tables
from ..tables import extremes
from ..tables.profiles import interval, signed

GROWTH = partial(signed, places=3)
HEAD = "sublayer {sublayer}, head {head}"


def lines(name: str, node, steps) -> list[str]:
    """Returns the sentences on one model at these steps; None stands for results without steps."""
    sentences = []
    for step in steps:
        for found in (_attention(node, step), _activations(node, step), _removal(node, step)):
            if found:
                sentences.append(f"{name}: {found[0]}{_when(step)}: {found[1]}")
    return sentences


def _when(step) -> str:
    """Returns ` at step 3`; nothing where there are no steps."""
    return "" if step is None else f" at step {step}"


def _there(node, quantity: str, step):
    """Returns a quantity at one step; None where it was not read, or has no number there."""
    if quantity not in node:
        return None
    values = tables.at_step(variable(node, quantity), step)
    return values if values.notnull().any() else None


def _attention(node, step) -> tuple[str, str] | None:
    """Returns the subject and the rest of a sentence: mean entropy, the largest share of the first token, the largest logit."""
    entropy = _there(node, "attention_entropy", step)
    if entropy is None:
        return None
    mean = band(entropy.mean(["sublayer", "head"]).rename("attention_entropy"))
    shares = tables.at_step(variable(node, "attention_entropy_share"), step)
    share = band(shares.mean(["sublayer", "head"]).rename("attention_entropy_share"))
    parts = [f"entropy {interval(mean)} nat, {interval(share)} of the largest possible (means over heads)"]
    for quantity, words in (("attention_first_token", "first token"), ("attention_largest_logit", "logit")):
        found = extremes.largest(_there(node, quantity, step))
        parts.append(f"{words} at most {interval(found)} ({_place(found, HEAD)})")
    return "attention", "; ".join(parts)


def _activations(node, step) -> tuple[str, str] | None:
    """Returns the same of the largest entry of the stream over its median, with its token and feature where all seeds agree."""
    ratios = _there(node, "massive_activation", step)
    if ratios is None:
        return None
    found = extremes.largest(ratios)
    words = [_place(found, "stream position {depth}")]
    for axis in ("token", "feature"):
        at = tables.at_step(variable(node, f"massive_{axis}"), step).sel(depth=found["depth"])
        if len(set(at.values.ravel().tolist())) == 1:
            words.append(f"{axis} {int(at.values.ravel()[0])}")
    return "largest entry of the stream", f"{interval(found)} times the median ({', '.join(words)})"


def _removal(node, step) -> tuple[str, str] | None:
    """Returns the same of the sublayer and the block without which the loss grows most."""
    sublayers = _there(node, "sublayer_removal", step)
    if sublayers is None:
        return None
    found = extremes.largest(sublayers)
    kind = str(node["kind"].sel(sublayer=found["sublayer"]).item())
    one = f"{interval(found, GROWTH)} nat without one sublayer ({_place(found, 'sublayer {sublayer}')}, {kind})"
    found = extremes.largest(_there(node, "block_removal", step))
    whole = f"{interval(found, GROWTH)} without one block ({_place(found, 'block {block}')})"
    return "growth of the loss", f"at most {one}, {whole}"


def _place(found, words: str) -> str:
    """Returns the place of a largest number in words."""
    return words.format(**{str(name): int(label) for name, label in found.coords.items() if name in words})
