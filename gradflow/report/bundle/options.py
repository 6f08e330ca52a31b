"""How a bundle is drawn and written: the options that `write`, `write_atlas` and `again` have in common."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..plot import canvas, setting


class Options(NamedTuple):
    """The options of a bundle, as `Options.of` checks them.

    width : of the figures, a venue of `gf.plot.WIDTHS` or inches; by default that of each plot function
    style : a style of matplotlib, by its name, its file, or as a dict
    blind : leave out all that tells whose it is: paths, commits, hosts, users, kernels
    overwrite : a finished run of the same configuration may be there
    """

    width: str | float | None
    style: dict[str, Any] | None
    blind: bool
    overwrite: bool

    @classmethod
    def of(
        cls,
        *,
        width: str | float | None = None,
        style: str | Path | Mapping | None = None,
        blind: bool = False,
        overwrite: bool = False,
    ) -> "Options":
        """Returns the options, the style as matplotlib's settings.

        Errors: ValueError for an unknown width or style.
        """
        return cls(canvas.checked_width(width), setting.settings_of(style), bool(blind), bool(overwrite))
