"""A run that is killed at a chosen moment, and what it leaves: shared by a test and by `validation/killed.py`.

    python tests/killing.py PLACE CALL DELAY train --steps 10 …

runs the command line, and kills its own process with SIGKILL `DELAY` seconds after the `CALL`-th time that it comes to
`PLACE`: a `step`, the writing of a `checkpoint`, or the writing of the `result`.
"""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

PLACES = ("step", "checkpoint", "result")
# What one of the processes compiled, the next reads from a folder.
QUICKLY = {
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "JAX_ENABLE_X64": "0",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def deadly(function, call: int, delay: float):
    """`function`, whose `call`-th call starts the clock."""
    calls = iter(range(1, call + 1))

    def counted(*args, **options):
        if next(calls, None) == call:
            die = lambda: os.kill(os.getpid(), signal.SIGKILL)
            threading.Timer(delay, die).start() if delay else die()
        return function(*args, **options)

    return counted


def run(words, folder: Path, place: str = "step", call: int = 0, delay: float = 0.0) -> int:
    """The exit code of the command in a process of its own: −9 where it was killed."""
    program = [sys.executable, __file__, place, str(call), str(delay), *words]
    quickly = {**os.environ, **QUICKLY, "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
    done = subprocess.run(program, cwd=folder, env=quickly, capture_output=True, text=True, timeout=600)
    if done.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(done.stderr)
    return done.returncode


def bits(out: Path) -> dict[str, bytes]:
    """All numbers of a finished run: its results, and the weights and the optimizer's state of its last checkpoint."""
    import jax
    import orbax.checkpoint as ocp

    import gradflow as gf

    tree = gf.results.load(out / "results.nc")
    found = {f"{node.path}/{name}": np.asarray(node[name]).tobytes() for node in tree.leaves for name in node.data_vars}
    for folder in filter(Path.is_dir, (out / "checkpoints").iterdir()):
        with ocp.CheckpointManager(folder.resolve()) as manager:
            state = manager.restore(manager.latest_step(), args=ocp.args.StandardRestore())
        leaves = jax.tree_util.tree_leaves_with_path(state)
        found |= {f"{folder.name}{jax.tree_util.keystr(path)}": np.asarray(leaf).tobytes() for path, leaf in leaves}
    return found


def main() -> None:
    """The command line, with a trap."""
    place, call, delay, *words = sys.argv[1:]
    from gradflow import cli
    from gradflow.report.bundle import writing
    from gradflow.report.plot import canvas
    from gradflow.training.checkpoints import Checkpoints
    from gradflow.training.step import Step

    places = {"step": (Step, "over_groups"), "checkpoint": (Checkpoints, "save"), "result": (writing, "files_of")}
    owner, name = places[place]
    setattr(owner, name, deadly(getattr(owner, name), int(call), float(delay)))
    canvas.STYLE["pdf.fonttype"] = 3  # figures are saved quickly
    sys.argv = ["gradflow", *words]
    cli.main()


if __name__ == "__main__":
    main()
