"""Commands on bundles that are there: `verify` and `report`."""

from functools import partial
from pathlib import Path

import tyro

from ..compiler import compile_as
from .console import refusing
from .registry import command, prepare

WRONG, INCOMPLETE = 3, 4  # exit codes


@command
def verify(
    folder: tyro.conf.Positional[Path],
    level: int = 1,
    stop: bool = False,
    text: Path | None = None,
    weights: Path | None = None,
) -> None:
    """Check a bundle: its files, what follows from its numbers, and the numbers themselves.

    The exit code is 0 if all of it is in order, 3 if something is wrong, and 4 if nothing is wrong but levels 2 or 3 could not
    compute everything again: each such part is a line that says why.

    Args:
        folder: A bundle, as compare, train, atlas, inspect and gf.report.write leave it.
        level: 0 files and hashes; 1 also tables, figures and LaTeX made again; 2 also the first steps computed again; 3 all.
        stop: End with the first level at which something is wrong.
        text: The text (or tokens) that was read, where it is neither in the bundle nor where the run found it.
        weights: The folder of a trained model's weights, where it is not where the run found it.
    """
    with refusing("verify", ValueError, TypeError, OSError, ImportError):
        compile_as(_flags(folder))
        prepare()
        from ..recomputation import recompute
        from ..report import verify as verified

        read = {"text": text, "weights": weights}
        done = verified(folder, level=level, stop=stop, recompute=recompute, report=partial(print, flush=True), **read)
    if not done.in_order:
        raise SystemExit(WRONG)
    if done.missed:
        raise SystemExit(INCOMPLETE)


def _flags(folder: Path) -> str:
    """Returns what the compiler was told when a bundle was made; empty where its manifest doesn't say."""
    from ..results.folder import manifest

    try:
        origin = manifest(folder).get("provenance")
    except OSError:  # a manifest that can't be read is what `verify` finds
        return ""
    if not isinstance(origin, dict):
        return ""
    return str(origin.get("xla_flags", ""))


@command
def report(
    folder: tyro.conf.Positional[Path],
    out: Path = Path("gradflow-report"),
    width: str | None = None,
    style: str | None = None,
    blind: bool = False,
    overwrite: bool = False,
) -> None:
    """Make a bundle again from its results.nc alone: figures, tables and LaTeX, at another width or in another style.

    Args:
        folder: A bundle, or a results.nc of one.
        out: Another folder, that is new or empty.
        width: Of the figures: icml, icml-column, neurips, acl, jmlr, … or inches; by default that of the bundle.
        style: A style of matplotlib, by its name or its file.
        blind: Leave out all that tells whose it is: paths, commits, hosts, users, kernels.
        overwrite: A finished bundle of the same run in that folder may be overwritten.
    """
    with refusing("report", ValueError, TypeError, OSError):
        prepare()
        from ..report import again

        again(folder, out, width=width, style=style, blind=blind, overwrite=overwrite)
    print(f"figures, tables, data and appendix are in {out}/")
