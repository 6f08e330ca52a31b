"""Configurations of models and runs as JSON: written from frozen dataclasses, read back into registered types only.

Nothing in a file is ever evaluated. A type enters by the decorator `registered`; an unknown type name in a file
is refused. A user's own function has no such form: it is written as its name, and a file that holds one is
readable by eye but does not build.
"""

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import wraps
from numbers import Integral, Real

from .arguments import SHOWN, shown, suggestions
from .fields import check_fields, field_values

REGISTERED: dict[str, type] = {}


def registered(cls: type) -> type:
    """Returns `cls`, a frozen dataclass: files may name it, and its fields are checked when one is constructed."""
    REGISTERED[cls.__name__] = cls
    post_init = getattr(cls, "__post_init__", None)
    if post_init is None:
        _check_after_init(cls)
    else:
        _check_before(cls, post_init)
    return cls


def _check_before(cls: type, post_init: Callable) -> None:
    """Checks the fields in front of the class's `__post_init__`, which may compute with them."""

    @wraps(post_init)
    def checking(self):
        check_fields(self)
        post_init(self)

    cls.__post_init__ = checking  # type: ignore[attr-defined]


def _check_after_init(cls: type) -> None:
    """Checks the fields when `__init__` has set them."""
    init: Callable = cls.__init__  # type: ignore[misc]

    @wraps(init)
    def checking(self, *args, **fields):
        init(self, *args, **fields)
        check_fields(self)

    cls.__init__ = checking  # type: ignore[misc]


def encode(value):
    """Returns plain JSON data for `value`: a registered dataclass becomes `{"type": name, field: …}`, a tuple a list.

    Numbers and truth values of numpy and JAX, also as arrays without dimensions, become plain ones.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {name: encode(item) for name, item in field_values(value).items()}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Integral):  # numpy's numbers too
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if getattr(value, "shape", None) == ():
        with suppress(AttributeError, NotImplementedError, TypeError):  # neither a key nor a tracer has a number in it
            return encode(value.item())
    written = re.sub(r" at 0x[0-9a-f]+", "", repr(value))  # the same in every process
    return {"unregistered": getattr(value, "__name__", written)}


def decode(data):
    """Returns the value that `encode` described, built from registered types alone.

    Errors: ValueError for a type that is not registered, or an object that was written by name only.
    """
    if isinstance(data, list):
        return tuple(map(decode, data))
    if not isinstance(data, dict):
        return data
    if "unregistered" in data:
        raise ValueError(f"{data['unregistered']!r} was written by name only; build this model from its code")
    if "type" not in data:
        return {name: decode(item) for name, item in data.items()}
    kind = _registered_type(data["type"])
    fields = {}
    for name, item in data.items():
        if name != "type":
            fields[name] = decode(item)
    return kind(**fields)


def _registered_type(name) -> type:
    """Returns the registered type of that name, or an error with the nearest."""
    if isinstance(name, str) and name in REGISTERED:
        return REGISTERED[name]
    known = "none is known before `gradflow.model.stack` is imported"
    if REGISTERED:
        known = suggestions(name, sorted(REGISTERED))
    raise ValueError(f"no registered type {name!r}: {known}")


def dumps(value) -> str:
    """Returns `value` as one JSON string, as result files carry it in their `configuration` attribute."""
    return json.dumps(encode(value), ensure_ascii=False)


def loads(text: str):
    """Returns the value that `dumps` wrote."""
    return decode(json.loads(text))


def differences(there, here, most: int = 4) -> str:
    """Returns how two configurations differ, as a line: `lr was 0.001, now 0.01; …`; empty where they don't.

    Numbers that a profiling pass measured differ by rounding between programs, so they are compared to six digits.
    """
    try:
        old, new = _flat(there), _flat(here)
    except RecursionError:
        return "it was nested too deeply to compare"
    changed = []
    for name in {**old, **new}:
        before, after = old.get(name), new.get(name)
        if not _same(before, after):
            changed.append(f"{_cut(name)} was {shown(before)}, now {shown(after)}")
    if len(changed) > most:
        changed[most:] = [f"and {len(changed) - most} more"]
    return "; ".join(changed)


def _cut(path: str) -> str:
    """Returns a path for a line of text, shortened like any other value where it is long or would not print."""
    if path.isprintable() and len(path) <= 2 * SHOWN:
        return path
    return shown(path)


def _same(one, other) -> bool:
    if not isinstance(one, float) or not isinstance(other, float):
        return one == other
    return math.isclose(one, other, rel_tol=1e-6) or (math.isnan(one) and math.isnan(other))


def _flat(data, prefix: str = "") -> dict:
    """Returns `{path: plain value}` of nested plain data."""
    if isinstance(data, Mapping):
        items = list(data.items())
    elif isinstance(data, list):
        items = list(enumerate(data))
    else:
        return {prefix: data}
    flat: dict = {}
    for name, value in items:
        path = f"{prefix}.{name}" if prefix else str(name)
        flat |= _flat(value, path)
    return flat
