"""Where an operation stands in the user's code: file, line and function; scopes by name.

The line is that of the innermost frame that belongs to no library: of `x = self.norm(x)` the user's line, not Flax's.
"""

import re
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ...results.lines import Line

LIBRARIES = ("jax", "jaxlib", "flax", "equinox", "haiku", "optax", "jaxtyping", "beartype", "einops")
OURS = Path(__file__).parents[2]


def lines_of(equation) -> Iterator[Line]:
    """Yields the lines of the user's code that led to an equation, innermost first; none where only libraries did."""
    traceback = equation.source_info.traceback
    if traceback is not None:
        for frame in traceback.frames:
            if not _is_a_librarys(frame.file_name):
                yield Line(frame.file_name, frame.line_num, frame.function_name)


def scope_of(equation) -> tuple[str, ...]:
    """Returns the names of the scopes around an equation, outermost first, without those of transformations."""
    return tuple(re.findall(r"[\w.\-]+", str(equation.source_info.name_stack)))


@cache
def _is_a_librarys(file: str) -> bool:
    """Returns whether a file is one of a library or of Python itself, and so not the user's."""
    path = Path(file)
    if file.startswith("<frozen") or path.is_relative_to(OURS):
        return True
    for folder in ("site-packages", "dist-packages"):
        if folder in path.parts:
            return path.parts[path.parts.index(folder) + 1] in LIBRARIES
    return path.is_relative_to(sysconfig.get_path("stdlib"))
