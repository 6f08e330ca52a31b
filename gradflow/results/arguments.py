"""Arguments: what is misspelt or impossible is refused before anything runs, in one line that says what was expected.

    steps = whole("steps", steps)                  an int from 1 on; numpy's and JAX's whole numbers too
    lr = real("lr", lr, above=0)                   a finite float
    base = of_class("base", base, Recipe)
    take = function("take", take)
    known("initialization", init, INITIALIZATIONS)

Each returns the value as a plain Python one.
"""

import dataclasses
import difflib
import inspect
import math
import operator
import textwrap
from collections.abc import Callable, Iterable
from functools import wraps
from itertools import repeat
from types import NoneType, UnionType
from typing import Any, ParamSpec, TypeVar, get_args, get_origin

import jax

SHOWN = 60  # characters of a value in an error
LISTED = 300  # characters of a list of names
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

P = ParamSpec("P")
R = TypeVar("R")


def shown(value) -> str:
    """The value's repr, cut where it is long: what an error line has room for."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**SHOWN:
        return "a number of many digits"
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """`value` as an int.

    Errors: ValueError where it is no whole number (1.0 and True are none), below `least` or above `most`.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise ValueError(f"{name} is {shown(value)}: a whole number is needed")
    if number < least:
        raise ValueError(f"{name} is {shown(number)}: at least {least} is needed")
    if most is not None and number > most:
        raise ValueError(f"{name} is {shown(number)}: at most {most} is possible")
    return number


