"""The numbers of a bundle computed again from what its results say of themselves: models, text, recipe, key, steps, readings.

`report.verify` compares them with the recorded ones, level 2 those of the first steps, level 3 all. All seeds are computed at any
level: readings of several seeds are one program, whose last bits are not those of a program for one.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from .instruments.backward.updates import UPDATES
from .instruments.readings import READINGS
from .interop.trained import opened
from .programs.measurement import measure
from .results import topics
from .results.configuration import decode, registered
from .results.tolerance import LATE
from .results.tree import mapping_of, nodes, settings
from .theory.predict import predict
from .training import data as texts
from .training.atlas import ends
from .training.loop import train
from .training.recipe import Recipe
from .training.record_schedule import At

KNOWN = {**READINGS, **UPDATES, "ends": ends}
OPTIONS = ("context", "batch", "readings", "begin", "mask", "tied", "precision")  # of a trained model's job
Part = tuple[str, xr.DataTree, xr.DataTree]


@registered
@dataclass(frozen=True)
class Beginning(Recipe):
    """A recipe for the first steps of a longer run: its learning rates are those of the `whole`."""

    whole: int = 1

    def rates(self, steps: int) -> np.ndarray:
        """Returns the learning rate at steps 0 … steps − 1 of the whole run, float32."""
        return super().rates(self.whole)[:steps]


def recompute(
    trees: Mapping[str, xr.DataTree], record: Any, folder: Path, files: Mapping[str, Path], *, part_only: bool
) -> Iterator[Part]:
    """Yields `(part, recorded, again)` for every tree of a bundle: its name, and both readings of the same models.

    trees, record : as `report.bundle` keeps them
    folder : the bundle, which may have the text in it
    files : the `text` and the folder of `weights` that the run read, where they are needed
    part_only : of every model its first steps; of a sweep the smallest size; and no theory

    Errors: ValueError, one line, for what can't be built from its description, and for a text or weights that are missing.
    """
    if record.kind == "logs":
        raise ValueError("these norms were logged by another tool, and its run is not gradflow's to repeat")
    if record.kind == "atlas":
        run = trees["atlas"].children["training"]
        yield "training", run, _trained_again(run, _text(run, folder, files), part_only)
        return
    run = trees["training"]
    if "checkpoint" in settings(run):
        yield "training", run, _weights_measured(record.configuration, files)
        return
    data = _text(run, folder, files)
    if "recipe" in settings(run):
        yield "training", run, _trained_again(run, data, part_only)
    else:
        yield "training", run, _measured_again(data, nodes(run))
    if "sweep" in trees:
        swept = trees["sweep"]
        yield "sweep", swept, _measured_again(data, _sizes(swept, part_only))
    if "theory" in trees and not part_only:
        yield "theory", trees["theory"], _predicted_again(trees["theory"], data)


def _text(run, folder: Path, files: Mapping[str, Path]):
    """Returns the text that a run read, as it was cut; the one in the bundle, unless another file is given."""
    described = mapping_of(run, "data")
    if "sha256" not in described:
        raise ValueError("the batch that was read is not recorded")
    path = files.get("text")
    if path is None and (folder / topics.FILE).is_file():
        path = folder / topics.FILE
    if path is None and described["name"] != topics.NAME:
        raise ValueError(f"it read the text {described['name']}, which is not in the bundle: give it, --text FILE")
    text = texts.text(path, context=described["context"], batch=described["batch"])
    if text.sha256 != described["sha256"]:
        raise ValueError(f"the text here has the SHA-256 {text.sha256}, the one that was read {described['sha256']}")
    if "cut" in described:
        return texts.Halves(text)
    return text


def _models(members: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the models of nodes, built from their descriptions."""
    models = {}
    for name, node in members.items():
        configuration = json.loads(node.attrs.get("configuration", "null"))
        if not isinstance(configuration, dict) or "whole" in configuration:
            raise ValueError(f"{name} can't be built from its description alone")
        models[name] = decode(configuration)
    return models


def _key(recorded: Mapping[str, Any]) -> int:
    """Returns the integer that all draws came from."""
    key = str(recorded.get("key"))
    if not key.isdecimal():
        raise ValueError(f"its key is {key}, which is no whole number")
    return int(key)


def _readings(names: list[str]) -> list:
    """Returns reading functions by name."""
    missing = [name for name in names if name not in KNOWN]
    if missing:
        raise ValueError(f"its reading {missing[0]} is a function of the author's: repeat the run with their code")
    return [KNOWN[name] for name in names]


def _trained_again(run, data, part_only: bool) -> xr.DataTree:
    """Returns the training of the same models, or its first steps."""
    recorded = settings(run)
    first = next(iter(nodes(run).values()))
    steps = int(recorded["steps"])
    kept = [int(step) for step in first["step"].values]
    seeds = first.sizes["seed"]
    recipe = decode(recorded["recipe"])
    if part_only:
        kept = [step for step in kept if step <= LATE] or kept[:1]
        recipe = Beginning(**vars(recipe), whole=steps)
        steps = min(steps, kept[-1] + 1)
    readings = []
    for group in recorded["readings"]:
        at = [step for step in group["steps"] if step in kept]
        if at:
            readings.append(At(tuple(at), *_readings(group["readings"])))
    models = _models(nodes(run))
    options = {"steps": steps, "record": tuple(kept), "seeds": seeds, "key": _key(recorded)}
    return train(models, data, recipe, readings=tuple(readings), **options)[1]


def _measured_again(data, members: Mapping[str, Any]) -> xr.DataTree:
    """Returns the measurement of the same models at initialization."""
    recorded = settings(next(iter(members.values())))
    if recorded.get("weights") == "given":
        raise ValueError("its weights were given, and are not in the bundle")
    seeds = next(iter(members.values())).sizes["seed"]
    readings = tuple(_readings(recorded["readings"]))
    options = {"seeds": seeds, "key": _key(recorded), "batches": recorded["batches"]}
    return measure(_models(members), data, quantities=readings, **options)


def _sizes(swept, part_only: bool) -> dict[str, Any]:
    """Returns the nodes of a sweep, or of each model the one of the smallest size alone."""
    members = nodes(swept)
    if not part_only:
        return members
    smallest: dict[str, str] = {}
    for path in members:
        smallest.setdefault(path.rpartition("/")[0], path)
    return {path: members[path] for path in smallest.values()}


def _predicted_again(theory, data) -> xr.DataTree:
    """Returns the prediction for the same models."""
    recorded = settings(theory)
    options = {name: recorded["theory"][name] for name in ("quantities", "draws", "replicas")}
    return predict(_models(nodes(theory)), data, key=_key(recorded), **options)


def _weights_measured(configuration: Mapping[str, Any], files: Mapping[str, Path]) -> xr.DataTree:
    """Returns the measurement of a trained model, whose folder is given."""
    if "weights" not in files:
        raise ValueError(
            f"it measured the weights of {configuration.get('folder')}: give their folder, --weights FOLDER"
        )
    options = {name: configuration[name] for name in OPTIONS if name in configuration}
    read = {"text": files.get("text"), "tokens": None}
    if configuration.get("tokens"):
        read = {"text": None, "tokens": files.get("text")}
    trained = opened(files["weights"], **{**read, **options})
    return trained.measured()
