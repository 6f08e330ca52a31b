"""At what width, and with which further settings of matplotlib, figures are drawn that are not told otherwise."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib import rc_params_from_file

from ...results.arguments import shown, suggestions
from ...results.files import regular

WIDTH: ContextVar[str | float | None] = ContextVar("WIDTH", default=None)
FURTHER: ContextVar[Mapping[str, Any] | None] = ContextVar("FURTHER", default=None)


@contextmanager
def drawn_at(width: str | float | None = None, style: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Has figures that are given no width drawn at this one, and all of them with further settings of matplotlib."""
    tokens = WIDTH.set(width), FURTHER.set(style or {})
    try:
        yield
    finally:
        WIDTH.reset(tokens[0])
        FURTHER.reset(tokens[1])


def settings_of(style: str | Path | Mapping | None) -> dict[str, Any] | None:
    """Returns the settings of a style of matplotlib: of a dict, of one by its name, or of a file; None for None.

    Errors: ValueError, one line, where there is none.
    """
    if style is None:
        return None
    if isinstance(style, Mapping):
        found: Mapping = style
    elif str(style) in plt.style.library:
        found = plt.style.library[str(style)]
    else:
        try:
            found = rc_params_from_file(regular(style), use_default_template=False)
        except OSError as error:
            raise ValueError(f"no style {shown(str(style))}: {error}") from None
    unknown = [name for name in found if name not in plt.rcParams]
    if unknown:
        raise ValueError(
            f"style has {shown(unknown[0])}, which matplotlib has not: {suggestions(unknown[0], plt.rcParams)}"
        )
    return {name: value if isinstance(value, bool | int | float | str) else str(value) for name, value in found.items()}
