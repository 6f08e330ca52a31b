"""What a config.json says, value by value: each is checked when it is asked for, and what nobody asked for is known.

A value that changes the model and is not supported is refused by name, and so is one that no part of its family asked for. Null
is not the same as nothing: it is a value, of those that may be absent. Both ways of giving a rotation are read: `rope_theta` and
`rope_scaling` beside the other values, or all in `rope_parameters`.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ...model.branches.rotary import ByWavelength, Interpolated, Rotary, Yarn
from ...model.parameters.depth import ByBlock
from ...results.arguments import real, shown, whole
from .files import plain, several
from .metadata import HARMLESS, belongs

LARGEST = 2**24  # of any whole number but the context; none is near, and sizes made of them are numbers still
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}


class Config:
    """The values of a config.json, with a record of which were asked for."""

    def __init__(self, values: Mapping[str, Any], source: str = "config.json"):
        self.values, self.source = values, source
        self.asked: set[str] = set()

    def get(self, name: str, default=None):
        """Returns the value as it is; the default where it is missing or null."""
        self.asked.add(name)
        value = self.values.get(name)
        return default if value is None else value

    def given(self, name: str, default):
        """Returns the value as it is, null too; the default where nothing is written."""
        self.asked.add(name)
        return self.values.get(name, default)

    def refuse(self, name: str, found, expected: str):
        """Returns the error that names a value."""
        return ValueError(f"{self.source}: {name} is {shown(found)}; {expected}")

    def whole(self, name: str, default: int | None = None, least: int = 1, most: int = LARGEST) -> int:
        """Returns a whole number."""
        found = self.given(name, default)
        try:
            return whole(name, found, least, most)
        except ValueError:
            raise self.refuse(name, found, f"a whole number from {least} to {most} is expected") from None

    def perhaps(self, name: str, default: int | None = None) -> int | None:
        """Returns a whole number, or None where null is written; the default where nothing is."""
        if self.given(name, default) is None:
            return None
        return self.whole(name, default)

    def real(self, name: str, default: float | None = None) -> float:
        """Returns a positive number."""
        found = self.given(name, default)
        try:
            return real(name, found, above=0)
        except ValueError:
            raise self.refuse(name, found, "a positive number is expected") from None

    def perhaps_real(self, name: str, default: float | None = None) -> float | None:
        """Returns a positive number, or None where null is written; the default where nothing is."""
        if self.given(name, default) is None:
            return None
        return self.real(name, default)

    def flag(self, name: str, default: bool) -> bool:
        """True or false; null is false where nothing is too."""
        value = self.given(name, default)
        if value is None and not default:
            return default
        if not isinstance(value, bool):
            raise self.refuse(name, value, "true or false is expected")
        return value

    def only(self, **values) -> None:
        """Refuses values other than these, which they are where they are missing; null is the same as false or nothing."""
        for name, value in values.items():
            found = self.given(name, value)
            if found != value and not (found is None and not value):
                raise self.refuse(name, found, f"only {shown(value)} is supported")

    def activation(self, name: str, default: str, known: Mapping[str, str] = ACTIVATIONS) -> str:
        """Returns the activation under our name."""
        found = self.given(name, default)
        if not isinstance(found, str) or found not in known:
            raise self.refuse(name, found, f"supported are {', '.join(known)}")
        return known[found]

    def table(self, name: str) -> "Config | None":
        """Returns the values of an object inside; None where there is none."""
        found = self.get(name)
        if found is None:
            return None
        if not isinstance(found, Mapping):
            raise self.refuse(name, found, "an object is expected")
        return Config(found, f"{self.source}: {name}")

    # ---- what nobody asked for

    def ignore(self, *names: str) -> None:
        """Notes values that don't change what a family computes here."""
        self.asked |= set(names)

    def classes(self, kind: str) -> None:
        """Whose model it is by the names of its classes; a neighbour's, or somebody's own code, is refused."""
        known = partial(belongs, kind=kind)
        named = self.get("architectures", [])
        if not isinstance(named, list) or not all(map(known, named)):
            raise self.refuse("architectures", named, f"those of model_type {kind} are expected")
        code = self.get("auto_map", {})
        if not isinstance(code, Mapping) or not all(map(known, _flat(code.values()))):
            raise self.refuse("auto_map", code, f"code of its own is not read: those of model_type {kind} are expected")

    def complete(self) -> None:
        """Refuses values that nobody asked for and that are not known to be harmless. Null is nothing that could be lost.

        Errors: ValueError that names those that would have been ignored.
        """
        unread = self.values.keys() - self.asked - HARMLESS
        lost = []
        for name in sorted(unread):
            if self.values[name] is not None:
                lost.append(f"{plain(name)} = {shown(self.values[name])}")
        if lost:
            remedy = "take out what is known to change nothing"
            raise ValueError(f"{self.source}: nothing here reads {several(lost)}; {remedy}")


def _flat(values) -> list:
    """Returns the values, of lists among them their entries."""
    entries = []
    for value in values:
        entries += value if isinstance(value, list) else [value]
    return entries


# ---- rotations and windows ----------------------------------------------------------------------------------


