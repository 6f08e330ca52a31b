"""Rotations and windows that a config.json describes, the same in all blocks or block by block.

Both ways of giving a rotation are read: `rope_theta` and `rope_scaling` beside the other values, or all in `rope_parameters`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ...model.branches.rotary import ByWavelength, Dynamic, Interpolated, Rotary, Scaling, Searched, Yarn
from ...model.parameters.depth import ByBlock
from .configs import Config

LONGEST = 2**31  # tokens of a context


def positions(config: Config, theta: float, share: float = 1.0) -> tuple[Config | None, float, float]:
    """Returns the object that describes the rotation, where there is one, its base and what share of a head it turns.

    Whichever way they are given. Errors: ValueError where both ways are taken and say different things.
    """
    new, old = config.table("rope_parameters"), config.table("rope_scaling")
    if new and old and new.values != old.values:
        raise config.refuse("rope_scaling", old.values, "rope_parameters says something else")
    given = new or old
    base = config.real("rope_theta", theta)
    if given and "rope_theta" in config.values and given.values.get("rope_theta", base) != base:
        raise config.refuse("rope_theta", base, f"{given.source} has another")
    return given, base, config.real("partial_rotary_factor", share)


def rotary(
    config: Config,
    default: float = 10_000.0,
    context: int = LONGEST,
    head: int | None = None,
    share: float = 1.0,
    original: int | None = None,
) -> Rotary:
    """Returns the rotation, whichever way it is given.

    Of a family that turns a share of its heads' features, `head` is how many these are and `share` the share by default; all
    others turn all. `context` is what a model is meant for, `original` what it was first trained for where a family says it.
    """
    given, theta, share = positions(config, default, share)
    return rotation(given or Config({}, config.source), theta, context, head, share, original)


def rotation(
    given: Config,
    theta: float,
    context: int = LONGEST,
    head: int | None = None,
    share: float = 1.0,
    original: int | None = None,
) -> Rotary:
    """Returns the rotation that an object with `rope_type` describes."""
    share = given.real("partial_rotary_factor", share)
    if share > 1 or (head is None and share != 1):
        raise given.refuse("partial_rotary_factor", share, "only 1.0 is supported")
    kind, base = given.get("rope_type", given.get("type", "default")), given.real("rope_theta", theta)
    if given.get("type", kind) != kind:
        raise given.refuse("type", given.get("type"), f"rope_type is {kind!r}")
    if not isinstance(kind, str) or kind not in SCALINGS:
        raise given.refuse("rope_type", kind, f"supported are {', '.join(SCALINGS)}")
    scaling = SCALINGS[kind](given, base, context, original)
    given.complete()
    turned = None if head is None or share == 1 else int(head * share)
    if turned is not None and (turned < 2 or turned % 2):
        raise given.refuse(
            "partial_rotary_factor", share, f"an even number of the {head} features of a head is expected"
        )
    return Rotary(base, scaling, turned)


# ---- contexts beyond the one of training --------------------------------------------------------------------


def _plain(given: Config, base: float, context: int, original: int | None) -> Scaling | None:
    return None


def _linear(given: Config, base: float, context: int, original: int | None) -> Scaling:
    return Interpolated(given.real("factor"))


def _dynamic(given: Config, base: float, context: int, original: int | None) -> Scaling:
    return Dynamic(given.real("factor"), context)


def _llama3(given: Config, base: float, context: int, original: int | None) -> Scaling:
    low, high = given.real("low_freq_factor"), given.real("high_freq_factor")
    if not low < high:
        raise given.refuse("high_freq_factor", high, f"more than low_freq_factor, {low}, is expected")
    return ByWavelength(given.real("factor"), low, high, _before(given, context, original))


def _yarn(given: Config, base: float, context: int, original: int | None) -> Scaling:
    """YaRN's, with the factor of turned queries and keys."""
    before = _before(given, context, original)
    factor = given.perhaps_real("factor") or context / before
    fast, slow = given.real("beta_fast", 32.0), given.real("beta_slow", 1.0)
    mscale, all_features = given.perhaps_real("mscale"), given.perhaps_real("mscale_all_dim")
    magnitude = given.perhaps_real("attention_factor")
    if magnitude is None:
        magnitude = sharpness(factor, 1.0)
        if mscale and all_features:
            magnitude = sharpness(factor, mscale) / sharpness(factor, all_features)
    return Yarn(factor, before, fast, slow, base, _unless_one(magnitude), given.flag("truncate", True))


