"""Whole jobs, as the command line runs them: arguments are checked, the folder is locked, the run is made, its report written.

Each class is one job. `prepared` checks everything and prepares the folder, before anything is computed; `run` does the rest.
"""

import shutil
import sys
import warnings
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from io import StringIO
from pathlib import Path
from typing import Any

import xarray as xr

from .interop.trained import Trained, opened
from .model.inputs import size
from .model.stacks.transformer import transformers
from .model.wirings.catalogue import Placement, Wiring
from .model.wirings.catalogue import wirings as wiring_table
from .programs.diagnosis.diagnose import diagnose
from .programs.sweep import sweep
from .published.entry import SIZES
from .published.registry import REGISTRY, reproduce
from .report import bundle, plot
from .report.reproduced import write as write_reproduction
from .results.arguments import known, shown, whole
from .results.diagnosis import Diagnosis
from .results.folder import CHECKPOINTS, WIRINGS, begun
from .results.provenance import provenance
from .results.reproduction import Reproduction
from .theory.predict import predict
from .training import data as texts
from .training.atlas import atlas
from .training.loop import train
from .training.optimizers import named as optimizer_named
from .training.plan import PRESETS, Plan
from .training.recipe import Recipe
from .training.record_schedule import named as schedule_named

CONSTANTS = ("momentum", "nesterov", "b1", "b2", "beta", "decay", "eps", "weight_decay")  # of optimizers
PICTURES = (".pdf", ".png", ".svg")
WHY = 120  # characters of another module's error


def wiring(word: str) -> str | Wiring | Placement:
    """Returns a name unchanged; for `module:name` the `Wiring` or `Placement` of that name.

    The module is looked for in the working directory and among the installed ones. What it prints is not shown.

    Errors: ValueError where there is none.
    """
    if ":" not in word:
        return word
    module, name = word.split(":", 1)
    sys.path.insert(0, str(Path.cwd()))
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            value = getattr(import_module(module), name)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # of whatever that file does
        remedy = f"give module:name of a gf.Wiring in {Path.cwd()}"
        raise ValueError(f"no wiring {shown(word)}: {_why(error)}; {remedy}") from None
    finally:
        sys.path.pop(0)
    if not isinstance(value, Wiring | Placement):
        kind = type(value).__name__
        raise ValueError(f"{shown(word)[1:-1]} is a {kind}: give the module:name of a gf.Wiring or gf.Placement")
    return value


def program(word: str) -> tuple:
    """Returns `(loss_fn, params, batch)` of `FILE.py:NAME`: a tuple of these, or a function without arguments that returns it.

    Errors: ValueError where there is none.
    """
    path, _, name = word.rpartition(":")
    if not path.endswith(".py") or not name.isidentifier():
        remedy = "give FILE.py:NAME, NAME a function that returns (loss_fn, params, batch)"
        raise ValueError(f"no program {shown(word)}: {remedy}")
    file = Path(path).resolve()
    if not file.is_file():
        raise ValueError(f"no file {path}")
    sys.path.insert(0, str(file.parent))
    try:
        with redirect_stdout(StringIO()):
            spec: Any = spec_from_file_location(file.stem, file)
            module = module_from_spec(spec)
            sys.modules.setdefault(file.stem, module)
            spec.loader.exec_module(module)
            value = getattr(module, name)
            value = value() if callable(value) else value
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # of whatever that file does
        raise ValueError(f"{word} gives no program: {_why(error)}") from None
    finally:
        sys.path.pop(0)
    if not isinstance(value, tuple) or len(value) != 3:
        raise ValueError(f"{word} gives a {type(value).__name__}: (loss_fn, params, batch) is needed")
    return value


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


def _why(error: BaseException) -> str:
    """Returns what ended an import, in one line."""
    if not isinstance(error, Exception):
        return f"it ends by {type(error).__name__}"
    text = " ".join(str(error).split()) or type(error).__name__
    if len(text) <= WHY:
        return text
    return f"{text[:WHY]}…"


def models_and_text(*, wirings, text, batch: int, **shape) -> tuple[dict, texts.Text]:
    """Returns the stacks by name, and the text they read; `shape` as for `transformers`."""
    data = texts.text(text, context=shape["context"], batch=batch)
    return transformers(*map(wiring, wirings), **shape), data


def recipe(*, optimizer: str, **options) -> Recipe:
    """Returns the recipe with the options that are given; those of the optimizer are its constants."""
    constants, others = {}, {}
    for name, value in options.items():
        if value is None or value is False:
            continue
        if name in CONSTANTS:
            constants[name] = value
        else:
            others[name] = value
    return Recipe(optimizer_named(optimizer, **constants), **others)


def wiring_rows(names) -> Any:
    """Returns the rows of the table of wirings that are asked for; a wiring given as `module:name` has its own row.

    By default all rows, those of the given wirings last.
    """
    table_names = [word for word in names if ":" not in word]
    given: list[Any] = [wiring(word) for word in names if ":" in word]
    table = wiring_table(*given)
    if not table_names:
        return table
    chosen = [known("wiring", word, table.index) for word in table_names]
    chosen += [one.name for one in given]
    return table.loc[list(dict.fromkeys(chosen))]


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
    """The measurement of a trained model, and its report; `notes` are warnings about the model's files and text."""

    trained: Trained
    notes: list[str]
    out: Path
    blind: bool
    configuration: dict
    provenance: dict
    lock: ExitStack

    @classmethod
    def prepared(
        cls, folder: Path, out: Path, options: dict, *, blind: bool = False, overwrite: bool = False
    ) -> "Inspection":
        """Returns the job, once the model's files are checked and the folder is locked; `options` as for `trained.opened`."""
        origin = provenance()
        with warnings.catch_warnings(record=True, action="always") as caught:
            trained = opened(folder, **options)
        notes = [str(warning.message) for warning in caught]
        configuration: dict[str, Any] = {"command": "inspect", "folder": str(folder)}
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
