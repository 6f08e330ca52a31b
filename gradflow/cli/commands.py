"""The command line: `gradflow compare` is the main job. Options have the names the Python arguments have.

The house is imported inside the commands, so that `--help` answers at once. Wrong input is one line on standard error
that names the remedy, exit code 2, and nothing is written.
"""

import shutil
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial, wraps
from pathlib import Path
from typing import Annotated

import tyro

from ..compiler import check_flags, use_fast_compilation
from . import options
from .console import parsed, refusing, speaking
from .options import Extent, Models, Run, Trained, Updates

app = tyro.extras.SubcommandApp()
Flat = tyro.conf.OmitArgPrefixes
EVERY = Models(wirings=(), context=32, batch=4)
COMMANDS: list[str] = []


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Registers a command, which is run once all of the command line is understood."""

    @wraps(function)
    def understood(*given, **named) -> Callable[[], None]:
        return partial(function, *given, **named)

    COMMANDS.append(function.__name__)
    app.command(understood)
    return function


@command
def compare(
    models: Annotated[Models, Flat] = Models(),
    updates: Annotated[Updates, Flat] = Updates(),
    run: Annotated[Run, Flat] = Run(out=Path("gradflow-compare")),
) -> None:
    """Train paired wirings on real text, read every gradient on the way, write figures, tables and an appendix.

    A sweep at initialization takes half, once and twice as many blocks.
    """
    _job("compare", models, updates, run, sweep=sorted({max(1, models.depth // 2), models.depth, 2 * models.depth}))


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
    started = time.perf_counter()
    with refusing(command, ValueError, TypeError, OSError):
        check_flags()
        import matplotlib

        import gradflow as gf

        from ..model.inputs import size
        from ..report.text import summary
        from ..results.arguments import whole
        from ..results.folder import CHECKPOINTS, begun
        from ..results.provenance import provenance
        from ..training import plan, record_schedule

        matplotlib.use("agg")
        (stacks, data), recipe, origin = models.built(), updates.built(), provenance()
        if not readings:
            raise ValueError("readings names none: give economy, standard or full, or names of readings and quantities")
        read = {
            "record": record_schedule.named(record),
            "readings": readings[0] if readings[0] in plan.PRESETS else readings,
        }
        if run.checkpoint_every is not None:
            whole("--checkpoint-every", run.checkpoint_every)
        planned = plan.Plan.of(data, recipe, run.key, run.seeds, run.steps, **read)
        planned.check(stacks)
        if sweep:
            size.check({name: model.at_depth(max(sweep)) for name, model in stacks.items()}, data, seeds=run.seeds)
        configuration = _configuration(command, models, updates, run, data) | {"record": record, "readings": readings}
        held = ExitStack()  # the folder, against other processes until all is written
        finished = held.enter_context(begun(run.out, configuration, origin))
        if finished and not run.resume:
            shutil.rmtree(run.out / CHECKPOINTS, ignore_errors=True)  # of a finished run, which is made again
    with refusing(command, OSError), held:
        _, trained = gf.train(stacks, data, recipe, **run.options(), **read)
        swept = gf.sweep(stacks, data, depth=sweep, seeds=run.seeds, key=run.key) if sweep else None
        gf.report.write(trained, run.out, sweep=swept, configuration=configuration)
    print("\n".join(summary.lines(trained, swept)))
    print(_commit_note(origin), end="")
    print(f"\n{time.perf_counter() - started:.0f} s; figures, tables, data and appendix are in {run.out}/")


@command
def atlas(
    models: Annotated[Models, Flat] = EVERY,
    updates: Annotated[Updates, Flat] = Updates(),
    run: Annotated[Extent, Flat] = Extent(steps=20, out=Path("gradflow-atlas")),
) -> None:
    """Put every wiring on one figure and in one sortable table: gradient, Jacobians, tokens and loss, and their theory.

    Without --wirings all that are known by name. An interrupted run goes on with the wirings that its folder lacks.
    """
    started = time.perf_counter()
    use_fast_compilation()
    with refusing("atlas", ValueError, TypeError, OSError):
        check_flags()
        import matplotlib

        import gradflow as gf

        from ..results.folder import WIRINGS, begun
        from ..results.provenance import provenance
        from ..training.plan import Plan

        matplotlib.use("agg")
        models = models if models.wirings else replace(models, wirings=tuple(gf.wirings().index))
        (stacks, data), recipe, origin = models.built(), updates.built(), provenance()
        Plan.of(data, recipe, run.key, run.seeds, run.steps, (0, run.steps), "economy").check(stacks)
        configuration = _configuration("atlas", models, updates, run, data)
        with begun(run.out, configuration, origin):
            tree = gf.atlas(
                stacks,
                data,
                recipe,
                steps=run.steps,
                seeds=run.seeds,
                key=run.key,
                predict=gf.predict,
                folder=run.out / WIRINGS,
            )
            gf.report.write_atlas(tree, run.out, configuration=configuration)
    for name, why in gf.results.settings(tree)["failed"].items():
        print(f"{name} failed: {why}")
    print(_commit_note(origin), end="")
    print(f"{time.perf_counter() - started:.0f} s; figures/atlas.pdf and tables/atlas.html are in {run.out}/")


@command
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
    started = time.perf_counter()
    with refusing("inspect", ValueError, OSError, ImportError):
        check_flags()
        import matplotlib

        import gradflow as gf

        from ..interop.trained import opened
        from ..report.text import summary
        from ..results.folder import begun
        from ..results.provenance import provenance

        matplotlib.use("agg")
        origin = provenance()
        with warnings.catch_warnings(record=True, action="always") as told:
            read = opened(folder, **asdict(trained))
        asked = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(trained).items()}
        configuration = {"command": "inspect", "folder": str(folder), **asked, **read.sources}
        held = ExitStack()  # the folder, against other processes until all is written
        held.enter_context(begun(out, configuration, origin))
    print("\n".join([*read.placed(), *(f"note: {one.message}" for one in told)]), flush=True)
    with refusing("inspect", OSError), held:
        tree = read.measured()
        gf.report.write(tree, out, configuration=configuration)
    print("\n".join(summary.lines(tree)))
    print(_commit_note(origin), end="")
    print(f"\n{time.perf_counter() - started:.0f} s; figures, tables, data and appendix are in {out}/")


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


@command
def wirings(names: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """Print the wirings that are known by name: their equation, their Jacobian, and where they are from.

    Args:
        names: Those that are wanted, by default all; your own, as module:name, are listed beside the others.
    """
    with refusing("wirings", ValueError):
        check_flags()
        import gradflow as gf

        from ..results.arguments import known

        asked = [word for word in names if ":" not in word]
        own = [options.own(word) for word in names if ":" in word]
        table = gf.wirings(*own)
        chosen = [known("wiring", word, table.index) for word in asked] + [one.name for one in own]
    rows = table.loc[list(dict.fromkeys(chosen))] if asked else table
    told = (f"{name}\n  {row.equation}\n  Jacobian: {row.jacobian}\n  {row.source}" for name, row in rows.iterrows())
    print("\n\n".join(told))


@command
def quantities(names: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """Print the table of quantities: what each one means, its formula and unit, how to get it, and what that costs.

    Args:
        names: Those that are wanted in full, with their formula in LaTeX and their figure; by default all in brief.
    """
    with refusing("quantities", ValueError):
        check_flags()
        import gradflow as gf

        from . import listing

        asked = [gf.quantities(name) for name in dict.fromkeys(names)]
    print("\n\n".join(map(listing.in_full, asked)) if asked else listing.in_brief(gf.quantities()))


@command
def version() -> None:
    """Print the versions of gradflow and of what it stands on."""
    with refusing("version"):
        check_flags()
        from ..results.provenance import provenance

        origin = provenance()
    for name, number in {"gradflow": origin["gradflow"], **origin["versions"]}.items():
        print(name, number)


def main() -> None:
    """Entry point of the `gradflow` command."""
    words = ["version"] if sys.argv[1:] == ["--version"] else sys.argv[1:]
    with speaking(words):
        parse = partial(
            app.cli,
            prog="gradflow",
            description="How gradients travel through deep residual stacks.",
            config=(tyro.conf.OmitArgPrefixes,),
        )
        parsed(parse, words, list(COMMANDS))()