def real(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> float:
    """`value` as a finite float within bounds, of which `above` and `below` are left out themselves.

    Errors: ValueError for what is no number, NaN, an infinity, or out of bounds.
    """
    bounds: dict[str, tuple] = {
        "from": (least, operator.ge),
        "above": (above, operator.gt),
        "up to": (most, operator.le),
        "below": (below, operator.lt),
    }
    asked = {words: bound for words, bound in bounds.items() if bound[0] is not None}
    expected = " ".join(["a finite number", *(f"{words} {limit}" for words, (limit, _) in asked.items()), "is needed"])
    try:
        number = math.nan if isinstance(value, bool | str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or not all(holds(number, limit) for limit, holds in asked.values()):
        raise ValueError(f"{name} is {shown(value)}: {expected}")
    return number


def known(what: str, name: Any, names: Iterable[str], also: Iterable[str] = ()) -> str:
    """`name` as it is, one of `names`, or of `also`, which a refusal does not list.

    Errors: ValueError with the nearest of all.
    """
    names, also = tuple(names), tuple(also)
    if not isinstance(name, str) or name not in (*names, *also):
        raise ValueError(f"no {what} {shown(name)}: {suggestions(str(name), names, also)}")
    return name


def of_class(name: str, value: Any, kind: type | UnionType) -> Any:
    """`value` as it is, of a class, or of one of several.

    Errors: TypeError where it is none of its instances.
    """
    if not isinstance(value, kind):
        kinds = " or ".join(one.__name__ for one in get_args(kind) or (kind,))
        raise TypeError(f"{name} is {shown(value)}: a {kinds} is needed")
    return value


def function(name: str, value: Any) -> Any:
    """`value` as it is, something that can be called.

    Errors: TypeError where it can't.
    """
    if not callable(value):
        raise TypeError(f"{name} is {shown(value)}: a function is needed")
    return value


def suggestions(name: str, names: Iterable[str], also: Iterable[str] = ()) -> str:
    """The end of an error line about an unknown `name`: the nearest of all names, then those in `names`, as many as fit."""
    names = tuple(names)
    listed = textwrap.shorten(", ".join(names), LISTED, placeholder=f" … ({len(names)} in all)")
    return f"{nearest(name, [*names, *also])} known: {listed}".lstrip()


def nearest(name: str, names: Iterable[str]) -> str:
    """`did you mean 'post'?`, or up to three of them; empty where none is near."""
    near = difflib.get_close_matches(str(name)[:SHOWN], dict.fromkeys(names), n=3, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else ""


# ---- fields --------------------------------------------------------------------------------------------------

PLAIN = (int, float, bool, str, NoneType)


def check_fields(value) -> None:
    """Refuses fields of a dataclass that are not of their declared type, as far as that is plain: numbers, text, true or false,
    and tuples of these or of values of a class.

    A number that is traced, or one that is known later (of the depth, of the block), passes where it is declared.
    """
    for field in dataclasses.fields(value):
        _check_field(f"{type(value).__name__}.{field.name}", getattr(value, field.name), field.type)


def _check_field(name: str, value, declared) -> None:
    if get_origin(declared) is tuple:
        return _check_tuple(name, value, get_args(declared))
    kinds = get_args(declared) or (declared,)
    own = tuple(kind for kind in kinds if kind not in PLAIN)
    checkable = all(isinstance(kind, type) and not getattr(kind, "_is_protocol", False) for kind in own)
    if not checkable or len(own) == len(kinds) or isinstance(value, (jax.Array, *own)):
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
        words = {bool: "true or false", str: "a text", NoneType: "none"}
        raise ValueError(f"{name} is {shown(value)}: {' or '.join(words[kind] for kind in kinds)} is needed")


def _check_tuple(name: str, value, declared: tuple) -> None:
    """A tuple, or a list, of as many items as are declared, each of its type."""
    endless = declared[-1] is Ellipsis
    if not isinstance(value, tuple | list) or not (endless or len(value) == len(declared)):
        raise ValueError(f"{name} is {shown(value)}: a tuple{'' if endless else f' of {len(declared)}'} is needed")
    kinds = repeat(declared[0]) if endless else declared
    for i, (item, kind) in enumerate(zip(value, kinds, strict=False)):
        if _concrete(kind):
            of_class(f"{name}[{i}]", item, kind)
        _check_field(f"{name}[{i}]", item, kind)


def _concrete(kind) -> bool:
    """Whether it is a class of which every value must be an instance: no protocol, and no plain type, which has its own check."""
    return isinstance(kind, type) and kind not in (Any, *PLAIN) and not getattr(kind, "_is_protocol", False)


# ---- options -------------------------------------------------------------------------------------------------


def check_options(name: str, options: Iterable[str], taken: Iterable[str], also: Iterable[str] = ()) -> None:
    """Refuses names of options that are neither in `taken` nor in `also`, which a refusal does not list.

    Errors: TypeError, as Python's own, with the nearest of all.
    """
    taken, also = tuple(taken), tuple(also)
    for option in options:
        if option not in (*taken, *also):
            raise TypeError(f"{name} has no option {shown(option)}: {suggestions(option, taken, also)}")


def options_of(function: Callable, without: Iterable[str] = ()) -> list[str]:
    """The options of a function: what it takes by keyword alone."""
    alone = [own.name for own in inspect.signature(function).parameters.values() if own.kind is own.KEYWORD_ONLY]
    return [name for name in alone if name not in without]


def open_ended(function: Callable) -> bool:
    """Whether a function takes options of any name, as far as can be seen."""
    try:
        return any(own.kind is own.VAR_KEYWORD for own in inspect.signature(function).parameters.values())
    except ValueError:  # one written in C says nothing
        return True


def answering(
    *handed: Callable, without: Iterable[str] = (), further: Callable[[Any], Iterable[str]] | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: an unknown option is refused by the name of the function that was called, before it runs.

    Parameters
    ----------
    handed : the functions that `**options` are handed on to, whose options are options here; a signature shows them
    without : those of their options that are not, since the function says them itself
    further : what finds more names in the function's first argument, such as the dimensions of a tree
    """

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        signature = _joined(function, handed, tuple(without))
        own = [name for name, parameter in signature.parameters.items() if parameter.kind in NAMED]
        alone = [name for name in own if signature.parameters[name].kind is inspect.Parameter.KEYWORD_ONLY]

        @wraps(function)
        def answered(*args: P.args, **options: P.kwargs) -> R:
            if not options.keys() <= set(own):
                more = further(_first(signature, args, options)) if further else ()
                check_options(function.__name__, options, [*(alone or own), *more], also=own)
            return function(*args, **options)

        answered.__signature__ = signature  # type: ignore[attr-defined]
        return answered

    return decorated


def _joined(function: Callable, handed: tuple[Callable, ...], without: tuple[str, ...]) -> inspect.Signature:
    """The signature of a function with the options of those it hands `**options` on to in the place of these."""
    signature = inspect.signature(function)
    if not handed:
        return signature
    own = {name: one for name, one in signature.parameters.items() if one.kind is not one.VAR_KEYWORD}
    for other in handed:
        theirs = inspect.signature(other).parameters
        own |= {name: theirs[name] for name in options_of(other, without) if name not in own}
    return signature.replace(parameters=sorted(own.values(), key=lambda one: one.kind))


def _first(signature: inspect.Signature, args: tuple, options: dict[str, Any]) -> Any:
    """The first argument of a call, by its place or by its name."""
    return args[0] if args else options.get(next(iter(signature.parameters)))
