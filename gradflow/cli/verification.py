"""Commands on bundles that are there: `verify` and `report`."""

from functools import partial
from pathlib import Path

import tyro

from ..compiler import check_flags
from .console import refusing
from .registry import command, draw_without_a_screen, keep_programs


@command
def verify(
    folder: tyro.conf.Positional[Path],
    level: int = 1,
    stop: bool = False,
    text: Path | None = None,
    weights: Path | None = None,
) -> None:
    """Check a bundle: its files, what follows from its numbers, and the numbers themselves; exit code 3 if something is wrong.

    Args:
        folder: A bundle, as compare, train, atlas, inspect and gf.report.write leave it.
        level: 0 files and hashes; 1 also tables, figures and LaTeX made again; 2 also the first steps computed again; 3 all.
        stop: End with the first level at which something is wrong.
        text: The text that was read, where it is not in the bundle.
        weights: The folder of weights that were read, of a trained model.
    """
    with refusing("verify", ValueError, TypeError, OSError, ImportError):
        check_flags()
        draw_without_a_screen()
        if level > 1:
            keep_programs()
        from ..recomputation import recompute
        from ..report import verify as verified

        read = {"text": text, "weights": weights}
        done = verified(folder, level=level, stop=stop, recompute=recompute, report=partial(print, flush=True), **read)
    if not done.in_order:
        raise SystemExit(3)


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
        check_flags()
        draw_without_a_screen()
        from ..report import again

        again(folder, out, width=width, style=style, blind=blind, overwrite=overwrite)
    print(f"figures, tables, data and appendix are in {out}/")
