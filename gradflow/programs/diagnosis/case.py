"""What a verdict is given on: a trunk that is taken apart, and what is expected of it; and how a finding is put."""

from collections.abc import Iterable
from typing import NamedTuple

from ...results.diagnosis import Finding
from ...results.lines import Line
from .expected import Expected
from .passages import Part
from .path import Placed
from .places import seen_from
from .sublayers import Sublayer


class Case(NamedTuple):
    """A trunk taken apart, what is expected of it, and whether it is a language model's, and by what sign."""

    placed: Placed
    expected: Expected
    predicts_next: str
    number: int

    @property
    def sublayers(self) -> tuple[Sublayer, ...]:
        """Its sublayers."""
        return self.placed.sublayers


def code_line(line: Line) -> Line:
    """Returns a line without its function."""
    return Line(line.file, line.number)


def finding(case: Case, mistakes, text: str, remedy: str, lines: Iterable[Line], *of: Sublayer) -> Finding:
    """Returns a finding about sublayers, at these lines."""
    if isinstance(mistakes, str):
        mistakes = (mistakes,)
    depths = tuple(one.depth for one in of)
    return Finding(mistakes, text, remedy, tuple(map(code_line, lines)), depths, case.number)


def line_of(part: Part, of: Sublayer) -> Line:
    """Returns the line of a part, in the function that its sublayer's sum is in."""
    return seen_from(part.lines, of.lines)


def lines_of(parts: Iterable[Part], of: Sublayer) -> list[Line]:
    """Returns the lines of parts, in the function that their sublayer's sum is in."""
    return [line_of(part, of) for part in parts]
