"""What a model or a run was, as JSON: written from frozen dataclasses, read back into registered types only.

Nothing in a file is ever evaluated. A type enters by the decorator `registered`; an unknown type name in a file
is refused. A user's own function has no such form: it is written as its name, and a file that holds one is
readable by eye but does not build.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import wraps
from numbers import Integral, Real

from .arguments import SHOWN, check_fields, shown, suggestions

REGISTERED: dict[str, type] = {}


def registered(cls: type) -> type:
    """`cls`, a frozen dataclass, which files may from now on name, and whose fields are checked where one is made."""
    REGISTERED[cls.__name__] = cls
    own = getattr(cls, "__post_init__", None)
    if own is None:
        _check_after(cls, "__init__")
    else:
        _check_before(cls, own)
    return cls


def _check_before(cls: type, own: Callable) -> None:
    """Checks the fields in front of the class's own checks, which may compute with them."""

    @wraps(own)
    def checking(self):
        check_fields(self)
        own(self)

    cls.__post_init__ = checking  # type: ignore[attr-defined]


def _check_after(cls: type, name: str) -> None:
    """Checks the fields behind a method that sets them."""
    own = getattr(cls, name)

    @wraps(own)
    def checking(self, *args, **fields):
        own(self, *args, **fields)
        check_fields(self)

    setattr(cls, name, checking)


def encode(value):
    """Plain JSON data for `value`: a registered dataclass becomes `{"type": name, field: …}`, a tuple a list.

    Numbers and truth values of numpy and JAX, arrays without dimensions among them, become plain ones.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        shown = {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"type": type(value).__name__, **shown}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Real):  # numpy's numbers too
        return int(value) if isinstance(value, Integral) else float(value)
    if getattr(value, "shape", None) == ():
        with suppress(AttributeError, NotImplementedError, TypeError):  # a key has no number in it, nor has a tracer
            return encode(value.item())
    return {"unregistered": getattr(value, "__name__", repr(value))}


def decode(data):
    """The value that `encode` described, built from registered types alone.

    Errors: ValueError for a type that is not registered, or an object that was written by name only.
    """
    if isinstance(data, list):
        return tuple(decode(item) for item in data)
    if not isinstance(data, dict):
        return data
    if "unregistered" in data:
        raise ValueError(f"{data['unregistered']!r} was written by name only; build this model from its code")
    if "type" not in data:
        return {key: decode(item) for key, item in data.items()}
    name = data["type"]
    if not isinstance(name, str) or name not in REGISTERED:
        known = (
            suggestions(name, REGISTERED) if REGISTERED else "none is known before `gradflow.model.stack` is imported"
        )
        raise ValueError(f"no registered type {name!r}: {known}")
    return REGISTERED[name](**{key: decode(item) for key, item in data.items() if key != "type"})


def dumps(value) -> str:
    """`value` as one JSON string: what result files carry in their `configuration` attribute."""
    return json.dumps(encode(value), ensure_ascii=False)


def loads(text: str):
    """The value behind `dumps`."""
    return decode(json.loads(text))


def differences(there, here, most: int = 4) -> str:
    """What differs between two configurations, plain data, as a line: `lr was 0.001, now 0.01; …`; empty where nothing does.

    Numbers that a profiling pass measured differ by rounding between programs: so they are compared to six digits.
    """
    try:
        old, new = _flat(there), _flat(here)
    except RecursionError:
        return "it was nested too deeply to compare"
    differ = [name for name in {**old, **new} if not _same(old.get(name), new.get(name))]
    told = [f"{_cut(name)} was {shown(old.get(name))}, now {shown(new.get(name))}" for name in differ[:most]]
    return "; ".join([*told, *([f"and {len(differ) - most} more"] if len(differ) > most else [])])


def _cut(path: str) -> str:
    """A path for a line of text: as it is, or as any other value where it is long or would not print."""
    return path if path.isprintable() and len(path) <= 2 * SHOWN else shown(path)


def _same(one, other) -> bool:
    if not (isinstance(one, float) and isinstance(other, float)):
        return one == other
    return math.isclose(one, other, rel_tol=1e-6) or (math.isnan(one) and math.isnan(other))


def _flat(data, prefix: str = "") -> dict:
    """`{path: plain value}` of nested plain data."""
    if not isinstance(data, Mapping | list):
        return {prefix: data}
    items = data.items() if isinstance(data, Mapping) else enumerate(data)
    return {k: v for name, value in items for k, v in _flat(value, f"{prefix}.{name}" if prefix else str(name)).items()}
