"""The command line: `gradflow compare` is the main job. Options have the names the Python arguments have.

The house is imported inside the commands, so that `--help` answers at once. Wrong input is one line on standard error
that names the remedy, exit code 2, and nothing is written.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated

import tyro

app = tyro.extras.SubcommandApp()
CONSTANTS = ("momentum", "b1", "b2", "eps", "weight_decay")
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Models:
    """The stacks, which differ in their wiring alone, and the text they read."""

    wirings: tuple[str, ...] = ("pre", "post")
    """Names of `gradflow wirings`, or your own as module:name, a value in a Python file here."""
    depth: int = 12
    """Blocks (attention, then feed-forward)."""
    width: int = 64
    """Features of the stream."""
    heads: int = 4
    """Attention heads; they must divide the width."""
    context: int = 64
    """Tokens of an example."""
    batch: int = 8
    """Examples of a batch."""
    init: str = "fan_in"
    """fan_in, xavier, xiong, bert, bert_literal or gpt2."""
    precision: str | None = None
    """bfloat16 (weights stay float32), float32, or float64, which needs JAX_ENABLE_X64=1."""
    text: Path | None = None
    """A file, read as bytes; by default the language reference that CPython ships. Its last tenth is held out."""

    def built(self):
        """`(models, data)`."""
        import gradflow as gf

        shape = ("depth", "width", "heads", "context", "init", "precision")
        data = gf.data.text(self.text, context=self.context, batch=self.batch)
        return gf.transformers(*map(_own, self.wirings), **{name: getattr(self, name) for name in shape}), data


def _own(word: str):
    """A name as it is; the `Wiring` or `Placement` that `module:name` means, from the folder one stands in or an installed one.

    Errors: ValueError where there is none.
    """
    if ":" not in word:
        return word
    import gradflow as gf

    module, name = word.split(":", 1)
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(import_module(module), name)
    except Exception as error:  # of whatever that file does
        raise ValueError(f"no wiring {word!r}: {error}; give module:name of a gf.Wiring in {Path.cwd()}") from None
    finally:
        sys.path.pop(0)
    if not isinstance(found, gf.Wiring | gf.Placement):
        raise ValueError(f"{word} is a {type(found).__name__}: give the module:name of a gf.Wiring or gf.Placement")
    return found


@dataclass(frozen=True)
class Updates:
    """How weights are updated."""

    optimizer: str = "adam"
    """adam, adamw, lion, muon, rmsprop or sgd."""
    lr: float = 1e-3
    """Learning rate; the largest, where it changes."""
    warmup: int = 0
    """Steps over which the learning rate rises linearly."""
    schedule: str = "constant"
    """What follows: constant, linear, cosine or inverse_sqrt."""
    clip: float | None = None
    """Largest norm of the whole gradient."""
    clip_parameter: float | None = None
    """Largest norm of each parameter's gradient, layer by layer."""
    dropout: float = 0.0
    """Share of each branch's output that is dropped in training."""
    momentum: float | None = None
    """Of sgd."""
    b1: float | None = None
    """Of adam, adamw, lion and muon."""
    b2: float | None = None
    """Of adam, adamw, lion and muon."""
    eps: float | None = None
    """Of adam, adamw, muon and rmsprop."""
    weight_decay: float | None = None
    """Of adam, adamw and lion."""

    def built(self):
        """The `Recipe`."""
        from .training.optimizers import named
        from .training.recipe import Recipe

        given = {name: value for name, value in asdict(self).items() if value is not None}
        constants = {name: given.pop(name) for name in CONSTANTS if name in given}
        return Recipe(named(given.pop("optimizer"), **constants), **given)


@dataclass(frozen=True)
class Run:
    """How long, and where the result goes."""

    steps: int = 100
    """Updates."""
    seeds: int = 4
    """Draws of weights and batches, the same for every wiring."""
    key: int = 0
    """The integer that all randomness derives from."""
    out: Path = Path("gradflow-run")
    """A folder that is new, empty, or holds an earlier result of the same configuration."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; by default half a minute."""
    resume: bool = False
    """Continue the interrupted run in that folder; it ends with the bits of one that was not interrupted."""

    def options(self) -> dict:
        """What `gf.train` takes."""
        return {**{k: v for k, v in asdict(self).items() if k != "out"}, "checkpoints": self.out / CHECKPOINTS}


Flat = tyro.conf.OmitArgPrefixes


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

        from .report import bundle, summary
        from .results.provenance import provenance
        from .training import checkpoints, moments, plan

        matplotlib.use("agg")
        (stacks, data), recipe, origin = models.built(), updates.built(), provenance()
        read = {"record": moments.named(record), "readings": readings[0] if readings[0] in plan.PRESETS else readings}
        checkpoints.interval(run.checkpoint_every)
        plan.Plan.of(data, recipe, run.key, run.seeds, run.steps, **read)
        asked = asdict(models) | asdict(updates) | {"steps": run.steps, "seeds": run.seeds, "key": run.key}
        text = {"text": str(models.text or data.name), "text_sha256": data.sha256}
        configuration = {"command": command, **asked, **text, "record": record, "readings": readings}
        if bundle.prepare(run.out, configuration, origin) and not run.resume:
            shutil.rmtree(run.out / CHECKPOINTS, ignore_errors=True)  # of a finished run, which is made again
    with _refusing(command, OSError):
        _, trained = gf.train(stacks, data, recipe, **run.options(), **read)
        swept = gf.sweep(stacks, data, depth=sweep, seeds=run.seeds, key=run.key) if sweep else None
        gf.report.write(trained, run.out, sweep=swept, configuration=configuration)
    print("\n".join(summary.lines(trained, swept)))
    print(_commit_note(origin), end="")
    print(f"\n{time.perf_counter() - begun:.0f} s; figures, tables, data and appendix are in {run.out}/")


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

        table = gf.wirings(*map(_own, own))
    rows = (f"{name}\n  {row.equation}\n  Jacobian: {row.jacobian}\n  {row.source}" for name, row in table.iterrows())
    print("\n\n".join(rows))


@app.command
def version() -> None:
    """Print the versions of gradflow and of what it stands on."""
    from .results.provenance import provenance

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
    line = "\ngradflow: interrupted; no file is half-written, and --resume continues from the last checkpoint\n"
    os.write(2, line.encode())  # not by print, which may be what was interrupted
    os._exit(130)
