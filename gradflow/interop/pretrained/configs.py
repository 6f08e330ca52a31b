"""What a config.json says, value by value: each is checked when it is asked for, and what nobody asked for is known.

A value that changes the model and is not supported is refused by name, and so is one that no part of its family asked for. Null
is not the same as nothing: it is a value, of those that may be absent.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

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

    def words(self, name: str, known: Collection[str], default: Sequence[str]) -> list[str]:
        """Returns a word a block, of those that are known; as many are expected as the default has."""
        found = self.get(name, list(default))
        if not isinstance(found, list) or len(found) != len(default) or not all(word in known for word in found):
            raise self.refuse(name, found, f"a list of {len(default)} words, of {', '.join(known)}, is expected")
        return found

    def reals(self, name: str) -> tuple[float, ...]:
        """Returns positive numbers."""
        found = self.given(name, None)
        if not isinstance(found, list):
            raise self.refuse(name, found, "a list of positive numbers is expected")
        return tuple(Config({name: one}, self.source).real(name) for one in found)

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
