"""What a config.json says, value by value: each is checked when it is asked for, and what nobody asked for is known.

A value that changes the model and is not supported is refused by name. Both ways of giving a rotation are read: `rope_theta` and
`rope_scaling` beside the other values, or all in `rope_parameters`.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...model.init import ByBlock
from ...model.rotary import ByWavelength, Interpolated, Rotary, Yarn

LARGEST = (
    2**24
)  # of any number of a configuration but the context; none is near, and sizes made of them are numbers still
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
# Names of values that don't change the function that a model is when it is read.
INERT = re.compile(
    r"_name_or_path|name_or_path|architectures|auto_map|model_type|prefix|.*_version|.*dtype|.*_class|finetuning_task|"
    r"task_specific_params|problem_type|id2label|label2id|(bos|eos|pad|sep|unk|mask)_token_id|initializer_range|init_std|"
    r".*dropout|.*dropout_prob|.*_pdrop|layerdrop|use_cache|cache_implementation|gradient_checkpointing|chunk_size_feed_forward|"
    r"pretraining_tp|predict_special_tokens|n_ctx|output_.*|(use_)?return_dict|reorder_and_upcast_attn|_attn_implementation.*|"
    r"summary_.*|pooler_.*|directionality|hidden_act|layer_types|aux_loss_alpha|seq_aux|max_window_layers|sliding_window"
)


class Config:
    """The values of a config.json, with a record of which were asked for."""

    def __init__(self, values: Mapping[str, Any], source: str = "config.json"):
        self.values, self.source = values, source
        self.asked: set[str] = set()

    def get(self, name: str, default=None):
        """The value as it is; the default where it is missing or null."""
        self.asked.add(name)
        found = self.values.get(name)
        return default if found is None else found

    def refuse(self, name: str, found, expected: str):
        """The error that names a value."""
        return ValueError(f"{self.source}: {name} is {_short(found)}; {expected}")

    def whole(self, name: str, default: int | None = None, least: int = 1, most: int = LARGEST) -> int:
        """A whole number."""
        found = self.get(name, default)
        if isinstance(found, bool) or not isinstance(found, int) or not least <= found <= most:
            raise self.refuse(name, found, f"a whole number from {least} to {most} is expected")
        return found

    def perhaps(self, name: str) -> int | None:
        """A whole number, or None where there is none."""
        return None if self.get(name) is None else self.whole(name)

    def real(self, name: str, default: float | None = None) -> float:
        """A positive number."""
        found = self.get(name, default)
        if isinstance(found, bool) or not isinstance(found, int | float) or not _positive(found):
            raise self.refuse(name, found, "a positive number is expected")
        return float(found)

    def perhaps_real(self, name: str, default: float | None = None) -> float | None:
        """A positive number, or None where null is written; the default where nothing is."""
        self.asked.add(name)
        if name in self.values and self.values[name] is None:
            return None
        return self.real(name, default) if name in self.values or default is not None else None

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        found = self.get(name, default)
        if not isinstance(found, bool):
            raise self.refuse(name, found, "true or false is expected")
        return found

    def only(self, **values) -> None:
        """Values that must be these, which they are where they are missing too."""
        for name, value in values.items():
            if (found := self.get(name, value)) != value:
                raise self.refuse(name, found, f"only {_short(value)} is supported")

    def activation(self, name: str, default: str, known: Mapping[str, str] = ACTIVATIONS) -> str:
        """The activation under our name."""
        found = self.get(name, default)
        if not isinstance(found, str) or found not in known:
            raise self.refuse(name, found, f"supported are {', '.join(known)}")
        return known[found]

    def table(self, name: str) -> "Config | None":
        """The values of an object inside; None where there is none."""
        found = self.get(name)
        if found is None:
            return None
        if not isinstance(found, Mapping):
            raise self.refuse(name, found, "an object is expected")
        return Config(found, f"{self.source}: {name}")

    def unknown(self) -> list[str]:
        """Names of values that nobody asked for and that are not known to be inert."""
        return sorted(name for name in self.values if name not in self.asked and not INERT.fullmatch(name))


def _positive(number) -> bool:
    return 0 < number < math.inf


def _short(value, most: int = 60) -> str:
    """The value's repr, cut."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**most:
        return "a number of many digits"
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}…"


