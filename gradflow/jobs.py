"""Whole jobs, as the command line runs them: arguments are checked, the folder is locked, the run is made, its report written.

Each class is one job. `prepared` checks everything and prepares the folder, before anything is computed; `run` does the rest.
"""

import shutil
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from .interop import checkpointed
from .interop.checkpointed import Checkpointed
from .interop.trained import Trained, opened
from .model.inputs import size
from .named import program, wiring
from .programs.diagnosis.diagnose import diagnose
from .programs.sweep import sweep
from .published.entry import SIZES
from .published.registry import REGISTRY, reproduce
from .report import bundle, plot
from .report.reproduced import write as write_reproduction
from .results.arguments import known, whole
from .results.diagnosis import Diagnosis
from .results.folder import CHECKPOINTS, WIRINGS, begun
from .results.provenance import provenance
from .results.reproduction import Reproduction
from .theory.predict import predict
from .training.atlas import atlas
from .training.loop import train
from .training.plan import PRESETS, Plan
from .training.recipe import Recipe
from .training.record_schedule import named as schedule_named

PICTURES = (".pdf", ".png", ".svg")


def diagnosis(word: str, expect: str | None = None, picture: Path | None = None) -> Diagnosis:
    """Returns the diagnosis of `FILE.py:NAME`, and draws its first trunk in a file where one is named."""
    if picture is not None and picture.suffix not in PICTURES:
        raise ValueError(f"picture is {picture}: a name that ends in {' or '.join(PICTURES)} is needed")
    loss_fn, params, batch = program(word)
    report = diagnose(loss_fn, params, batch, expect=None if expect is None else wiring(expect))
    if picture is not None:
        figure: Any = plot.trunk(report).figure
        figure.savefig(picture)
    return report


@dataclass(frozen=True)
class Training:
    """A training of several wirings, perhaps with a sweep over depths at initialization, and its report."""

    models: dict
    data: Any
    recipe: Recipe
    out: Path
    blind: bool
    options: dict  # of `train`
    depths: tuple[int, ...]
    configuration: dict
    provenance: dict
    lock: ExitStack

    @classmethod
    def prepared(
        cls,
        models: dict,
        data,
        recipe: Recipe,
        *,
        out: Path,
        record,
        readings,
        depths,
        configuration: dict,
        resume: bool = False,
        checkpoint_every: int | None = None,
        blind: bool = False,
        overwrite: bool = False,
        **extent,
    ) -> "Training":
        """Returns the job, once all of it is checked and its folder is locked; `extent` are steps, seeds and key.

        The checkpoints of a finished run are deleted, unless it is resumed.
        """
        origin = provenance()
        if not readings:
            raise ValueError("readings names none: give economy, standard or full, or names of readings and quantities")
        schedule = schedule_named(record)
        chosen = readings[0] if readings[0] in PRESETS else readings
        if checkpoint_every is not None:
            whole("--checkpoint-every", checkpoint_every)
        plan = Plan.of(data, recipe, extent["key"], extent["seeds"], extent["steps"], schedule, chosen)
        plan.check(models)
        if depths:
            deepest = {name: model.at_depth(max(depths)) for name, model in models.items()}
            size.check(deepest, data, seeds=extent["seeds"])
        lock = ExitStack()
        finished = lock.enter_context(begun(out, configuration, origin, overwrite=overwrite or resume))
        if finished and not resume:
            shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
        options = {
            **extent,
            "record": schedule,
            "readings": chosen,
            "checkpoint_every": checkpoint_every,
            "resume": resume,
            "checkpoints": out / CHECKPOINTS,
        }
        return cls(models, data, recipe, out, blind, options, tuple(depths), configuration, origin, lock)

    def run(self) -> tuple[xr.DataTree, xr.DataTree | None]:
        """Returns the readings of the training and of the sweep, if there is one, and writes the report."""
        with self.lock:
            _, trained = train(self.models, self.data, self.recipe, **self.options)
            swept = None
            if self.depths:
                seeds, key = self.options["seeds"], self.options["key"]
                swept = sweep(self.models, self.data, depth=self.depths, seeds=seeds, key=key)
            bundle.write(trained, self.out, sweep=swept, configuration=self.configuration, blind=self.blind)
            if self.blind:
                shutil.rmtree(self.out / CHECKPOINTS, ignore_errors=True)
        return trained, swept


def make_atlas(
    models: dict,
    data,
    recipe: Recipe,
    *,
    out: Path,
    steps: int,
    seeds: int,
    key: int,
    configuration: dict,
    blind: bool = False,
    overwrite: bool = False,
) -> tuple[xr.DataTree, dict]:
    """Returns the atlas of the wirings and its provenance, and writes its report; files of wirings in the folder are kept.

    Of a blind one they are deleted.
    """
    origin = provenance()
    Plan.of(data, recipe, key, seeds, steps, (0, steps), "economy").check(models)
    with begun(out, configuration, origin, overwrite=overwrite):
        tree = atlas(models, data, recipe, steps=steps, seeds=seeds, key=key, predict=predict, folder=out / WIRINGS)
        bundle.write_atlas(tree, out, configuration=configuration, blind=blind)
        if blind:
            shutil.rmtree(out / WIRINGS, ignore_errors=True)
    return tree, origin


@dataclass(frozen=True)
class Inspection:
    """The measurement of a trained model, or of the checkpoints of a run, and its report.

    `notes` are warnings about the files and the text.
    """

    trained: Trained | Checkpointed
    notes: list[str]
    out: Path
    blind: bool
    configuration: dict
    provenance: dict
    lock: ExitStack

    @classmethod
    def prepared(
        cls,
        folders: Sequence[Path],
        steps: Sequence[int],
        out: Path,
        options: dict,
        *,
        blind: bool = False,
        overwrite: bool = False,
    ) -> "Inspection":
        """Returns the job, once the models' files are checked and the folder is locked; `options` as for `trained.found`.

        Of one folder and no step it is that model alone.
        """
        if not folders:
            raise ValueError("no folder: name that of a trained model, or those of the checkpoints of a run")
        origin = provenance()
        configuration: dict[str, Any] = {"command": "inspect"}
        with warnings.catch_warnings(record=True, action="always") as caught:
            if len(folders) == 1 and not steps:
                trained: Trained | Checkpointed = opened(folders[0], **options)
                configuration["folder"] = str(folders[0])
            else:
                trained = checkpointed.opened(folders, steps, **options)
                configuration |= {"folder": str(trained.folder), "checkpoints": trained.steps}
        notes = list(dict.fromkeys(str(warning.message) for warning in caught))
        for name, value in options.items():
            configuration[name] = str(value) if isinstance(value, Path) else value
        configuration |= trained.sources
        lock = ExitStack()
        lock.enter_context(begun(out, configuration, origin, overwrite=overwrite))
        return cls(trained, notes, out, blind, configuration, origin, lock)

    def run(self) -> xr.DataTree:
        """Returns the readings, and writes the report."""
        with self.lock:
            tree = self.trained.measured()
            bundle.write(tree, self.out, configuration=self.configuration, blind=self.blind)
        return tree


def reproduced(name: str, size: str, out: Path | None) -> Reproduction:
    """Returns a published figure made again; its numbers and its figure are written where a folder is named."""
    known("reproduction", name, REGISTRY)
    if out is None:
        return reproduce(name, size=size)
    origin = provenance()
    configuration = {"command": "reproduce", "name": name, "size": known("size", size, SIZES)}
    with begun(out, configuration, origin):
        report = reproduce(name, size=size)
        write_reproduction(report, out, configuration, origin)
    return report
