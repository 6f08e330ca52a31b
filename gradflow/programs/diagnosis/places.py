"""Where one thing stands to another in the user's code: seen from the innermost function that both are called from."""

from collections.abc import Sequence

from ...results.lines import Line


def function(line: Line) -> tuple[str, str]:
    """Returns which function a line is of."""
    return line.file, line.function


def _functions(lines: Sequence[Line]) -> list[tuple[str, str]]:
    return [function(line) for line in lines]


def order(one: Sequence[Line], other: Sequence[Line]) -> int | None:
    """Returns how many lines `one` stands below `other` in the innermost function that calls both.

    None where no function does, or where one line calls both and `other` isn't written in it. The lines are those of the
    calls that led there, innermost first.
    """
    functions = _functions(other)
    for line in one:
        if function(line) in functions:
            place = functions.index(function(line))
            distance = line.number - other[place].number
            if distance == 0 and place > 0:
                return None
            return distance
    return None


def seen_from(one: Sequence[Line], other: Sequence[Line]) -> Line:
    """Returns the line of `one` in the innermost function that calls `other` too; its own innermost where there is none."""
    functions = _functions(other)
    for line in one:
        if function(line) in functions:
            return line
    return one[0]