def _longrope(given: Config, base: float, context: int, original: int | None) -> Scaling:
    """LongRoPE's, with the factor of turned queries and keys."""
    before = _before(given, context, original)
    factor, magnitude = given.perhaps_real("factor") or context / before, given.perhaps_real("attention_factor")
    if magnitude is None:
        magnitude = math.sqrt(1 + math.log(factor) / math.log(before)) if factor > 1 else 1.0
    return Searched(given.reals("short_factor"), given.reals("long_factor"), before, _unless_one(magnitude))


SCALINGS: dict[str, Callable[[Config, float, int, int | None], Scaling | None]] = {
    "default": _plain,
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
}


def sharpness(factor: float, mscale: float) -> float:
    """Returns `0.1 mscale ln(factor) + 1`: how much longer queries and keys are in a context so many times as long."""
    return 0.1 * mscale * math.log(factor) + 1 if factor > 1 else 1.0


def _before(given: Config, context: int, original: int | None) -> int:
    """Returns the context before it was extended: what the family says, or the object, or that of the model."""
    written = given.whole("original_max_position_embeddings", context, most=LONGEST)
    return original or written


def _unless_one(number: Any) -> Any:
    """Returns a factor, or one of the block; None where it changes nothing."""
    return None if number == 1 else number


# ---- block by block -----------------------------------------------------------------------------------------

SLIDING, FULL = "sliding_attention", "full_attention"


def kinds(config: Config, default: Sequence[str]) -> list[str]:
    """Returns which blocks have a window, by `layer_types` or by the family's own rule."""
    return config.words("layer_types", (SLIDING, FULL), default)


def full_every(number: int, depth: int, others: str = SLIDING) -> list[str]:
    """Returns the rule that every `number`-th block has attention to all, and the others this kind."""
    return [FULL if (block + 1) % number == 0 else others for block in range(depth)]


def turn(values: Sequence) -> tuple:
    """Returns the shortest turn that gives the values, one a block."""
    length = 1
    while any(value != values[i % length] for i, value in enumerate(values)):
        length += 1
    return tuple(values[:length])


def in_turn(values: Sequence):
    """Returns the value, where all blocks have the same one, or the turn that gives the values."""
    first, *others = turn(values)
    return ByBlock((first, *others)) if others else first


def windows(config: Config, which: list[str], size: int | None):
    """Returns the window of each block: a number, none, or in turn."""
    if size is None and SLIDING in which:
        raise config.refuse("layer_types", which, f"{SLIDING} needs a sliding_window, and here is none")
    return in_turn([size if kind == SLIDING else None for kind in which])


def two_rotations(config: Config, which: list[str], near: float, far: float, context: int) -> Rotary:
    """Returns the rotations of blocks with and without a window, of these bases by default, block by block."""
    given, far, _ = positions(config, far)
    config.only(partial_rotary_factor=1.0)
    both = {SLIDING: Config({}), FULL: given or Config({})}
    if config.get("rope_parameters"):  # the new way has an object for each of the two, the old one for the second alone
        given = config.table("rope_parameters") or Config({})
        both = {kind: given.table(kind) or Config({}, given.source) for kind in (SLIDING, FULL)}
        given.complete()
    of_kind = {kind: rotation(both[kind], theta, context) for kind, theta in ((SLIDING, near), (FULL, far))}
    return by_block(config, [of_kind[kind] for kind in which])


def by_block(config: Config, rotations: Sequence[Rotary | None]) -> Any:
    """Returns one rotation whose numbers depend on the block, those of blocks that turn nothing among them; None where none does.

    Errors: ValueError where blocks are scaled in ways of which one is not the other's with a factor of 1.
    """
    if len(set(rotations)) == 1:
        return rotations[0]
    turning = [one for one in rotations if one is not None]
    scalings = {one.scaling for one in turning} - {None}
    if len(scalings) > 1 or not all(isinstance(one, Interpolated | Yarn) for one in scalings):
        found = config.get("rope_parameters")
        raise config.refuse("rope_parameters", found, "blocks that are scaled in one way, or not at all, are supported")
    scaling = None
    for one in scalings:
        scaling = _partly(one, [own is not None and own.scaling is not None for own in rotations])
    turns = in_turn([0.0 if own is None else 1.0 for own in rotations])
    base = in_turn([(own or turning[0]).base for own in rotations])
    return Rotary(base, scaling, turning[0].features, _unless_one(turns))


def _partly(scaling: Any, scaled: Sequence[bool]) -> Scaling:
    """Returns the scaling in the blocks that are scaled, and none in the others."""
    scaling = replace(scaling, factor=in_turn([scaling.factor if own else 1.0 for own in scaled]))
    if scaling.magnitude is None:
        return scaling
    return replace(scaling, magnitude=in_turn([scaling.magnitude if own else 1.0 for own in scaled]))
