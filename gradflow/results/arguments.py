"""Checks of arguments: a misspelt or impossible value is refused before anything runs, in one line that says what was expected.

    steps = whole("steps", steps)                  an int from 1 on; numpy's and JAX's whole numbers too
    lr = real("lr", lr, above=0)                   a finite float

Each returns the value as a plain Python one.
"""

import difflib
import inspect
import math
import operator
import textwrap
from collections.abc import Callable, Iterable
from functools import wraps
from types import UnionType
from typing import Any, ParamSpec, TypeVar, get_args

SHOWN = 60  # characters of a value in an error
LISTED = 300  # characters of a list of names
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

P = ParamSpec("P")
R = TypeVar("R")


def shown(value) -> str:
    """Returns the value's repr, cut to the room that an error line has."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**SHOWN:
        return "a number of many digits"
    text = " ".join(repr(value).split())
    if len(text) <= SHOWN:
        return text
    return f"{text[:SHOWN]}…"


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """Returns `value` as an int.

    Errors: ValueError where it is no whole number (1.0 and True are none), below `least` or above `most`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
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
    """Returns `value` as a finite float, at least `least`, at most `most`, greater than `above` and less than `below`.

    Errors: ValueError for what is no number, NaN, an infinity, or out of bounds.
    """
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool | str | bytes):
        number = math.nan
    expected = "a finite number"
    within = math.isfinite(number)
    if least is not None:
        expected += f" from {least}"
        within = within and number >= least
    if above is not None:
        expected += f" above {above}"
        within = within and number > above
    if most is not None:
        expected += f" up to {most}"
        within = within and number <= most
    if below is not None:
        expected += f" below {below}"
        within = within and number < below
    if not within:
        raise ValueError(f"{name} is {shown(value)}: {expected} is needed")
    return number


def known(what: str, name: Any, names: Iterable[str], also: Iterable[str] = ()) -> str:
    """Returns `name`, which is one of `names`, or of `also`, which an error does not list.

    Errors: ValueError with the nearest of all.
    """
    names, also = tuple(names), tuple(also)
    if not isinstance(name, str) or name not in (*names, *also):
        raise ValueError(f"no {what} {shown(name)}: {suggestions(str(name), names, also)}")
    return name


def of_class(name: str, value: Any, kind: type | UnionType) -> Any:
    """Returns `value`, an instance of a class, or of one of several.

    Errors: TypeError where it is not.
    """
    if not isinstance(value, kind):
        classes = get_args(kind) or (kind,)
        names = " or ".join(one.__name__ for one in classes)
        raise TypeError(f"{name} is {shown(value)}: a {names} is needed")
    return value


def function(name: str, value: Any) -> Any:
    """Returns `value`, which can be called.

    Errors: TypeError where it can't.
    """
    if not callable(value):
        raise TypeError(f"{name} is {shown(value)}: a function is needed")
    return value


def suggestions(name: str, names: Iterable[str], also: Iterable[str] = ()) -> str:
    """Returns the end of an error line about an unknown `name`: the nearest of all names, then `names`, as many as fit."""
    names = tuple(names)
    listed = textwrap.shorten(", ".join(names), LISTED, placeholder=f" … ({len(names)} in all)")
    return f"{nearest(name, [*names, *also])} known: {listed}".lstrip()


def nearest(name: str, names: Iterable[str]) -> str:
    """Returns `did you mean 'post'?`, with up to three names; empty where none is near."""
    near = difflib.get_close_matches(str(name)[:SHOWN], dict.fromkeys(names), n=3, cutoff=0.5)
    if not near:
        return ""
    return f"did you mean {' or '.join(map(repr, near))}?"


# ---- options -------------------------------------------------------------------------------------------------


def check_options(name: str, options: Iterable[str], taken: Iterable[str], also: Iterable[str] = ()) -> None:
    """Raises for names of options that are neither in `taken` nor in `also`, which an error does not list.

    Errors: TypeError, as Python's own, with the nearest of all.
    """
    taken, also = tuple(taken), tuple(also)
    for option in options:
        if option not in taken and option not in also:
            raise TypeError(f"{name} has no option {shown(option)}: {suggestions(option, taken, also)}")


def options_of(function: Callable, without: Iterable[str] = ()) -> list[str]:
    """Returns the options of a function: the arguments it takes by keyword alone."""
    options = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in without:
            options.append(parameter.name)
    return options


def open_ended(function: Callable) -> bool:
    """Returns whether a function takes options of any name; True for a function that has no signature."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # of a function written in C
        return True
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def answering(
    *handed: Callable, without: Iterable[str] = (), further: Callable[[Any], Iterable[str]] | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Returns a decorator that refuses an unknown option by the name of the function that was called, before it runs.

    Parameters
    ----------
    handed : the functions that `**options` are handed on to, whose options are options here; a signature shows them
    without : those of their options that the function sets itself
    further : returns more names from the function's first argument, such as the dimensions of a tree
    """

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        signature = _with_options_of(function, handed, tuple(without))
        named, keyword_only = _named(signature)

        @wraps(function)
        def answered(*args: P.args, **options: P.kwargs) -> R:
            if not options.keys() <= set(named):
                taken = list(keyword_only or named)
                if further is not None:
                    taken += further(_first_argument(signature, args, options))
                check_options(function.__name__, options, taken, also=named)
            return function(*args, **options)

        answered.__signature__ = signature  # type: ignore[attr-defined]
        return answered

    return decorated


def _named(signature: inspect.Signature) -> tuple[list[str], list[str]]:
    """Returns the parameters that can be given by name, and those that can be given by name alone."""
    named, keyword_only = [], []
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            keyword_only.append(name)
        if parameter.kind in NAMED:
            named.append(name)
    return named, keyword_only


def _with_options_of(function: Callable, handed: tuple[Callable, ...], without: tuple[str, ...]) -> inspect.Signature:
    """Returns a function's signature where `**options` are replaced by the options of those functions."""
    signature = inspect.signature(function)
    if not handed:
        return signature
    parameters = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind is not parameter.VAR_KEYWORD:
            parameters[name] = parameter
    for other in handed:
        options = inspect.signature(other).parameters
        for name in options_of(other, without):
            parameters.setdefault(name, options[name])
    in_order = sorted(parameters.values(), key=operator.attrgetter("kind"))
    return signature.replace(parameters=in_order)


def _first_argument(signature: inspect.Signature, args: tuple, options: dict[str, Any]) -> Any:
    """Returns the first argument of a call, given by its place or by its name."""
    if args:
        return args[0]
    return options.get(next(iter(signature.parameters)))
