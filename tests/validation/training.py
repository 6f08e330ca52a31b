"""The experiments of a paper on norm placement, at their size: 12 blocks, width 64, real text, 4 seeds.

    python tests/validation/training.py FOLDER [--seeds 4] [--steps 300]

Each experiment's labelled readings go to FOLDER; runs resume where they were stopped. At the end the outcomes are written to
`training.csv` beside this script, and the findings printed.
"""

import argparse
from pathlib import Path

import pandas as pd

import gradflow as gf
from gradflow.report.tables import experiments as experiment_tables
from gradflow.training.experiments import STABLE

RATES = (3e-4, 1e-3, 3e-3)


def experiments(depth: int, data, folder: Path, steps: int, seeds: int) -> dict:
    """`{name: (call, findings)}` of everything that has outcomes."""
    built = lambda init: gf.transformers("pre", "post", depth=depth, width=64, heads=4, context=64, init=init)
    shape = lambda name: {"steps": steps, "seeds": seeds, "checkpoints": folder / name, "resume": True}
    run, told, models, bert = gf.experiments, gf.findings, built("fan_in"), built("bert")
    return {
        "warmup": (lambda: run.warmup(models, data, lrs=RATES, warmups=(0, 100), **shape("warmup")), told.warmup),
        "adam": (lambda: run.adam(models, data, **shape("adam")), told.adam),
        "quality": (lambda: run.quality(models, data, lrs=RATES, base=STABLE, **shape("quality")), told.quality),
        "quality, BERT's weights": (
            lambda: run.quality(bert, data, lrs=RATES[1:], base=STABLE, **shape("quality_bert")),
            told.quality,
        ),
    }


def main() -> None:
    """Runs what is missing, writes the table, prints the findings."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("folder", type=Path)
    asked.add_argument("--steps", type=int, default=300)
    asked.add_argument("--seeds", type=int, default=4)
    asked.add_argument("--depth", type=int, default=12)
    options = asked.parse_args()
    data = gf.data.text(context=64, batch=8)
    frames = []
    for name, (call, told) in experiments(options.depth, data, options.folder, options.steps, options.seeds).items():
        path = options.folder / f"{name}.nc"
        tree = gf.results.load(path) if path.exists() else call()
        gf.results.save(tree, path)
        frames.append(experiment_tables.outcomes(tree).assign(experiment=name))
        print(name, *told(tree), sep="\n  ", flush=True)
    table = pd.concat(frames, ignore_index=True).round(4)
    table.to_csv(Path(__file__).with_suffix(".csv"), index=False)


if __name__ == "__main__":
    main()
