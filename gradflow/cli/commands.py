"""The command line: `gradflow compare` is the main job. Options have the names the Python arguments have.

The house is imported inside the commands, so that `--help` answers at once. Wrong input is one line on standard error
that names the remedy, exit code 2, and nothing is written.
"""

import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import tyro

from ..compiler import hurry
from . import options
from .options import CHECKPOINTS, Extent, Models, Run, Trained, Updates

app = tyro.extras.SubcommandApp()
Flat = tyro.conf.OmitArgPrefixes
EVERY = Models(wirings=(), context=32, batch=4)


@app.command
def compare(
    models: Annotated[Models, Flat] = Models(),
    updates: Annotated[Updates, Flat] = Updates(),
    run: Annotated[Run, Flat] = Run(out=Path("gradflow-compare")),
) -> None:
    """Train paired wirings on real text, read every gradient on the way, write figures, tables and an appendix.

    A sweep at initialization takes half, once and twice as many blocks.
    """
    _job("compare", models, updates, run, sweep=sorted({max(1, models.depth // 2), models.depth, 2 * models.depth}))


@app.command
def train(
    models: Annotated[Models, Flat] = Models(),
    updates: Annotated[Updates, Flat] = Updates(),
    run: Annotated[Run, Flat] = Run(),
    record: tuple[str, ...] = ("early",),
    readings: tuple[str, ...] = ("standard",),
) -> None:
    """Train paired wirings on real text, record what is asked for, write figures, tables and an appendix.

    Args:
        models: The stacks and the text.
        updates: How weights are updated.
        run: How long, and where the result goes.
        record: The steps that are recorded, or one of early, every:N and logarithmic:N (steps a decade).
        readings: economy, standard or full, or names of readings and quantities.
    """
    _job("train", models, updates, run, record, readings)


def _job(
    command, models: Models, updates: Updates, run: Run, record=("early",), readings=("standard",), sweep=()
) -> None:
    """Trains, sweeps over depths, writes the folder and tells."""
    begun = time.perf_counter()
    with _refusing(command, ValueError, OSError):
        import matplotlib

        import gradflow as gf

        from ..report import bundle, summary
        from ..results.provenance import provenance
        from ..training import checkpoints, moments, plan

        matplotlib.use("agg")
        (stacks, data), recipe, origin = models.built(), updates.built(), provenance()
        read = {"record": moments.named(record), "readings": readings[0] if readings[0] in plan.PRESETS else readings}
        checkpoints.interval(run.checkpoint_every)
        plan.Plan.of(data, recipe, run.key, run.seeds, run.steps, **read)
        configuration = _configuration(command, models, updates, run, data) | {"record": record, "readings": readings}
        if bundle.prepare(run.out, configuration, origin) and not run.resume:
            shutil.rmtree(run.out / CHECKPOINTS, ignore_errors=True)  # of a finished run, which is made again
    with _refusing(command, OSError):
        _, trained = gf.train(stacks, data, recipe, **run.options(), **read)
        swept = gf.sweep(stacks, data, depth=sweep, seeds=run.seeds, key=run.key) if sweep else None
        gf.report.write(trained, run.out, sweep=swept, configuration=configuration)
    print("\n".join(summary.lines(trained, swept)))
    print(_commit_note(origin), end="")
    print(f"\n{time.perf_counter() - begun:.0f} s; figures, tables, data and appendix are in {run.out}/")


@app.command
def atlas(
    models: Annotated[Models, Flat] = EVERY,
    updates: Annotated[Updates, Flat] = Updates(),
    run: Annotated[Extent, Flat] = Extent(steps=20, out=Path("gradflow-atlas")),
) -> None:
    """Put every wiring on one figure and in one sortable table: gradient, Jacobians, tokens and loss, and their theory.

    Without --wirings all that are known by name. An interrupted run goes on with the wirings that its folder lacks.
    """
    begun = time.perf_counter()
    hurry()
    with _refusing("atlas", ValueError, OSError):
        import matplotlib

        import gradflow as gf

        from ..report import bundle
        from ..results.provenance import provenance
        from ..training.plan import Plan

        matplotlib.use("agg")
        models = models if models.wirings else replace(models, wirings=tuple(gf.wirings().index))
        (stacks, data), recipe, origin = models.built(), updates.built(), provenance()
        Plan.of(data, recipe, run.key, run.seeds, run.steps, (0, run.steps), "economy")
        configuration = _configuration("atlas", models, updates, run, data)
        bundle.prepare(run.out, configuration, origin)
        options = {"steps": run.steps, "seeds": run.seeds, "key": run.key, "folder": run.out / bundle.WIRINGS}
        tree = gf.atlas(stacks, data, recipe, predict=gf.predict, **options)
        gf.report.write_atlas(tree, run.out, configuration=configuration)
    for name, why in gf.results.settings(tree)["failed"].items():
        print(f"{name} failed: {why}")
    print(_commit_note(origin), end="")
    print(f"{time.perf_counter() - begun:.0f} s; figures/atlas.pdf and tables/atlas.html are in {run.out}/")


@app.command
def inspect(
    folder: tyro.conf.Positional[Path],
    trained: Annotated[Trained, Flat] = Trained(),
    out: Path = Path("gradflow-inspect"),
) -> None:
    """Read a trained model, and write the full report of it: figures, tables and an appendix.

    Args:
        folder: With config.json and safetensors, as Hugging Face has it.
        trained: What the model reads, and what is measured.
        out: A folder that is new, empty, or holds an earlier result of the same configuration.
    """
    begun = time.perf_counter()
    with _refusing("inspect", ValueError, OSError, ImportError):
        import matplotlib

        import gradflow as gf

        from ..interop.trained import opened
        from ..report import bundle, summary
        from ..results.provenance import provenance

        matplotlib.use("agg")
        origin = provenance()
        with warnings.catch_warnings(record=True, action="always") as told:
            read = opened(folder, **asdict(trained))
        asked = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(trained).items()}
        configuration = {"command": "inspect", "folder": str(folder), **asked, **read.sources}
        bundle.prepare(out, configuration, origin)
    print("\n".join([*read.placed(), *(f"note: {one.message}" for one in told)]), flush=True)
    tree = read.measured()
    with _refusing("inspect", OSError):
        gf.report.write(tree, out, configuration=configuration)
    print("\n".join(summary.lines(tree)))
    print(_commit_note(origin), end="")
    print(f"\n{time.perf_counter() - begun:.0f} s; figures, tables, data and appendix are in {out}/")


def _configuration(command: str, models: Models, updates: Updates, run: Extent, data) -> dict:
    """What makes the run again, for its manifest."""
    asked = asdict(models) | asdict(updates) | {"steps": run.steps, "seeds": run.seeds, "key": run.key}
    return {"command": command, **asked, "text": str(models.text or data.name), "text_sha256": data.sha256}


def _commit_note(origin: dict) -> str:
    """A line where the record can't say which code ran."""
    source = origin["working_directory"]
    if source["commit"] is None:
        return "note: the working directory has no git commit, so the manifest can't name the code around this run\n"
    return "" if source["clean"] else "note: the working directory has uncommitted changes; the manifest says so\n"


@contextmanager
def _refusing(command: str, *errors: type[Exception]) -> Iterator[None]:
    """What is wrong with the input, or with the disk, becomes one line, and exit code 2."""
    try:
        yield
    except errors as error:
        print(f"gradflow {command}: {error}", file=sys.stderr)
        raise SystemExit(2) from None


@app.command
def wirings(own: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """Print every wiring that is known by name: its equation, its Jacobian, and where it is from.

    Args:
        own: Your own, as module:name, listed beside the others.
    """
    with _refusing("wirings", ValueError):
        import gradflow as gf

        table = gf.wirings(*map(options.own, own))
    rows = (f"{name}\n  {row.equation}\n  Jacobian: {row.jacobian}\n  {row.source}" for name, row in table.iterrows())
    print("\n\n".join(rows))


@app.command
def version() -> None:
    """Print the versions of gradflow and of what it stands on."""
    from ..results.provenance import provenance

    origin = provenance()
    print(
        "\n".join(f"{name} {number}" for name, number in {"gradflow": origin["gradflow"], **origin["versions"]}.items())
    )


def main() -> None:
    """Entry point of the `gradflow` command."""
    with _leaving_when_interrupted():
        app.cli(
            prog="gradflow",
            description="How gradients travel through deep residual stacks.",
            config=(tyro.conf.OmitArgPrefixes,),
        )


@contextmanager
def _leaving_when_interrupted() -> Iterator[None]:
    """An interruption (Ctrl-C) ends the process at once, with one line and exit code 130, unless it is ignored here.

    As an exception it could be swallowed, by an import or by a callback of the garbage collector; and compiled work, which
    goes on in threads of its own, would crash in an interpreter that is taken down beneath it. Every file is whole or not there.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _leave(*_) -> None:
    line = "gradflow: interrupted; no file is half-written, and --resume continues from the last checkpoint"
    os.write(2, f"\n{line} (atlas: the same command)\n".encode())  # not by print, which may be what was interrupted
    os._exit(130)
