"""The folder of a grid: one file a cell, each whole or not there, and the tracebacks of cells that failed.

A file carries the configuration that it was made from: where that differs, nothing is read and nothing overwritten.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from .configuration import differences, dumps
from .files import as_path, clear, printable, unwritten
from .locks import held
from .naming import stem
from .stored import load, save
from .tree import settings


@dataclass(frozen=True)
class Cells:
    """The files of a grid in a folder; `is_one` says of a tree, and the cell's name, whether it can be a cell's."""

    folder: Path
    what: str = "cell's file of a grid"
    is_one: Callable[[xr.DataTree, str], bool] | None = None

    @classmethod
    def of(cls, folder: str | Path | None, *what) -> "Cells | None":
        """Returns the files in that folder, named so that a process elsewhere finds it; None where none is named."""
        return None if folder is None else cls(as_path(folder).absolute(), *what)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder and locks it against other grids; half-written files of a killed process are deleted."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise unwritten(self.folder, error) from None
        with held(self.folder):
            clear(self.folder)
            yield

    def place(self, name: str) -> Path:
        """Returns the file of a cell."""
        return self.folder / f"{stem(name)}.nc"

    def traceback(self, name: str) -> Path:
        """Returns the file of what a cell failed with."""
        return self.folder / f"{stem(name)}.traceback.txt"

    def save(self, name: str, tree: xr.DataTree, configuration: Mapping) -> None:
        """Writes the file of a cell."""
        kept = tree.copy(deep=False)
        kept.attrs = {**tree.attrs, "configuration": dumps(configuration)}
        save(kept, self.place(name))
        self.traceback(name).unlink(missing_ok=True)

    def fail(self, name: str, traceback: str) -> None:
        """Writes what a cell failed with."""
        self.traceback(name).write_text(traceback, encoding="utf-8")

    def saved(self, configurations: Mapping[str, Mapping]) -> dict[str, xr.DataTree]:
        """Returns the cells whose files are there.

        Errors: FileExistsError for one of another configuration; OSError for a damaged one, with the remedy.
        """
        trees = {}
        for name, configuration in configurations.items():
            if os.path.lexists(self.place(name)):
                trees[name] = self.read(name, configuration)
        return trees

    def read(self, name: str, configuration: Mapping) -> xr.DataTree:
        """Returns the cell of a file; errors as `saved`."""
        place = self.place(name)
        try:
            tree = load(place)
            earlier = settings(tree).get("configuration")
            if not isinstance(earlier, dict) or (self.is_one and not self.is_one(tree, name)):
                raise OSError(f"{printable(place)} is no {self.what}")
        except OSError as error:
            raise OSError(f"{error}; or delete it, and {name} is made again") from None
        difference = differences(earlier, configuration)
        if difference:
            raise FileExistsError(f"{printable(place)} is of another configuration: {difference}; name another folder")
        del tree.attrs["configuration"]
        return tree
