"""A part of a result that was computed again: what was recorded beside what came out, or why nothing could."""

from typing import Any, NamedTuple


class Repeated(NamedTuple):
    """The readings of one model, recorded and computed again; `part` is the path of its node in `results.nc`.

    `again` is None for what can't be computed again, and `why` says what it lacks; it may have fewer steps and quantities than
    were recorded. `whole` where everything that was recorded should be in it.
    """

    part: str
    recorded: Any
    again: Any = None
    why: str = ""
    whole: bool = False
