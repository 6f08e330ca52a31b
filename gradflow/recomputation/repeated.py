"""Each kind of result made again by the function that made it: `train`, `measure`, `predict`, `atlas`, a trained model's job."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ..programs.measurement import measure
from ..results.configuration import decode, registered
from ..results.tolerance import LATE
from ..results.tree import settings
from ..theory.predict import predict
from ..training.atlas import atlas
from ..training.loop import train
from ..training.recipe import Recipe
from ..training.record_schedule import At
from . import described

NAME = "model"  # of the one model in a result that is made again: draws don't depend on it


@registered
@dataclass(frozen=True)
class Beginning(Recipe):
    """A recipe for the first steps of a longer run: its learning rates are those of the `whole`."""

    whole: int = 1

    def rates(self, steps: int) -> np.ndarray:
        """Returns the learning rate at steps 0 … steps − 1 of the whole run, float32."""
        return super().rates(self.whole)[:steps]


def again(node, data, *, part_only: bool) -> xr.Dataset:
    """Returns the readings of a node's model, made as those in it were; with `part_only` a training's first steps.

    Errors: ValueError, one line, for what does not say how it was made, or by a function of the author's.
    """
    recorded, models = settings(node), {NAME: described.model(node)}
    if "recipe" in recorded and "steps" in recorded:
        tree = _trained(node, recorded, models, data, part_only)
    elif isinstance(recorded.get("theory"), Mapping):
        tree = _predicted(recorded, models, data)
    elif recorded.get("weights") == "given":
        raise ValueError("its weights were given in a Python session, and are not in the bundle")
    elif "readings" in recorded and "batches" in recorded:
        tree = _measured(node, recorded, models, data)
    else:
        raise ValueError("it does not say how it was made")
    return tree.children[NAME].to_dataset()


def _trained(node, recorded: Mapping[str, Any], models, data, part_only: bool) -> xr.DataTree:
    """Returns the training of the same model, or its first steps."""
    steps, recipe = int(recorded["steps"]), decode(recorded["recipe"])
    kept = [int(step) for step in node["step"].values]
    if part_only:
        kept = early(kept) or kept[:1]
        recipe = Beginning(**vars(recipe), whole=steps)
        steps = min(steps, kept[-1] + 1)
    groups = []
    for group in recorded["readings"]:
        at = [step for step in group["steps"] if step in kept]
        if at:
            groups.append(At(tuple(at), *described.readings(group["readings"])))
    options: dict[str, Any] = {"seeds": described.seeds(node), "key": described.key(recorded)}
    return train(models, data, recipe, steps=steps, record=tuple(kept), readings=tuple(groups), **options)[1]


def early(steps: list[int]) -> list[int]:
    """Returns those of the steps whose numbers are compared one by one in any environment."""
    return [step for step in steps if step <= LATE]


def _measured(node, recorded: Mapping[str, Any], models, data) -> xr.DataTree:
    """Returns the measurement of the same model at initialization."""
    options = {"seeds": described.seeds(node), "key": described.key(recorded), "batches": recorded["batches"]}
    return measure(models, data, quantities=described.readings(recorded["readings"]), **options)


def _predicted(recorded: Mapping[str, Any], models, data) -> xr.DataTree:
    """Returns the prediction for the same model."""
    theory = recorded["theory"]
    missing = [name for name in ("quantities", "draws", "replicas") if name not in theory]
    if missing:
        raise ValueError(f"its theory does not say its {missing[0]}")
    options = {name: theory[name] for name in ("quantities", "draws", "replicas", "scatter") if name in theory}
    return predict(models, data, key=described.key(recorded), **options)


def of_atlas(tree: xr.DataTree, name: str, data, *, part_only: bool) -> dict[str, xr.Dataset]:
    """Returns one wiring of an atlas by part: its training, its start, and, but for `part_only`, its theory where it had one."""
    node, start = tree["training"].children[name], tree["start"].children[name]
    recorded = settings(node)
    steps, recipe = int(recorded["steps"]), decode(recorded["recipe"])
    kept = [int(step) for step in node.coords["step"].values]
    theory = predict if f"/theory/{name}" in tree.groups else None
    if part_only:
        kept, theory = early(kept), None
        recipe = Beginning(**vars(recipe), whole=steps)
        steps = max(1, *kept)
    options: dict[str, Any] = {"seeds": described.seeds(node), "scatter": described.seeds(start)}
    models, key = {NAME: described.model(node)}, described.key(recorded)
    made = atlas(models, data, recipe, steps=steps, key=key, predict=theory, **options)
    failed = json.loads(made.attrs["failed"])
    if failed:
        raise ValueError(f"it fails here: {failed[NAME]}")
    parts = {}
    for part, members in made.children.items():
        parts[part] = members.children[NAME].to_dataset()
    parts["training"] = parts["training"].sel(step=kept)
    return parts
