"""A training seen from outside: trained models of one run, a folder each, as the steps of one measurement.

Each reads the same tokens. Of each the weights are read when it is measured, and let go before the next one's are.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ..results.arguments import whole
from ..results.configuration import differences, dumps, encode
from ..results.files import as_path, printable
from ..results.tree import side_by_side
from .trained import Trained, found

MOST = 2**62  # of a step


@dataclass(frozen=True)
class Checkpointed:
    """The models of a run by their step, in order, and where they lie: below `folder`."""

    folder: Path
    models: Mapping[int, Trained]

    @property
    def first(self) -> Trained:
        """The one of the first step."""
        return next(iter(self.models.values()))

    @property
    def steps(self) -> dict[str, int]:
        """The step of each folder, by its path below `folder`."""
        return {os.path.relpath(model.files.folder.resolve(), self.folder): step for step, model in self.models.items()}

    @property
    def sources(self) -> dict[str, Any]:
        """What all this was made of: of the first model, and the SHA-256 of all weights by their files below the folder."""
        weights = {}
        for below, step in self.steps.items():
            for file, digest in self.models[step].sources["weights_sha256"].items():
                weights[f"{below}/{file}"] = digest
        return {**self.first.sources, "weights_sha256": weights}

    def measured(self) -> xr.DataTree:
        """Returns what `measure` does, for one seed, with the steps as the first dimension."""
        trees = {}
        for step, model in self.models.items():
            trees[step] = model.with_weights().measured()
        joined = side_by_side("step", trees)
        root = joined.to_dataset().assign_coords(step=np.asarray(list(trees)))
        root.attrs["checkpoint"] = dumps(self.sources)
        root.attrs.pop("checkpoints", None)
        below = {name: node.to_dataset(inherit=False) for name, node in joined.children.items()}
        return xr.DataTree.from_dict({"/": root, **below})

    def to_text(self) -> list[str]:
        """Returns lines about the model and its text, and the steps."""
        steps = ", ".join(map(str, self.models))
        return [*self.first.to_text(), f"  {len(self.models)} checkpoints, steps {steps}"]


def opened(folders: Sequence[str | Path], steps: Sequence[int] = (), **options) -> Checkpointed:
    """Returns the checkpoints of one run.

    Parameters
    ----------
    folders : one each, as for `pretrained.checkpoint`
    steps : theirs; by default the last whole number in each folder's name (`checkpoint-500`, `step_500`)
    options : as for `trained.found`

    Errors: ValueError for folders without a step, or with the same, and for models that are not of one run: other sizes, other
    tokens; and what `found` refuses.
    """
    places = list(map(as_path, folders))
    numbers = [whole("step", step, 0, MOST) for step in steps] or [step_of(place) for place in places]
    if len(numbers) != len(places):
        raise ValueError(f"{len(places)} folders and {len(numbers)} steps: give one each, --steps, or none")
    repeated = [step for step in numbers if numbers.count(step) > 1]
    if repeated:
        raise ValueError(f"more than one folder is of step {repeated[0]}: --steps says which step each is of")
    models = {}
    for step, place in sorted(zip(numbers, places, strict=True)):
        models[step] = found(place, **options)
    _check_alike(models)
    above = [model.files.folder.resolve().parent for model in models.values()]
    folder = Path(os.path.commonpath(above))
    return Checkpointed(folder, {step: replace(model, name=folder.name) for step, model in models.items()})


def step_of(folder: Path) -> int:
    """Returns the last whole number in the name of a folder.

    Errors: ValueError where there is none.
    """
    name = folder.resolve().name
    digits = re.findall(r"[0-9]+", name)
    if not digits or int(digits[-1]) > MOST:
        raise ValueError(
            f"{printable(folder)} has no step in its name, as checkpoint-500 has: give them all, --steps 0 500 …"
        )
    return int(digits[-1])


def _check_alike(models: Mapping[int, Trained]) -> None:
    """Refuses models of other sizes than the first, and other tokens."""
    (step, first), *others = models.items()
    for other, model in others:
        for what, there, here in (
            ("model", encode(first.model), encode(model.model)),
            ("text", first.sources["tokens_sha256"], model.sources["tokens_sha256"]),
            ("marks", first.sources["marks"], model.sources["marks"]),
        ):
            if there != here:
                raise ValueError(
                    f"steps {step} and {other} are not of one run, their {what} differs: {differences(there, here)}"
                )
