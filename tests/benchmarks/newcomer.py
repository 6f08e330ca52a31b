"""What a newcomer waits for, in fresh processes that find no compiled program: README's example and the long commands.

    python tests/benchmarks/newcomer.py [--jobs measure predict train sweep compare atlas] [--wirings NAME …]
                                        [--before FOLDER] [--rounds 1]

Prints processor seconds (all threads) and seconds on the clock of each job. With `--before`, another checkout of gradflow
(`git worktree add ../before COMMIT`), both take turns, and the ratio of processor seconds is printed: now over before.
`--wirings` are those of the atlas, by default all.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parents[2]
BEGIN = """
import gradflow as gf
data = gf.data.text(context=32, batch=4)
models = gf.transformers("pre", "post", depth=12, width=64, heads=4)
"""
CALLS = {
    "measure": "gf.measure(models, data, seeds=4)",
    "predict": "gf.predict(models, data)",
    "train": "gf.train(models, data, gf.Recipe('adam', lr=1e-3, warmup=50, clip=1.0), record=(0, 10, 100), seeds=4)",
    "sweep": "gf.sweep(models, data)",
}
COMMANDS = ("compare", "atlas")
COMMAND = "from gradflow.cli import main; main()"


def seconds(checkout: Path, job: str, wirings: list[str]) -> tuple[float, float]:
    """Processor seconds and seconds of a job, the imports included, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "GRADFLOW_CACHE": "off", "JAX_PLATFORMS": "cpu"}
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-c", f"{BEGIN}{CALLS[job]}"] if job in CALLS else [sys.executable, "-c", COMMAND, job]
        if job == "atlas" and wirings:
            words += ["--wirings", *wirings]
        started = time.perf_counter()
        process = subprocess.Popen(
            words, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _, status, used = os.wait4(process.pid, 0)
        took = time.perf_counter() - started
    if status:
        raise SystemExit(f"{job} of {checkout} failed")
    return used.ru_utime + used.ru_stime, took


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--jobs", nargs="+", choices=[*CALLS, *COMMANDS], default=[*CALLS, *COMMANDS])
    options.add_argument("--wirings", nargs="+", default=[])
    options.add_argument("--before", type=Path)
    options.add_argument("--rounds", type=int, default=1)
    chosen = options.parse_args()
    checkouts = [HERE] if chosen.before is None else [chosen.before.resolve(), HERE]
    print(f"{'job':10} processor seconds (clock), {' then '.join(path.name for path in checkouts)}; ratio")
    for job in chosen.jobs:
        rounds = [[seconds(path, job, chosen.wirings) for path in checkouts] for _ in range(chosen.rounds)]
        used = np.median(rounds, axis=0)
        line = "   ".join(f"{processor:7.1f} ({clock:6.1f})" for processor, clock in used)
        ratios = [found[-1][0] / found[0][0] for found in rounds]
        print(f"{job:10} {line}   {np.median(ratios):.2f}", flush=True)


if __name__ == "__main__":
    main()