def positions(config: Config, theta: float) -> "tuple[Config | None, float]":
    """Returns the object that describes the rotation, where there is one, and its base, whichever way they are given.

    Errors: ValueError where both ways are taken and say different things.
    """
    new, old = config.table("rope_parameters"), config.table("rope_scaling")
    if new and old and new.values != old.values:
        raise config.refuse("rope_scaling", old.values, "rope_parameters says something else")
    given = new or old
    base = config.real("rope_theta", theta)
    if given and "rope_theta" in config.values and given.values.get("rope_theta", base) != base:
        raise config.refuse("rope_theta", base, f"{given.source} has another")
    config.only(partial_rotary_factor=1.0)
    return given, base


def rotary(config: Config, default: float = 10_000.0) -> Rotary:
    """Returns the rotation, whichever way it is given."""
    given, theta = positions(config, default)
    if given:
        return rotation(given, theta)
    return Rotary(theta)


def rotation(given: Config, theta: float, yarn: bool = False) -> Rotary:
    """Returns the rotation that an object with `rope_type` describes; YaRN's where a family knows what goes with it."""
    given.only(partial_rotary_factor=1.0)
    kind, base = given.get("rope_type", given.get("type", "default")), given.real("rope_theta", theta)
    if given.get("type", kind) != kind:
        raise given.refuse("type", given.get("type"), f"rope_type is {shown(kind)}")
    scaling = _scaling(given, kind, base, yarn)
    given.complete()
    return Rotary(base, scaling)


def _scaling(given: Config, kind, base: float, yarn: bool) -> Interpolated | ByWavelength | Yarn | None:
    """Returns what takes the frequencies to those of a longer context."""
    if kind == "default":
        return None
    if kind == "linear":
        return Interpolated(given.real("factor"))
    if kind == "yarn" and yarn:
        return stretched(given, base)
    if kind != "llama3":
        raise given.refuse("rope_type", kind, "supported are default, linear and llama3")
    low, high = given.real("low_freq_factor"), given.real("high_freq_factor")
    if not low < high:
        raise given.refuse("high_freq_factor", high, f"more than low_freq_factor, {low}, is expected")
    context = given.whole("original_max_position_embeddings", most=2**31)
    return ByWavelength(given.real("factor"), low, high, context)


def stretched(given: Config, base: float) -> Yarn:
    """YaRN's frequencies, where queries and keys are not scaled for it: the two factors of DeepSeek are one."""
    if given.get("mscale") != 1 or given.get("mscale_all_dim") != 1:
        raise given.refuse("mscale", given.get("mscale"), "only 1 is supported, with mscale_all_dim 1")
    given.only(attention_factor=None, truncate=True)
    fast, slow = given.real("beta_fast", 32.0), given.real("beta_slow", 1.0)
    return Yarn(given.real("factor"), given.whole("original_max_position_embeddings", most=2**31), fast, slow, base)


SLIDING, FULL = "sliding_attention", "full_attention"


def kinds(config: Config, depth: int, default: Sequence[str]) -> list[str]:
    """Returns which blocks have a window, by `layer_types` or by the family's own rule."""
    found = config.get("layer_types", list(default))
    if not isinstance(found, list) or len(found) != depth or not all(kind in (SLIDING, FULL) for kind in found):
        raise config.refuse("layer_types", found, f"a list of {depth} words, {SLIDING} or {FULL}, is expected")
    return found


def in_turn(values: Sequence):
    """Returns the value, where all blocks have the same one, or the shortest turn that gives the values, one a block."""
    length = 1
    while any(value != values[i % length] for i, value in enumerate(values)):
        length += 1
    if length == 1:
        return values[0]
    return ByBlock(tuple(values[:length]))


def windows(config: Config, which: list[str], size: int | None):
    """Returns the window of each block: a number, none, or in turn."""
    if size is None and SLIDING in which:
        raise config.refuse("layer_types", which, f"{SLIDING} needs a sliding_window, and here is none")
    return in_turn([size if kind == SLIDING else None for kind in which])


def two_rotations(config: Config, which: list[str]) -> Rotary:
    """Returns the rotations of blocks with and without a window, block by block."""
    near, (given, far) = config.real("rope_local_base_freq", 10_000.0), positions(config, 1_000_000.0)
    if config.get("rope_parameters"):  # the new way has an object for each of the two, the old one for the second alone
        given = config.table("rope_parameters") or Config({})
        tables = {kind: given.table(kind) or Config({}, given.source) for kind in (SLIDING, FULL)}
        given.complete()
    else:
        tables = {SLIDING: Config({}), FULL: given or Config({})}
    bases, factors = {}, {}
    for kind, theta in ((SLIDING, near), (FULL, far)):
        of_kind = rotation(tables[kind], theta)
        if not isinstance(of_kind.scaling, Interpolated | None):
            raise tables[kind].refuse("rope_type", "llama3", "default and linear are supported here")
        bases[kind] = of_kind.base
        factors[kind] = of_kind.scaling.factor if of_kind.scaling else 1.0
    by_block = [factors[kind] for kind in which]
    scaling = Interpolated(in_turn(by_block)) if set(by_block) != {1.0} else None
    return Rotary(in_turn([bases[kind] for kind in which]), scaling)
