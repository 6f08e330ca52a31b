"""Lines of a user's code, as results name them."""

import linecache
from pathlib import Path
from typing import NamedTuple


class Line(NamedTuple):
    """A line of code; `number` 0 where none is known."""

    file: str
    number: int
    function: str = ""

    def __str__(self) -> str:
        if not self.number:
            return "?"
        if "ipykernel" in self.file or self.file.startswith("<ipython"):
            return f"cell, line {self.number}"
        return f"{Path(self.file).name}:{self.number}"

    @property
    def text(self) -> str:
        """What stands there, without indentation; empty where the file can't be read."""
        return linecache.getline(self.file, self.number).strip()


NOWHERE = Line("", 0)
