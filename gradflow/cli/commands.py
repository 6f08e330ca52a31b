"""The command line: `gradflow compare` is the main job. Options have the names the Python arguments have.

The rest of the package is imported inside the commands, so that `--help` answers at once. Wrong input is one line on standard
error that names the remedy, exit code 2, and nothing is written.
"""

import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..compiler import check_flags, use_fast_compilation
from .console import refusing
from .options import Extent, Models, Run, Trained, Updates
from .registry import Flat, command, prepare

EVERY = Models(wirings=(), context=32, batch=4)


@command
def compare(
    models: Annotated[Models, Flat] = Models(),
    updates: Annotated[Updates, Flat] = Updates(),
    run: Annotated[Run, Flat] = Run(out=Path("gradflow-compare")),
) -> None:
    """Train paired wirings on real text, measure every gradient on the way, write figures, tables and an appendix.

    A sweep at initialization takes half, once and twice as many blocks.
    """
    depths = {max(1, models.depth // 2), models.depth, 2 * models.depth}
    _train("compare", models, updates, run, ("early",), ("standard",), sorted(depths))


@command
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
        updates: The optimizer and its learning rate.
        run: Steps, seeds, and the folder of the result.
        record: The steps that are recorded, or one of early, every:N and logarithmic:N (steps a decade).
        readings: economy, standard or full, or names of readings and quantities, such as backward attention layer_removal.
    """
    _train("train", models, updates, run, record, readings, ())


def _train(command: str, models: Models, updates: Updates, run: Run, record, readings, depths) -> None:
    """Trains, sweeps over depths, writes the folder, and prints the summary."""
    started = time.perf_counter()
    with refusing(command, ValueError, TypeError, OSError):
        prepare()
        from ..jobs import Training

        stacks, data = models.built()
        configuration = _configuration(command, models, updates, run, data)
        configuration |= {"record": record, "readings": readings}
        job = Training.prepared(
            stacks,
            data,
            updates.built(),
            record=record,
            readings=readings,
            depths=depths,
            configuration=configuration,
            **asdict(run),
        )
    with refusing(command, ValueError, OSError):
        job.run()
        summary = _summary(run.out)
    print(summary, end="")
    print(_commit_note(job.provenance), end="")
    print(f"\n{time.perf_counter() - started:.0f} s; figures, tables, data and appendix are in {run.out}/")


def _summary(out: Path) -> str:
    """Returns the summary that a report has in its folder."""
    return (out / "tables" / "summary.txt").read_text(encoding="utf-8")


@command
def atlas(
    models: Annotated[Models, Flat] = EVERY,
    updates: Annotated[Updates, Flat] = Updates(),
    run: Annotated[Extent, Flat] = Extent(steps=20, out=Path("gradflow-atlas")),
) -> None:
    """Put every wiring on one figure and in one sortable table: gradient, Jacobians, tokens and loss, and their theory.

    Without --wirings all named ones. Prints a sentence on every family of them. An interrupted run goes on with the wirings that
    its folder lacks.
    """
    started = time.perf_counter()
    use_fast_compilation()
    with refusing("atlas", ValueError, TypeError, OSError):
        prepare()
        from .. import jobs, named
        from ..results.tree import settings

        if not models.wirings:
            models = replace(models, wirings=tuple(named.wiring_rows(()).index))
        stacks, data = models.built()
        configuration = _configuration("atlas", models, updates, run, data)
        tree, origin = jobs.make_atlas(stacks, data, updates.built(), configuration=configuration, **asdict(run))
        summary = _summary(run.out)
    print(summary, end="")
    for name, why in settings(tree)["failed"].items():
        print(f"{name} failed: {why}")
    print(_commit_note(origin), end="")
    print(f"{time.perf_counter() - started:.0f} s; figures/atlas.pdf and tables/atlas.html are in {run.out}/")


@command
def inspect(
    folders: tyro.conf.Positional[tuple[Path, ...]],
    steps: tuple[int, ...] = (),
    trained: Annotated[Trained, Flat] = Trained(),
    out: Path = Path("gradflow-inspect"),
    blind: bool = False,
    overwrite: bool = False,
) -> None:
    """Measure a trained model, or the checkpoints of a run, and write the full report: figures, tables and an appendix.

    Args:
        folders: With config.json and safetensors, in the layout of Hugging Face; several are steps of one run.
        steps: The step of each folder; by default the last number in its name, as in checkpoint-500.
        trained: The text and the measurements.
        out: A folder that is new or empty, or holds an interrupted run of the same configuration.
        blind: Leave out of the bundle all that tells whose it is: paths, commits, hosts, users, kernels.
        overwrite: A finished run of the same configuration in that folder may be overwritten.
    """
    started = time.perf_counter()
    with refusing("inspect", ValueError, OSError, ImportError):
        prepare()
        from ..jobs import Inspection

        job = Inspection.prepared(folders, steps, out, asdict(trained), blind=blind, overwrite=overwrite)
    for line in job.trained.to_text():
        print(line)
    for note in job.notes:
        print(f"note: {note}")
    sys.stdout.flush()
    with refusing("inspect", ValueError, OSError):
        job.run()
        summary = _summary(out)
    print(summary, end="")
    print(_commit_note(job.provenance), end="")
    print(f"\n{time.perf_counter() - started:.0f} s; figures, tables, data and appendix are in {out}/")


@command
def diagnose(
    program: tyro.conf.Positional[str],
    expect: str | None = None,
    picture: Path | None = None,
) -> None:
    """Say which instance of equation (1) every residual sublayer of your program is, and what is wrong with it, at which line.

    Args:
        program: FILE.py:NAME, NAME a function that returns (loss_fn, params, batch), or a tuple of these.
        expect: What every sublayer should be: a name of gradflow wirings, or your own as module:name; by default what most are.
        picture: A file to draw the residual stream in, ending in .pdf, .png or .svg.
    """
    use_fast_compilation()
    with refusing("diagnose", ValueError, TypeError, OSError):
        prepare()
        from .. import jobs

        report = jobs.diagnosis(program, expect, picture)
    print(report)


def _configuration(command: str, models: Models, updates: Updates, run: Extent, data) -> dict[str, Any]:
    """Returns the options that make the run again, for its manifest."""
    configuration = {"command": command, **asdict(models), **asdict(updates)}
    configuration |= {"steps": run.steps, "seeds": run.seeds, "key": run.key}
    configuration |= {"text": str(models.text or data.name), "text_sha256": data.sha256}
    return configuration


def _commit_note(origin: dict) -> str:
    """Returns a line where the record can't name the code that ran; else nothing."""
    source = origin["working_directory"]
    if source["commit"] is None:
        return "note: the working directory has no git commit, so the manifest can't name the code around this run\n"
    if source["clean"]:
        return ""
    return "note: the working directory has uncommitted changes; the manifest says so\n"


@command
def reproduce(name: tyro.conf.Positional[str | None] = None, size: str = "full", out: Path | None = None) -> None:
    """Make a published figure or table again, and say whether it is reproduced; without a name, list all of them.

    Args:
        name: One of the list.
        size: full; quick, with fewer seeds or blocks; toy, to try the machinery.
        out: A folder for the numbers and the figure; by default nothing is written.
    """
    use_fast_compilation()
    with refusing("reproduce", ValueError, OSError):
        prepare()
        from .. import jobs
        from . import listing

        text = listing.reproductions() if name is None else str(jobs.reproduced(name, size, out))
    print(text)


@command
def wirings(names: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """Print the named wirings: their equation, their Jacobian, and their source.

    Args:
        names: The wirings to print, by default all; your own, as module:name, are listed beside the others.
    """
    with refusing("wirings", ValueError):
        check_flags()
        from .. import named

        rows = named.wiring_rows(names)
    sections = []
    for name, row in rows.iterrows():
        sections.append(f"{name}\n  {row.equation}\n  Jacobian: {row.jacobian}\n  {row.source}")
    print("\n\n".join(sections))


@command
def quantities(names: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """Print the table of quantities: the meaning, formula and unit of each, how to get it, and the cost.

    Args:
        names: The quantities to print in full, with their formula in LaTeX and their figure; by default all in brief.
    """
    with refusing("quantities", ValueError):
        check_flags()
        from ..results.quantities import quantities as table
        from . import listing

        chosen = [table(name) for name in dict.fromkeys(names)]
        if chosen:
            text = "\n\n".join(map(listing.in_full, chosen))
        else:
            text = listing.in_brief(table())
    print(text)


@command
def version() -> None:
    """Print the versions of gradflow and of the libraries it uses."""
    with refusing("version"):
        check_flags()
        from ..results.provenance import provenance

        origin = provenance()
    for name, number in {"gradflow": origin["gradflow"], **origin["versions"]}.items():
        print(name, number)
