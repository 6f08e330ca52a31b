"""Two texts compared: the first place where they differ, with the number or word as it stands and as it should be."""

import math
import re
from itertools import zip_longest

from .finding import Finding

CLOSE = 1e-5  # relative: numbers of another environment that are the same but for rounding
SHOWN = 80  # characters
_NUMBER = re.compile(r"(?<![\w.])[−+-]?\d+(?:\.\d+)?(?:e[−+-]?\d+)?")


def difference(file: str, stands: str, should: str, *, exact: bool) -> Finding | None:
    """Returns where two texts differ first; None where they are the same, or without `exact` the same but for rounding.

    Cost: one pass over the lines.
    """
    if stands == should:
        return None
    mine, others = stands.splitlines(), should.splitlines()
    for i, (one, other) in enumerate(zip_longest(mine, others), start=1):
        missing = one is None or other is None
        if one == other or (not exact and not missing and _close(one, other)):
            continue
        return Finding(file, f"line {i}", *_words(one or "", other or ""))
    if exact:
        return Finding(file, "the ends of its lines")
    return None


def _close(one: str, other: str) -> bool:
    """Returns whether two lines have the same words, and numbers that differ by rounding alone."""
    if _NUMBER.sub("", one) != _NUMBER.sub("", other):
        return False
    return all(map(_near, _NUMBER.findall(one), _NUMBER.findall(other)))


def _near(one: str, other: str) -> bool:
    """Returns whether two numbers are the same but for rounding: of their own, and of the last digit that is written."""
    a, b = float(one.replace("−", "-")), float(other.replace("−", "-"))
    return abs(a - b) <= CLOSE * max(abs(a), abs(b)) + max(_last_digit(one), _last_digit(other))


def _last_digit(text: str) -> float:
    """Returns one unit of a number's last digit; 0 where it is written to full precision, or is a whole number."""
    mantissa, _, exponent = text.lstrip("−+-").replace("−", "-").partition("e")
    _, _, decimals = mantissa.partition(".")
    if not decimals or len(mantissa) > 6:
        return 0.0
    return 1.001 * math.pow(10.0, int(exponent or 0) - len(decimals))


def _words(one: str, other: str) -> tuple[str, str]:
    """Returns the first words of two lines that differ, with those around them where a line is one word."""
    for a, b in zip_longest(re.split(r"([\s,&{}]+)", one), re.split(r"([\s,&{}]+)", other)):
        if a != b:
            return _short(a or ""), _short(b or "")
    return _short(one), _short(other)


def _short(text: str) -> str:
    if len(text) <= SHOWN:
        return text
    return f"{text[:SHOWN]}…"
