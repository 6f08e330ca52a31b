"""What a bundle's `results.nc` says of the bundle itself, so that all of it can be made again from that file alone.

How the run is made again, where it came from, with which distributions, when it was finished; how its figures are drawn.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import xarray as xr

from ...results.tree import settings

BUNDLE = "bundle"  # the attribute of the root


@dataclass(frozen=True)
class Record:
    """What is said of a bundle.

    kind : "run", "logs" or "atlas"
    parts : the trees that the results hold: "training", and perhaps "sweep" and "theory"
    configuration : what makes the run again
    provenance : where the results came from, as `results.provenance` gives it
    begun : where runs of the same folder came from that never finished
    environment : the installed distributions, `name==version`
    width, style : of the figures: a venue or inches, and matplotlib's settings; None for those of the plot functions
    blind : whether everything that tells whose it is was left out
    """

    kind: str
    parts: list[str]
    configuration: dict
    provenance: dict
    finished: str
    begun: list[dict] = field(default_factory=list)
    environment: list[str] = field(default_factory=list)
    width: str | float | None = None
    style: dict[str, Any] | None = None
    blind: bool = False

    def to_text(self) -> str:
        """Returns the record as the attribute of a result."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def of(cls, tree: xr.DataTree) -> "Record":
        """Returns the record of a tree that was read from a bundle.

        Errors: ValueError where it has none, or a damaged one.
        """
        found = settings(tree).get(BUNDLE)
        names = {one.name for one in fields(cls)}
        if not isinstance(found, Mapping) or set(found) != names:
            raise ValueError("these results are of no bundle: gf.report.write makes one")
        return cls(**found)

    def manifest(self) -> dict[str, Any]:
        """Returns the entries of the manifest but for the files."""
        entries: dict[str, Any] = {"configuration": self.configuration, "provenance": self.provenance}
        if self.begun:
            entries["begun"] = self.begun
        return {**entries, "finished": self.finished}


def without_record(attributes: Mapping) -> dict:
    """Returns attributes of a root without the record."""
    return {name: value for name, value in attributes.items() if name != BUNDLE}