# ---- rotations and windows ----------------------------------------------------------------------------------


def rotary(config: Config, default: float = 10_000.0) -> Rotary:
    """The rotation, whichever way it is given."""
    theta = config.real("rope_theta", default)
    given = config.table("rope_parameters") or config.table("rope_scaling")
    config.asked |= {"rope_parameters", "rope_scaling"}
    config.only(partial_rotary_factor=1.0)
    return rotation(given, theta) if given else Rotary(theta)


def rotation(given: Config, theta: float, yarn: bool = False) -> Rotary:
    """The rotation that an object with `rope_type` and its numbers describes; YaRN's where a family knows what goes with it."""
    given.only(partial_rotary_factor=1.0)
    kind, base = given.get("rope_type", given.get("type", "default")), given.real("rope_theta", theta)
    if kind == "default":
        return Rotary(base)
    if kind == "linear":
        return Rotary(base, Interpolated(given.real("factor")))
    if kind == "yarn" and yarn:
        return Rotary(base, stretched(given, base))
    if kind != "llama3":
        raise given.refuse("rope_type", kind, "supported are default, linear and llama3")
    low, high = given.real("low_freq_factor"), given.real("high_freq_factor")
    if not low < high:
        raise given.refuse("high_freq_factor", high, f"more than low_freq_factor, {low}, is expected")
    context = given.whole("original_max_position_embeddings", most=2**31)
    return Rotary(base, ByWavelength(given.real("factor"), low, high, context))


def stretched(given: Config, base: float) -> Yarn:
    """YaRN's frequencies, where queries and keys are not scaled for it: the two factors of DeepSeek are one."""
    if given.get("mscale") != 1 or given.get("mscale_all_dim") != 1:
        raise given.refuse("mscale", given.get("mscale"), "only 1 is supported, with mscale_all_dim 1")
    given.only(attention_factor=None, truncate=True)
    fast, slow = given.real("beta_fast", 32.0), given.real("beta_slow", 1.0)
    return Yarn(given.real("factor"), given.whole("original_max_position_embeddings", most=2**31), fast, slow, base)


SLIDING, FULL = "sliding_attention", "full_attention"


def kinds(config: Config, depth: int, default: Sequence[str]) -> list[str]:
    """Which blocks have a window, by `layer_types` or by the family's own rule."""
    found = config.get("layer_types", list(default))
    if not isinstance(found, list) or len(found) != depth or not all(kind in (SLIDING, FULL) for kind in found):
        raise config.refuse("layer_types", found, f"a list of {depth} words, {SLIDING} or {FULL}, is expected")
    return found


def in_turn(values: Sequence):
    """The value, where all blocks have the same one, or the shortest turn that gives the values, one a block."""
    turns = range(1, len(values) + 1)
    length = next(n for n in turns if all(value == values[i % n] for i, value in enumerate(values)))
    return values[0] if length == 1 else ByBlock(tuple(values[:length]))


def windows(config: Config, which: list[str], default: int):
    """The window of each block: a number, none, or in turn."""
    size = config.whole("sliding_window", default) if SLIDING in which else None
    return in_turn([size if kind == SLIDING else None for kind in which])


def two_rotations(config: Config, which: list[str]) -> Rotary:
    """The rotations of blocks with and without a window, block by block."""
    near, far = config.real("rope_local_base_freq", 10_000.0), config.real("rope_theta", 1_000_000.0)
    given, scaled = config.table("rope_parameters"), config.table("rope_scaling")
    if given and any(kind in given.values for kind in (SLIDING, FULL)):
        tables = {kind: given.table(kind) or Config({}, given.source) for kind in (SLIDING, FULL)}
    else:
        tables = {SLIDING: Config({}), FULL: given or scaled or Config({})}
    both = {SLIDING: rotation(tables[SLIDING], near), FULL: rotation(tables[FULL], far)}
    for kind, own in both.items():
        if not isinstance(own.scaling, Interpolated | None):
            raise tables[kind].refuse("rope_type", "llama3", "default and linear are supported here")
    factors = [own.scaling.factor if (own := both[kind]).scaling else 1.0 for kind in which]
    bases = in_turn([both[kind].base for kind in which])
    return Rotary(bases, Interpolated(in_turn(factors)) if set(factors) != {1.0} else None)
