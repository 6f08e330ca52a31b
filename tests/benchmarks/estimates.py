"""Spectra too large for their matrices: seconds of all factors of every sublayer, and of processors, compiling apart.

    OPENBLAS_NUM_THREADS=1 python tests/benchmarks/estimates.py [--wirings pre post] [--depth 12] [--seeds 8]

Width 64 with 64 tokens, n = 4096, unless `--width` and `--tokens` say otherwise. The reading `spectrum` of fresh weights with its
own defaults, on the first tokens of a text, in one program. Prints besides which share of the log-volumes and of the smallest
singular values is known, factor by factor: NaN is what float32 can't tell.
"""

import argparse
import time

import jax
import numpy as np

import gradflow as gf
from gradflow.instruments.readings import readings
from gradflow.instruments.seeds import over_seeds, seed_keys
from gradflow.model.inputs.batch import the_batch
from gradflow.results.quantities import JACOBIANS

KNOWN = ("log_volume", "smallest_singular_value")


def now() -> np.ndarray:
    """Seconds of the wall, and of processors."""
    return np.array([time.perf_counter(), time.process_time()])


def measured(model, data, seeds: int) -> dict:
    """The reading's arrays of all seeds; prints what tracing, compiling and running took."""
    batch = the_batch(data, {"model": model}, 0)
    params = jax.block_until_ready(jax.jit(jax.vmap(model.init))(seed_keys(0, seeds)))
    started = now()
    lowered = over_seeds.lower(model, readings("spectrum"), params, batch, None)
    traced = now()
    program = lowered.compile()
    compiled = now()
    found = jax.block_until_ready(program(params, batch))
    ran = now()
    stages = {"trace": traced - started, "compile": compiled - traced, "run": ran - compiled, "all": ran - started}
    for stage, (wall, processors) in stages.items():
        print(f"  {stage:8} {wall:8.1f} s {processors:8.1f} s of processors", flush=True)
    return jax.device_get(found)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--wirings", nargs="+", default=["pre"])
    for name, value in (("depth", 12), ("width", 64), ("tokens", 64), ("seeds", 8)):
        options.add_argument(f"--{name}", type=int, default=value)
    chosen = options.parse_args()
    data = gf.data.text(context=chosen.tokens, batch=1)
    for wiring in chosen.wirings:
        print(
            f"{wiring}, {2 * chosen.depth} sublayers, width {chosen.width}, {chosen.tokens} tokens, {chosen.seeds} seeds"
        )
        model = gf.transformer(wiring, depth=chosen.depth, width=chosen.width, heads=4)
        found = measured(model, data, chosen.seeds)
        for name in KNOWN:
            shares = np.isfinite(found[name]).mean(axis=(0, 1))
            of_factors = [f"{factor} {share:.2f}" for factor, share in zip(JACOBIANS, shares, strict=True)]
            print(f"  {name} known: {', '.join(of_factors)}")


if __name__ == "__main__":
    main()
