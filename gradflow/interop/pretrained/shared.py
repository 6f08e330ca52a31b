"""What descriptions of several model types share: sizes by their names, windows, what LLaMA and its kin have in common."""

from typing import Any, NamedTuple

from ...model.parameters.initializers import FanIn, Initialization
from .configs import Config
from .rotations import FULL, SLIDING, kinds, rotary

SIZES = {
    "depth": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "hidden": "intermediate_size",
    "vocabulary": "vocab_size",
}


def sizes(config: Config, names: dict[str, str], defaults) -> dict[str, Any]:
    """Returns the sizes of an architecture, by the names that a configuration has for them."""
    found = {}
    for (ours, theirs), usual in zip(names.items(), defaults, strict=True):
        found[ours] = config.whole(theirs, usual)
    return found


def alike(config: Config, depth: int, kind: str) -> None:
    """Refuses blocks of another kind than the one that a family has."""
    found = kinds(config, [kind] * depth)
    if set(found) != {kind}:
        raise config.refuse("layer_types", found, f"only {kind} is supported here")


def one_window(config: Config, depth: int, usual: int | None = None) -> int | None:
    """Returns the window of all blocks, or None where no block has one; refuses blocks that differ."""
    window = config.perhaps("sliding_window", usual)
    alike(config, depth, FULL if window is None else SLIDING)
    return window


class Usual(NamedTuple):
    """What a file of LLaMA's kin means by leaving a value out."""

    sizes: tuple[int, int, int, int, int]  # blocks, width, heads, hidden layer, vocabulary
    keys: int | None = None
    eps: float = 1e-6
    eps_name: str = "rms_norm_eps"
    activation: str = "silu"
    base: float = 10_000.0
    context: int = 2048
    tied: bool = False


def gated(config: Config, usual: Usual) -> dict[str, Any]:
    """Returns what LLaMA and its kin share, but for the rotation."""
    found = sizes(config, SIZES, usual.sizes)
    return {
        **found,
        "kv_heads": config.perhaps("num_key_value_heads", usual.keys or found["heads"]) or found["heads"],
        "context": context(config, usual.context),
        "eps": config.real(usual.eps_name, usual.eps),
        "activation": config.activation("hidden_act", usual.activation),
        "readout_weights": readout(config, usual.tied),
    }


def turned(config: Config, usual: Usual) -> dict[str, Any]:
    """Returns what they share, and one rotation for all blocks."""
    own = gated(config, usual)
    return {**own, "rotary": rotary(config, usual.base, own["context"])}


def readout(config: Config, tied: bool) -> Initialization | None:
    """Returns how the readout is drawn; None where it is the token table."""
    return None if config.flag("tie_word_embeddings", tied) else FanIn()


def size_of_head(own: dict[str, Any]) -> int:
    """Returns how many features a head has where a family has no other word for it than width and heads."""
    return own["width"] // own["heads"]


def context(config: Config, default: int) -> int:
    """Returns how many tokens a model is meant for, where positions are not rows of a table."""
    return config.whole("max_position_embeddings", default, most=2**31)
