"""The command line: `gradflow compare` is the main job. Options have the names the Python arguments have.

The house is imported inside the commands, so that `--help` answers at once. Wrong input is one line on standard error
that names the remedy, exit code 2, and nothing is written.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tyro

app = tyro.extras.SubcommandApp()
OPTIMIZERS = ("adam", "adamw", "sgd", "lion", "rmsprop")


@app.command
def compare(
    wirings: tuple[str, ...] = ("pre", "post"),
    depth: int = 12,
    width: int = 64,
    heads: int = 4,
    context: int = 64,
    batch: int = 8,
    init: str = "fan_in",
    optimizer: str = "adam",
    lr: float = 1e-3,
    steps: int = 100,
    seeds: int = 4,
    key: int = 0,
    text: Path | None = None,
    out: Path = Path("gradflow-compare"),
) -> None:
    """Train paired wirings on real text, read every gradient on the way, write figures, tables and an appendix.

    Args:
        wirings: two or more of pre, post, res_post, sandwich, none, deepnorm, rezero, layerscale, depth_scaled.
        depth: blocks (attention, then feed-forward); a sweep at initialization takes half, once and twice as many.
        width: features of the stream.
        heads: attention heads; they must divide the width.
        context: tokens of an example.
        batch: examples of a batch.
        init: fan_in, xavier, xiong, bert, bert_literal or gpt2.
        optimizer: adam, adamw, sgd, lion or rmsprop; without warm-up or clipping.
        lr: learning rate.
        steps: updates.
        seeds: draws of weights and batches, the same for every wiring.
        key: the integer that all randomness derives from.
        text: a file, read as bytes; by default the language reference that CPython ships.
        out: a folder that is new, empty, or holds an earlier result of the same configuration.
    """
    asked, begun = dict(locals()), time.perf_counter()
    with _refusing("compare"):
        import matplotlib

        import gradflow as gf

        from .instruments.readings import seed_keys
        from .report import bundle, summary
        from .results.provenance import provenance
        from .training.loop import schedule

        matplotlib.use("agg")
        data = gf.data.text(text, context=context, batch=batch)
        models = gf.transformers(*wirings, depth=depth, width=width, heads=heads, context=context, init=init)
        update, record = _optimizer(optimizer, lr), schedule(steps)
        seed_keys(key, seeds)
        origin = provenance()
        configuration = {**asked, "text": str(text) if text else data.name, "text_sha256": data.sha256, "out": str(out)}
        bundle.prepare(out, configuration, origin)
    _, run = gf.train(models, data, update, steps=steps, record=record, seeds=seeds, key=key)
    depths = sorted({max(1, depth // 2), depth, 2 * depth})
    sweep = gf.sweep(models, data, depth=depths, seeds=seeds, key=key)
    gf.report.write(run, out, sweep=sweep, configuration=configuration)
    print("\n".join(summary.lines(run, sweep)))
    print(_commit_note(origin), end="")
    print(f"\n{time.perf_counter() - begun:.0f} s; figures, tables, data and appendix are in {out}/")


def _optimizer(name: str, lr: float):
    """The optax optimizer of that name at that learning rate."""
    import optax

    from .results.configuration import suggestions

    if name not in OPTIMIZERS:
        raise ValueError(f"no optimizer {name!r}: {suggestions(name, OPTIMIZERS)}")
    if not lr > 0:
        raise ValueError(f"lr is {lr}: a positive learning rate is needed")
    return getattr(optax, name)(lr)


def _commit_note(origin: dict) -> str:
    """A line where the record can't say which code ran."""
    source = origin["working_directory"]
    if source["commit"] is None:
        return "note: the working directory has no git commit, so the manifest can't name the code around this run\n"
    return "" if source["clean"] else "note: the working directory has uncommitted changes; the manifest says so\n"


@contextmanager
def _refusing(command: str) -> Iterator[None]:
    """What is wrong with the input becomes one line, and exit code 2."""
    try:
        yield
    except (ValueError, OSError) as error:
        print(f"gradflow {command}: {error}", file=sys.stderr)
        raise SystemExit(2) from None


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
    try:
        app.cli(
            prog="gradflow",
            description="How gradients travel through deep residual stacks.",
            config=(tyro.conf.OmitArgPrefixes,),
        )
    except KeyboardInterrupt:
        print(
            "\ngradflow: interrupted; no result was written, and no file is half-written", file=sys.stderr, flush=True
        )
        # Compiled work goes on in threads of its own, and would crash in an interpreter that is taken down beneath it.
        os._exit(130)
