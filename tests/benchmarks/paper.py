"""From nothing to a page: a fresh environment, the installation, `gradflow compare`, and its appendix as a PDF; the time of each.

    python tests/benchmarks/paper.py [--toy] [--keep FOLDER]

Needs pdflatex and bibtex, and an index of packages or pip's cache. `--toy` runs stacks of two blocks of width 16, to try the
machinery. Ends with an error where a step fails, where a box is overfull by more than two points, and where the bundle is not in
order afterwards.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOY = [
    "--depth",
    "2",
    "--width",
    "16",
    "--heads",
    "2",
    "--context",
    "16",
    "--batch",
    "2",
    "--seeds",
    "2",
    "--steps",
    "4",
]
OVERFULL = 2  # points


def timed(what: str, step: Callable[[], None]) -> float:
    """Prints the wall time of a step and the processor time of its processes; returns the first."""
    wall, before = time.perf_counter(), _used()
    step()
    wall = time.perf_counter() - wall
    print(f"| {what} | {wall:.1f} | {_used() - before:.1f} |", flush=True)
    return wall


def _used() -> float:
    """Processor seconds of this process's children."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(*words, cwd: Path) -> None:
    """Runs a command; its last lines are shown where it fails."""
    alone = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=alone, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))}\n{done.stdout.decode(errors='replace')[-2000:]}")


def compiled(bundle: Path) -> None:
    """Makes appendix.pdf, with its references."""
    latex = ("pdflatex", "-interaction=nonstopmode", "-halt-on-error", "appendix")
    for words in (latex, ("bibtex", "appendix"), latex, latex):
        run(*words, cwd=bundle)


def check(bundle: Path) -> str:
    """Returns how many pages there are; ends the process for an overfull box or a reference that is missing."""
    log = (bundle / "appendix.log").read_text("latin-1")
    overfull = [points for points in re.findall(r"Overfull .*?\(([\d.]+)pt", log) if float(points) > OVERFULL]
    missing = re.findall(r"(?:Reference|Citation) `.*?' .*? undefined", log)
    if overfull or missing:
        sys.exit(f"appendix.log: overfull by {overfull} pt; {missing}")
    pages = re.search(r"Output written on appendix\.pdf \((\d+) pages", log)
    return pages[1] if pages else "no"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--toy", action="store_true")
    parser.add_argument(
        "--keep", type=Path, help="a new folder for environment and bundle, which are deleted otherwise"
    )
    asked = parser.parse_args()
    if asked.keep:
        asked.keep.mkdir(parents=True)
    place = nullcontext(asked.keep) if asked.keep else tempfile.TemporaryDirectory()
    with place as name:
        folder = Path(name).resolve()
        python = folder / "env" / "bin" / "python"
        gradflow, bundle = python.with_name("gradflow"), folder / "bundle"
        options = TOY if asked.toy else []
        print("| step | seconds | of processors |\n|---|---|---|")
        whole = timed("fresh environment", lambda: venv.create(folder / "env", with_pip=True))
        whole += timed("pip install -e", lambda: run(python, "-m", "pip", "install", "-q", "-e", ROOT, cwd=folder))
        whole += timed("gradflow compare", lambda: run(gradflow, "compare", *options, "--out", bundle, cwd=folder))
        whole += timed("appendix.pdf", lambda: compiled(bundle))
        print(f"| together | {whole:.1f} | |")
        timed("gradflow verify, afterwards", lambda: run(gradflow, "verify", bundle, cwd=folder))
        print(f"\n{check(bundle)} pages; no box is overfull by more than {OVERFULL} pt; the bundle is in order")


if __name__ == "__main__":
    main()
