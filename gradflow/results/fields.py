"""Fields of dataclasses: read by name, and refused in one line where they are not of their declared type."""

import dataclasses
from collections.abc import Iterable
from itertools import repeat
from types import NoneType
from typing import Any, get_args, get_origin

import jax

from .arguments import of_class, real, shown, whole

PLAIN = (int, float, bool, str, NoneType)
WORDS = {bool: "true or false", str: "a text", NoneType: "none"}


def field_values(value) -> dict[str, Any]:
    """Returns `{field: value}` of a dataclass; of anything else nothing."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return {}
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def whole_fields(value, *names: str, least: int = 1) -> None:
    """Raises for the named fields of a dataclass that are no whole numbers, or below `least`."""
    values = field_values(value)
    for name in names:
        whole(name, values[name], least)


def check_fields(value) -> None:
    """Raises for fields of a dataclass that are not of their declared type, where that is plain.

    Plain are numbers, text, true or false, and tuples of these or of values of a class. A number that is traced, or one
    that is known later (of the depth, of the block), passes where it is declared.
    """
    values = field_values(value)
    for field in dataclasses.fields(value):
        _check_field(f"{type(value).__name__}.{field.name}", values[field.name], field.type)


def _check_field(name: str, value, declared) -> None:
    if get_origin(declared) is tuple:
        _check_tuple(name, value, get_args(declared))
        return
    kinds = get_args(declared) or (declared,)
    classes = tuple(kind for kind in kinds if kind not in PLAIN)
    if len(classes) == len(kinds) or not all(map(_is_checkable, classes)):
        return
    if isinstance(value, (jax.Array, *classes)):
        return
    if value is None and NoneType in kinds:
        return
    if isinstance(value, bool | str) and type(value) in kinds:
        return
    if float in kinds:
        real(name, value)
    elif int in kinds:
        whole(name, value, least=-(2**63))
    else:
        expected = " or ".join(WORDS[kind] for kind in kinds)
        raise ValueError(f"{name} is {shown(value)}: {expected} is needed")


def _is_checkable(kind) -> bool:
    """Returns whether it is a class with instances, not a protocol."""
    return isinstance(kind, type) and not getattr(kind, "_is_protocol", False)


def _check_tuple(name: str, value, declared: tuple) -> None:
    """Raises unless the value is a tuple, or a list, of as many items as are declared, each of its type."""
    expected = "a tuple"
    kinds: Iterable = repeat(declared[0])
    if declared[-1] is not Ellipsis:
        expected = f"a tuple of {len(declared)}"
        kinds = declared
    if not isinstance(value, tuple | list) or (kinds is declared and len(value) != len(declared)):
        raise ValueError(f"{name} is {shown(value)}: {expected} is needed")
    for i, (item, kind) in enumerate(zip(value, kinds, strict=False)):
        if _is_checkable(kind) and kind not in (Any, *PLAIN):
            of_class(f"{name}[{i}]", item, kind)
        _check_field(f"{name}[{i}]", item, kind)
